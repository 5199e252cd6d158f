"""What a model is told of a scan that is to be made."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from medmol_diffusion.mri.batch import VolumeBatch


@dataclass(frozen=True)
class Known:
    """What is known of B scans, as a network reads it.

    Attributes:
        guess: (B, 1, X, Y, Z) what the first stage begins with: the mean of the training scans, or what a task makes of
            the images.
        images: (B, K, X, Y, Z) given images, on the model's grid; None of a model without a task.
        numbers: (B, V + Q) covariates as Covariates.encode has them; None of a model without any.
        tokens: (B, L, D) a sequence of embeddings, of a report for example; None of a model without any.
        token_mask: (B, L) bool, which of the tokens are there.
        window: (B, 3) int64, the corner of the one window that a network of windows is to look at, in training.
        wanted: (B, 1, X, Y, Z) bool, the voxels that are to be made, where a task leaves some as they are.
    """

    guess: Tensor
    images: Tensor | None = None
    numbers: Tensor | None = None
    tokens: Tensor | None = None
    token_mask: Tensor | None = None
    window: Tensor | None = None
    wanted: Tensor | None = None

    def plain(self) -> "Known":
        """The same with nothing asked, the images aside: what stands for no condition in classifier-free guidance."""
        return replace(
            self,
            numbers=None if self.numbers is None else self.numbers * 0,
            token_mask=None if self.token_mask is None else self.token_mask & False,
        )

    def take(self, rows: Tensor) -> "Known":
        """Those of some scans."""
        return replace(
            self, **{name: value[rows.to(value.device)] for name, value in vars(self).items() if value is not None}
        )

    def told(self, tokens: Tensor | None, token_mask: Tensor | None) -> "Known":
        """The same with sequences of embeddings."""
        return replace(self, tokens=tokens, token_mask=token_mask)

    def asked(self, numbers: Tensor | None) -> "Known":
        """The same with covariates."""
        return replace(self, numbers=numbers)

    def of(self, batch: VolumeBatch) -> VolumeBatch:
        """Scans as a first stage takes them: counted are the boxes round what is wanted."""
        if self.wanted is None:
            return batch
        return replace(batch, mask=box_round(self.wanted), wanted=self.wanted)

    def counted(self, mask: Tensor) -> Tensor:
        """bool (B, 1, X, Y, Z): where the states of scans live whose own voxels are ``mask``."""
        return mask if self.wanted is None else box_round(self.wanted)

    def made(self, mask: Tensor) -> Tensor:
        """bool (B, 1, X, Y, Z): the voxels that are to be made of scans whose own voxels are ``mask``."""
        return mask if self.wanted is None else self.wanted

    def to(self, device: torch.device) -> "Known":
        """The same on a device."""
        return replace(self, **{name: value.to(device) for name, value in vars(self).items() if value is not None})


def box_round(mask: Tensor) -> Tensor:
    """The smallest boxes that hold all true voxels of masks (B, 1, X, Y, Z), as masks."""
    out = torch.ones_like(mask)
    for axis in (2, 3, 4):
        others = [a for a in (2, 3, 4) if a != axis]
        side = mask.amax(others, keepdim=True)
        reached = side.int().cummax(axis).values.bool() & side.flip(axis).int().cummax(axis).values.flip(axis).bool()
        out = out & reached
    return out
