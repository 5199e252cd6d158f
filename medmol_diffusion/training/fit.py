"""`medmol fit`: config-driven training through LightningCLI. Constructors are the schema."""

import logging
import re
import signal
import threading
import warnings
from argparse import ArgumentError
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from inspect import signature
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import pytorch_lightning as pl
import yaml
from jsonargparse import Namespace, dict_to_namespace
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from medmol_diffusion.errors import InputError, did_you_mean
from medmol_diffusion.training.adversarial import AdversarialModel
from medmol_diffusion.training.adversarial_task import AdversarialTask
from medmol_diffusion.training.checkpoint import RunCheckpoint, WholeFiles, last_checkpoint, step_of
from medmol_diffusion.training.curve import Curve, Events
from medmol_diffusion.training.ema import EMA
from medmol_diffusion.training.module import DiffusionTask
from medmol_diffusion.training.progress import StepBar
from medmol_diffusion.training.saved import named_class
from medmol_diffusion.training.sharding import check_options, check_weights, is_sharded
from medmol_diffusion.training.step import NotFinite

# What Lightning and its parts say of themselves, and nobody can act on. The strides are those of 1^3 convolutions under
# autocast: along axes of size one they mean nothing, and DDP compares them all the same.
CHATTER = (
    "does not have many workers|args parameter is intended|LeafSpec|exists and is not empty|Checkpoint directory"
    "|tensorboardX|number of training batches|srun|GPU available but not used|resuming from a checkpoint that ended"
    "|ModelCheckpoint with manual optimization|in eval mode at the start of training"
    "|Grad strides do not match bucket view strides"
    "|callbacks used to create the checkpoint|was not created with WeightAveraging"
)
# Lines of a parser's complaint that say less than the others.
ASIDES = (
    "Does not validate against",
    "Subtypes:",
    "Errors:",
    "Expected a <class 'NoneType'>",
    "Expected a path but",
    "Given value",
)


class Interrupt(pl.Callback):
    """The first Ctrl-C lets the step in hand finish, so that what is saved is a whole step; a second one kills.

    Attributes:
        asked: whether the run has been interrupted.
    """

    asked = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if threading.current_thread() is threading.main_thread():  # only there can signals be caught
            self.before = signal.signal(signal.SIGINT, self._ask)

    def _ask(self, *_: object) -> None:
        self.asked = True
        signal.signal(signal.SIGINT, self.before)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        trainer.should_stop = trainer.should_stop or self.asked

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if hasattr(self, "before"):
            signal.signal(signal.SIGINT, self.before)


def settle(config: Any) -> None:
    """Write into a config what its classes look up elsewhere, so that the run's own config.yaml says it: a class that
    has ``settle`` (its init_args -> more of them) is asked."""
    if not isinstance(config, Namespace):
        return
    for value in vars(config).values():
        settle(value)
    kind = named_class(config.class_path) if isinstance(config.get("class_path"), str) else None
    if kind is not None and hasattr(kind, "settle"):
        for name, value in kind.settle(vars(config.init_args)).items():
            config.init_args[name] = dict_to_namespace(value)


class FitParser(LightningArgumentParser):
    """LightningArgumentParser that names the key that was meant."""

    def error(self, message: str, ex: Exception | None = None) -> None:
        unknown = re.search(r"unrecognized arguments: (--[^\s=]+)", message)
        if unknown and ex is None:  # else it has been here before
            message += did_you_mean(unknown[1], (key for key in self._option_string_actions if key.startswith("--")))
        super().error(message, ex)


