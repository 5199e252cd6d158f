"""Every logged quantity, its meaning and unit. The names are an interface: a test pins them."""

from medmol_diffusion.core import Elbo

TRAIN_LOSS = "train/loss"
LEARNING_RATE = "train/learning_rate"

LOGGED = {
    TRAIN_LOSS: "the model's training loss, mean over the batch; no unit",
    LEARNING_RATE: "the optimiser's learning rate",
    "val/total": "bound on -log p, mean over the validation set; nats per example",
    "val/prior": "KL(q(z_1 | x) || N(0, I)); nats per example",
    "val/diffusion": "the diffusion term of the bound; nats per example",
    "val/reconstruction": "-log p(data | z_0); nats per example",
    "val/log_volume": "log-volume of the encoding, subtracted in the total; nats per example",
    "val/size": "-log p(N) of a molecule; nats per example",
    "val/nats_per_dim": "total per degree of freedom; nats",
    "val/bits_per_dim": "total per degree of freedom; bits",
}

CRITIC_LOSS = "train/critic"
LOGGED_ADVERSARIAL = {
    CRITIC_LOSS: "loss of the discriminator or critic, mean over the batch; no unit",
    "train/adversarial": "what the generator loses to it; no unit",
    "train/reconstruction": "the autoencoder's distance of the restored scan from the scan, per counted voxel",
    "train/kl": "its KL divergence per counted voxel, times its weight; nats",
    "train/perceptual": "its distance in amplitudes of wavelet bands, times its weight",
    "train/scale": "what fits the scale of its p(v | u) where the reconstruction does not; nats per counted voxel",
    "val/kl": "KL(q(u | v) || N(0, I)) of an autoencoder; nats per example",
}
"""What runs with an adversary log besides."""
LOGGED_LATENT = {
    "val/first_stage_reconstruction": "-log p(v | u) of the first stage; nats per example",
    "val/latent_entropy": "entropy of q(u | v), subtracted in the total; nats per example",
}
"""What a diffusion of an autoencoder's latents logs besides."""


def validation_metrics(bound: Elbo) -> dict[str, float]:
    """The means of a bound over the validation set, under their logged names."""
    return {f"val/{name}": mean for name, (mean, _) in bound.summary().items()}
