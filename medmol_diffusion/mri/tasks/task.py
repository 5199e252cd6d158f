"""What every conditional task on scans is to a model."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from medmol_diffusion.core.noise import Randomness
from medmol_diffusion.mri.batch import VolumeBatch


class Task(nn.Module, ABC):
    """Images that are given of a scan, and the plain guess that follows from them.

    The guess is the baseline that the model has to beat, and it begins there: with the Haar first stage the state is
    the scan's difference from the guess, so a network that outputs zero leaves the guess as it is.

    Attributes:
        channels: K images on the model's grid that the network reads.
        guess_name: what the guess is called in a table.
    """

    channels: int
    guess_name: str

    @abstractmethod
    def given(self, batch: VolumeBatch, randomness: Randomness) -> Tensor:
        """[B, K, X, Y, Z] the images of scans that are known whole, for training and for measuring; what is left to
        chance, a region for example, is drawn.

        Raises:
            InputError: the batch does not bring the images that the task needs.
        """

    @abstractmethod
    def guess(self, images: Tensor, mask: Tensor) -> Tensor:
        """[B, 1, X, Y, Z] the plain answer to the images [B, K, X, Y, Z]."""

    def wanted(self, images: Tensor, mask: Tensor) -> Tensor | None:
        """bool [B, 1, X, Y, Z] the voxels that are to be made; None for all counted ones. What it leaves out is known,
        and equal to the guess."""
        return None

    def baselines(self, batch: VolumeBatch, images: Tensor) -> dict[str, Tensor]:
        """Name -> [B, 1, X, Y, Z] the plain answers that a table shows beside the model's."""
        return {self.guess_name: self.guess(images, batch.mask)}

    def fit(self, batch: VolumeBatch, randomness: Randomness) -> None:
        """Look at one training scan after the other, each a batch of one: what ``guess`` has to know is measured."""

    def fitted(self) -> None:
        """Called after the last."""
