"""Exact denoisers with exact log-density: the oracle against which every sampler and every bound is tested."""

import math
from typing import Any

import torch
from torch import Tensor

from medmol_diffusion.core.denoiser import Denoiser, Prediction
from medmol_diffusion.core.parameterization import V
from medmol_diffusion.core.schedule import alpha, sigma
from medmol_diffusion.core.shapes import Means, Modes, PerExample, Spectrum, State
from medmol_diffusion.core.space import Space


class GaussianDenoiser(Denoiser):
    """Data N(0, C) with C = U diag(l) U^T on an orthonormal basis U of the space's subspace.

    E[v | z] = U diag(alpha sigma (1 - l) / (alpha^2 l + sigma^2)) U^T z, finite at both ends of gamma; x | z has
    covariance U diag(l sigma^2 / (alpha^2 l + sigma^2)) U^T.

    Args:
        eigenvalues: [d] l, positive.
        basis: [D, d] orthonormal columns over the flattened state; the identity when left out.
        optimal_variance: report Var[x | z] with the prediction, so that the reverse step is the true one (diagonal C
            only).

    Raises:
        ValueError: an eigenvalue is not positive, or an optimal variance is asked for with a basis.
    """

    def __init__(self, eigenvalues: Spectrum, basis: Modes | None = None, optimal_variance: bool = False) -> None:
        super().__init__()
        if not (eigenvalues > 0).all():
            raise ValueError("the eigenvalues of a covariance must be positive")
        if optimal_variance and basis is not None:
            raise ValueError("an element-wise optimal variance needs a diagonal covariance")
        self.eigenvalues, self.basis, self.optimal_variance = eigenvalues, basis, optimal_variance

    def _filter(self, v: Tensor, gain: Tensor) -> Tensor:
        """U diag(gain) U^T v, gain [B, d]."""
        flat = v.flatten(1)
        if self.basis is None:
            return (flat * gain).reshape(v.shape)
        basis = self.basis.to(flat)
        return ((flat @ basis * gain) @ basis.T).reshape(v.shape)

    def forward(self, z: State, gamma: PerExample, space: Space, condition: Any = None) -> Prediction:
        a, b, spread = alpha(gamma).to(z)[:, None], sigma(gamma).to(z)[:, None], self.eigenvalues.to(z)
        marginal = a**2 * spread + b**2
        v = self._filter(z, a * b * (1 - spread) / marginal)
        variance = (spread * b**2 / marginal).reshape(z.shape) if self.optimal_variance else None
        return Prediction(v, z, gamma, V(), space, variance)

    def sample(self, like: State, generator: torch.Generator) -> State:
        """x ~ N(0, C), of the shape of ``like`` [B, ...]."""
        noise = torch.randn(len(like), len(self.eigenvalues), generator=generator, dtype=like.dtype)
        x = noise * self.eigenvalues.to(like).sqrt()
        return (x if self.basis is None else x @ self.basis.T.to(like)).reshape(like.shape)

    def log_prob(self, z: State, gamma: PerExample | None = None) -> PerExample:
        """[B] log density of the data, or of z at noise level ``gamma`` [B], on the subspace."""
        flat = z.flatten(1) if self.basis is None else z.flatten(1) @ self.basis.to(z)
        variance = self.eigenvalues.to(z).expand_as(flat)
        if gamma is not None:
            variance = alpha(gamma)[:, None] ** 2 * variance + sigma(gamma)[:, None] ** 2
        return -0.5 * (flat**2 / variance + variance.log() + math.log(2 * math.pi)).sum(1)

    def entropy(self) -> float:
        """Differential entropy of the data, nats."""
        return 0.5 * (self.eigenvalues.log() + math.log(2 * math.pi * math.e)).sum().item()


class MixtureDenoiser(Denoiser):
    """Data from sum_k w_k N(m_k, s_k^2 I).

    Args:
        means: [K, D] over the flattened state.
        stds: [K] standard deviations.
        weights: [K] positive, summing to one.
    """

    def __init__(self, means: Means, stds: Spectrum, weights: Spectrum) -> None:
        super().__init__()
        if not (stds > 0).all() or not torch.isclose(weights.sum(), torch.ones((), dtype=weights.dtype)):
            raise ValueError("a mixture needs positive standard deviations and weights that sum to one")
        self.means, self.stds, self.weights = means, stds, weights

    def _log_joint(self, flat: Tensor, gamma: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """[B, K] log w_k N(z; alpha m_k, v_k), the residuals [B, K, D] and the variances v_k [B, K]."""
        one = torch.ones(len(flat), dtype=torch.float64, device=flat.device)
        a, b = (one, one * 0) if gamma is None else (alpha(gamma), sigma(gamma))
        variance = (a[:, None] * self.stds) ** 2 + b[:, None] ** 2
        residual = flat[:, None] - a[:, None, None] * self.means
        log_density = -0.5 * (residual.square().sum(-1) / variance + flat.shape[1] * torch.log(2 * math.pi * variance))
        return self.weights.log() + log_density, residual, variance

    def forward(self, z: State, gamma: PerExample, space: Space, condition: Any = None) -> Prediction:
        log_joint, residual, variance = self._log_joint(z.flatten(1).double(), gamma)
        responsibility = torch.softmax(log_joint, dim=1)
        a, b = alpha(gamma)[:, None], sigma(gamma)[:, None]
        eps = b * ((responsibility / variance)[..., None] * residual).sum(1)
        x = responsibility @ self.means + a * ((responsibility * self.stds**2 / variance)[..., None] * residual).sum(1)
        return Prediction((a * eps - b * x).to(z).reshape(z.shape), z, gamma, V(), space)

    def sample(self, like: State, generator: torch.Generator) -> State:
        """x of the shape of ``like`` [B, ...]."""
        component = torch.multinomial(self.weights, len(like), replacement=True, generator=generator)
        noise = torch.randn(like.flatten(1).shape, generator=generator, dtype=like.dtype)
        x = self.means[component] + self.stds[component][:, None] * noise
        return x.to(like).reshape(like.shape)

    def log_prob(self, z: State, gamma: PerExample | None = None) -> PerExample:
        """[B] log density of the data, or of z at noise level ``gamma`` [B]."""
        return torch.logsumexp(self._log_joint(z.flatten(1).double(), gamma)[0], dim=1)


def gaussian_flow(z: State, eigenvalues: Spectrum, gamma_t: float, gamma_s: float) -> State:
    """The exact probability-flow map of N(0, diag l): z_s = z_t sqrt(Var_s / Var_t), Var = alpha^2 l + sigma^2."""
    ends = [torch.tensor(g, dtype=torch.float64) for g in (gamma_t, gamma_s)]
    before, after = (alpha(g) ** 2 * eigenvalues + sigma(g) ** 2 for g in ends)
    return z * torch.sqrt(after / before).to(z)
