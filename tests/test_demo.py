"""The parts of the demo, small: each runs to its end and leaves what it says."""

from pathlib import Path

import pytest
import torch

from medmol_diffusion import demo
from medmol_diffusion.mri import HaarStage, PhantomData, UNet3D, VolumeDiffusion
from medmol_diffusion.report import Report


def test_heads_as_asked_their_bound_and_their_anomalies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    words: dict[str, list[str] | None] = {"contrast": ["T1w", "T2w", "FLAIR"], "ventricles": None, "lesion_load": None}
    network = UNet3D(16, 16, [8], 1, embedding_dim=8)
    model = VolumeDiffusion([16, 20, 16], HaarStage(1), network=network, spacing=12.0, covariates=words)
    data = PhantomData(
        6, [16, 20, 16], contrast=["T1w", "FLAIR"], atrophy=[0.0, 1.0], lesions=[0, 8], validation=0, test=0
    )
    data.setup()
    model.prepare(data)
    monkeypatch.setattr(VolumeDiffusion, "from_pretrained", lambda name: model.eval())
    monkeypatch.setattr(demo, "METHODS", ("one_shot",))
    report = Report("demo", "")
    demo._scans(tmp_path, report)
    page = report.write(tmp_path / "report.html").read_text()
    assert len(list((tmp_path / "samples").glob("*.nii.gz"))) == 6
    assert (tmp_path / "anomaly.nii.gz").is_file()
    for said in ("asked of head", "ventricles", "Gaussian of the training scans", "smoothing", "one_shot", "AUPRC"):
        assert said in page


def test_a_short_training_run_and_its_curve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "STEPS", 6)
    report = Report("demo", "")
    demo._training(tmp_path, report)
    page = report.write(tmp_path / "report.html").read_text()
    assert "6 steps on enumerated small molecules" in page
    assert "data:image/png" in page
    assert (tmp_path / "training" / "checkpoints" / "last.ckpt").is_file()


def test_molecules_their_scores_and_their_bound(tmp_path: Path) -> None:
    report = Report("demo", "")
    demo._molecules(tmp_path, report, count=4)
    page = report.write(tmp_path / "report.html").read_text()
    assert (tmp_path / "molecules.sdf").read_text().count("$$$$") == 4
    for said in ("molecule stability", "reconstruction", "<svg", "canvas", "per degree of freedom"):
        assert said in page, said
