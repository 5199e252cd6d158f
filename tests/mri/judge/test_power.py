"""Spectra: a wave lands in its shell, noise is flat, a Gaussian takes away what its transfer function says."""

import numpy as np
import pytest

from medmol_diffusion.mri.judge.measure import Anatomy
from medmol_diffusion.mri.judge.measures import spectrum_differences
from medmol_diffusion.mri.judge.power import SHELLS, band_means, power_spectrum


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_wave_lands_in_its_own_shell(axis: int) -> None:
    shape = (32, 40, 48)
    place = np.arange(shape[axis]).reshape([-1 if other == axis else 1 for other in range(3)])
    wave = np.cos(np.pi * 0.4 * place) * np.ones(shape)  # 0.4 of Nyquist
    assert abs(np.nanargmax(power_spectrum(wave)) - int(0.4 * SHELLS)) <= 1


def test_white_noise_is_flat_and_scales_with_its_variance() -> None:
    rng = np.random.default_rng(0)
    spectra = np.mean([power_spectrum(rng.standard_normal((32, 32, 32))) for _ in range(6)], axis=0)
    expected = 10 * np.log10((3 / 8) ** 3)  # the mean square of the window
    np.testing.assert_allclose(spectra[12:], expected, atol=0.4)
    x = rng.standard_normal((16, 16, 16))
    louder, known = power_spectrum(2 * x + 1) - power_spectrum(x), ~np.isnan(power_spectrum(x))
    assert known.sum() > 24  # so small a scan has no frequency in some of the shells
    np.testing.assert_allclose(louder[known], 20 * np.log10(2), atol=1e-3)


def test_a_gaussian_takes_away_what_its_transfer_function_says() -> None:
    rng, sigma = np.random.default_rng(1), 0.8
    x = [rng.standard_normal((32, 32, 32)) for _ in range(6)]
    squares = np.meshgrid(*[np.fft.fftfreq(32) ** 2] * 3)
    transfer = np.exp(-2 * (np.pi * sigma) ** 2 * sum(squares))  # G(f), of which |G|^2 = exp(-(pi rho sigma)^2)
    blurred = [np.fft.ifftn(np.fft.fftn(one) * transfer).real for one in x]

    def anatomy(scans: list[np.ndarray]) -> Anatomy:
        spectra = np.array([power_spectrum(one) for one in scans])
        return Anatomy(np.zeros((6, 256)), np.zeros((6, 3)), spectra)

    found = spectrum_differences(anatomy(blurred), anatomy(x))
    rho = (np.arange(SHELLS) + 0.5) / SHELLS
    lost = band_means(-10 * np.log10(np.e) * (np.pi * rho * sigma) ** 2)
    for figure, expected in zip(found, lost, strict=True):
        assert figure.value == pytest.approx(expected, abs=0.5)
        assert figure.low <= figure.value <= figure.high
