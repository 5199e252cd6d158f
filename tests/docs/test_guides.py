"""The Python of every page runs: as it stands there, one block after the other, on files as small as they get."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medmol_diffusion.molecules import write_sdf
from medmol_diffusion.mri import Volume
from medmol_diffusion.mri.anomaly import METHODS
from tests.conftest import write_scans
from tests.docs.pages import PAGES, blocks
from tests.molecules.drawn import embedded

ELSEWHERE = {
    "README.md": "tests/docs/test_snippets.py",
    "docs/guides/interoperating.md": "tests/test_interoperate.py",
    "docs/guides/judging-molecules.md": "tests/molecules/test_guide.py",
    "docs/monai.md": "tests/mri/test_monai_model.py",
}
"""Pages whose blocks are run, and their results looked at, by other tests."""
Names = dict[str, Any]


@dataclass(frozen=True)
class Page:
    """How the blocks of a page are run.

    Attributes:
        files: writes what they read into the folder where they run, and gives the names that a reader has.
        shorter: what stands in a block -> what runs in its place, with fewer steps.
        before: the number of a block -> what is done before it, given the names so far.
    """

    files: Callable[[Path, pytest.FixtureRequest], Names] = lambda folder, request: {}
    shorter: dict[str, str] = field(default_factory=dict)
    before: dict[int, Callable[[Names], None]] = field(default_factory=dict)


def smooth(seed: int) -> Volume:
    """A head of 12 x 14 x 12 voxels of 2 mm, dark nowhere."""
    data = np.random.default_rng(seed).normal(size=(12, 14, 12)).cumsum(0).cumsum(1).cumsum(2)
    return Volume(0.2 + (data - data.min()) / np.ptp(data), np.diag([2.0, 2, 2, 1]))


def with_mask(seed: int) -> tuple[Volume, Volume]:
    """A scan with a bright cube, and where it is."""
    scan, mask = smooth(seed), np.zeros((12, 14, 12))
    mask[4:7, 5:8, 4:7] = 1
    return Volume(scan.data + 3 * mask, scan.affine), Volume(mask, scan.affine)


def of_molecules(folder: Path, request: pytest.FixtureRequest) -> Names:
    molecules = [embedded("CCO"), embedded("CC(N)=O")]
    for name in ("seeds", "out", "molecules"):
        write_sdf(molecules, folder / f"{name}.sdf")
    smooth(0).write(folder / "sub-01_T1w.nii.gz")
    return {"docking": lambda molecule: molecule.num_atoms}


def of_anomalies(folder: Path, request: pytest.FixtureRequest) -> Names:
    (folder / "runs").mkdir()
    (folder / "runs" / "heads-4mm").symlink_to(request.getfixturevalue("volume_run"))
    for seed, name in enumerate("abcd"):
        smooth(seed).write(folder / f"{name}_FLAIR.nii.gz")
    controls = {f"sub-{seed:02d}": smooth(seed) for seed in range(2)}
    patients = {f"sub-{seed:02d}": with_mask(seed) for seed in range(9, 11)}
    scan = smooth(5)
    return {
        "controls": controls,
        "patients": patients,
        "scan": scan,
        "white_matter": Volume(np.ones(scan.shape), scan.affine),
    }


def of_scans(folder: Path, request: pytest.FixtureRequest) -> Names:
    for name, count in (("samples", 3), ("real", 6), ("my-scans", 4)):
        (folder / name).mkdir()
        write_scans(folder / name, count)
    rows = "".join(f"sub-{place:02d},{70 + place},F\n" for place in range(4))
    (folder / "clinic.csv").write_text(f"subject,age,sex\n{rows}")
    return {}


def keep(names: Names) -> None:
    """A run's last checkpoint of the model of adding-a-network.md."""
    checkpoints = Path("runs/mine/checkpoints")
    checkpoints.mkdir(parents=True)
    weights = {f"model.{name}": value for name, value in names["model"].state_dict().items()}
    torch.save({"state_dict": weights}, checkpoints / "last.ckpt")


RUN = {
    "docs/guides/adding-a-network.md": Page(before={4: keep}),
    "docs/guides/clusters.md": Page(),
    "docs/guides/finding-anomalies.md": Page(of_anomalies, {', "partial"]': "]"}),
    "docs/guides/judging-scans.md": Page(of_scans),
    "docs/guides/own-scans.md": Page(of_scans, {"[96, 112, 96]": "[8, 8, 8]"}),
    "docs/guides/steering-molecules.md": Page(
        of_molecules,
        {"guidance=2.0)": "guidance=2.0, steps=2)", "rounds=10, children=16": "rounds=1, children=2, steps=4"},
    ),
    "docs/guides/writing-a-sampler.md": Page(),
    "docs/theory/guidance.md": Page(
        of_molecules,
        {
            "sample(10, ": "sample(2, steps=2, ",
            "strength=0.5)": "strength=0.5, steps=2)",
            "sizes=[24])": "sizes=[24], steps=2)",
            "resamples=5, jump=10)": "resamples=2, jump=1, steps=2)",
        },
    ),
}


def test_every_page_with_python_is_run() -> None:
    with_python = {page for page in PAGES if any(block.is_python for block in blocks(page))}
    assert with_python == set(RUN) | set(ELSEWHERE)


@pytest.mark.parametrize("page", RUN)
def test_the_python_of_a_page_runs(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    how = RUN[page]
    monkeypatch.delitem(METHODS, "opening", raising=False)  # which a guide adds: it is taken away again
    monkeypatch.chdir(tmp_path)
    names = {"__name__": page, **how.files(tmp_path, request)}
    code = [block.text for block in blocks(page) if block.is_python]
    for long, short in how.shorter.items():
        assert any(long in text for text in code), long
        code = [text.replace(long, short) for text in code]
    for place, text in enumerate(code):
        how.before.get(place, lambda names: None)(names)
        exec(compile(text, page, "exec"), names)
