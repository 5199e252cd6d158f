"""The LightningModule that trains a model and its critic."""

from functools import partial
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from medmol_diffusion.core import Elbo
from medmol_diffusion.errors import InputError
from medmol_diffusion.training.adversarial import AdversarialModel, Attempt
from medmol_diffusion.training.ema import begin_at_raw_weights
from medmol_diffusion.training.names import CRITIC_LOSS, LEARNING_RATE, TRAIN_LOSS, validation_metrics
from medmol_diffusion.training.step import check_finite, fused, path_of, rate_factor, step_seed


class AdversarialTask(pl.LightningModule):
    """Trains an AdversarialModel and its critic, each with an AdamW of its own; validates the model's bound, if it has
    one.

    A step is one of the model's, after those of the critic that it asks for; the first steps of a model whose critic
    begins later are its own alone. Random numbers are those of DiffusionTask, and a resumed run equals the one that
    never stopped: critic and both optimisers are in the checkpoint. Averages (EMA) are of the model and the critic.

    Args:
        model: what is trained.
        learning_rate: of the model, after the warm-up.
        critic_learning_rate: of the critic; as the model's when None.
        warmup_steps: linear warm-up from zero, of the model; the critic's rate follows the same curve.
        decay_steps: the rates reach zero at this step, along a cosine; constant when None.
        betas: of both AdamW; [0.0, 0.9] is usual for Wasserstein critics.
        weight_decay: of both.
        clip: the largest norm of a gradient, of model and critic each; trainer.gradient_clip_val has no say with two
            optimisers.
        draws: per validation example.
        seed: of the training and validation noise.

    Raises:
        InputError: several processes, or float16, in which the critic's gradients would not be scaled.
    """

    def __init__(
        self,
        model: AdversarialModel,
        learning_rate: float = 1e-4,
        critic_learning_rate: float | None = None,
        warmup_steps: int = 100,
        decay_steps: int | None = None,
        betas: list[float] = [0.9, 0.999],  # noqa: B006 (a list is what a config can write; it is never changed)
        weight_decay: float = 0.0,
        clip: float | None = 1.0,
        draws: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise InputError(f"model.betas = {betas} needs two numbers in [0, 1)")
        self.model = model
        self.critic = model.critic()
        self.rates = (learning_rate, learning_rate if critic_learning_rate is None else critic_learning_rate)
        self.warmup_steps, self.decay_steps = warmup_steps, decay_steps
        self.betas, self.weight_decay, self.clip = (betas[0], betas[1]), weight_decay, clip
        self.draws, self.seed = draws, seed
        self.automatic_optimization = False
        self._bounds: list[Elbo] = []

    def setup(self, stage: str) -> None:
        if stage != "fit":
            return
        if self.trainer.world_size > 1:
            raise InputError("a model with a critic is trained by one process: set trainer.devices to 1")
        if self.trainer.precision == "16-mixed":
            raise InputError("a model with a critic is not trained in float16: set trainer.precision to bf16-mixed")
        self.model.prepare(self.trainer.datamodule)  # type: ignore[attr-defined]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        begin_at_raw_weights(self.trainer, checkpoint)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        generator = torch.Generator(self.device).manual_seed(step_seed(self.seed, self.global_step, batch_idx))
        critic = self.critic if self.global_step >= self.model.critic_start else None
        if critic is not None:
            for _ in range(self.model.critic_steps - 1):
                with torch.no_grad():
                    attempt = self.model.attempt(batch, generator)
                self._train_critic(critic, attempt, batch, generator)
        attempt = self.model.attempt(batch, generator)
        terms = dict(attempt.terms)
        if critic is not None:
            self._train_critic(critic, attempt.detached(), batch, generator)
            critic.requires_grad_(False)
            terms["adversarial"] = self.model.adversarial_term(critic, attempt)
        loss = torch.stack(list(terms.values())).sum(0)
        check_finite(loss, batch, self.global_step, path_of(self.trainer))
        optimizer, *_ = self._optimizers()
        optimizer.zero_grad()
        self.manual_backward(loss.mean())
        self._clip(optimizer)
        rate = optimizer.param_groups[0]["lr"]
        optimizer.step()  # the one that counts as a step of the run
        if critic is not None:
            critic.requires_grad_(True)
        for scheduler in self._schedulers()[: 1 if critic is None else 2]:
            scheduler.step()
        self.log(TRAIN_LOSS, loss.mean(), prog_bar=True, batch_size=len(batch))
        for name, value in terms.items():
            self.log(f"train/{name}", value.mean(), batch_size=len(batch))
        self.log(LEARNING_RATE, rate, batch_size=len(batch))
        return loss.mean().detach()

    def _train_critic(self, critic: nn.Module, attempt: Attempt, batch: Any, generator: torch.Generator) -> None:
        loss = self.model.critic_loss(critic, attempt, generator)
        check_finite(loss, batch, self.global_step, path_of(self.trainer))
        # Taken without Lightning's wrapper, for that would count a step of the run.
        optimizer = self.optimizers(use_pl_optimizer=False)[1]  # type: ignore[index]
        optimizer.zero_grad()
        self.manual_backward(loss.mean())
        self._clip(optimizer)
        optimizer.step()
        self.log(CRITIC_LOSS, loss.mean(), prog_bar=True, batch_size=len(batch))

    def _clip(self, optimizer: Any) -> None:
        if self.clip is not None:
            self.clip_gradients(optimizer, gradient_clip_val=self.clip, gradient_clip_algorithm="norm")

    def _optimizers(self) -> list[Any]:
        found = self.optimizers()
        return found if isinstance(found, list) else [found]

    def _schedulers(self) -> list[Any]:
        found: Any = self.lr_schedulers()
        return found if isinstance(found, list) else [found]

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        if not self.model.without_likelihood:
            self._bounds.append(self.model.nll(batch, draws=self.draws, seed=self.seed))

    def on_validation_epoch_end(self) -> None:
        if not self._bounds:
            return
        bound = Elbo.concatenate(self._bounds)
        self._bounds.clear()
        for name, value in validation_metrics(bound).items():
            self.log(name, value, prog_bar=name == "val/total")

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizers, schedulers = [], []
        parts = zip((self.model, self.critic), self.rates, (0, self.model.critic_start), strict=True)
        for part, rate, start in parts:
            if part is not None:
                optimizer = torch.optim.AdamW(
                    part.parameters(), lr=rate, betas=self.betas, weight_decay=self.weight_decay, fused=fused(self)
                )
                optimizers.append(optimizer)
                schedulers.append(torch.optim.lr_scheduler.LambdaLR(optimizer, partial(self._factor, start)))
        return optimizers, schedulers

    def _factor(self, start: int, step: int) -> float:
        """Of the rate after ``step`` steps of an optimiser whose first was the run's step ``start``."""
        return rate_factor(start + step, self.warmup_steps, self.decay_steps)
