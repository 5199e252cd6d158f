"""BIDS derivatives out: names, sidecars, and what the command line writes."""

import json
from pathlib import Path

import numpy as np
import pytest

from medmol_diffusion import __version__
from medmol_diffusion.cli import main
from medmol_diffusion.mri import Volume
from medmol_diffusion.mri.bids import Derivatives
from tests.mri.series import write_series

DATA = np.random.default_rng(0).integers(1, 400, (8, 6, 7))


def test_derivatives_keep_the_entities_and_say_what_made_them(tmp_path: Path) -> None:
    volume = Volume(DATA, np.diag([1.0, 2, 3, 1]), {"source": "sub-01_T1w.nii.gz", "steps": "50"})
    out = Derivatives(tmp_path, {"Model": "heads", "Seed": 3}, ["https://example.org/data"])
    path = out.write_of(volume, "raw/sub-01/ses-2/anat/sub-01_ses-2_run-1_desc-old_T1w.nii.gz", "restored")
    assert path == tmp_path / "sub-01" / "ses-2" / "anat" / "sub-01_ses-2_run-1_desc-restored_T1w.nii.gz"
    assert Volume.read(path).same_grid(volume)
    sidecar = json.loads(path.with_name("sub-01_ses-2_run-1_desc-restored_T1w.json").read_text())
    assert sidecar == {
        "Steps": "50",
        "Model": "heads",
        "Seed": 3,
        "GeneratedBy": "medmol_diffusion",
        "Version": __version__,
        "Sources": ["sub-01_T1w.nii.gz"],
    }
    whole = json.loads((tmp_path / "dataset_description.json").read_text())
    assert (whole["DatasetType"], whole["BIDSVersion"]) == ("derivative", "1.10.0")
    assert whole["GeneratedBy"][0]["Version"] == __version__
    assert whole["SourceDatasets"] == [{"URL": "https://example.org/data"}]
    plain = out.write_of(volume, "IXI012-HH-1211_T1w.nii.gz", "anomaly")
    assert plain.name == "sub-IXI012HH1211_desc-anomaly_T1w.nii.gz"  # letters and digits only
    assert out.write_of(volume, "brain.nii", "x").name == "sub-brain_desc-x_MR.nii.gz"


@pytest.mark.parametrize("bids", [True, False])
def test_samples_say_how_they_were_made(bids: bool, volume_run: Path, tmp_path: Path) -> None:
    more = ["--bids", "T1w"] if bids else []
    main(["sample", str(volume_run), "-n", "2", "--steps", "2", "--seed", "5", "-o", str(tmp_path / "out"), *more])
    name = "sub-0001/anat/sub-0001_desc-sample_T1w" if bids else "sample-0001"
    said = json.loads((tmp_path / "out" / f"{name}.json").read_text())
    assert (tmp_path / "out" / f"{name}.nii.gz").is_file()
    assert (said["Model"], said["Seed"], said["Steps"], said["Sampler"]) == (volume_run.name, 5, 2, "dpm++2m")
    assert (said["Version"], said["Index"]) == (__version__, "1")
    assert (tmp_path / "out" / "dataset_description.json").is_file() == bids


def test_detect_takes_a_series_or_a_frame_and_writes_derivatives(volume_run: Path, tmp_path: Path) -> None:
    write_series(tmp_path / "JohnDoe", DATA)
    Volume(DATA, np.eye(4)).write(tmp_path / "sub-02_T1w.nii.gz")
    scans = [str(tmp_path / "JohnDoe"), str(tmp_path / "sub-02_T1w.nii.gz")]
    main(["detect", str(volume_run), *scans, "--method", "smoothing", "--bids", "-o", str(tmp_path / "out")])
    found = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*anomaly*.json"))
    assert found[0] == "sub-02/anat/sub-02_desc-anomaly_T1w.json"
    assert "Doe" not in found[1]
    sidecar = json.loads((tmp_path / "out" / found[0]).read_text())
    assert (sidecar["Model"], sidecar["Method"], sidecar["Seed"]) == (volume_run.name, "smoothing", 0)
    series = json.loads((tmp_path / "out" / found[1]).read_text())
    assert series["Sources"][0].startswith("series-")
    mask = next((tmp_path / "out").rglob("*02_desc-anomaly_T1w.nii.gz"))
    assert Volume.read(mask).same_grid(Volume.read(scans[1]))
