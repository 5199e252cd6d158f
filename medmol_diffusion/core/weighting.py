"""Loss weights: factors on the squared error of the network's own output.

With eps - eps_hat = c * error (Prediction.eps_scale), a weight w(gamma) on |eps - eps_hat|^2 is w c^2 on the error.
"""

from abc import ABC, abstractmethod

from torch import Tensor


class Weighting(ABC):
    """eps_scale c (broadcastable against a state) -> the factor on the squared error of the output."""

    @abstractmethod
    def __call__(self, eps_scale: Tensor) -> Tensor: ...


class Simple(Weighting):
    """|eps - eps_hat|^2 (Ho et al. 2020, eq. 14). With gamma drawn uniformly this is the bound itself, up to a
    constant."""

    def __call__(self, eps_scale: Tensor) -> Tensor:
        return eps_scale.square()


class Native(Weighting):
    """|target - output|^2, the output's own error: for Preconditioned, the weight of Karras et al. 2022, table 1."""

    def __call__(self, eps_scale: Tensor) -> Tensor:
        return eps_scale.new_ones(())


WEIGHTINGS: dict[str, type[Weighting]] = {"simple": Simple, "native": Native}
