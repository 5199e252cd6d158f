"""Molecules as a likelihood reads them, and their nats atom by atom."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from medmol_diffusion.core import Streams
from medmol_diffusion.errors import InputError
from medmol_diffusion.molecules.atom_map import of_atoms
from medmol_diffusion.molecules.batch import MoleculeBatch
from medmol_diffusion.molecules.generation import batches_of_size, sizes_of
from medmol_diffusion.molecules.molecule import Molecule
from medmol_diffusion.training.model import Observed

if TYPE_CHECKING:
    from medmol_diffusion.molecules.model import MoleculeDiffusion

Molecules = MoleculeBatch | Molecule | Sequence[Molecule]
"""What has a likelihood."""


def observed(model: "MoleculeDiffusion", molecules: Molecules, seed: int) -> Observed:
    """MoleculeDiffusion.observed."""
    batch = _batch(model, molecules)
    place = int(batch.num_atoms.argmax())
    largest = int(batch.num_atoms[place])
    if largest > model.size.max_atoms:
        raise InputError(
            f"record {int(batch.index[place]) + 1}: a molecule of {largest} atoms has no likelihood in a model of "
            f"up to {model.size.max_atoms}: leave the larger ones out, or train with a larger max_atoms"
        )
    space, x, data = model.layout.encode(batch)
    size = -model.size.log_prob(batch.num_atoms)
    terms = {"log_volume": torch.zeros_like(size), "size": size}
    return Observed(space, x, model.layout.observation(), data, Streams(seed, batch.index), terms)


def observed_with_condition(model: "MoleculeDiffusion", molecules: Molecules, seed: int) -> Observed:
    """MoleculeDiffusion.observed_with_condition."""
    conditioning, batch = model.known_conditioning(), _batch(model, molecules)
    seen = observed(model, batch, seed)
    terms = seen.terms | ({"size": torch.zeros_like(seen.terms["size"])} if conditioning.elements else {})
    return replace(seen, condition=conditioning.encode(conditioning.of(batch)), terms=terms)


def atom_scores(
    model: "MoleculeDiffusion", molecules: Molecules, transitions: int, draws: int | None, seed: int, pair_budget: int
) -> list[np.ndarray]:
    """MoleculeDiffusion.atom_scores."""

    def scores(batch: MoleculeBatch) -> list[np.ndarray]:
        bound = model.elbo(batch, transitions, draws, seed)
        assert bound.map is not None
        return of_atoms(model.layout.space(batch.mask).split(bound.map), batch.mask)

    if isinstance(molecules, MoleculeBatch):
        return scores(molecules)
    molecules = _listed(molecules)
    sizes, found = sizes_of(molecules), [np.zeros(0)] * len(molecules)
    for rows in batches_of_size(sizes, pair_budget):
        batch = MoleculeBatch.collate([molecules[row] for row in rows.tolist()], rows.tolist()).to(model.device)
        for row, nats in zip(rows.tolist(), scores(batch), strict=True):
            found[row] = nats
    return found


def _batch(model: "MoleculeDiffusion", molecules: Molecules) -> MoleculeBatch:
    if isinstance(molecules, MoleculeBatch):
        return molecules if len(molecules) else _batch(model, [])
    return MoleculeBatch.collate(_listed(molecules)).to(model.device)


def _listed(molecules: Any) -> list[Molecule]:
    """One molecule or several as a list; raises InputError for none, and for anything else."""
    found = list(molecules) if isinstance(molecules, Iterable) else [molecules]
    if not found:
        raise InputError("no molecules are given: at least one is needed for a likelihood")
    if strange := next((one for one in found if not isinstance(one, Molecule)), None):
        raise InputError(f"a {type(strange).__name__} has no likelihood: give Molecules, or a MoleculeBatch")
    return found
