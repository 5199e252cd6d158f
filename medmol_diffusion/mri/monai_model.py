"""Networks that were trained with MONAI, sampled and measured by our core.

The weights stay what they are: a DiffusionModelUNet, and an AutoencoderKL where the model is a latent one, behind the
core's Denoiser. What changes is who steps from level to level, and who adds up the bound.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from medmol_diffusion.core import Dense, Eps, NetworkDenoiser, Parameterization, Streams, V, X, sample, stepper_named
from medmol_diffusion.core.space import Space
from medmol_diffusion.errors import InputError
from medmol_diffusion.mri.monai_schedule import MonaiSchedule

PREDICTIONS: dict[str, type[Parameterization]] = {"epsilon": Eps, "v_prediction": V, "sample": X}
"""MONAI's prediction types in the core's terms; its velocity is alpha eps - sigma x, as ours."""
WRAPPERS = ("model", "state_dict", "network", "unet_state_dict", "autoencoder_state_dict")
"""Keys under which trainers and bundles put the weights of a checkpoint."""


class MonaiNetwork(nn.Module):
    """A network of MONAI's signature, network(x, timesteps, context, ...), behind the core's.

    Args:
        network: a DiffusionModelUNet, or anything that is called like one.
        schedule: turns gamma into a timestep; MONAI embeds it as a float, so a level between two timesteps is one, too.
    """

    def __init__(self, network: nn.Module, schedule: MonaiSchedule) -> None:
        super().__init__()
        self.network, self.schedule = network, schedule

    def forward(self, z: Tensor, gamma: Tensor, space: Space, condition: Mapping[str, Tensor] | None = None) -> Tensor:
        """``condition``: ``concat`` is joined to the channels of z, all else goes to the network by its keyword."""
        given = dict(condition or {})
        concat = given.pop("concat", None)
        x = z if concat is None else torch.cat([z, concat.to(z)], 1)
        # The second half of the channels of a network with a learned variance is not read.
        output: Tensor = self.network(x, timesteps=self.schedule.timestep(gamma), **given)[:, : z.shape[1]]
        return output


class MonaiDiffusion(nn.Module):
    """A diffusion model trained with MONAI: its networks, our samplers.

    ``denoiser`` and ``schedule`` are the core's: whatever works with those works with this model, core.elbo as well.
    The networks are put in evaluation mode.

    Args:
        network: the arguments of DiffusionModelUNet, or such a network itself.
        schedule: the one it was trained with; MONAI's default when left out.
        prediction_type: "epsilon", "v_prediction" or "sample", as its scheduler was told.
        autoencoder: of a latent model: the arguments of AutoencoderKL, or such a network itself.
        scale_factor: c of LatentDiffusionInferer: the state is c times the latent. When left out, what the checkpoint
            of the network says, or 1.

    Raises:
        InputError: an unknown prediction type, or arguments the networks do not take.
    """

    autoencoder: Any

    def __init__(
        self,
        network: Mapping[str, Any] | nn.Module,
        schedule: MonaiSchedule | None = None,
        prediction_type: str = "epsilon",
        autoencoder: Mapping[str, Any] | nn.Module | None = None,
        scale_factor: float | None = None,
    ) -> None:
        super().__init__()
        if prediction_type not in PREDICTIONS:
            raise InputError(f"unknown prediction_type '{prediction_type}': choose one of {', '.join(PREDICTIONS)}")
        if scale_factor is not None and not scale_factor > 0:
            raise InputError(f"scale_factor = {scale_factor} must be positive")
        self.network = _build("DiffusionModelUNet", network)
        self.schedule = MonaiSchedule() if schedule is None else schedule
        self.prediction_type = prediction_type
        self.autoencoder = None if autoencoder is None else _build("AutoencoderKL", autoencoder)
        self._untrained = isinstance(autoencoder, Mapping)
        self.scale_factor = 1.0 if scale_factor is None else scale_factor
        self._told_scale = scale_factor is not None
        self.eval()

    @property
    def denoiser(self) -> NetworkDenoiser:
        """The network, its output read as ``prediction_type`` says."""
        return NetworkDenoiser(MonaiNetwork(self.network, self.schedule), PREDICTIONS[self.prediction_type]())

    def load_monai_weights(self, network: str | Path, autoencoder: str | Path | None = None) -> Self:
        """Read trained weights from .safetensors, or from what torch.save wrote (nothing but tensors is unpickled).

        A state dict may lie bare or under one of WRAPPERS, and its names may carry the prefix of a wrapper ("module.").

        Raises:
            InputError: a file is missing, cannot be read, or does not fit the network.
        """
        if autoencoder is None and self._untrained:
            raise InputError("the autoencoder has no weights yet: give load_monai_weights its file too")
        found = _read(Path(network))
        _fill(self.network, found, Path(network))
        if not self._told_scale:
            self.scale_factor = float(found.get("scale_factor", 1.0))
        if autoencoder is not None:
            if self.autoencoder is None:
                raise InputError(f"{autoencoder} has no network to go to: give MonaiDiffusion an autoencoder")
            _fill(self.autoencoder, _read(Path(autoencoder)), Path(autoencoder))
            self._untrained = False
        return self

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Images [B, C, ...] -> the clean state: c times the mean of the latent, or the images themselves."""
        return images if self.autoencoder is None else self.autoencoder.encode(images)[0] * self.scale_factor

    @torch.no_grad()
    def decode(self, x: Tensor) -> Tensor:
        """A clean state -> images [B, C, ...] in the units the model was trained on."""
        return x if self.autoencoder is None else self.autoencoder.decode_stage_2_outputs(x / self.scale_factor)

    @torch.no_grad()
    def sample(
        self,
        count: int,
        shape: Sequence[int],
        steps: int = 50,
        sampler: str = "dpm++2m",
        seed: int = 0,
        spacing: str = "time",
        condition: Mapping[str, Tensor] | None = None,
        batch_size: int = 4,
    ) -> Tensor:
        """Images [count, C, ...] on the processor. Image i depends on (seed, i) alone, not on its batch.

        Args:
            count: how many.
            shape: (channels, sizes...) of one state; of the latent, where there is an autoencoder.
            steps: timesteps that are visited, as in MONAI's set_timesteps; x_hat is read off the last. The network sees
                no level that it was not trained on.
            sampler: "ancestral", "ddim", "heun" or "dpm++2m".
            seed: of the random streams.
            spacing: of the timesteps, "time" as MONAI's, or "gamma", which is better for few steps.
            condition: keywords of the network, ``context`` or ``class_labels``, or ``concat`` to join to the channels;
                each has one row for every image.
            batch_size: images at a time.

        Raises:
            InputError: count, shape, steps, spacing or a row of the condition does not fit.
            ValueError: an unknown sampler.
        """
        self._check(count, shape, condition)
        stepper, gammas, denoiser = stepper_named(sampler), self.schedule.grid(steps, spacing), self.denoiser
        weight = next(self.parameters())
        images = []
        for index in torch.arange(count).split(batch_size):
            rows = {name: value[index.to(value.device)].to(weight.device) for name, value in (condition or {}).items()}
            like = torch.empty(len(index), *shape, device=weight.device, dtype=weight.dtype)
            space, streams = Dense(like), Streams(seed, index)
            z = sample(denoiser, stepper, gammas, space, space.noise(like, streams), streams, rows)
            last = gammas[-1].to(weight.device).expand(len(index))
            images.append(self.decode(denoiser(z, last, space, rows).x).cpu())
        return torch.cat(images)

    def _check(self, count: int, shape: Sequence[int], condition: Mapping[str, Tensor] | None) -> None:
        if count < 1:
            raise InputError(f"count is how many images to generate: at least 1, not {count}")
        for name, value in (condition or {}).items():
            if len(value) != count:
                raise InputError(f"condition '{name}' has {len(value)} rows for {count} images: give one row for each")
        joined = condition["concat"].shape[1] if condition and "concat" in condition else 0
        takes = getattr(self.network, "in_channels", shape[0] + joined)
        if shape[0] + joined != takes:
            extra = f" and {joined} of concat" if joined else ""
            raise InputError(
                f"shape {tuple(shape)} has {shape[0]} channels{extra}, but the network takes {takes}: "
                "shape is (channels, sizes...) of one state"
            )


