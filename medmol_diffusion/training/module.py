"""The one LightningModule for both domains."""

from functools import partial
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor

from medmol_diffusion.core import Elbo
from medmol_diffusion.errors import InputError
from medmol_diffusion.training.ema import begin_at_raw_weights
from medmol_diffusion.training.model import DiffusionModel
from medmol_diffusion.training.names import LEARNING_RATE, TRAIN_LOSS, validation_metrics
from medmol_diffusion.training.saved import load_model
from medmol_diffusion.training.step import Share, check_finite, fused, path_of, rate_factor, step_seed


class DiffusionTask(pl.LightningModule):
    """Trains model.loss, or model.distillation_loss where there is a teacher; validates model.elbo.

    The noise of an example is drawn from (seed, step, its place in the batch over all ranks) alone, so that a resumed
    run draws what the uninterrupted one would have, and R ranks what one process with batches R times as large; the
    noise of validation from (seed, the item's index).

    Args:
        model: what is trained.
        learning_rate: of AdamW, after the warm-up.
        warmup_steps: linear warm-up from zero.
        decay_steps: the learning rate reaches zero at this step, along a cosine; constant when None.
        decay_from: the step at which the cosine begins, the rate being constant before it. A run that was left at a
            constant rate can so be finished at any time: resume it with both steps set.
        weight_decay: of AdamW.
        transitions: T of the validation bound; 0 for the continuous-time bound.
        draws: noise draws per validation example.
        seed: of the training and validation noise.
        compile: the backend of torch.compile for the network, ``inductor`` as a rule; not compiled when None. The
            first steps, and the first at another size, wait for it.
        start: a run folder, an exported folder or a shipped model to go on from, on these data or others. The model
            begins with its weights; p(N) and other statistics are measured on the data at hand.
        teacher: a run folder or an exported folder of the same architecture. The model begins as the teacher, keeps
            what the teacher measured on its data, and learns to sample in fewer steps.
        student_steps: N, the DDIM steps that the model is to sample in.
        teacher_steps: a multiple of N, the DDIM steps of the teacher that it learns to do as well as; 2 N when None.

    Raises:
        InputError: the teacher cannot be used, or the numbers of steps do not fit.
    """

    def __init__(
        self,
        model: DiffusionModel,
        learning_rate: float = 1e-3,
        warmup_steps: int = 200,
        decay_steps: int | None = None,
        decay_from: int = 0,
        weight_decay: float = 0.0,
        transitions: int = 0,
        draws: int = 1,
        seed: int = 0,
        compile: str | None = None,
        start: str | None = None,
        teacher: str | None = None,
        student_steps: int | None = None,
        teacher_steps: int | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.teacher, self.student_steps, self.substeps = teacher, student_steps or 0, 2
        if start is not None:
            if teacher is not None:
                raise InputError("model.start and model.teacher both say where the model begins: give one of them")
            model.start_from(load_model(start), start)
        if teacher is None:
            if student_steps is not None or teacher_steps is not None:
                raise InputError("model.student_steps and model.teacher_steps need a model.teacher to learn from")
        else:
            if student_steps is None or student_steps < 1:
                raise InputError("model.teacher needs model.student_steps, at least 1: how few steps to learn")
            self.substeps, rest = divmod(2 * student_steps if teacher_steps is None else teacher_steps, student_steps)
            if rest or self.substeps < 2:
                raise InputError(
                    f"model.teacher_steps = {teacher_steps} must be a multiple of model.student_steps = {student_steps}"
                    " and twice as many or more: one step of the student does several of the teacher"
                )
            model.learn_from(load_model(teacher), teacher)
        if decay_from and (decay_steps is None or decay_from >= decay_steps):
            raise InputError(
                f"model.decay_from = {decay_from} needs a model.decay_steps after it, where the rate is zero"
            )
        self.learning_rate, self.warmup_steps = learning_rate, warmup_steps
        self.decay_from, self.decay_steps = decay_from, decay_steps
        self.weight_decay, self.transitions, self.draws, self.seed = weight_decay, transitions, draws, seed
        if compile is not None:
            if compile not in torch.compiler.list_backends(exclude_tags=()):
                known = ", ".join(torch.compiler.list_backends())
                raise InputError(f"model.compile = {compile} is no backend of torch.compile: take one of {known}")
            self.model.get_submodule("network").compile(backend=compile)
        self._bounds: list[tuple[int, Elbo]] = []

    def setup(self, stage: str) -> None:
        if stage == "fit" and self.teacher is None:
            self.model.prepare(self.trainer.datamodule)  # type: ignore[attr-defined]

    def on_train_start(self) -> None:
        if self.teacher is not None:
            # In a tuple the teacher is no part of the task: neither trained, nor averaged, nor saved with it.
            self._teachers = (DiffusionModel.from_pretrained(self.teacher).to(self.device),)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        begin_at_raw_weights(self.trainer, checkpoint)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        share = Share.of(batch, self.global_rank, self.trainer.world_size)
        streams = share.streams(step_seed(self.seed, self.global_step, batch_idx), self.device)
        if self.teacher is None:
            loss = self.model.loss(batch, streams)
        else:
            (teacher,) = self._teachers
            loss = self.model.distillation_loss(batch, teacher, self.student_steps, self.substeps, streams)
        check_finite(loss, batch, self.global_step, path_of(self.trainer))
        mean = share.mean(loss)
        self.log(TRAIN_LOSS, mean, prog_bar=True, batch_size=len(batch), sync_dist=True)
        rate = self.trainer.optimizers[0].param_groups[0]["lr"]
        self.log(LEARNING_RATE, rate, batch_size=len(batch))
        return mean

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        bound = self.model.elbo(batch, self.transitions, self.draws, self.seed)
        self._bounds.append((Share.of(batch, self.global_rank, self.trainer.world_size).counted, bound))

    def on_validation_epoch_end(self) -> None:
        """Means over the examples of all ranks, each of which counts once."""
        counted = [bound for count, bound in self._bounds if count]
        count = sum(count for count, _ in self._bounds)
        bound = Elbo.concatenate(counted or [bound for _, bound in self._bounds])
        self._bounds.clear()
        metrics = validation_metrics(bound)
        if self.trainer.world_size > 1:
            held = torch.tensor([count, *(count * mean for mean in metrics.values())], dtype=torch.float64)
            total, *sums = self.trainer.strategy.reduce(held.to(self.device), reduce_op="sum").tolist()
            metrics = dict(zip(metrics, (one / total for one in sums), strict=True))
        for name, value in metrics.items():
            self.log(name, value, prog_bar=name == "val/total", sync_dist=True)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = torch.optim.AdamW(
            self.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay, fused=fused(self)
        )
        factor = partial(
            rate_factor, warmup_steps=self.warmup_steps, decay_steps=self.decay_steps, decay_from=self.decay_from
        )
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
