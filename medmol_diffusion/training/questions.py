"""What a model can be asked for, as the numbers a network reads: the same for both domains."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from medmol_diffusion.core.noise import Randomness, uniforms


class Questions(nn.Module):
    """Q questions to a model, question q being given by v_q numbers, V in all.

    Values are numbers v (B, V), NaN where nothing is asked. The network reads

        [(v - mean) / std where asked, else 0;  1 for every question asked, else 0],   V + Q numbers,

    with the mean and std of the training data. Nothing asked is all zeros, which is the unconditional model.

    In training nothing is asked of an example with probability ``dropout``, and of the others every question is left
    out with probability ``dropout`` by itself: one network is the unconditional model, that of every single question
    and that of all together (classifier-free guidance, Ho & Salimans 2022).

    Args:
        sizes: question -> v_q.
        dropout: the probability of leaving out.

    Raises:
        ValueError: dropout is no probability below 1.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, sizes: Mapping[str, int], dropout: float = 0.15) -> None:
        super().__init__()
        if not 0 <= dropout < 1:
            raise ValueError(f"condition_dropout = {dropout} must be a probability, 0 or more and below 1")
        self.sizes, self.dropout = dict(sizes), dropout
        self.register_buffer("mean", torch.zeros(sum(sizes.values())))
        self.register_buffer("std", torch.ones(sum(sizes.values())))

    @property
    def questions(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(self.sizes)

    @property
    def size(self) -> int:
        """V + Q."""
        return len(self.mean) + len(self.sizes)

    def leave_out(self, values: Tensor, generator: Randomness) -> Tensor:
        """(B, V) values as training asks them, NaN where a question is left out."""
        out = (uniforms(len(values), len(self.sizes) + 1, generator) < self.dropout).to(values.device)
        places = torch.repeat_interleave(torch.tensor(list(self.sizes.values()), device=values.device))
        return values.masked_fill((out[:, 1:] | out[:, :1])[:, places], torch.nan)

    def encode(self, values: Tensor) -> Tensor:
        """(B, V) values -> (B, V + Q), what a network reads."""
        present = values.isfinite()
        standard = torch.where(present, (values - self.mean) / self.std, 0.0)
        flags = torch.stack([part[:, 0] for part in present.split(list(self.sizes.values()), 1)], -1)
        return torch.cat([standard, flags], -1).to(self.mean.dtype)
