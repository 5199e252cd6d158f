"""MONAI's own networks and schedulers are the reference here, wherever they are right."""

import itertools
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.inferers import DiffusionInferer
from monai.networks.nets import AutoencoderKL, DiffusionModelUNet
from monai.networks.schedulers import DDIMScheduler, DDPMScheduler
from safetensors.torch import save_file
from torch import Tensor, nn

from medmol_diffusion.core import STEPPERS, Dense, GaussianDenoiser, Streams, elbo
from medmol_diffusion.core.observation import Gaussian
from medmol_diffusion.errors import InputError
from medmol_diffusion.mri import MonaiDiffusion, MonaiSchedule, Volume
from medmol_diffusion.mri.monai_model import MonaiNetwork

UNET: dict[str, Any] = {
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 1,
    "channels": [8, 16],
    "attention_levels": [False, True],
    "num_res_blocks": 1,
    "norm_num_groups": 4,
    "num_head_channels": 8,
}
KL: dict[str, Any] = {
    "spatial_dims": 3,
    "channels": [4, 8],
    "attention_levels": [False, False],
    "num_res_blocks": 1,
    "norm_num_groups": 4,
    "latent_channels": 1,
}
SCHEDULES: dict[str, dict[str, float]] = {
    "linear_beta": {"beta_start": 5e-4, "beta_end": 0.0195},
    "scaled_linear_beta": {"beta_start": 1.5e-3, "beta_end": 0.0195},
    "sigmoid_beta": {"sig_range": 5.0},
    "cosine": {"s": 0.01},
}


def randomised(network: nn.Module, seed: int = 0) -> nn.Module:
    """Every weight drawn anew: a fresh DiffusionModelUNet ends in zeros, and would answer zero whatever it is fed."""
    generator = torch.Generator().manual_seed(seed)
    for weight in network.parameters():
        weight.data = 0.2 * torch.randn(weight.shape, generator=generator)
    return network.eval()


def unet(**changes: Any) -> nn.Module:
    return randomised(DiffusionModelUNet(**{**UNET, **changes}))


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("given", [False, True], ids=["defaults", "arguments"])
def test_the_table_is_monais_alphas_cumprod(name: str, given: bool) -> None:
    arguments = SCHEDULES[name] if given else {}
    ours, theirs = MonaiSchedule(name, 1000, **arguments), DDPMScheduler(1000, name, **arguments)
    assert len(ours.table) == 1000
    torch.testing.assert_close(torch.sigmoid(-ours.table), theirs.alphas_cumprod.double(), rtol=0, atol=1e-6)
    # At the noise end alpha-bar is far below 1e-6, at the data end 1 - alpha-bar nearly so: there the ratio counts, as
    # far as MONAI's float32 keeps it.
    torch.testing.assert_close(torch.sigmoid(-ours.table), theirs.alphas_cumprod.double(), rtol=1e-3, atol=0)
    torch.testing.assert_close(torch.sigmoid(ours.table), 1 - theirs.alphas_cumprod.double(), rtol=2e-3, atol=0)


def test_the_grid_is_the_timesteps_of_monai() -> None:
    schedule, theirs = MonaiSchedule(), DDIMScheduler(1000)
    for steps in range(1, 1001):
        theirs.set_timesteps(steps)
        assert torch.equal(schedule.grid(steps), schedule.table[theirs.timesteps])


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_grid_even_in_gamma_keeps_to_the_timesteps_and_to_the_ends(name: str) -> None:
    schedule = MonaiSchedule(name)
    gammas = schedule.grid(20, "gamma")
    assert set(gammas.tolist()) <= set(schedule.table.tolist())
    assert gammas[[0, -1]].tolist() == [schedule.gamma_1, schedule.gamma_0]
    assert (gammas.diff() < 0).all()
    even = torch.linspace(schedule.gamma_1, schedule.gamma_0, 20, dtype=torch.float64)
    nearest = (schedule.timestep(gammas)[:, None] - schedule.timestep(even)).abs().amin(0)
    assert nearest.max() <= 0.5


