"""Tables, splits and sequences beside the data: one sentence that names the thing and the cure, exit code 2."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from medmol_diffusion.cli import main
from medmol_diffusion.errors import InputError
from medmol_diffusion.molecules import MoleculeData
from medmol_diffusion.mri import VolumeData
from tests.conftest import random_molecules, write_npz, write_scans
from tests.faults.refusal import listing, refusal

pytestmark = pytest.mark.filterwarnings("default::UserWarning")  # which the suite turns into errors elsewhere
PARTS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scans(tmp_path_factory.mktemp("scans"), 5)


TABLES: dict[str, tuple[bytes | None, str]] = {
    "missing": (None, "does not exist"),
    "empty": (b"", "none of which names a scan"),
    "no_column_of_scans": (b"age,sex\n30,F\n", "none of which names a scan"),
    "too_few_cells": (b"subject,age\nsub-00\n", "Line 2 of the table"),
    "too_many_cells": (b"subject,age\nsub-00,30,F\n", "Line 2 of the table"),
    "not_utf_8": ("subject,name\nsub-00,Müller\n".encode("latin-1"), "give a csv or tsv in UTF-8"),
    "binary": (bytes(range(256)), "give a csv or tsv in UTF-8"),
    "nul": (b"subject,age\nsub-00,\x00\n", "table.csv"),
    "endless_cell": (b"subject,age\nsub-00," + b"9" * 140_000 + b"\n", "table.csv"),
}


@pytest.mark.parametrize(("content", "fault"), TABLES.values(), ids=TABLES.keys())
def test_bad_table(
    content: bytes | None, fault: str, scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "table.csv"
    if content is not None:
        table.write_bytes(content)
    out = tmp_path / "split.json"
    said = refusal(["split", str(scans), "--table", str(table), "-o", str(out)], capsys)
    assert str(table) in said
    assert fault in said
    assert not out.exists()


def test_a_folder_in_the_place_of_a_table(scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "table.csv").mkdir()
    arguments = ["split", str(scans), "--table", str(tmp_path / "table.csv"), "-o", str(tmp_path / "split.json")]
    assert str(tmp_path / "table.csv") in refusal(arguments, capsys)


def without(part: str) -> Callable[[dict[str, Any]], Any]:
    return lambda split: {key: value for key, value in split.items() if key != part}


def overlap(split: dict[str, Any]) -> dict[str, Any]:
    """An entry of the training part tests too."""
    return split | {"test": [*split["test"], split["train"][0]]}


# what becomes of a sound split; what the sentence says, of molecules and of scans
SPLITS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "train_and_test_overlap": (overlap, "more than once: each belongs to one part"),
    "twice_in_one_part": (lambda s: s | {"train": s["train"] * 2}, "more than once"),
    "no_test_part": (without("test"), "is no split file"),
    "parts_of_numbers": (lambda s: s | {"train": 3}, "is no split file"),
    "parts_of_text": (lambda s: s | {"train": "123"}, "is no split file"),
    "parts_of_lists": (lambda s: s | {"train": [[0], [1]]}, "is no split file"),
    "parts_of_halves": (lambda s: s | {"train": [0.5, 1.5]}, "is no split file"),
    "infinite": (lambda s: s | {"train": [float("inf")]}, "is no split file"),
    "list": (lambda s: [s], "is no split file"),
    "nothing_to_train_on": (lambda s: s | {"train": [], "test": [*s["test"], *s["train"]]}, "train on"),
    "number_beyond": (lambda s: s | {"train": [10**30]}, "split"),
}


@pytest.mark.parametrize("domain", ["molecules", "scans"])
def test_bad_splits(
    domain: str,
    molecule_config: Path,
    volume_config: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """All by the data module, as training opens it, and the first by training itself."""
    config = molecule_config if domain == "molecules" else volume_config
    data = config.parent / ("data.npz" if domain == "molecules" else "scans")
    file = tmp_path / "split.json"
    main(["split", str(data), "--validation", "0.2", "--test", "0.2", "-o", str(file)])
    sound = json.loads(file.read_text())
    options: dict[str, Any] = {"split_file": str(file)}
    for name, (change, fault) in SPLITS.items():
        file.write_text(json.dumps(change(sound)))
        kind = partial(MoleculeData, str(data)) if domain == "molecules" else partial(VolumeData, str(data), [8, 8, 8])
        with pytest.raises(InputError, match=fault) as error:
            kind(**options).setup()
        said = str(error.value)
        assert str(file) in said or "The split file" in said or str(data) in said, name
    file.write_text(json.dumps(overlap(sound)))
    run = ["--trainer.default_root_dir", str(tmp_path / "run"), "--data.init_args.split_file", str(file)]
    assert f"{file} names" in refusal(["fit", "--config", str(config), *run], capsys)
    assert not (tmp_path / "run" / "checkpoints").exists()
    for content in (b"", b"not json", b"\xff\xfe{", b"[" * 100_000):
        file.write_bytes(content)
        with pytest.raises(InputError, match="is no split file"):
            kind(**options).setup()


def test_a_split_of_other_data(molecule_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = write_npz(tmp_path / "other.npz", random_molecules(20, seed=9))
    file = tmp_path / "split.json"
    main(["split", str(other), "-o", str(file)])
    run = ["--trainer.default_root_dir", str(tmp_path / "run"), "--data.init_args.split_file", str(file)]
    assert "made for other data" in refusal(["fit", "--config", str(molecule_config), *run], capsys)


@pytest.mark.parametrize("content", [b"nothing", b"\x93NUMPY\x01\x00\x10\x00{'descr': (((((  "], ids=["text", "header"])
def test_sequences_that_are_no_arrays(
    content: bytes, volume_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "sub-00_T1w.npy"
    file.write_bytes(content)
    run = ["--trainer.default_root_dir", str(tmp_path / "run"), "--data.init_args.tokens", str(tmp_path)]
    said = refusal(["fit", "--config", str(volume_config), *run], capsys)
    assert f"{file} cannot be read as an array" in said


def test_one_subject_cannot_be_parted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Scans of one subject, in two folders, by two names: they are never divided, and one alone is too few."""
    for session in ("one", "two"):
        write_scans(tmp_path / "scans" / session, 1)
    said = refusal(["split", str(tmp_path / "scans"), "-o", str(tmp_path / "split.json")], capsys)
    assert "1 subjects are too few" in said
    assert listing(tmp_path) == ["scans", "scans/one", "scans/one/sub-00_T1w.nii.gz", "scans/two",
                                 "scans/two/sub-00_T1w.nii.gz"]  # fmt: skip


