"""The one LightningModule for both domains."""

import hashlib
import math
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor

from medmol_diffusion.core import Elbo
from medmol_diffusion.errors import InputError
from medmol_diffusion.training.model import DiffusionModel
from medmol_diffusion.training.names import LEARNING_RATE, TRAIN_LOSS, validation_metrics


class DiffusionTask(pl.LightningModule):
    """Trains model.loss, validates model.elbo.

    The noise of a step is drawn from (seed, step, batch, rank) alone, so that a resumed run draws what the
    uninterrupted one would have; the noise of validation from (seed, the item's index).

    Args:
        model: what is trained.
        learning_rate: of AdamW, after the warm-up.
        warmup_steps: linear warm-up from zero.
        decay_steps: cosine decay to zero at this step; constant when None.
        weight_decay: of AdamW.
        transitions: T of the validation bound; 0 for the continuous-time bound.
        draws: noise draws per validation example.
        seed: of the training and validation noise.
    """

    def __init__(
        self,
        model: DiffusionModel,
        learning_rate: float = 1e-3,
        warmup_steps: int = 200,
        decay_steps: int | None = None,
        weight_decay: float = 0.0,
        transitions: int = 0,
        draws: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.model = model
        self.learning_rate, self.warmup_steps, self.decay_steps = learning_rate, warmup_steps, decay_steps
        self.weight_decay, self.transitions, self.draws, self.seed = weight_decay, transitions, draws, seed
        self._bounds: list[Elbo] = []

    def setup(self, stage: str) -> None:
        if stage == "fit":
            self.model.prepare(self.trainer.datamodule)  # type: ignore[attr-defined]

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        place = (self.seed, self.global_step, batch_idx, self.global_rank)
        digest = hashlib.sha256(repr(place).encode()).digest()
        generator = torch.Generator(self.device).manual_seed(int.from_bytes(digest[:7], "big"))
        loss = self.model.loss(batch, generator)
        if not torch.isfinite(loss).all():
            bad = (~torch.isfinite(loss)).nonzero()[:, 0].tolist()
            names = getattr(batch, "names", None) or batch.index.tolist()
            raise InputError(
                f"the loss is not finite at step {self.global_step} for {', '.join(str(names[i]) for i in bad)}: "
                "look at these items, lower learning_rate, or train in float32"
            )
        mean = loss.mean()
        self.log(TRAIN_LOSS, mean, prog_bar=True, batch_size=len(batch))
        rate = self.trainer.optimizers[0].param_groups[0]["lr"]
        self.log(LEARNING_RATE, rate, batch_size=len(batch))
        return mean

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self._bounds.append(self.model.elbo(batch, self.transitions, self.draws, self.seed))

    def on_validation_epoch_end(self) -> None:
        bound = Elbo.concatenate(self._bounds)
        self._bounds.clear()
        for name, value in validation_metrics(bound).items():
            self.log(name, value, prog_bar=name == "val/total", sync_dist=True)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay)

        def factor(step: int) -> float:
            warm = min(1.0, (step + 1) / max(1, self.warmup_steps))
            if self.decay_steps is None:
                return warm
            return warm * 0.5 * (1 + math.cos(math.pi * min(1.0, step / self.decay_steps)))

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
