"""Where a model lies, and the data of its run: a run folder, an exported folder, or one that ships with the package.
Found without torch."""

from pathlib import Path
from typing import Any

import yaml

from medmol_diffusion.errors import InputError
from medmol_diffusion.pretrained import shipped
from medmol_diffusion.training.split_file import PARTS

CONFIG = "config.yaml"
"""What every folder of a model holds."""


def find_model(source: str | Path) -> Path:
    """The folder of a run, of an exported model, or of a model that ships with the package, by its name.

    Raises:
        InputError: there is none.
    """
    folder, own = Path(source), shipped()
    if (folder / CONFIG).is_file():
        return folder
    if str(source) in own:
        return own[str(source)]
    names = f", or one of {', '.join(own)}" if own else ""
    raise InputError(f"{source} is no model: give a run folder, an exported folder (one that holds {CONFIG}){names}")


def read_data_config(source: str | Path, cure: str = "give --data PATH") -> dict[str, Any]:
    """The {class_path, init_args} of the data a run was trained on.

    Raises:
        InputError: ``source`` is not a run folder; ``cure`` says what to do then.
    """
    config = yaml.safe_load((find_model(source) / CONFIG).read_text()).get("data")
    if not config:
        raise InputError(f"{source} does not name its data, as a run folder does: {cure}")
    return {"class_path": config["class_path"], "init_args": dict(config.get("init_args") or {})}


def data_to_validate(
    source: str | Path, path: str | None = None, split: str | None = None, skip: bool = False
) -> tuple[str, dict[str, Any] | None]:
    """(split, {class_path, init_args}) of the data that a likelihood is asked of: a part of those a run was trained on.

    With a path and no split it is ("all", None): all of the path, as the model reads it.

    Args:
        source: the model.
        path: other data, which take the place of the run's own ``path``.
        split: "all", "train", "validation" or "test"; None is all of a path, or else the test part.
        skip: leave out what the model cannot hold, of all of a path only.

    Raises:
        InputError: neither a path nor a run folder that names its data, or ``skip`` where that says what to leave out.
    """
    chosen = split or ("all" if path else "test")
    if chosen == "all":
        if path is None:
            raise InputError("--split all needs --data PATH")
        return chosen, None
    if skip:
        raise InputError("--skip leaves molecules out of all of --data PATH: a run's own data say themselves which")
    if path is None:
        return chosen, read_data_config(source)
    config = read_data_config(source, f"leave --split {chosen} out, for all of {path}")
    config["init_args"]["path"] = path
    return chosen, config


def all_as_in_training(source: str | Path, path: str) -> dict[str, Any]:
    """The {class_path, init_args} that reads all of ``path`` as the run's own data were read, into the training part.

    Raises:
        InputError: ``source`` is not a run folder.
    """
    config = read_data_config(
        source, f"the model reads other scans beside those of {path}, and a run folder says which: name that"
    )
    everything = {"path": path, "validation": 0.0, "test": 0.0}
    own = dict.fromkeys({"table", "split_file"} & config["init_args"].keys())  # those of other data
    config["init_args"] |= everything | own
    return config


def run_and_part(text: str) -> tuple[str, str]:
    """RUN:PART as its two; a path that says no part has "" in its place."""
    run, colon, name = text.rpartition(":")
    return (run, name) if colon and name in PARTS else (text, "")
