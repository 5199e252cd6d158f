"""Folders of models that are none, or that want to do more than hold weights: refused in one sentence, nothing runs."""

import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from medmol_diffusion.errors import InputError
from medmol_diffusion.molecules import MoleculeDiffusion
from medmol_diffusion.mri import Autoencoder
from medmol_diffusion.training.checkpoint import last_checkpoint, step_of
from medmol_diffusion.training.saved import export_model, load_model
from tests.faults.refusal import listing, refusal

pytestmark = pytest.mark.filterwarnings("default::UserWarning")  # which the suite turns into errors elsewhere


@pytest.fixture(scope="module")
def exported(molecule_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_model(molecule_run, tmp_path_factory.mktemp("exported") / "model")


def config(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        file = folder / "config.yaml"
        content = yaml.safe_load(file.read_text())
        file.write_text(yaml.safe_dump(change(content) or content))

    return spoil


def text(content: str | bytes) -> Callable[[Path], None]:
    whole = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / "config.yaml").write_bytes(whole) and None


def argument(name: str, value: Any) -> Callable[[Path], None]:
    return config(lambda c: c["init_args"].update({name: value}))


def network(**arguments: Any) -> Callable[[Path], None]:
    return config(lambda c: c["init_args"]["network"]["init_args"].update(arguments))


def weights(change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        save_file(change(load_file(folder / "model.safetensors")), folder / "model.safetensors")

    return spoil


def cut(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def folder_for_a_file(name: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()

    return spoil


def lost(value: float, last: str = "weight") -> Callable[[Path], None]:
    """The first tensor of that name is NaN or infinite throughout."""

    def change(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        name = next(name for name in state if name.endswith(last))
        return state | {name: torch.full_like(state[name], value)}

    return weights(change)


EGNN = "class_path: medmol_diffusion.molecules.EGNN\n"
# what is wrong with a sound folder, what the sentence says
MODELS: dict[str, tuple[Callable[[Path], None], str]] = {
    "no_config": (lambda folder: (folder / "config.yaml").unlink(), "is no model"),
    "config_is_a_folder": (folder_for_a_file("config.yaml"), "is no model"),
    "config_empty": (text(""), "does not describe a model"),
    "config_a_list": (text("[1, 2]"), "does not describe a model"),
    "config_a_word": (text("model"), "does not describe a model"),
    "config_no_yaml": (text("model: ["), "does not describe a model"),
    "config_not_utf_8": (text(b"class_path: \xff\xfe"), "does not describe a model"),
    "config_with_control_characters": (text(b"class_path: a\x00b"), "does not describe a model"),
    "config_of_python": (text("!!python/object/apply:os.system ['touch proof']"), "does not describe a model"),
    "config_in_a_circle": (text(f"{EGNN}init_args: &a {{network: *a}}"), "in a circle"),
    "config_that_multiplies": (text(f"{EGNN}init_args:\n  a0: &a0 [1, 1]\n" + "".join(
        f"  a{i + 1}: &a{i + 1} [*a{i}, *a{i}, *a{i}]\n" for i in range(40))), "more than 10000 entries"),
    "config_deep": (text("[" * 1000), "does not describe a model"),
    "arguments_a_list": (config(lambda c: c.update(init_args=[1])), "init_args"),
    "class_of_another_package": (config(lambda c: c.update(class_path="torch.nn.Linear")), "torch.nn.Linear"),
    "class_that_is_no_model": (config(lambda c: c.update(class_path="medmol_diffusion.mri.Volume")), "mri.Volume"),
    "class_that_is_a_function": (config(lambda c: c.update(class_path="medmol_diffusion.cli.main")), "cli.main"),
    "class_that_is_a_number": (config(lambda c: c.update(class_path=7)), "class_path 7"),
    "class_without_a_name": (config(lambda c: c.update(class_path="")), "class_path"),
    "class_of_dots": (config(lambda c: c.update(class_path="medmol_diffusion...x.Y")), "class_path"),
    "argument_unknown": (argument("evil", 1), "evil"),
    "argument_of_another_type": (argument("max_atoms", "many"), "do not fit"),
    "argument_negative": (argument("max_atoms", -1), "do not fit"),
    "network_negative": (network(hidden=-3), "do not fit"),
    "network_of_zero": (network(hidden=0, edge_hidden=0), "model"),
    "network_huge": (network(hidden=10**15), "do not fit"),
    "network_of_words": (network(layers="two"), "do not fit"),
    "network_is_a_word": (argument("network", "EGNN"), "do not fit"),
    "elements_unknown": (argument("elements", [1, 6, 7, 800]), "800"),
    "elements_empty": (argument("elements", []), "do not fit"),
    "another_architecture": (network(hidden=16), "the weights do not fit config.yaml"),
    "no_weights": (lambda folder: (folder / "model.safetensors").unlink(), "holds neither"),
    "weights_are_a_folder": (folder_for_a_file("model.safetensors"), "holds neither"),
    "weights_cut": (cut, "cannot be read"),
    "weights_empty": (lambda folder: (folder / "model.safetensors").write_bytes(b"") and None, "cannot be read"),
    "weights_of_a_huge_header": (
        lambda folder: (folder / "model.safetensors").write_bytes(b"\xff" * 8 + b"{}") and None, "cannot be read"),
    "weights_missing": (weights(lambda s: dict(list(s.items())[1:])), "the weights do not fit"),
    "weights_too_many": (weights(lambda s: s | {"evil": torch.ones(1)}), "the weights do not fit"),
    "weights_of_another_shape": (weights(lambda s: {k: v.reshape(-1) for k, v in s.items()}), "the weights do not fit"),
    "weights_nan": (lost(math.nan), "is not finite"),
    "weights_infinite": (lost(math.inf), "is not finite"),
    "weights_minus_infinite": (lost(-math.inf), "is not finite"),
    "log_probabilities_nan": (lost(math.nan, "log_probabilities"), "is not finite"),
    "log_probabilities_infinite": (lost(math.inf, "log_probabilities"), "is not finite"),
}  # fmt: skip


@pytest.mark.parametrize(("spoil", "fault"), MODELS.values(), ids=MODELS.keys())
def test_bad_model(
    spoil: Callable[[Path], None],
    fault: str,
    exported: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = shutil.copytree(exported, tmp_path / "model")
    spoil(folder)
    before = listing(tmp_path)
    for verb in (["sample", str(folder), "-n", "1", "-o", "out.sdf"], ["export", str(folder), "-o", "out"]):
        said = refusal(verb, capsys)
        assert fault in said
        assert str(folder) in said
        assert listing(tmp_path) == before


class Hostile:
    """What runs a command when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch proof",)


# what takes the place of the weights in a run's checkpoint
CHECKPOINTS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "in_the_weights": lambda state: state | {"state_dict": state["state_dict"] | {"model.x": Hostile()}},
    "beside_the_weights": lambda state: state | {"extra": Hostile()},
    "as_a_hyperparameter": lambda state: state | {"hyper_parameters": {"_class_path": Hostile()}},
    "alone": lambda state: Hostile(),
    "a_list": lambda state: [1, 2],
    "weights_a_list": lambda state: state | {"state_dict": [1, 2]},
    "names_that_are_numbers": lambda state: state | {"state_dict": {1: torch.ones(1)}},
    "nothing_but_weights": lambda state: {key: state[key] for key in ("global_step", "state_dict")},
    "weights_that_are_words": lambda state: state | {"state_dict": dict.fromkeys(state["state_dict"], "word")},
}


@pytest.mark.parametrize("spoil", CHECKPOINTS.values(), ids=CHECKPOINTS.keys())
def test_a_crafted_checkpoint_is_refused_and_does_not_run(
    spoil: Callable[[dict[str, Any]], Any],
    molecule_run: Path,
    molecule_config: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """By whatever reads a model, and by a run that is to go on from it."""
    monkeypatch.chdir(tmp_path)
    run = shutil.copytree(molecule_run, tmp_path / "run")
    last = last_checkpoint(run / "checkpoints")
    torch.save(spoil(torch.load(last, weights_only=True)), last)
    resume = ["--trainer.default_root_dir", str(run), "--trainer.max_steps", "4", "--ckpt_path", "last"]
    before = listing(tmp_path)
    with pytest.raises(InputError, match=r"last\.ckpt cannot be read as a checkpoint of plain tensors"):
        step_of(last)  # by which a resumed run begins
    verbs = []
    if spoil is CHECKPOINTS["in_the_weights"]:
        verbs += [["fit", "--config", str(molecule_config), *resume]]
    if spoil is not CHECKPOINTS["nothing_but_weights"]:  # which are a model, but no run to go on from
        verbs += [["sample", str(run), "-n", "1", "-o", "out.sdf"], ["export", str(run), "-o", "out"]]
    for verb in verbs:
        assert str(run) in refusal(verb, capsys)
    assert listing(tmp_path) == before


def test_a_checkpoint_that_is_resumed_names_no_class_to_import(
    molecule_run: Path, molecule_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning reads class names out of a checkpoint in load_from_checkpoint, which nothing here calls; a run that is
    resumed leaves them alone."""
    from medmol_diffusion.training.fit import fit

    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "hostile.py").write_text("open('proof', 'w').close()")
    run = shutil.copytree(molecule_run, tmp_path / "run")
    last = last_checkpoint(run / "checkpoints")
    state = torch.load(last, weights_only=True)
    state["hyper_parameters"] = {"_instantiator": "hostile.Thing", "_class_path": "hostile.Thing"}
    state["hparams_name"] = state["datamodule_hparams_name"] = "hostile"
    torch.save(state, last)
    options = ["--trainer.default_root_dir", str(run), "--trainer.max_steps", "3", "--ckpt_path", "last"]
    fit(["--config", str(molecule_config), *options])
    assert not (tmp_path / "proof").exists()


@pytest.mark.parametrize("place", ["", "first_stage"])
@pytest.mark.parametrize("path", ["../stage", "/etc", "{outside}", "stage/../../stage"])
def test_a_model_that_reads_outside_its_folder_is_refused(
    path: str, place: str, volume_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A first stage at a path is for training: a saved model holds all it needs."""
    outside = tmp_path / "stage"
    outside.mkdir()
    content = yaml.safe_load((volume_run / "config.yaml").read_text())["model"]["model"]
    stage = {"class_path": "medmol_diffusion.mri.KLStage", "init_args": {"path": path.format(outside=outside)}}
    content["init_args"]["first_stage"] = stage
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(content if place else stage))
    monkeypatch.chdir(folder)
    with pytest.raises(InputError, match="lies outside") as error:
        load_model(folder)
    assert str(stage["init_args"]["path"]) in str(error.value)


HAAR = {"class_path": "medmol_diffusion.mri.HaarStage", "init_args": {}}
AUTOENCODER = {"class_path": "medmol_diffusion.mri.Autoencoder", "init_args": {"shape": [16, 16, 16]}}
# arguments of a first stage beside a path outside, what the sentence says
DECOYS: dict[str, tuple[dict[str, Any], str]] = {
    "a_first_stage_for_a_number": ({"tile": HAAR}, "lies outside"),
    "a_model_for_a_number": ({"tile": AUTOENCODER}, "needs the path"),
    "a_model_for_an_unknown_argument": ({"evil": AUTOENCODER}, "evil"),
    "a_first_stage_for_the_model": ({"autoencoder": HAAR}, "lies outside"),
    "a_class_of_another_package": ({"autoencoder": {"class_path": "torch.nn.Linear"}}, "lies outside"),
    "no_model": ({"autoencoder": None, "tile": 8}, "lies outside"),
}


@pytest.mark.parametrize(("arguments", "fault"), DECOYS.values(), ids=DECOYS.keys())
def test_no_argument_beside_it_opens_a_path_outside(
    arguments: dict[str, Any], fault: str, volume_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever class it names: what lies there is not looked at."""
    opened: list[object] = []
    monkeypatch.setattr(Autoencoder, "from_pretrained", lambda path: opened.append(path))
    content = yaml.safe_load((volume_run / "config.yaml").read_text())["model"]["model"]
    stage = {"path": str(tmp_path / "stage"), **arguments}
    content["init_args"]["first_stage"] = {"class_path": "medmol_diffusion.mri.KLStage", "init_args": stage}
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(InputError, match=fault):
        load_model(folder)
    assert not opened


@pytest.mark.parametrize("name", ["../model", "a/../../model", "qm9-chno/../../pretrained/qm9-chno/x"])
def test_names_of_shipped_models_are_no_paths(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="is no model"):
        MoleculeDiffusion.from_pretrained(name)


def test_a_link_to_foreign_weights_is_read_as_weights_or_not_at_all(exported: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(exported, tmp_path / "model")
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to("/etc/hostname")
    with pytest.raises(InputError, match="cannot be read"):
        load_model(folder)