def _build(kind: str, network: Mapping[str, Any] | nn.Module) -> nn.Module:
    """The network itself, or MONAI's network ``kind`` with these arguments."""
    if isinstance(network, nn.Module):
        return network
    from monai.networks import nets

    try:
        built: nn.Module = getattr(nets, kind)(**network)
    except (TypeError, ValueError) as error:
        raise InputError(f"{kind} does not take these arguments, so copy those of the training ({error})") from error
    return built


def _read(path: Path) -> dict[str, Any]:
    """What a checkpoint holds at its top level."""
    if not path.is_file():
        raise InputError(f"{path} does not exist: check the path of the weights")
    try:
        found = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except Exception as error:  # torch, pickle, zipfile and safetensors each raise their own kinds on a foreign file
        raise InputError(
            f"{path} is not a file of bare weights: save the network's state_dict() with torch.save or as .safetensors"
        ) from error
    if not isinstance(found, Mapping):
        raise InputError(f"{path} holds a {type(found).__name__}, no weights: save the network's state_dict()")
    return dict(found)


def _fill(network: nn.Module, found: Mapping[str, Any], path: Path) -> None:
    """Put the weights of a checkpoint into the network, every one of them."""
    while key := next((key for key in WRAPPERS if isinstance(found.get(key), Mapping)), None):
        found = found[key]
    children = {name for name, _ in network.named_children()}
    while _wrapper(found) not in children | {""}:
        found = {name.partition(".")[2]: value for name, value in found.items()}
    own = network.state_dict()
    missing = [name for name in own if name not in found]
    unexpected = [name for name in found if name not in own]
    shared = [name for name in own if name in found]
    shapes = [name for name in shared if getattr(found[name], "shape", None) != own[name].shape]
    faults = [
        f"{len(names)} {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        for what, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
        if names
    ]
    if faults:
        raise InputError(
            f"{path} does not fit the {type(network).__name__}, weights {'; '.join(faults)}: give the arguments it was "
            "trained with, or convert weights of MONAI Generative with the network's load_old_state_dict"
        )
    network.load_state_dict(dict(found))


def _wrapper(found: Mapping[str, Any]) -> str:
    """The module that all names lie in, such as the "module" of a network trained by DistributedDataParallel, or ""."""
    first = {name.partition(".")[0] if "." in name else "" for name in found}
    return first.pop() if len(first) == 1 else ""
