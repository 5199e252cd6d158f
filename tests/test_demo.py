"""The demo, small: it runs from end to end and leaves what it says."""

from pathlib import Path

import pytest

from medmol_diffusion import demo
from medmol_diffusion.mri import HaarStage, PhantomData, UNet3D, VolumeDiffusion


def small_heads() -> VolumeDiffusion:
    """What head-phantom can be asked for, on a coarser grid."""
    words: dict[str, list[str] | None] = {"contrast": ["T1w", "T2w", "FLAIR"], "ventricles": None, "lesion_load": None}
    network = UNet3D(16, 16, [8], 1, embedding_dim=8)
    model = VolumeDiffusion([16, 20, 16], HaarStage(1), network=network, spacing=12.0, covariates=words)
    data = PhantomData(
        6, [16, 20, 16], contrast=["T1w", "FLAIR"], atrophy=[0.0, 1.0], lesions=[0, 8], validation=0, test=0
    )
    data.setup()
    model.prepare(data)
    return model.eval()


def test_the_demo_runs_from_end_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_heads()
    monkeypatch.setattr(VolumeDiffusion, "from_pretrained", lambda name: model)
    monkeypatch.setattr(demo, "METHODS", ("one_shot",))
    page = demo.run_demo(tmp_path, molecules=4, steps=6)
    assert page == tmp_path / "report.html"
    assert (tmp_path / "molecules.sdf").read_text().count("$$$$") == 4
    assert len(list((tmp_path / "samples").glob("*.nii.gz"))) == 6
    assert (tmp_path / "anomaly.nii.gz").is_file()
    assert (tmp_path / "training" / "checkpoints" / "last.ckpt").is_file()
    content = page.read_text()
    assert content.count("class='tile'") == 4
    molecules = ("4 molecules of H, C, N and O", "molecule stability", "reconstruction", "per degree of freedom")
    scans = ("asked of head", "ventricles", "Gaussian of the training scans", "smoothing", "one_shot", "AUPRC")
    training = ("6 steps on enumerated small molecules", "data:image/png")
    for said in (*molecules, *scans, *training):
        assert said in content, said
