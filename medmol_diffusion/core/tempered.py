"""Sampling at a lower temperature: any stepper that draws fresh noise, with less of it."""

from medmol_diffusion.core.shapes import PerExample, State
from medmol_diffusion.core.stepper import DrawNoise, Past, Predict, Stepper


class Tempered(Stepper):
    """A stepper whose fresh noise is multiplied by k: z_s = mean + k spread eps.

    k = 1 is the stepper itself, bit for bit; what it samples is the model. A network is wrong by a little at every
    step, and what it is wrong by acts like noise that nobody takes away: k a little below 1 takes it away, and makes
    samples that are more probable and less varied. On N(0, V) each step of Ancestral, whose mean is a z_t, gives the
    variance a^2 V_t + k^2 spread^2, below the exact V_s.

    S_noise of Karras et al. 2022, algorithm 2 (there a little above 1); below 1 the low temperature of Ingraham et al.
    2023.

    Args:
        stepper: one that draws fresh noise.
        noise_scale: k.

    Raises:
        ValueError: k is not in (0, 1], or the stepper draws no noise.
    """

    inverts = False

    def __init__(self, stepper: Stepper, noise_scale: float) -> None:
        if not 0 < noise_scale <= 1:
            raise ValueError(f"noise_scale = {noise_scale} must lie in (0, 1]: 1 is the sampler as it is")
        if stepper.inverts:
            raise ValueError(
                f"{type(stepper).__name__} draws no noise for noise_scale to act on: take ancestral or dpm++3m-sde"
            )
        self.stepper, self.noise_scale = stepper, noise_scale

    def __call__(
        self, z: State, gamma_t: PerExample, gamma_s: PerExample, predict: Predict, noise: DrawNoise, past: Past | None
    ) -> tuple[State, Past | None]:
        return self.stepper(z, gamma_t, gamma_s, predict, lambda: noise() * self.noise_scale, past)