@pytest.mark.parametrize("name", SCHEDULES)
def test_timesteps_invert_the_table_and_are_linear_between_its_entries(name: str) -> None:
    schedule = MonaiSchedule(name)
    places = torch.arange(1000, dtype=torch.float64)
    assert torch.equal(schedule.timestep(schedule.table), places)
    between = places[:-1] + 0.3
    torch.testing.assert_close(schedule.timestep(schedule.gamma(between / 999)), between, rtol=0, atol=1e-6)
    ends = torch.tensor([-99.0, 99.0], dtype=torch.float64)
    assert schedule.timestep(ends).tolist() == [0, 999]


def wrapped(state: dict[str, Tensor], way: str) -> dict[str, Any]:
    if way == "distributed":
        return {"epoch": 3, "state_dict": {f"module.{name}": value for name, value in state.items()}}
    if way == "compiled":
        return {f"module._orig_mod.{name}": value for name, value in state.items()}
    return state if way == "bare" else {way: state, "loss": 0.1}


@pytest.mark.parametrize(
    "way", ["bare", "safetensors", "model", "state_dict", "unet_state_dict", "distributed", "compiled"]
)
def test_a_loaded_network_answers_as_monais_to_the_bit(way: str, tmp_path: Path) -> None:
    theirs = unet()
    if way == "safetensors":
        save_file(theirs.state_dict(), path := tmp_path / "unet.safetensors")
    else:
        torch.save(wrapped(theirs.state_dict(), way), path := tmp_path / "unet.pt")
    model = MonaiDiffusion(UNET).load_monai_weights(path)
    z, timesteps = normal(3, 1, 8, 8, 8), torch.tensor([0, 417, 999])
    with torch.no_grad():
        ours = model.denoiser(z, model.schedule.table[timesteps], Dense(z)).output
        expected = theirs(z, timesteps)
        assert torch.equal(ours, expected)
        # MONAI embeds a timestep as a float, so a level between two timesteps has an answer of its own.
        middle = model.schedule.gamma((timesteps[1:2] + 0.5) / 999).expand(3)
        between = model.denoiser(z, middle, Dense(z)).output
        assert torch.equal(between, theirs(z, torch.full((3,), 417.5)))
        for t in (417, 418):
            assert (between - theirs(z, torch.full((3,), t))).abs().max() > 1e-4


def test_a_loaded_autoencoder_encodes_and_decodes_as_monais(tmp_path: Path) -> None:
    kl, denoising = randomised(AutoencoderKL(**KL), seed=1), unet()
    torch.save({"unet_state_dict": denoising.state_dict(), "scale_factor": torch.tensor(0.7)}, tmp_path / "unet.pt")
    torch.save(kl.state_dict(), tmp_path / "kl.pt")
    model = MonaiDiffusion(UNET, autoencoder=KL).load_monai_weights(tmp_path / "unet.pt", tmp_path / "kl.pt")
    images = normal(2, 1, 8, 8, 8)
    with torch.no_grad():
        latent = kl.encode(images)[0]
        assert model.scale_factor == pytest.approx(0.7)
        assert torch.equal(model.encode(images), latent * model.scale_factor)
        expected = kl.decode_stage_2_outputs(model.encode(images) / model.scale_factor)
        assert torch.equal(model.decode(model.encode(images)), expected)
    told = MonaiDiffusion(UNET, autoencoder=KL, scale_factor=2.0)
    with pytest.raises(InputError, match="the autoencoder has no weights yet"):
        told.load_monai_weights(tmp_path / "unet.pt")
    told.load_monai_weights(tmp_path / "unet.pt", tmp_path / "kl.pt")
    assert told.scale_factor == 2.0
    drawn = model.sample(2, [1, 4, 4, 4], steps=3)
    assert drawn.shape == (2, 1, 8, 8, 8)
    assert torch.isfinite(drawn).all()


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_x_hat_is_what_monai_reads_off_each_prediction_type(prediction: str) -> None:
    network = unet()
    model = MonaiDiffusion(network, prediction_type=prediction)
    scheduler = DDIMScheduler(1000, prediction_type=prediction, clip_sample=False)
    z = normal(1, 1, 8, 8, 8)
    for t in (2, 500, 900):
        with torch.no_grad():
            output = network(z, torch.tensor([t]))
            ours = model.denoiser(z, model.schedule.table[[t]], Dense(z))
        torch.testing.assert_close(ours.x, scheduler.step(output, t, z)[1], rtol=2e-4, atol=2e-4)