def test_files_that_the_system_refuses_are_named_with_a_cure(
    scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No permission to read or to write, no room: as the system says it, for root may read and write everything."""
    file = write_npz(tmp_path / "some.npz", random_molecules(12))
    opened = Path.open

    def refused(error: OSError) -> Callable[..., Any]:
        def opens(path: Path, *arguments: Any, **options: Any) -> Any:
            if path.name.startswith((".split.json", "some")):
                raise type(error)(error.errno, error.strerror, str(path))
            return opened(path, *arguments, **options)

        return opens

    arguments = ["split", str(file), "-o", str(tmp_path / "split.json")]
    for error, cure in (
        (PermissionError(13, "Permission denied"), "check who may read and write it"),
        (OSError(28, "No space left on device"), "make room"),
        (OSError(5, "Input/output error"), "Input/output error"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(Path, "open", refused(error))
            said = refusal(arguments, capsys)
        assert str(tmp_path) in said
        assert cure in said
        assert listing(tmp_path) == ["some.npz"]
    (tmp_path / "split.json").mkdir()
    assert "a folder" in refusal(arguments, capsys)
    assert listing(tmp_path) == ["some.npz", "split.json"]


def test_a_name_that_is_not_utf_8(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a sound file, and of one that is none: said without a traceback, and written under the same name."""
    odd = tmp_path / "m\udcfcller.npz"
    main(["split", str(write_npz(odd, random_molecules(12))), "-o", str(tmp_path / "m\udcfcller.json")])
    assert json.loads((tmp_path / "m\udcfcller.json").read_text())["train"]
    main(["score", str(odd), "--json", str(tmp_path / "s\udcff.json"), "--html", str(tmp_path / "s\udcff.html")])
    assert "ller.npz" in (tmp_path / "s\udcff.html").read_text()
    odd.write_bytes(b"nothing")
    assert "ller.npz cannot be read" in refusal(["score", str(odd)], capsys)
    volume = write_scans(tmp_path / "f\udcff", 2)
    main(["doctor", str(volume)])
    (volume / "sub-09\udcfe_T1w.nii").write_bytes(b"nothing")
    capsys.readouterr()
    main(["doctor", str(volume), "--json", str(tmp_path / "found.json")])
    assert "cannot be read as NIfTI" in capsys.readouterr().out