class FitCLI(LightningCLI):
    """LightningCLI whose run folder is trainer.default_root_dir: config.yaml, checkpoints/, metrics.csv, TensorBoard
    events.

    Attributes:
        checkpoint: what the run resumes from, or None.
        start: the step it starts at.
    """

    checkpoint: Path | None = None
    start = 0

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_lightning_class_args(EMA, "ema")
        parser.add_lightning_class_args(RunCheckpoint, "checkpoint")
        # Without the version counter a second run in the same folder does replace last.ckpt.
        parser.set_defaults(
            {"checkpoint.save_last": True, "checkpoint.save_top_k": 1, "checkpoint.enable_version_counter": False}
        )
        # The loaders of both domains give every rank its share themselves.
        parser.set_defaults({"trainer.enable_model_summary": False, "trainer.use_distributed_sampler": False})
        parser.add_argument(
            "--ckpt_path", type=str, default=None, help="a checkpoint to resume from; 'last' takes the run's newest"
        )

    def before_instantiate_classes(self) -> None:
        trainer = self.config.trainer
        if trainer.default_root_dir is None:
            raise InputError("trainer.default_root_dir is not set: name the run folder there, runs/my-run for example")
        root = str(trainer.default_root_dir)
        if self.config.checkpoint.dirpath is None:
            self.config.checkpoint.dirpath = str(Path(root) / "checkpoints")
        if self.config.ckpt_path is None:
            if last_checkpoint(self.config.checkpoint.dirpath).exists():
                raise InputError(
                    f"{root} holds a run already: go on with it by --ckpt_path last, "
                    "or name another folder in trainer.default_root_dir"
                )
        else:
            last = last_checkpoint(self.config.checkpoint.dirpath)
            self.checkpoint = last if self.config.ckpt_path == "last" else Path(self.config.ckpt_path)
            self.start = step_of(self.checkpoint)
            self.config.ckpt_path = None  # config.yaml describes the run, not one of its starts
        settle(self.config.model)
        if self.config.ema is None:
            self.config.ema = Namespace(decay=None)
        if is_sharded(trainer.strategy):
            check_options(self.config)

    def instantiate_trainer(self, **kwargs: object) -> pl.Trainer:
        # The loggers and the progress bar belong to the run folder, so they are set here and not in every config.
        config = self.config_init["trainer"]
        root = str(config["default_root_dir"])
        self.interrupt = Interrupt()
        callbacks = [*(config["callbacks"] or []), self.interrupt]
        if config["enable_progress_bar"] is not False:
            callbacks.append(StepBar())
            kwargs["enable_progress_bar"] = False  # Lightning's own counts epochs
        loggers = [Curve(root, self.start), Events(root, name="", version="", purge_step=self.start)]
        loggers += _listed(config["logger"])  # the user's own, beside those of the run folder
        kwargs["plugins"] = [*(config["plugins"] or []), WholeFiles()]
        trainer = super().instantiate_trainer(callbacks=callbacks, logger=loggers, **kwargs)
        averages = [one for one in trainer.callbacks if isinstance(one, EMA) and one.decay is None]  # type: ignore[attr-defined]
        for callback in averages:
            trainer.callbacks.remove(callback)  # type: ignore[attr-defined]
        return trainer


def _listed(logger: Any) -> list[Any]:
    """The loggers of trainer.logger: one, several, or none (None, true, false: the run folder's are there anyway)."""
    if logger is None or isinstance(logger, bool):
        return []
    return list(logger) if isinstance(logger, Iterable) else [logger]


Assembled = TypeVar("Assembled", bound=FitCLI)


def assemble(kind: type[Assembled], arguments: list[str]) -> Assembled:
    """The trainer, the task and the data that a command line describes, built but not run.

    Raises:
        InputError: it describes none.
    """
    try:
        return kind(
            task_of(arguments),
            pl.LightningDataModule,
            subclass_mode_data=True,
            seed_everything_default=0,
            save_config_kwargs={"overwrite": True},
            parser_kwargs={"exit_on_error": False, "allow_abbrev": False},
            auto_configure_optimizers=False,
            run=False,
            parser_class=FitParser,
            args=without_averages(arguments),
        )
    except InputError:
        raise
    except (ArgumentError, ValueError, MisconfigurationException) as error:
        raise InputError(complaint(str(error), arguments)) from error


def without_averages(arguments: list[str]) -> list[str]:
    """With ``--ema null`` said as the parser understands it: of a group of arguments it knows null in a file only."""
    found = list(arguments)
    for i, (flag, value) in enumerate(pairwise([*arguments, ""])):
        if flag == "--ema=null":
            found[i] = "--ema.decay=null"
        elif (flag, value) == ("--ema", "null"):
            found[i] = "--ema.decay"
    return found