def start(shape: tuple[int, ...], seed: int) -> Tensor:
    """The noise that sample() starts from."""
    return Dense(z := torch.empty(shape)).noise(z, Streams(seed, torch.arange(shape[0])))


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_our_ddim_is_monais_chain_done_right(prediction: str) -> None:
    network, steps = unet(), 13
    scheduler = DDIMScheduler(1000, "scaled_linear_beta", prediction_type=prediction, clip_sample=False)
    scheduler.set_timesteps(steps)
    model = MonaiDiffusion(network, MonaiSchedule("scaled_linear_beta"), prediction_type=prediction)
    ours = model.sample(2, [1, 8, 8, 8], steps=steps, sampler="ddim", seed=4)
    z, abar = start((2, 1, 8, 8, 8), 4), torch.cat([scheduler.alphas_cumprod, torch.ones(1)])
    with torch.no_grad():
        for t, s in itertools.pairwise([*scheduler.timesteps.tolist(), -1]):
            x = scheduler.step(network(z, torch.tensor([t])), t, z)[1]
            z = abar[s].sqrt() * x + (1 - abar[s]).sqrt() * (z - abar[t].sqrt() * x) / (1 - abar[t]).sqrt()
    torch.testing.assert_close(ours, z, rtol=2e-3, atol=2e-3 * z.std().item())


def test_where_monais_ddim_keeps_to_its_grid_ours_is_the_same_chain() -> None:
    network, levels = unet(), 20
    scheduler = DDIMScheduler(levels, beta_end=0.3, clip_sample=False)
    model = MonaiDiffusion(network, MonaiSchedule("linear_beta", levels, beta_end=0.3))
    ours = model.sample(2, [1, 8, 8, 8], steps=levels, sampler="ddim", seed=4)
    theirs = DiffusionInferer(scheduler).sample(start((2, 1, 8, 8, 8), 4), network, scheduler, verbose=False)
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3 * theirs.std().item())


class GaussianNetwork(nn.Module):
    """The exact eps for data N(0, 0.3^2), called as MONAI calls a network."""

    def __init__(self, schedule: MonaiSchedule) -> None:
        super().__init__()
        self.schedule, self.weight = schedule, nn.Parameter(torch.zeros((), dtype=torch.float64))

    def forward(self, x: Tensor, timesteps: Tensor, context: Tensor | None = None) -> Tensor:
        sigma2 = self.schedule.gamma(timesteps / self.schedule.transitions).sigmoid().reshape(-1, 1, 1, 1, 1)
        return x * sigma2.sqrt() / (0.09 * (1 - sigma2) + sigma2)


