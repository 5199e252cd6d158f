"""Models on disk: what is written is what is read, and nothing in a folder can make the reader run code."""

import csv
import os
import pickle
from pathlib import Path

import pytest
import torch
import yaml

from medmol_diffusion.errors import InputError
from medmol_diffusion.molecules import MoleculeDiffusion
from medmol_diffusion.mri import VolumeDiffusion
from medmol_diffusion.training.fit import fit
from medmol_diffusion.training.saved import export_model, load_model
from medmol_diffusion.training.validation import chosen, open_data, validate_model


def test_export_keeps_the_molecule_model(molecule_run: Path, tmp_path: Path) -> None:
    exported = export_model(molecule_run, tmp_path / "out")
    assert {file.name for file in exported.iterdir()} == {"model.safetensors", "config.yaml", "card.md"}
    card = (exported / "card.md").read_text()
    assert "| optimiser steps | 2;" in card
    assert "(MoleculeData)" in card
    assert 'MoleculeDiffusion.from_pretrained("out")' in card
    again = export_model(exported, tmp_path / "again")
    assert (again / "card.md").read_text() == card.replace("# out", "# again", 1)  # its data, licence and figures
    samples = [
        MoleculeDiffusion.from_pretrained(folder).sample(3, steps=2, sizes=torch.full((3,), 4))
        for folder in (molecule_run, exported)
    ]
    for one, other in zip(*samples, strict=True):
        assert (one.positions == other.positions).all()
        assert (one.atomic_numbers == other.atomic_numbers).all()


def test_the_best_checkpoint_by_a_validation_figure_is_kept_and_can_be_exported(
    volume_config: Path, tmp_path: Path
) -> None:
    """The figure is that of the very weights that are saved, which are the averaged ones."""
    more = {"trainer.max_steps": 6, "trainer.val_check_interval": 1, "model.learning_rate": 0.5}
    more |= {"checkpoint.monitor": "val/total", "checkpoint.filename": "best", "checkpoint.every_n_train_steps": "null"}
    options = [f"--{key}={value}" for key, value in more.items()]
    run = fit(["--config", str(volume_config), "--trainer.default_root_dir", str(tmp_path / "run"), *options])
    rows = list(csv.DictReader((run / "metrics.csv").open()))
    bounds = {int(row["step"]): float(row["val/total"]) for row in rows if row.get("val/total")}
    files = {file.name for file in (run / "checkpoints").iterdir()}
    assert files == {"best.ckpt", "last.ckpt"}
    best = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    lowest = min(bounds, key=lambda step: bounds[step])
    assert len(set(bounds.values())) > 2
    assert lowest != max(bounds)  # what follows is of no use if the last is the best
    assert best["global_step"] == lowest + 1
    model = load_model(export_model(run, tmp_path / "out", checkpoint=run / "checkpoints" / "best.ckpt"))
    data, split = open_data(model, str(run), None, "validation")
    bound = validate_model(model, data, split, 0, draws=1, seed=0)
    assert bound.total.mean().item() == pytest.approx(bounds[lowest], rel=0.05)
    with pytest.raises(InputError, match="there is no checkpoint"):
        export_model(run, tmp_path / "none", checkpoint=run / "checkpoints" / "worst.ckpt")


def test_half_the_size_is_the_same_model_to_three_digits(molecule_run: Path, tmp_path: Path) -> None:
    whole, half = (export_model(molecule_run, tmp_path / str(is_half), is_half) for is_half in (False, True))
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (whole, half)]
    assert sizes[1] < 0.75 * sizes[0]
    one, other = (load_model(folder).state_dict() for folder in (whole, half))
    assert any((one[name] != other[name]).any() for name in one)
    for name, value in one.items():
        assert other[name].dtype == value.dtype
        torch.testing.assert_close(other[name], value, rtol=5e-4 if value.dim() > 1 else 0, atol=1e-7)


def test_export_keeps_the_volume_model(volume_run: Path, tmp_path: Path) -> None:
    exported = export_model(volume_run, tmp_path / "out")
    one, other = (VolumeDiffusion.from_pretrained(f).sample(1, steps=2)[0] for f in (volume_run, exported))
    assert (one.data == other.data).all()
    with pytest.raises(InputError, match="is a VolumeDiffusion, not a MoleculeDiffusion"):
        MoleculeDiffusion.from_pretrained(exported)


