"""GAN: its losses in closed form, its sizes, what it says of likelihoods."""

import numpy as np
import pytest
import torch
from torch import nn

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri import GAN, VolumeBatch
from medmol_diffusion.training.adversarial import Attempt


def tiny(shape: list[int]) -> GAN:
    torch.manual_seed(0)
    return GAN(shape, latent_size=4, channels=[8, 8], critic_steps=2).eval()


def test_the_critic_of_a_linear_function_loses_its_mean_difference_and_its_slope() -> None:
    """D(v) = <w, v> has the slope w everywhere: D(g) - D(v) + lambda (|w| - 1)^2."""
    model, draw = tiny([4, 4, 4]), torch.Generator().manual_seed(1)
    made, real = (torch.rand(3, 1, 4, 4, 4, generator=draw) for _ in range(2))
    linear = nn.Linear(64, 1, bias=False)
    loss = model.critic_loss(nn.Sequential(nn.Flatten(), linear), Attempt(made, real, {}), draw)
    slope = linear.weight.norm()
    exact = ((made - real).flatten(1) @ linear.weight.T)[:, 0] + 10.0 * (slope - 1).square()
    torch.testing.assert_close(loss, exact)
    loss.sum().backward()
    assert linear.weight.grad is not None


def test_a_generator_loses_what_the_critic_thinks_of_it_and_is_told_nothing_by_sizes() -> None:
    model = tiny([6, 7, 8])
    critic = model.critic()
    mask = torch.ones(2, 1, 6, 7, 8, dtype=torch.bool)
    mask[0, :, 4:] = False
    data = torch.where(mask, 0.25, -1.0)
    attempt = model.attempt(VolumeBatch(data, mask, torch.arange(2), ["a", "b"]), torch.Generator().manual_seed(0))
    assert attempt.made.shape == data.shape
    assert (attempt.made[~mask] == -1).all()
    assert attempt.made[mask].std() > 0
    padded = nn.functional.pad(attempt.made, (0, 0, 0, 1, 0, 2), value=-1.0)
    torch.testing.assert_close(model.adversarial_term(critic, attempt), -critic(padded)[:, 0])
    assert not any(name.startswith("critic") for name in model.state_dict())


def test_samples_depend_on_seed_and_place_alone() -> None:
    model = tiny([6, 7, 8])
    three, one = (model.sample(3, seed=2, batch_size=size) for size in (3, 1))
    for a, b in zip(three, one, strict=True):
        np.testing.assert_allclose(a.data, b.data, atol=1e-5)
        assert a.shape == (6, 7, 8)
    assert not np.allclose(three[0].data, three[1].data)
    assert three[1].provenance == {"seed": "2", "index": "1"}


def test_a_gan_says_that_it_has_no_likelihood() -> None:
    with pytest.raises(InputError, match="no likelihood: judge its samples"):
        tiny([4, 4, 4]).nll(None)


def test_sizes_out_of_range_are_refused() -> None:
    with pytest.raises(InputError, match="three sizes"):
        GAN([4, 4])
    with pytest.raises(InputError, match="start at 1"):
        GAN([4, 4, 4], critic_steps=0)
    with pytest.raises(InputError, match="at least 1, not 0"):
        tiny([4, 4, 4]).sample(0)
