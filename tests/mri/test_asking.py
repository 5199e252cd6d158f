"""Scans asked for by covariates: guidance moves them by what the closed form says, and the command line says so."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medmol_diffusion.cli import main
from medmol_diffusion.mri import HaarStage, UNet3D, Volume, VolumeDiffusion
from medmol_diffusion.mri.batch import VolumeBatch
from medmol_diffusion.mri.first_stages.haar import Haar
from medmol_diffusion.mri.transforms import quantise
from medmol_diffusion.training.fit import fit
from tests.conftest import TRAINER
from tests.test_bad_input import refusal

STD, SLOPE = 0.1, 0.12


class ExactGaussian(nn.Module):
    """Scans N(SLOPE y, STD^2), white, of which y is asked: F = SLOPE y sigma / (STD sqrt(alpha^2 STD^2 + sigma^2)).

    From E[x | z] = m + STD^2 alpha / (alpha^2 STD^2 + sigma^2) (z - alpha m), by x_hat = c_skip z + c_out F.
    """

    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(SLOPE))

    def forward(self, h: Tensor, gamma: Tensor, embedding: Tensor | None = None) -> Tensor:
        asked = torch.zeros_like(gamma) if embedding is None else embedding[:, 0]
        a2, s2 = torch.sigmoid(-gamma), torch.sigmoid(gamma)
        size = self.slope * asked * (s2.sqrt() / (STD * (a2 * STD**2 + s2).sqrt())).to(h)
        offset = Haar(1).encode(size.view(-1, 1, 1, 1, 1).expand(-1, 1, *(2 * n for n in h.shape[2:])))
        return torch.cat([offset, torch.zeros_like(offset)], 1)


@pytest.fixture(scope="module")
def exact() -> VolumeDiffusion:
    network = UNet3D(16, 16, [8], 1, embedding_dim=2)
    model = VolumeDiffusion([8, 8, 8], HaarStage(1), network=network, covariates={"ventricles": None}).eval()
    assert model.covariates is not None
    model.covariates.mean.fill_(40.0)
    model.covariates.std.fill_(20.0)
    model.first_stage.spectrum.std.fill_(STD)
    model.network.network = ExactGaussian()
    return model


@pytest.mark.parametrize("guidance", [0.0, 1.0, 2.5])
@pytest.mark.parametrize("asked", [20.0, 60.0])
def test_guidance_moves_samples_by_the_closed_form(exact: VolumeDiffusion, guidance: float, asked: float) -> None:
    """The scores of N(w m, s^2) and of guidance w to N(m, s^2) from N(0, s^2) are the same: every voxel moves by w m.

    Of the flow, whose noise the runs share, the difference is w m (1 - sigma_1 / sqrt(alpha_1^2 s^2 + sigma_1^2)) up to
    the discretisation, for both begin with the same pure noise: sigma_1 is 1 to 5e-5.
    """
    plain = exact.sample(2, steps=60, sampler="ddim", seed=3)
    moved = exact.sample(2, steps=60, sampler="ddim", seed=3, covariates={"ventricles": asked}, guidance=guidance)
    by = guidance * SLOPE * (asked - 40.0) / 20.0
    for one, other in zip(plain, moved, strict=True):
        np.testing.assert_allclose(other.data - one.data, by, atol=0.01 * abs(by) + 1e-4)
    assert math.isclose(np.stack([one.data for one in plain]).std(), STD, rel_tol=0.1)


def test_the_bound_given_the_covariates_is_lower_by_the_closed_form(exact: VolumeDiffusion) -> None:
    """-log N(v; 0, s^2) + log N(v; m, s^2) = sum_i (m v_i - m^2 / 2) / s^2: what knowing the mean is worth."""
    values = torch.tensor([10.0, 25.0, 40.0, 70.0])
    means = SLOPE * (values - 40) / 20
    noise = STD * torch.randn(4, 1, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    data = torch.from_numpy(quantise((noise + means.view(-1, 1, 1, 1, 1)).numpy()))
    rows = [{"ventricles": str(value)} for value in values.tolist()]
    batch = VolumeBatch(data, torch.ones_like(data, dtype=torch.bool), torch.arange(4), [""] * 4, rows)
    plain, given = (exact.elbo(batch, 0, 64, conditional=conditional).total for conditional in (False, True))
    worth = ((means.view(-1, 1) * data.flatten(1) - means.view(-1, 1) ** 2 / 2) / STD**2).sum(1)
    assert worth[2] == 0 < worth[[0, 1, 3]].min()
    np.testing.assert_allclose((plain - given).numpy(), worth.numpy(), rtol=0.1, atol=1)


CONDITIONAL = """
model:
  model:
    class_path: medmol_diffusion.mri.VolumeDiffusion
    init_args:
      shape: [16, 20, 16]
      spacing: 12.0
      first_stage: {class_path: medmol_diffusion.mri.HaarStage, init_args: {levels: 2}}
      covariates: {contrast: [T1w, FLAIR], ventricles: null}
      network:
        class_path: medmol_diffusion.mri.UNet3D
        init_args: {channels_in: 128, channels_out: 128, channels: [8], blocks: 1, embedding_dim: 5}
  warmup_steps: 2