def test_samples_and_bound_of_an_exact_network_are_the_oracles() -> None:
    schedule = MonaiSchedule()
    model = MonaiDiffusion(GaussianNetwork(schedule), schedule)
    for sampler in ("heun", "dpm++2m"):
        drawn = model.sample(4, [1, 10, 10, 10], steps=100, sampler=sampler, batch_size=2)
        # 4000 values, none of which may carry more than the noise that they started from: |std / 0.3 - 1| < 4 errors.
        assert drawn.std().item() == pytest.approx(0.3, rel=4 / 8000**0.5)
    x = 0.3 * normal(4, 1, 4, 4, 4).double()
    oracle = GaussianDenoiser(torch.full((64,), 0.09, dtype=torch.float64))
    bounds = [
        elbo(denoiser, schedule, Dense(x), x, Gaussian(), x, Streams(0, torch.arange(4)), draws=4)
        for denoiser in (model.denoiser, oracle)
    ]
    for name, nats in bounds[1].terms.items():
        torch.testing.assert_close(bounds[0].terms[name], nats, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("sampler", STEPPERS)
def test_image_i_is_fixed_by_the_seed_and_i(sampler: str) -> None:
    model = MonaiDiffusion(unet())
    four = model.sample(3, [1, 4, 4, 4], steps=4, sampler=sampler, seed=1, batch_size=3)
    alone = model.sample(2, [1, 4, 4, 4], steps=4, sampler=sampler, seed=1, batch_size=1)
    torch.testing.assert_close(four[:2], alone, rtol=1e-4, atol=1e-4 * alone.std().item())
    assert torch.equal(alone, model.sample(2, [1, 4, 4, 4], steps=4, sampler=sampler, seed=1, batch_size=1))
    assert not torch.allclose(alone, model.sample(2, [1, 4, 4, 4], steps=4, sampler=sampler, seed=2))


class Recorder(nn.Module):
    """Answers with the mean of what it was conditioned on."""

    in_channels = 3

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor, timesteps: Tensor, context: Tensor, class_labels: Tensor) -> Tensor:
        told = x[:, 1:].mean((1, 2, 3, 4)) + context.mean((1, 2)) + class_labels
        return torch.cat([told.reshape(-1, 1, 1, 1, 1).expand_as(x[:, :1]), x[:, :1]], 1)


def test_every_image_meets_its_own_row_of_the_condition() -> None:
    model = MonaiDiffusion(Recorder(), prediction_type="sample")
    condition = {
        "concat": torch.tensor([1.0, 2, 3]).reshape(3, 1, 1, 1, 1).expand(3, 2, 2, 2, 2),
        "context": torch.tensor([10.0, 20, 30]).reshape(3, 1, 1).expand(3, 1, 5),
        "class_labels": torch.tensor([100, 200, 300]),
    }
    drawn = model.sample(3, [1, 2, 2, 2], steps=3, condition=condition, batch_size=2)
    # The last state is read as x_hat, the network's output; the channel of its variance is left aside.
    torch.testing.assert_close(drawn, torch.tensor([111.0, 222, 333]).reshape(3, 1, 1, 1, 1).expand(3, 1, 2, 2, 2))
    with pytest.raises(InputError, match="condition 'context' has 3 rows for 2 images"):
        model.sample(2, [1, 2, 2, 2], condition={"context": condition["context"]})


def test_cross_attention_and_classes_reach_monais_network() -> None:
    network = unet(with_conditioning=True, cross_attention_dim=4, num_class_embeds=3)
    schedule = MonaiSchedule()
    z, t = normal(2, 1, 4, 4, 4), torch.tensor([10, 600])
    condition = {"context": normal(2, 1, 4, seed=1), "class_labels": torch.tensor([0, 2])}
    with torch.no_grad():
        ours = MonaiNetwork(network, schedule)(z, schedule.table[t], Dense(z), condition)
        assert torch.equal(ours, network(z, t, **condition))
        other = MonaiNetwork(network, schedule)(
            z, schedule.table[t], Dense(z), {**condition, "context": condition["context"] + 1}
        )
    assert not torch.allclose(ours, other)


