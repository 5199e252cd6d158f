"""What every first stage is to a model of scans."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor, nn

from medmol_diffusion.core import Parameterization, Space
from medmol_diffusion.core.noise import Randomness
from medmol_diffusion.core.observation import Observation
from medmol_diffusion.mri.batch import VolumeBatch


@dataclass(frozen=True)
class Seen:
    """A batch as the likelihood of a first stage reads it.

    Attributes:
        space, x: where the clean states live, and the states.
        observation: p(data | z_0).
        data: what ``observation`` reads.
        terms: the stage's own terms, [B] nats each; ``log_volume`` among them.
    """

    space: Space
    x: Tensor
    observation: Observation
    data: object
    terms: dict[str, Tensor]


class FirstStage(nn.Module, ABC):
    """Scans v (B, 1, X, Y, Z) in [-1, 1] <-> states x, and states <-> the channels that a U-Net works on.

    A model calls it with a guess m (B, 1, X, Y, Z) of every scan: the mean of the training scans, or what a task makes
    of what is given. A stage may diffuse the difference v - m, or v itself.

    Attributes:
        factor: every size of a grid must be a multiple of it; a voxel of the U-Net is so many voxels wide.
        channels_in, channels_out: of the U-Net, without given images.
    """

    factor: int
    channels_in: int
    channels_out: int
    baseline_name: str = ""
    """The simple model that ``baseline`` is the code length of."""

    @abstractmethod
    def fit(self, scans: Iterable[tuple[VolumeBatch, Tensor]]) -> None:
        """Measure on training scans, each a batch of one with its guess, what the stage needs to know of them."""

    @abstractmethod
    def space(self, mask: Tensor) -> Space:
        """Where the states of scans live whose counted voxels are ``mask`` (B, 1, X, Y, Z)."""

    @abstractmethod
    def encode(self, batch: VolumeBatch, guess: Tensor, randomness: Randomness) -> tuple[Space, Tensor]:
        """(space, clean state): one draw of it where the stage is random."""

    @abstractmethod
    def decode(self, x: Tensor, space: Space, guess: Tensor) -> Tensor:
        """A state -> scans (B, 1, X, Y, Z)."""

    @abstractmethod
    def parameterization(self) -> Parameterization:
        """How the network's output is read."""

    @abstractmethod
    def features(self, z: Tensor, space: Space) -> Tensor:
        """A state, scaled as the network sees it -> (B, channels_in, X/f, Y/f, Z/f)."""

    @abstractmethod
    def output(self, answer: Tensor, features: Tensor, space: Space) -> Tensor:
        """The U-Net's answer (B, channels_out, X/f, Y/f, Z/f) -> an output of the state's shape."""

    @abstractmethod
    def observed(self, batch: VolumeBatch, guess: Tensor, levels: int, randomness: Randomness) -> Seen:
        """What -log p(scan) reads, in the end nats of voxels of ``levels`` grey levels."""

    def baseline(self, batch: VolumeBatch, guess: Tensor, levels: int) -> Tensor | None:
        """[B] nats of ``baseline_name`` for the same voxels; None without one."""
        return None

    def known(self, voxels: Tensor) -> Tensor:
        """bool (B, 1, X, Y, Z) of the voxels that are known -> the same of what Space.localise gives of a state."""
        return voxels