data:
  class_path: medmol_diffusion.mri.PhantomData
  init_args:
    {count: 8, shape: [16, 20, 16], contrast: [T1w, FLAIR], atrophy: [0, 1], validation: 0.2, test: 0.2, batch_size: 2}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("asking")
    (folder / "tiny.yaml").write_text(TRAINER + CONDITIONAL)
    return fit(["--config", str(folder / "tiny.yaml"), "--trainer.default_root_dir", str(folder / "run")])


def test_scans_are_asked_for_on_the_command_line_and_say_so(run: Path, tmp_path: Path) -> None:
    asked = ["--covariate", "ventricles=40", "--covariate", "contrast=FLAIR", "--guidance", "2"]
    main(["sample", str(run), "-n", "2", "--steps", "2", *asked, "-o", str(tmp_path / "made")])
    said = json.loads((tmp_path / "made" / "sample-0000.json").read_text())
    assert said["Covariates"] == "ventricles=40 contrast=FLAIR"
    assert said["Guidance"] == 2.0
    main(["sample", str(run), "-n", "1", "--steps", "2", "-o", str(tmp_path / "plain")])
    assert "Covariates" not in json.loads((tmp_path / "plain" / "sample-0000.json").read_text())


def test_scans_are_varied_towards_what_is_asked(run: Path, tmp_path: Path) -> None:
    main(["sample", str(run), "-n", "1", "--steps", "2", "-o", str(tmp_path / "seeds")])
    seed = str(next((tmp_path / "seeds").glob("*.nii.gz")))
    found = []
    for more in ([], ["--covariate", "ventricles=60", "--guidance", "3"]):
        main(["vary", str(run), seed, "--steps", "3", *more, "-o", str(tmp_path / f"varied-{len(more)}")])
        (file,) = (tmp_path / f"varied-{len(more)}").glob("*.nii.gz")
        found.append(Volume.read(file).data)
    assert np.abs(found[0] - found[1]).max() > 0
    assert json.loads(file.with_name(file.name.replace(".nii.gz", ".json")).read_text())["Guidance"] == 3.0


def test_the_bound_given_the_covariates_is_offered(run: Path, tmp_path: Path) -> None:
    found = []
    for more in ([], ["--conditional"]):
        main(["validate", str(run), "--draws", "1", *more, "--json", str(tmp_path / "bound.json")])
        found.append(json.loads((tmp_path / "bound.json").read_text())["terms"]["total"])
    assert found[0] != found[1]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (["--covariate", "age=40"], ["age", "contrast, ventricles"]),
        (["--covariate", "contrast=PET"], ["PET", "T1w, FLAIR"]),
        (["--covariate", "ventricles"], ["NAME=VALUE"]),
        (["--covariate", "ventricles=nan"], ["--covariate ventricles=nan"]),
        (["--covariate", "ventricles=1", "--covariate", "ventricles=2"], ["twice"]),
        (["--guidance", "2"], ["--guidance", "--covariate"]),
        (["--property", "qed=1"], ["are for molecules"]),
    ],
)
def test_what_cannot_be_asked_of_scans_ends_with_one_sentence(
    asked: list[str], words: list[str], run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refusal(["sample", str(run), "-n", "1", "--steps", "1", "-o", str(tmp_path / "made"), *asked], capsys)
    assert all(word in said for word in words)
    assert not (tmp_path / "made").exists()


def test_a_model_that_can_be_asked_nothing_says_so(
    volume_run: Path, molecule_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--covariate", "age=40"]
    said = refusal(["sample", str(volume_run), "-n", "1", "-o", str(tmp_path / "made"), *asked], capsys)
    assert "can be asked for nothing" in said
    assert "--covariate and --tokens are for scans" in refusal(
        ["sample", str(molecule_run), "-n", "1", "-o", str(tmp_path / "made.sdf"), *asked], capsys
    )