def task_of(arguments: list[str]) -> type[pl.LightningModule]:
    """What trains the model that a command line names: AdversarialTask where it is an AdversarialModel."""
    path: Any = ""
    flags = [part for one in arguments for part in (one.split("=", 1) if one.startswith("--") else [one])]
    for flag, value in pairwise(flags):
        if flag in ("--config", "-c"):
            path = _model_class(value) or path
        elif flag in ("--model.model", "--model.model.class_path"):
            path = value
    kind = named_class(str(path))
    return AdversarialTask if kind is not None and issubclass(kind, AdversarialModel) else DiffusionTask


def _model_class(file: str) -> Any:
    """model.model.class_path of a config; None where there is none. What is wrong with the file, its parser says."""
    try:
        return yaml.safe_load(Path(file).read_text())["model"]["model"]["class_path"]
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError):
        return None


@contextmanager
def quiet() -> Iterator[None]:
    """Without what Lightning says of itself."""
    for chatterbox in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(chatterbox).setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.filterwarnings("ignore", message=f"(?s).*({CHATTER})")
        yield


def fit(arguments: list[str]) -> Path:
    """Train as the command line says; returns the run folder.

    Raises:
        InputError: what the user gave cannot be trained on.
        KeyboardInterrupt: the run was interrupted; it is saved and can be resumed.
    """
    with quiet():
        cli = assemble(FitCLI, arguments)
        if is_sharded(cli.config.trainer.strategy):
            check_weights(cli.model)
        if cli.trainer.precision == "64-true":  # Lightning casts after averages are copied and checkpoints are loaded
            cli.model.double()
        try:
            cli.trainer.fit(
                cli.model,
                cli.datamodule,
                ckpt_path=None if cli.checkpoint is None else str(cli.checkpoint),
                weights_only=True,
            )
        except NotFinite as error:
            raise InputError(f"{error}; {_way_back(cli.config.checkpoint.dirpath)}") from error
        except RuntimeError as error:
            if "loading state_dict" not in str(error):
                raise
            raise InputError(
                f"{cli.checkpoint} was made by another architecture than the config describes: "
                "resume with the run's own config.yaml, or start in a new trainer.default_root_dir"
            ) from error
    if cli.interrupt.asked:
        raise KeyboardInterrupt(f"stopped after step {cli.trainer.global_step}: --ckpt_path last goes on from there")
    return Path(cli.trainer.default_root_dir)


def _way_back(folder: object) -> str:
    """Where a run whose loss is not finite can begin again. No checkpoint is written with weights that are not."""
    last = last_checkpoint(folder)
    if not last.is_file():
        return "there is no checkpoint yet to go back to"
    return f"the last finite checkpoint is {last}, after step {step_of(last)}: go on from it by --ckpt_path last"


def complaint(message: str, arguments: list[str]) -> str:
    """What a parser says, as one sentence that names the config file."""
    lines = [line.strip(" -") for line in message.splitlines()]
    sentence = " ".join(line for line in lines if line and not line.startswith(ASIDES))
    given = [value for flag, value in pairwise(arguments) if flag in ("--config", "-c")]
    of_file = "unrecognized arguments" not in sentence  # those stand on the command line
    named = [value for value in given if of_file and value not in sentence]
    sentence += _option_meant(sentence)
    return f"{', '.join(named)}: {sentence}" if named else sentence


def _option_meant(sentence: str) -> str:
    """The nearest argument of the class that does not accept an option."""
    refused = re.search(r"class_path '([\w.]+)\.(\w+)'.*Option '(\w+)' is not accepted", sentence)
    if refused is None:
        return ""
    module, name, option = refused.groups()
    kind = getattr(import_module(module), name)
    given = [one for base in kind.__mro__ for one in signature(base.__init__).parameters.values()]
    return did_you_mean(option, sorted({one.name for one in given if one.kind is one.POSITIONAL_OR_KEYWORD}))
