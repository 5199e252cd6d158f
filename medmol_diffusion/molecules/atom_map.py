"""The nats of every atom: what a model finds unlikely, and where."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from medmol_diffusion.errors import InputError
from medmol_diffusion.molecules.batch import MoleculeBatch
from medmol_diffusion.molecules.features import unpack
from medmol_diffusion.molecules.formats.sdf import write_sdf
from medmol_diffusion.molecules.molecule import Molecule

if TYPE_CHECKING:
    from medmol_diffusion.molecules.model import MoleculeDiffusion

FIELD = "atom_nats"
"""The SDF field: one number for every atom, in the order of the record, separated by blanks."""


def of_atoms(parts: dict[str, Tensor], mask: Tensor) -> list[np.ndarray]:
    """(N,) nats of every molecule's atoms: a map by block (Layout.space, Elbo.map), summed over an atom's own numbers,
    with half of every pair it takes part in.

    Args:
        parts: [B, N, ...] of the atoms' blocks, [B, N (N - 1) / 2, orders] of the bonds.
        mask: [B, N] the real atoms.
    """
    score = torch.stack([part.sum(-1) for name, part in parts.items() if name != "bonds"]).sum(0)
    if "bonds" in parts:
        pairs = unpack(parts["bonds"].sum(-1, keepdim=True), mask.shape[1])
        score = score + 0.5 * pairs[..., 0].sum(-1)
    return [row[real].cpu().double().numpy() for row, real in zip(score, mask, strict=True)]


def write_atom_map(
    model: "MoleculeDiffusion",
    batches: Iterable[MoleculeBatch],
    path: str | Path,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Write the molecules of the batches to one SDF with model.atom_scores in the field atom_nats.

    A record's name is the molecule's place in its source, from 0.

    Args:
        model: scores them.
        batches: of molecules.
        path: ends in .sdf.
        seed: with every molecule's place, fixes its noise.
        progress: called with the number of molecules done, after every batch.

    Raises:
        InputError: another ending, or what ``elbo`` raises.
    """
    if Path(path).suffix != ".sdf":
        raise InputError(f"{path}: a map of atoms is written to a file that ends in .sdf")

    def scored() -> Iterator[Molecule]:
        done = 0
        for batch in batches:
            found = model.atom_scores(batch.to(model.device), seed=seed)
            for molecule, scores, place in zip(batch.unbatch(), found, batch.index.tolist(), strict=True):
                nats = " ".join(f"{score:.4f}" for score in scores)
                yield replace(molecule, name=str(place), properties={**molecule.properties, FIELD: nats})
            done += len(batch)
            if progress is not None:
                progress(done)

    write_sdf(scored(), path)
