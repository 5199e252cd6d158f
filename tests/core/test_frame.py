"""A denoiser written in another frame is the same model: the same bound term by term, the same sampler step by step."""

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from medmol_diffusion.core import (
    DDIM,
    Dense,
    FlowFrame,
    Frame,
    FramedDenoiser,
    GaussianDenoiser,
    Karras,
    LinearGamma,
    RectifiedFlow,
    Schedule,
    Streams,
    SubVPFrame,
    VEFrame,
    VPFrame,
    alpha,
    check_zero_snr,
    diffuse,
    elbo,
    grid,
    sample,
    sigma,
)
from medmol_diffusion.core.observation import Gaussian
from tests.core.oracle import EIGENVALUES


def column(level: Tensor) -> Tensor:
    return level[:, None]


def edm(z: Tensor, s: Tensor, condition: object = None) -> Tensor:
    """D(z; s) = E[x | x + s eps = z]."""
    return EIGENVALUES.to(z) * z / (EIGENVALUES.to(z) + column(s) ** 2)


def ve_score(z: Tensor, s: Tensor, condition: object = None) -> Tensor:
    """grad log N(z; 0, l + s^2)."""
    return -z / (EIGENVALUES.to(z) + column(s) ** 2)


def flow_velocity(z: Tensor, t: Tensor, condition: object = None) -> Tensor:
    """E[eps - x | (1 - t) x + t eps = z]."""
    t, variance = column(t), EIGENVALUES.to(z)
    return (t - (1 - t) * variance) / ((1 - t) ** 2 * variance + t**2) * z


def flow_x(z: Tensor, t: Tensor, condition: object = None) -> Tensor:
    t, variance = column(t), EIGENVALUES.to(z)
    return (1 - t) * variance / ((1 - t) ** 2 * variance + t**2) * z


def sub_vp_score(z: Tensor, b: Tensor, condition: object = None) -> Tensor:
    """grad log N(z; 0, e^-B l + (1 - e^-B)^2)."""
    b = column(b)
    return -z / (torch.exp(-b) * EIGENVALUES.to(z) + torch.expm1(-b) ** 2)


def sub_vp_eps(z: Tensor, b: Tensor, condition: object = None) -> Tensor:
    return torch.expm1(-column(b)) * sub_vp_score(z, b)


def vp_score(z: Tensor, gamma: Tensor, condition: object = None) -> Tensor:
    gamma = column(gamma)
    return -z / (torch.sigmoid(-gamma) * EIGENVALUES.to(z) + torch.sigmoid(gamma))


NATIVES: dict[str, tuple[Callable[..., Tensor], Frame, str]] = {
    "edm_denoiser": (edm, VEFrame(), "x"),
    "ve_score": (ve_score, VEFrame(), "score"),
    "flow_velocity": (flow_velocity, FlowFrame(), "velocity"),
    "flow_denoiser": (flow_x, FlowFrame(), "x"),
    "sub_vp_score": (sub_vp_score, SubVPFrame(), "score"),
    "sub_vp_eps": (sub_vp_eps, SubVPFrame(), "eps"),
    "vp_score": (vp_score, VPFrame(), "score"),
}
natives = pytest.mark.parametrize(("native", "frame", "output"), NATIVES.values(), ids=NATIVES.keys())
GAMMA = torch.tensor([-12.0, -3.0, 0.0, 2.0, 9.0], dtype=torch.float64)


@pytest.mark.parametrize("frame", [VPFrame(), VEFrame(), FlowFrame(), SubVPFrame()], ids=lambda f: type(f).__name__)
def test_a_frame_is_the_common_one_times_its_scale(frame: Frame) -> None:
    a, s = frame.coefficients(GAMMA)
    torch.testing.assert_close(frame.scale(GAMMA) * alpha(GAMMA), a, rtol=1e-13, atol=0)
    torch.testing.assert_close(frame.scale(GAMMA) * sigma(GAMMA), s, rtol=1e-13, atol=0)


def test_frames_have_their_published_coefficients() -> None:
    t = torch.tensor([0.01, 0.5, 0.99], dtype=torch.float64)
    gamma = 2 * torch.log(t / (1 - t))
    torch.testing.assert_close(FlowFrame().level(gamma), t)
    torch.testing.assert_close(torch.stack(FlowFrame().coefficients(gamma)), torch.stack([1 - t, t]))
    s = torch.tensor([0.002, 1.0, 80.0], dtype=torch.float64)
    assert torch.stack(VEFrame().coefficients(2 * s.log())).allclose(torch.stack([torch.ones(3).double(), s]))
    b = torch.tensor([1e-4, 1.0, 10.0], dtype=torch.float64)
    a, noise = torch.exp(-b / 2), 1 - torch.exp(-b)
    gamma = 2 * torch.log(noise / a)
    torch.testing.assert_close(SubVPFrame().level(gamma), b, rtol=1e-10, atol=0)
    torch.testing.assert_close(torch.stack(SubVPFrame().coefficients(gamma)), torch.stack([a, noise]))


