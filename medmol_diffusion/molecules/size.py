"""p(N): how many atoms a molecule has."""

import numpy as np
import torch
from torch import Tensor, nn

from medmol_diffusion.errors import InputError


class SizeDistribution(nn.Module):
    """The categorical p(N) on N = 0..max_atoms, counted from a training set and kept with the weights.

    A size never counted has probability 0: log p = -inf, and it is never drawn. Before fit every size from 1 on is
    equally likely. -log p(N) is the size term of a molecule's likelihood, H[N] its mean over the data.
    """

    log_probabilities: Tensor

    def __init__(self, max_atoms: int) -> None:
        super().__init__()
        uniform = torch.full((max_atoms + 1,), -np.log(max_atoms), dtype=torch.float64)
        uniform[0] = -torch.inf
        self.register_buffer("log_probabilities", uniform)

    @property
    def max_atoms(self) -> int:
        return len(self.log_probabilities) - 1

    def fit(self, counts: np.ndarray | Tensor) -> "SizeDistribution":
        """Take p(N) = counts[N] / sum(counts), counts (<= max_atoms + 1,); returns itself.

        Raises InputError when counts hold nothing, or a molecule larger than max_atoms.
        """
        counts = np.trim_zeros(np.asarray(counts), "b")
        if len(counts) == 0 or len(counts) > self.max_atoms + 1:
            raise InputError(
                f"The sizes go up to {len(counts) - 1} atoms: p(N) holds 1 to max_atoms = {self.max_atoms}."
            )
        p = torch.zeros_like(self.log_probabilities)
        p[: len(counts)] = torch.as_tensor(counts / counts.sum())
        self.log_probabilities.copy_(p.log())
        return self

    def log_prob(self, n: Tensor) -> Tensor:
        """log p(n) in nats: (B,) int64 -> (B,) float64; -inf for sizes never counted, those beyond max_atoms too."""
        known = n <= self.max_atoms
        return torch.where(known, self.log_probabilities[n.clamp(max=self.max_atoms)].double(), -torch.inf)

    def sample(self, u: Tensor) -> Tensor:
        """The inverse distribution function at u (B,) in [0, 1) -> (B,) int64."""
        cumulative = self.log_probabilities.double().exp().cumsum(0)
        # the first N with u < F(N); scaled so that rounding cannot leave u above the last step
        return torch.searchsorted(cumulative / cumulative[-1], u.to(cumulative), right=True)

    def entropy(self) -> Tensor:
        """H[N] = -sum p log p in nats, a float64 scalar."""
        return torch.special.entr(self.log_probabilities.double().exp()).sum()
