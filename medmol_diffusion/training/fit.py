"""`medmol fit`: config-driven training through LightningCLI. Constructors are the schema."""

import logging
import warnings
from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint, RichProgressBar
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger

from medmol_diffusion.errors import InputError
from medmol_diffusion.training.ema import EMA
from medmol_diffusion.training.module import DiffusionTask


class FitCLI(LightningCLI):
    """LightningCLI whose run folder is trainer.default_root_dir: config.yaml, checkpoints/, metrics.csv, TensorBoard
    events."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_lightning_class_args(EMA, "ema")
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
        parser.set_defaults({"checkpoint.save_last": True, "checkpoint.save_top_k": 1})
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

    def instantiate_trainer(self, **kwargs: object) -> pl.Trainer:
        # The loggers and the progress bar belong to the run folder, so they are set here and not in every config.
        config = self.config_init["trainer"]
        root = str(config["default_root_dir"])
        callbacks = list(config["callbacks"] or [])
        if config["enable_progress_bar"] is not False:
            callbacks.append(RichProgressBar())
        loggers = [CSVLogger(root, name="", version=""), TensorBoardLogger(root, name="", version="")]
        return super().instantiate_trainer(callbacks=callbacks, logger=loggers, **kwargs)


def fit(arguments: list[str]) -> Path:
    """Train as the command line says; returns the run folder.

    Raises:
        InputError: what the user gave cannot be trained on.
    """
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*|.*args parameter is intended.*")
    cli = FitCLI(
        DiffusionTask,
        pl.LightningDataModule,
        subclass_mode_data=True,
        seed_everything_default=0,
        save_config_kwargs={"overwrite": True},
        run=False,
        args=arguments,
    )
    cli.trainer.fit(cli.model, cli.datamodule, ckpt_path=cli.config.ckpt_path, weights_only=True)
    return Path(cli.trainer.default_root_dir)