@natives
@pytest.mark.parametrize("transitions", [0, 40])
@pytest.mark.parametrize("schedule", [LinearGamma(-10.0, 8.0), Karras()], ids=["linear", "karras"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 2e-4)])
def test_the_bound_is_the_same_term_by_term_through_every_frame(
    native: Callable[..., Tensor],
    frame: Frame,
    output: str,
    transitions: int,
    schedule: Schedule,
    dtype: torch.dtype,
    tolerance: float,
) -> None:
    oracle = GaussianDenoiser(EIGENVALUES)
    x = oracle.sample(torch.zeros(16, 4, dtype=dtype), torch.Generator().manual_seed(0))
    ours, theirs = (
        elbo(denoiser, schedule, Dense(x), x, Gaussian(), x, Streams(0, torch.arange(16)), transitions, draws=3).terms
        for denoiser in (oracle, FramedDenoiser(native, frame, output))
    )
    for name, value in ours.items():
        torch.testing.assert_close(theirs[name], value, rtol=tolerance, atol=tolerance)


def test_a_flow_reaches_pure_noise() -> None:
    z, gamma = torch.ones(1, 4, dtype=torch.float64), torch.tensor([torch.inf], dtype=torch.float64)
    found = FramedDenoiser(flow_velocity, FlowFrame(), "velocity")(z, gamma, Dense(z))
    torch.testing.assert_close(found.x, torch.zeros_like(z))
    torch.testing.assert_close(found.eps, z)


@natives
def test_what_cannot_reach_pure_noise_is_refused_there(
    native: Callable[..., Tensor], frame: Frame, output: str
) -> None:
    denoiser = FramedDenoiser(native, frame, output)
    if isinstance(frame, FlowFrame):
        check_zero_snr(denoiser, math.inf)
    else:
        with pytest.raises(ValueError, match="zero terminal SNR"):
            check_zero_snr(denoiser, math.inf)


def test_ddim_is_euler_on_the_flow() -> None:
    """In its own frame DDIM's step is z_s = z_t + (s - t) v(z_t, t): rectified flow's sampler, step by step."""
    gammas, z = grid(RectifiedFlow(-8.0, 8.0), 7), torch.ones(2, 4, dtype=torch.float64)
    found = sample(
        FramedDenoiser(flow_velocity, FlowFrame(), "velocity"), DDIM(), gammas, Dense(z), z, torch.Generator()
    )
    t = torch.sigmoid(gammas / 2)
    state = z * torch.hypot(t[0], 1 - t[0])
    for before, after in itertools.pairwise(t):
        state = state + (after - before) * flow_velocity(state, before.expand(2))
    torch.testing.assert_close(found * torch.hypot(t[-1], 1 - t[-1]), state, rtol=1e-10, atol=1e-10)


def test_ddim_is_euler_on_the_ode_of_edm() -> None:
    """dz / ds = (z - D(z; s)) / s (Karras et al. 2022, eqs. 1 and 3 with sigma(t) = t)."""
    gammas, z = grid(Karras(), 18), torch.ones(2, 4, dtype=torch.float64)
    found = sample(FramedDenoiser(edm, VEFrame()), DDIM(), gammas, Dense(z), z, torch.Generator())
    s = torch.exp(gammas / 2)
    state = z * torch.hypot(s[0], torch.ones_like(s[0]))
    for before, after in itertools.pairwise(s):
        state = state + (after - before) * (state - edm(state, before.expand(2))) / before
    torch.testing.assert_close(found * torch.hypot(s[-1], torch.ones_like(s[-1])), state, rtol=1e-10, atol=1e-10)


def test_a_native_denoiser_sees_its_own_state_level_and_condition() -> None:
    x, eps = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    seen: list[object] = []

    def native(z: Tensor, level: Tensor, condition: object) -> Tensor:
        seen.extend([z, level, condition])
        return z

    FramedDenoiser(native, VEFrame())(diffuse(x, eps, GAMMA), GAMMA, Dense(x), "label")
    s = torch.exp(GAMMA / 2)
    torch.testing.assert_close(seen[0], x + s[:, None] * eps)
    torch.testing.assert_close(seen[1], s)
    assert seen[2] == "label"


def test_an_unknown_output_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown output 'noise': choose one of x, eps, velocity, score"):
        FramedDenoiser(edm, VEFrame(), "noise")
