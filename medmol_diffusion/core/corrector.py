"""Predictor-corrector sampling: Langevin steps at the level that a stepper has reached."""

import torch

from medmol_diffusion.core.schedule import per_example, sigma
from medmol_diffusion.core.shapes import PerExample, State
from medmol_diffusion.core.stepper import Ancestral, DrawNoise, Past, Predict, Stepper


class Langevin(Stepper):
    """Any stepper, and after each of its steps a few of z <- z + e score + sqrt(2 e) eps at gamma_s (Song et al. 2021b,
    algorithms 4 and 5).

    e = 2 (r |eps| / |score|)^2 for every example by itself, |eps|^2 by its mean, the degrees of freedom d:
    e = 2 r^2 sigma^2 d / |eps_hat|^2. One more network call for each correction. e is never above 2 r^2 |z|^2 / d, what
    it is on N(0, V I) for |z|^2 = d V: after a long step |eps_hat| may be next to nothing.

    On N(0, V I) with many degrees of freedom the corrections alone settle at the variance (1 + r^2) V: 2.6 % too much
    at r = 0.16. It is the bias of unadjusted Langevin steps, and no number of them removes it; on N(0, diag V) it is
    the factor 1 / (1 - e / (2 V_i)), most where V_i is least. With few degrees of freedom |eps_hat| is now and then
    near zero and e is large: the method is for states of some tens of dimensions or more. A one-step predictor suits it
    best: a multistep one takes differences of x_hat before and after the fresh noise.

    Args:
        predictor: the stepper; Ancestral when left out.
        snr: r, the signal-to-noise ratio of a correction.
        corrections: how many after each step.

    Raises:
        ValueError: snr is not positive, or there is no correction.
    """

    inverts = False

    def __init__(self, predictor: Stepper | None = None, snr: float = 0.16, corrections: int = 1) -> None:
        if snr <= 0:
            raise ValueError(f"snr = {snr} must be positive: it is the size of a Langevin step")
        if corrections < 1:
            raise ValueError(f"corrections = {corrections} must be at least 1: for none use the predictor by itself")
        self.predictor = Ancestral() if predictor is None else predictor
        self.snr, self.corrections = snr, corrections

    def __call__(
        self, z: State, gamma_t: PerExample, gamma_s: PerExample, predict: Predict, noise: DrawNoise, past: Past | None
    ) -> tuple[State, Past | None]:
        z, past = self.predictor(z, gamma_t, gamma_s, predict, noise, past)
        for _ in range(self.corrections):
            prediction = predict(z, gamma_s)
            space, eps = prediction.space, prediction.eps
            # sqrt(e) / sigma = r sqrt(2 d) / |eps_hat|, and at most r sqrt(2 / d) |z| / sigma
            dim, spent = space.dim(), space.squared_norm(z).double() / sigma(gamma_s).square()
            stride = self.snr * torch.sqrt(2 * torch.minimum(dim / space.squared_norm(eps).double(), spent / dim))
            drift, spread = stride.square() * sigma(gamma_s), stride * sigma(gamma_s) * 2**0.5
            z = torch.addcmul(z, per_example(-drift, z), eps).addcmul_(per_example(spread, z), noise())
        return z, past
