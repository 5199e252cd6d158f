"""How far a prediction is from a molecule."""

from collections.abc import Mapping

import torch
from torch import Tensor

from medmol_diffusion.core import Masked, Prediction, Product, Weighting
from medmol_diffusion.core.objective import weighted_error
from medmol_diffusion.molecules.features import Layout


def state_error(
    layout: Layout,
    weights: Mapping[str, float],
    prediction: Prediction,
    x: Tensor,
    eps: Tensor,
    weighting: Weighting,
    gamma_derivative: Tensor | None = None,
) -> Tensor:
    """[B] weighted squared error of the positions per degree of freedom, plus KL(p || softmax(logits)) of every
    category, times its own weight, summed over its rows and divided by the number of atoms.

    p is a category's block of x: the one-hot of the data, which makes the divergence a cross-entropy, or the
    distribution that a teacher holds. Nuclear charges are the means of the same logits and need no term of their own.

    Args:
        layout: of the state.
        weights: factor of every category, by its name.
        prediction: of x [B, D], from the state with the noise eps.
        x: [B, D] clean states.
        eps: [B, D] their noise.
        weighting: of the positions' squared error.
        gamma_derivative: as for core.objective.weighted_error.
    """
    space = prediction.space
    assert isinstance(space, Product)
    squared_error = weighted_error(prediction, x, eps, weighting, gamma_derivative)
    positions = space.blocks["positions"]
    assert isinstance(positions, Masked)
    error = positions.sum(space.split(squared_error)["positions"]) / positions.dim().to(x)
    error = error + weighting.offset(prediction.gamma).to(x)
    clean, output = space.split(x), space.split(prediction.output)
    num_atoms = positions.mask.sum(1).to(x)
    for name, (_, scale) in layout.categories.items():
        p, log_q = scale * clean[name], torch.log_softmax(output[name], -1)
        divergence = space.blocks[name].sum(torch.xlogy(p, p) - p * log_q) / num_atoms
        error = error + weights[name] * divergence
    return error
