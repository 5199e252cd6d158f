"""What FSDP, which spreads the weights over ranks, cannot do."""

from typing import Any

from torch import nn

from medmol_diffusion.errors import InputError


def is_sharded(strategy: Any) -> bool:
    """Whether trainer.strategy is Lightning's FSDP, by its name or its class."""
    return "fsdp" in str(strategy).lower()


def check_options(config: Any) -> None:
    """Raises InputError where the options of a run with FSDP ask for what it cannot do."""
    if config.ema.decay is not None:
        raise InputError(
            "trainer.strategy fsdp spreads the weights over ranks, where Lightning cannot average them: give --ema null"
        )
    if config.trainer.gradient_clip_val is not None and config.trainer.gradient_clip_algorithm != "value":
        raise InputError(
            "trainer.strategy fsdp cannot clip by the norm of the gradient: give --trainer.gradient_clip_algorithm "
            "value, with a trainer.gradient_clip_val for single numbers, or --trainer.gradient_clip_val null"
        )


def check_weights(model: nn.Module) -> None:
    """Raises InputError for a weight that is a single number, which FSDP cannot divide."""
    single = next((name for name, weight in model.named_parameters() if not weight.dim()), None)
    if single is not None:
        raise InputError(
            f"trainer.strategy fsdp cannot divide {single}, a single number, as learned schedules have: take another "
            "schedule, or --trainer.strategy ddp"
        )