def test_weights_that_do_not_fit_are_named_with_the_cure(tmp_path: Path) -> None:
    state, model = unet().state_dict(), MonaiDiffusion(UNET)
    path = tmp_path / "unet.pt"
    torch.save({"model": {("stray" if name == "conv_in.conv.bias" else name): v for name, v in state.items()}}, path)
    with pytest.raises(InputError, match=r"unet.pt.*1 missing \(conv_in.conv.bias\); 1 unexpected \(stray\): give"):
        model.load_monai_weights(path)
    torch.save(unet(channels=[16, 16]).state_dict(), path)
    with pytest.raises(InputError, match=r"of another shape \(conv_in.conv.weight, .*, \.\.\.\)"):
        model.load_monai_weights(path)
    with pytest.raises(InputError, match=r"absent.pt does not exist"):
        model.load_monai_weights(tmp_path / "absent.pt")
    torch.save(unet(), path)
    with pytest.raises(InputError, match=r"unet.pt is not a file of bare weights: save .* state_dict\(\)"):
        model.load_monai_weights(path)
    (tmp_path / "bad.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(InputError, match=r"bad.safetensors is not a file of bare weights"):
        model.load_monai_weights(tmp_path / "bad.safetensors")
    torch.save([1, 2], path)
    with pytest.raises(InputError, match=r"unet.pt holds a list"):
        model.load_monai_weights(path)
    torch.save(state, path)
    with pytest.raises(InputError, match="give MonaiDiffusion an autoencoder"):
        model.load_monai_weights(path, path)


def test_nothing_but_tensors_is_unpickled(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return (Path.touch, (tmp_path / "sprung",))  # type: ignore[return-value]

    torch.save({"model": unet().state_dict(), "optimizer": Trap()}, tmp_path / "trap.pt")
    with pytest.raises(InputError, match=r"trap.pt is not a file of bare weights"):
        MonaiDiffusion(UNET).load_monai_weights(tmp_path / "trap.pt")
    assert not (tmp_path / "sprung").exists()


def test_impossible_arguments_are_refused_with_the_cure() -> None:
    with pytest.raises(InputError, match="unknown prediction_type 'eps': choose one of epsilon, v_prediction, sample"):
        MonaiDiffusion(UNET, prediction_type="eps")
    with pytest.raises(InputError, match="scale_factor = 0"):
        MonaiDiffusion(UNET, scale_factor=0)
    with pytest.raises(InputError, match=r"DiffusionModelUNet does not take these arguments.*kernel"):
        MonaiDiffusion({**UNET, "kernel": 3})
    with pytest.raises(InputError, match="unknown MONAI schedule 'linear': choose one of linear_beta"):
        MonaiSchedule("linear")
    with pytest.raises(InputError, match=r"'cosine' does not take \['beta_start'\]"):
        MonaiSchedule("cosine", beta_start=1e-4)
    with pytest.raises(InputError, match=r"leaves \(0, 1\)"):
        MonaiSchedule(beta_end=1.2)
    with pytest.raises(InputError, match="num_train_timesteps = 1"):
        MonaiSchedule(num_train_timesteps=1)
    model = MonaiDiffusion(UNET)
    with pytest.raises(InputError, match=r"steps = 1001 must lie in 1 .. 1000"):
        model.sample(1, [1, 4, 4, 4], steps=1001)
    with pytest.raises(InputError, match="unknown spacing 'log': choose one of time, gamma"):
        model.sample(1, [1, 4, 4, 4], spacing="log")
    with pytest.raises(InputError, match="at least 1, not 0"):
        model.sample(0, [1, 4, 4, 4])
    with pytest.raises(InputError, match=r"shape \(8, 4, 4\) has 8 channels, but the network takes 1"):
        model.sample(1, [8, 4, 4])


def test_the_snippet_of_the_guide_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "monai.md").read_text()
    (snippet,) = re.findall(r"```python\n(.*?)```", guide, flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    named: dict[str, Any] = {}
    exec(snippet, named)
    assert Volume.read("sample.nii.gz").shape == tuple(named["images"].shape[2:])
    assert torch.isfinite(named["bound"].total).all()
