"""What other libraries have goes in, and what comes out is theirs."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from monai.data import MetaTensor
from monai.transforms import Flip, Orientation, SpatialPad

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri import Volume
from medmol_diffusion.training.fit import fit
from medmol_diffusion.training.saved import export_model
from tests.docs.pages import blocks

AFFINE = np.array([[0.0, -1.5, 0.1, 20.0], [1.25, 0.0, 0.0, -30.0], [0.0, 0.05, 2.0, 5.0], [0.0, 0.0, 0.0, 1.0]])
HUB = {"library_name", "tags", "license", "pipeline_tag", "datasets", "language", "base_model", "metrics"}
"""Of the metadata that huggingface.co/docs/hub/model-cards names."""


def scan() -> Volume:
    return Volume(np.random.default_rng(0).random((4, 5, 6)), AFFINE, {"source": "scan.nii.gz"})


def test_a_volume_comes_back_from_monai_as_it_was() -> None:
    again = Volume.from_metatensor(scan().to_metatensor())
    np.testing.assert_array_equal(again.data, scan().data)
    np.testing.assert_array_equal(again.affine, scan().affine)


def test_what_monai_turns_and_pads_stays_where_it_lies() -> None:
    """Every voxel keeps its millimetres: the brightest one is looked up there."""
    before = scan()
    for transform in (Flip(0), SpatialPad((9, 9, 9)), Orientation("LPS", labels=(("L", "R"), ("P", "A"), ("I", "S")))):
        after = Volume.from_metatensor(transform(before.to_metatensor()))
        places = [one.to_mm(np.unravel_index(one.data.argmax(), one.shape)) for one in (before, after)]
        np.testing.assert_allclose(places[0], places[1], atol=1e-4)
        assert not np.array_equal(before.affine, after.affine)


def test_an_affine_in_lps_is_turned_round() -> None:
    turned = MetaTensor(torch.ones(1, 2, 3, 4), torch.from_numpy(np.diag([-1.0, -1, 1, 1]) @ AFFINE), {"space": "LPS"})
    np.testing.assert_allclose(Volume.from_metatensor(turned).affine, AFFINE)


def test_several_channels_are_no_scan() -> None:
    with pytest.raises(InputError, match="choose one channel"):
        Volume.from_metatensor(MetaTensor(torch.ones(2, 4, 4, 4)))


def test_a_logger_of_the_users_own_stands_beside_the_runs(molecule_config: Path, tmp_path: Path) -> None:
    arguments = ["--config", str(molecule_config), "--trainer.default_root_dir", str(tmp_path / "run")]
    own = ["--trainer.logger", "CSVLogger", "--trainer.logger.save_dir", str(tmp_path / "own")]
    fit([*arguments, *own])
    (theirs,), ours = (tmp_path / "own").rglob("metrics.csv"), tmp_path / "run" / "metrics.csv"
    losses = [
        [row["train/loss"] for row in csv.DictReader(file.open()) if row.get("train/loss")] for file in (ours, theirs)
    ]
    assert len(losses[0]) == 2
    assert losses[0] == losses[1]
    assert list((tmp_path / "run").glob("events.out.tfevents.*"))


def test_the_card_of_an_exported_model_begins_with_what_the_hub_reads(tmp_path: Path) -> None:
    card = (export_model("qm9-chno-early", tmp_path / "out") / "card.md").read_text()
    opened, metadata, text = card.split("---\n", 2)
    assert opened == ""
    found: dict[str, Any] = yaml.safe_load(metadata)
    assert set(found) <= HUB
    assert found["library_name"] == "medmol_diffusion"
    assert "molecules" in found["tags"]
    assert text.startswith("\n# out\n")


def test_the_guide_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With fewer steps."""
    monkeypatch.chdir(tmp_path)
    page = "docs/guides/interoperating.md"
    code = "\n".join(block.text for block in blocks(page) if block.language == "python")
    for long, short in {"4, steps=50": "4, steps=3, sizes=[5, 6, 7, 8]", "steps=20": "steps=1"}.items():
        assert long in code
        code = code.replace(long, short)
    names: dict[str, Any] = {"__name__": "guide"}
    exec(compile(code, page, "exec"), names)
    assert names["again"].num_atoms == names["relaxed"].num_atoms == 5
    np.testing.assert_allclose(names["again"].positions, names["molecules"][0].positions, atol=1e-5)
    np.testing.assert_allclose(names["relaxed"].positions, names["molecules"][0].positions)
    assert names["same"].same_grid(names["volume"])
    assert names["found"].shape == names["volume"].shape
    assert names["found"].same_grid(names["volume"], tolerance=1e-2)
    assert names["spoiled"].same_grid(names["varied"])
    assert set(names["figures"]) == {"stable", "valid", "whole"}
    assert set(names["beyond"]) == {"strain", "qed", "diversity", "bond lengths"}
    kept = names["MoleculeDiffusion"].from_pretrained("qm9-chno").state_dict()
    assert all(torch.equal(value, kept[name]) for name, value in names["same_model"].state_dict().items())