def test_molecules_do_not_depend_on_how_they_are_batched(molecule_run: Path) -> None:
    model = MoleculeDiffusion.from_pretrained(molecule_run)
    together, apart = (model.sample(8, steps=4, seed=3, pair_budget=budget) for budget in (10_000, 1))
    for one, other in zip(together, apart, strict=True):
        assert (one.atomic_numbers == other.atomic_numbers).all()
        torch.testing.assert_close(torch.tensor(one.positions), torch.tensor(other.positions), rtol=1e-4, atol=1e-4)
    again = model.sample(3, steps=4, seed=3)
    torch.testing.assert_close(again[2].positions, together[2].positions, rtol=1e-4, atol=1e-4)
    assert abs(model.sample(8, steps=4, seed=4)[0].positions[0] - together[0].positions[0]).max() > 1e-3


def test_scans_do_not_depend_on_how_they_are_batched(volume_run: Path) -> None:
    model = VolumeDiffusion.from_pretrained(volume_run)
    together, apart = (model.sample(5, steps=4, seed=3, batch_size=size) for size in (5, 1))
    assert len({volume.shape for volume in together}) == 2  # padded and whole scans in one batch
    for one, other in zip(together, apart, strict=True):
        torch.testing.assert_close(torch.tensor(one.data), torch.tensor(other.data), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["molecule_run", "volume_run"])
def test_the_bound_does_not_depend_on_how_it_is_batched(name: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(name)
    model = load_model(folder)
    data, split = open_data(model, str(folder), None, "train")
    bounds = []
    for size in (100, 1):
        if name == "volume_run":
            data.batch_size = size  # type: ignore[attr-defined]
        else:
            data.pair_budget = 64 * size  # type: ignore[attr-defined]
        bounds.append(validate_model(model, data, split, steps=20, draws=2, seed=0).total.sort().values)
    torch.testing.assert_close(bounds[0], bounds[1], rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("name", ["molecule_run", "volume_run"])
def test_every_example_is_validated_once_and_a_limit_draws_a_fair_share(
    name: str, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(name)
    data, split = open_data(load_model(folder), str(folder), None, "train")
    data.batch_size = 7  # type: ignore[attr-defined]  # does not divide them: nothing is dropped
    part = getattr(data, split)
    for limit in (None, 9):
        rows = chosen(data, split, limit)
        index = torch.cat([batch.index for batch in data.evaluation_dataloader(split, rows)])  # type: ignore[attr-defined]
        own = part.index if name == "molecule_run" else range(len(part))
        assert sorted(index.tolist()) == sorted(own[row] for row in rows)
    assert len(chosen(data, split, None)) == len(part)
    if name == "molecule_run":
        assert len(set(part.num_atoms[chosen(data, split, 9)])) > 2  # not those of one size


def test_an_export_does_not_overwrite_another_model(molecule_run: Path, volume_run: Path, tmp_path: Path) -> None:
    export_model(molecule_run, tmp_path / "out")
    export_model(molecule_run, tmp_path / "out")
    with pytest.raises(InputError, match="holds another model"):
        export_model(volume_run, tmp_path / "out")
    assert "MoleculeDiffusion" in (tmp_path / "out" / "card.md").read_text()


def forged(run: Path, folder: Path, class_path: str) -> Path:
    """The run's config with another class for its network."""
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["model"]["model"]["init_args"]["network"] = {"class_path": class_path, "init_args": {"args": "touch proof"}}
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


@pytest.mark.parametrize(
    "class_path",
    ["subprocess.Popen", "os.system", "hostile.Network", "medmol_diffusion.cli.main", "medmol_diffusion.no.Thing",
     "medmol_diffusion.training.saved.Path", "medmol_diffusion.training.module.pl.Trainer"],
)  # fmt: skip
def test_a_class_outside_the_package_is_not_loaded(
    class_path: str, molecule_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "hostile.py").write_text("open('proof', 'w').close()")
    with pytest.raises(InputError, match=class_path):
        MoleculeDiffusion.from_pretrained(forged(molecule_run, tmp_path / "bad", class_path))
    assert not (tmp_path / "proof").exists()


class Hostile:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch proof",)


def test_hostile_and_damaged_weights_are_refused(
    molecule_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "config.yaml").write_text((molecule_run / "config.yaml").read_text())
    checkpoint = tmp_path / "checkpoints" / "last.ckpt"
    checkpoint.write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(InputError, match=r"last\.ckpt cannot be read as plain tensors"):
        load_model(tmp_path)
    torch.save({"state_dict": Hostile()}, checkpoint)
    with pytest.raises(InputError, match=r"last\.ckpt cannot be read as plain tensors"):
        load_model(tmp_path)
    torch.save({"state_dict": {"model.data_std": torch.ones(())}}, checkpoint)
    with pytest.raises(InputError, match=r"the weights do not fit config\.yaml"):
        load_model(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"no tensors here")
    with pytest.raises(InputError, match=r"model\.safetensors cannot be read"):
        load_model(tmp_path)
    assert not (tmp_path / "proof").exists()
