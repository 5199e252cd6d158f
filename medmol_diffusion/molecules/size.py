"""p(N): how many atoms a molecule has."""

import numpy as np
import torch
from torch import Tensor, nn

from medmol_diffusion.errors import InputError


class SizeDistribution(nn.Module):
    """The categorical p(N) on N = 2..max_atoms, counted from a training set and kept with the weights.

    One more molecule than was counted is spread evenly over all sizes, so that a size the training set lacks has a
    small probability and a finite likelihood. Before fit every size is equally likely. -log p(N) is the size term of a
    molecule's likelihood, H[N] its mean over the data. A molecule has two atoms or more: one alone has no positions
    left once its centre is at zero.
    """

    log_probabilities: Tensor

    def __init__(self, max_atoms: int) -> None:
        super().__init__()
        self.register_buffer("log_probabilities", _even(max_atoms).log())

    @property
    def max_atoms(self) -> int:
        return len(self.log_probabilities) - 1

    def fit(self, counts: np.ndarray | Tensor) -> "SizeDistribution":
        """Take p(N) = (counts[N] + 1 / (max_atoms - 1)) / (sum(counts) + 1); returns itself.

        Args:
            counts: (<= max_atoms + 1,) molecules of 0, 1, 2, ... atoms.

        Raises:
            InputError: counts hold nothing, or a molecule of fewer than 2 or more than max_atoms atoms.
        """
        counts = np.trim_zeros(np.asarray(counts), "b")
        if len(counts) == 0 or len(counts) > self.max_atoms + 1 or counts[:2].any():
            sizes = counts.nonzero()[0]
            found = f"from {sizes[0]} to {sizes[-1]} atoms" if len(sizes) else "of no molecule"
            raise InputError(f"The sizes are those {found}: p(N) holds 2 to max_atoms = {self.max_atoms}.")
        p = _even(self.max_atoms)
        p[: len(counts)] += torch.as_tensor(counts)
        self.log_probabilities.copy_((p / p.sum()).log())
        return self

    def log_prob(self, n: Tensor) -> Tensor:
        """log p(n) in nats: (B,) int64 -> (B,) float64; -inf for 0, 1 and those beyond max_atoms."""
        known = n <= self.max_atoms
        return torch.where(known, self.log_probabilities[n.clamp(max=self.max_atoms)].double(), -torch.inf)

    def sample(self, u: Tensor, above: Tensor | None = None) -> Tensor:
        """The inverse distribution function at u (B,) in [0, 1) -> (B,) int64.

        With ``above`` (B,) int64 that of p(N | N > above): F(above) + u (1 - F(above)) takes the place of u.

        Raises:
            InputError: above leaves no size.
        """
        cumulative = self.log_probabilities.double().exp().cumsum(0)
        if above is not None:
            if (above >= self.max_atoms).any():
                raise InputError(f"{int(above.max())} atoms leave no larger size: the model makes {self.max_atoms}")
            below = (cumulative / cumulative[-1])[above]
            drawn = self.sample(below + u.to(below) * (1 - below))
            return drawn.maximum(above + 1).clamp(max=self.max_atoms)  # where rounding has eaten the tail
        # the first N with u < F(N); scaled so that rounding cannot leave u above the last step
        return torch.searchsorted(cumulative / cumulative[-1], u.to(cumulative), right=True)


def _even(max_atoms: int) -> Tensor:
    """Probability 1 spread over 2..max_atoms, float64."""
    p = torch.full((max_atoms + 1,), 1 / max(1, max_atoms - 1), dtype=torch.float64)
    p[:2] = 0
    return p
