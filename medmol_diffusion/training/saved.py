"""Models on disk: safetensors + config.yaml + card.md, and the run folders they come from. Nothing is unpickled but
tensors."""

import importlib
import inspect
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load_file, save
from torch import Tensor, nn

from medmol_diffusion import __version__
from medmol_diffusion.errors import InputError
from medmol_diffusion.extras import MissingExtra
from medmol_diffusion.training.folder import CONFIG, find_model
from medmol_diffusion.training.generative import GenerativeModel
from medmol_diffusion.whole_file import whole_file

WEIGHTS, CARD = "model.safetensors", "card.md"
CHECKPOINT = Path("checkpoints") / "last.ckpt"
LARGEST = 10_000
"""Entries of a config."""
LOG_PROBABILITIES = "log_probabilities"
"""The last name of tensors of log p, as of the sizes of molecules."""
_PREFIX = "model."  # of the model's weights inside a task


def load_model(source: str | Path, checkpoint: str | Path | None = None) -> GenerativeModel:
    """Build a model from its config.yaml and fill in its (averaged) weights, in evaluation mode.

    Args:
        source: a run folder, an exported folder or a shipped model.
        checkpoint: of that run, to be read in the place of its last one.

    Raises:
        InputError: nothing usable is there.
    """
    folder = find_model(source)
    config = read_model_config(folder)
    try:
        _keep_inside(config, folder)
        model = build(config)
    except InputError as error:
        raise InputError(f"{folder / CONFIG}: {error}") from error
    if not isinstance(model, GenerativeModel):
        raise InputError(f"{folder / CONFIG} describes a {type(model).__name__}, which is no model of data")
    weights = _read_weights(folder, checkpoint)
    if name := lost_weight(weights):
        raise InputError(
            f"{folder}: the weight {name} is not finite: train the model again, or take another checkpoint"
        )
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise InputError(f"{folder}: the weights do not fit {CONFIG}: {str(error).splitlines()[-1].strip()}") from error
    return model.eval()


