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


def validation_metrics(bound: Elbo) -> dict[str, float]:
    """The means of a bound over the validation set, under their logged names."""
    return {f"val/{name}": mean for name, (mean, _) in bound.summary().items()}