def read_model_config(folder: Path) -> dict[str, Any]:
    """The {class_path, init_args} of the model in an exported folder or a run folder.

    Raises:
        InputError: config.yaml does not say.
    """
    try:
        config = yaml.safe_load((folder / CONFIG).read_text())
        if "class_path" not in config:
            config = config["model"]["model"]
        found = {"class_path": config["class_path"], "init_args": config.get("init_args") or {}}
    except (yaml.YAMLError, AttributeError, KeyError, TypeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{folder / CONFIG} does not describe a model: it needs class_path and init_args") from error
    for count, _ in enumerate(_parts(found)):
        if count == LARGEST:
            raise InputError(
                f"{folder / CONFIG} has more than {LARGEST} entries, or goes round in a circle: write it out"
            )
    return found


def _parts(config: Any) -> Iterator[Any]:
    """A config and all that lies in it, aliases of YAML as often as they stand there."""
    left = [config]
    while left:
        one = left.pop()
        yield one
        left += one.values() if isinstance(one, dict) else one if isinstance(one, list) else []


def _keep_inside(config: dict[str, Any], folder: Path) -> None:
    """Raises InputError where a part of a saved model would be read from a path outside its folder. Where the part is
    told beside the path what model lies there, as a first stage is that was trained on its own, the weights are among
    the model's own, and the path is taken out of ``config``: then nothing can read it."""
    for part in _parts(config):
        arguments = part.get("init_args") if isinstance(part, dict) else None
        if not isinstance(arguments, dict) or not isinstance(path := arguments.get("path"), str):
            continue
        if any(_describes_a_model(value) for value in arguments.values()):
            del arguments["path"]
        elif not Path(path).resolve().is_relative_to(folder.resolve()):
            raise InputError(f"{part.get('class_path')} would read {path}, which lies outside: export the model again")


def _describes_a_model(config: Any) -> bool:
    """Whether a value of a config is the {class_path, init_args} of a model of data."""
    kind = named_class(str(config["class_path"])) if isinstance(config, dict) and "class_path" in config else None
    return kind is not None and issubclass(kind, GenerativeModel)


def build(config: Any, kind: type = nn.Module) -> Any:
    """Instantiate nested {class_path, init_args}, restricted to the package's own subclasses of ``kind``.

    Raises:
        InputError: a class outside the package, or arguments that do not fit it.
    """
    if isinstance(config, list):
        return [build(item, kind) for item in config]
    if not isinstance(config, dict):
        return config
    if "class_path" not in config:
        return {key: build(value, kind) for key, value in config.items()}
    path = str(config["class_path"])
    found = named_class(path)
    if found is None or not issubclass(found, kind):
        raise InputError(f"class_path {path} is not a {kind.__name__} of medmol_diffusion, so it is not loaded")
    arguments = build(config.get("init_args") or {}, kind)
    if not isinstance(arguments, dict):
        raise InputError(f"init_args of {path} must be names and values, not {arguments!r:.40}")
    try:
        return found(**arguments)
    except Exception as error:  # wrong arguments fail in as many ways as there are constructors
        raise InputError(f"init_args of {path} do not fit: {error}") from error


def named_class(path: str) -> type | None:
    """The package's own class of that class_path; None where it names something else.

    Raises:
        MissingExtra: it is in the package, but its extra is not installed.
        InputError: it is in the package, and does not load.
    """
    module, _, name = path.rpartition(".")
    found: Any = None
    if module.split(".")[0] == "medmol_diffusion":
        try:
            found = getattr(importlib.import_module(module), name, None)
        except MissingExtra:
            raise
        except (ImportError, ValueError) as error:
            raise InputError(f"class_path {path} cannot be imported: {error}") from error
    own = inspect.isclass(found) and found.__module__.startswith("medmol_diffusion.")
    return found if own else None


def lost_weight(weights: Mapping[str, Any]) -> str | None:
    """The first weight that is NaN or infinite; None of sound ones. Of ``LOG_PROBABILITIES``, which a model may hold
    beside its weights, -inf is sound: a probability of zero."""
    for name, value in weights.items():
        may_be_zero = name.rpartition(".")[2] == LOG_PROBABILITIES
        if isinstance(value, Tensor) and not (value < torch.inf if may_be_zero else value.isfinite()).all():
            return name
    return None


def _read_weights(folder: Path, checkpoint: str | Path | None = None) -> dict[str, Tensor]:
    if checkpoint is None and (folder / WEIGHTS).is_file():
        try:
            return load_file(folder / WEIGHTS)
        except Exception as error:  # safetensors raises its own unexported error types
            raise InputError(
                f"{folder / WEIGHTS} cannot be read: it is damaged or cut short; export the model again"
            ) from error
    chosen, checkpoint = checkpoint, folder / CHECKPOINT if checkpoint is None else Path(checkpoint)
    if not checkpoint.is_file():
        if chosen is not None:
            raise InputError(f"there is no checkpoint {checkpoint}: give a file of {folder / CHECKPOINT.parent}")
        raise InputError(f"{folder} holds neither {WEIGHTS} nor {CHECKPOINT}: train it, or export it again")
    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
        return {name.removeprefix(_PREFIX): value for name, value in state.items() if name.startswith(_PREFIX)}
    except Exception as error:  # a damaged or hostile checkpoint fails in as many ways as pickle has
        raise InputError(
            f"{checkpoint} cannot be read as plain tensors: it is damaged, cut short, or was not written by medmol fit"
        ) from error


def export_model(
    source: str | Path, destination: str | Path, half: bool = False, checkpoint: str | Path | None = None
) -> Path:
    """Write the weights, or their averages where the run has them, the model's config and a card to ``destination``;
    returns it.

    Args:
        source: a run folder, an exported folder or a shipped model.
        destination: the folder; made if need be.
        half: matrices in float16, half the size; vectors and single numbers stay as they are, and so do matrices that
            float16 cannot hold. What is read again is float32.
        checkpoint: of a run, in the place of its last one: the one with the best validation bound, for example.

    Raises:
        InputError: ``source`` is no model, or ``destination`` holds another one.
    """
    folder, out = find_model(source), Path(destination)
    config = read_model_config(folder)
    model = load_model(folder, checkpoint)  # what cannot be built again is not worth exporting
    weights = {name: value.contiguous() for name, value in model.state_dict().items()}
    if half:
        weights = {name: _half(value) for name, value in weights.items()}
    if (out / CONFIG).is_file() and read_model_config(out) != config:
        raise InputError(f"{out} holds another model: choose another folder")
    out.mkdir(parents=True, exist_ok=True)
    with whole_file(out / WEIGHTS) as file:
        file.write_bytes(save(weights))
    with whole_file(out / CONFIG) as file:
        file.write_text(yaml.safe_dump(config, sort_keys=False))
    with whole_file(out / CARD) as file:
        if (folder / CARD).is_file():  # of a model that was exported before: its licence, its data, its figures
            file.write_text(re.sub("(?m)^# .*$", lambda title: f"# {out.name}", (folder / CARD).read_text(), count=1))
        else:
            file.write_text(_card(model, folder, out, folder / CHECKPOINT if checkpoint is None else Path(checkpoint)))
    return out


def _half(value: Tensor) -> Tensor:
    matrix = value.dtype == torch.float32 and value.dim() > 1
    return value.half() if matrix and value.abs().max() < torch.finfo(torch.float16).max else value


def front_matter(kind: type[GenerativeModel], **more: str) -> str:
    """The head of a card, for the Hugging Face Hub: the library, tags, and ``more``, a licence for example."""
    tags = ["diffusion", kind.__module__.split(".")[1], "safetensors"]
    metadata = {"library_name": "medmol_diffusion", **more, "tags": tags}
    return f"---\n{yaml.safe_dump(metadata, sort_keys=False)}---\n"


def _card(model: GenerativeModel, source: Path, out: Path, checkpoint: Path) -> str:
    """What the model is, what it was trained on as far as its folder says, and how to use it, behind front_matter. A
    licence is for its owner to name."""
    kind = type(model)
    module = kind.__module__.rpartition(".")[0]
    about = (inspect.getdoc(kind) or "").split("\n\n")[0].replace("\n", " ")
    parameters = sum(parameter.numel() for parameter in model.parameters())
    facts = [("model", f"{kind.__name__}: {about}"), ("parameters", f"{parameters:,}")]
    run = yaml.safe_load((source / CONFIG).read_text())
    if run.get("data"):
        arguments = run["data"].get("init_args") or {}
        name = Path(arguments["path"]).name if arguments.get("path") else "embedded data"
        facts.append(("trained on", f"{name} ({run['data']['class_path'].rpartition('.')[2]})"))
    how, options = "", ""
    if (run.get("model") or {}).get("teacher"):
        few = run["model"]["student_steps"]
        facts.append(("distilled", f"to {few} DDIM steps, from {Path(run['model']['teacher']).name}"))
        how, options = f" --sampler ddim --steps {few}", f', sampler="ddim", steps={few}'
    if checkpoint.is_file():
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        averaged = "; the weights are their moving average" if "averaging_state" in state else ""
        facts.append(("optimiser steps", f"{state['global_step']:,}{averaged}"))
    facts.append(("made with", f"medmol_diffusion {__version__}"))
    return "\n".join(
        [
            front_matter(kind),
            f"# {out.name}",
            "",
            "| | |",
            "|---|---|",
            *(f"| {name} | {value} |" for name, value in facts),
            "",
            f"    medmol sample {out.name}{how} -o ...",
            f"    medmol validate {out.name} --data ...",
            "",
            "```python",
            f"from {module} import {kind.__name__}",
            "",
            f'model = {kind.__name__}.from_pretrained("{out.name}")',
            f"samples = model.sample(4, seed=0{options})",
            "```",
            "",
        ]
    )
