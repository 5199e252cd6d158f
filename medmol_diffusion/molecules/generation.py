"""Molecules made by a model: drawn anew, varied, or grown round fixed atoms, in batches of one size."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from medmol_diffusion.core import ClassifierFree, Denoiser, Product, Streams
from medmol_diffusion.errors import InputError
from medmol_diffusion.molecules.batch import MoleculeBatch
from medmol_diffusion.molecules.condition import Asked
from medmol_diffusion.molecules.formula import atoms_of, counts_of
from medmol_diffusion.molecules.fragment import Fixed, Fragment
from medmol_diffusion.molecules.hydrogens import missing_hydrogens
from medmol_diffusion.molecules.molecule import Molecule
from medmol_diffusion.molecules.parts import Parts
from medmol_diffusion.molecules.perceive import perceived
from medmol_diffusion.training.sampling import Part, Sampling, SamplingOptions, Wanted, batches, everything, in_order
from medmol_diffusion.training.solver import Solver

if TYPE_CHECKING:
    from medmol_diffusion.molecules.model import MoleculeDiffusion

Solve = Callable[[Tensor, Tensor, Streams, Tensor | None], tuple[Product, Tensor]]
"""(places of the batch, its mask [B, N], its streams, its condition [B, C]) -> (space, x_hat [B, D])."""
Block = tuple[Tensor, Tensor, Streams]
"""Places of molecules, their sizes and their streams: batches of one size are made up within a block."""
REPAINT = 5
"""Rounds of RePaint with a model that was not trained to complete what is given."""
Formulas = str | Sequence[str] | None
"""One formula for all molecules, or one for each."""


class MoleculeOptions(SamplingOptions, total=False):
    """Keyword arguments of the generating methods of MoleculeDiffusion: SamplingOptions, which the model's own recipe
    has defaults for, and these.

    Keys:
        pair_budget: the largest sum of N^2 in one batch (32 000).
        block: how many molecules are shared out into batches of one size at a time (1024): no more are held.
        properties: values asked for by name, {"qed": 0.8}, one for all molecules or a list of one for each.
        composition: a formula asked for, "C7H10O2", or one for each: fixes N and steers the elements.
    """

    pair_budget: int
    block: int
    properties: Asked | None
    composition: Formulas


@dataclass(frozen=True)
class Generator(Sampling):
    """A model and how it is to be run: what the generating methods of MoleculeDiffusion share.

    Molecule i depends on (seed, i) and what is asked of it, not on the batch it runs in. The fields are
    MoleculeOptions, the arguments of the methods those of the same names of MoleculeDiffusion.
    """

    model: "MoleculeDiffusion"
    _: KW_ONLY
    pair_budget: int = 32_000
    block: int = 1024
    properties: Asked | None = None
    composition: Formulas = None

    def parts(
        self,
        count: int,
        sizes: int | Sequence[int] | Tensor | None,
        formula: Formulas,
        resamples: int | None,
        jump: int,
        wanted: Wanted = everything,
    ) -> Iterator[Part[Molecule]]:
        """Molecules from noise, in parts of one size; with a formula their elements are given. What cannot be asked is
        told at once, before the first is made."""
        if count < 1:
            raise InputError(f"count is how many molecules to generate: at least 1, not {count}")
        if isinstance(sizes, int):
            sizes = torch.full((count,), sizes)
        if sizes is not None and (len(sizes) != count or min(sizes) < 2):
            raise InputError(f"sizes has {len(sizes)} entries for {count} molecules: give one of 2 or more for each")
        model, elements = self.model, self.model.layout.elements
        kept, asked_for = _each(formula, count, "formula"), _each(self.composition, count, "composition")
        if asked_for is None and model.conditioning is not None and model.conditioning.elements:
            asked_for = kept
        given = kept or asked_for
        atoms = {text: atoms_of(text, elements) for text in set(given or ())}
        if given:
            own = torch.tensor([len(atoms[text]) for text in given])
            if sizes is not None and (torch.as_tensor(sizes) != own).any():
                raise InputError("a formula says the number of atoms: leave sizes out, or give the same ones")
            sizes = own
        known = None if sizes is None else self._checked(torch.as_tensor(sizes))
        condition, solver = self._condition(count, asked_for), self._solver()

        def from_noise(places: Tensor, mask: Tensor, streams: Streams, asked: Tensor | None) -> tuple[Product, Tensor]:
            space = model.layout.space(mask)
            return space, solver.sample(space, torch.zeros(space.shape, device=model.device), streams, asked)

        def elements_kept(
            places: Tensor, mask: Tensor, streams: Streams, asked: Tensor | None
        ) -> tuple[Product, Tensor]:
            numbers = [atoms[kept[place]] for place in places.tolist()] if kept else []
            space, x = self._states([Molecule(one, np.zeros((len(one), 3))) for one in numbers])
            parts = Parts(torch.zeros_like(mask), mask)
            return space, self._complete(solver, space, x, parts, streams, resamples, jump, asked)

        return self._parts(self._blocks(count, known), condition, from_noise if kept is None else elements_kept, wanted)

    def _blocks(self, count: int, sizes: Tensor | None) -> Iterator[Block]:
        """A block after the other; where no sizes are given, every molecule draws its own."""
        for places in batches(count, self.block):
            streams = self._streams(places)
            drawn = self.model.size.sample(streams.uniform())
            yield places, drawn if sizes is None else sizes[places], streams

    def vary(self, molecules: list[Molecule], strength: float) -> list[Molecule]:
        """Molecules noised to t = strength and sampled from there, each about its own centre."""
        sizes, count = self._checked(sizes_of(molecules)), len(molecules)
        condition = self._condition(count, _each(self.composition, count, "composition"))
        solver = self._solver(strength)
        centres = [molecule.positions.mean(0) for molecule in molecules]
        centred = [
            replace(molecule, positions=molecule.positions - centre, properties={})
            for molecule, centre in zip(molecules, centres, strict=True)
        ]

        def solve(rows: Tensor, mask: Tensor, streams: Streams, asked: Tensor | None) -> tuple[Product, Tensor]:
            space, x = self._states([centred[row] for row in rows.tolist()])
            return space, solver.vary(space, x, streams, asked)

        return [
            replace(new, positions=new.positions + centre, name=old.name)
            for new, old, centre in zip(
                self._all(sizes, self._streams(torch.arange(count)), condition, solve), molecules, centres, strict=True
            )
        ]

    def inpaint(
        self,
        molecules: list[Molecule],
        fixed: Sequence[Fixed],
        sizes: Sequence[int] | Literal["drawn"] | None,
        resamples: int | None,
        jump: int,
    ) -> list[Molecule]:
        """Molecules round fixed atoms, which come first; warns of missing hydrogens where they keep their sizes."""
        own, count = sizes_of(molecules), len(molecules)
        for name, given in (("fixed", fixed), ("sizes", own if sizes is None or sizes == "drawn" else sizes)):
            if len(given) != count:
                raise InputError(f"{name} has {len(given)} entries for {count} molecules: give one for each")
        condition = self._condition(count, _each(self.composition, count, "composition"))
        solver, streams, model = self._solver(), self._streams(torch.arange(count)), self.model
        # elsewhere new atoms may be the hydrogens that a scaffold lacks
        if sizes is None and 1 in model.layout.elements and (said := missing_hydrogens(molecules)):
            warnings.warn(f"{said}.", stacklevel=2)
        fragments = [Fragment.of(molecule, marked) for molecule, marked in zip(molecules, fixed, strict=True)]
        held = torch.tensor([len(fragment) for fragment in fragments])
        if sizes == "drawn":
            wanted = model.size.sample(streams.uniform(), held)
        else:
            wanted = own if sizes is None else torch.as_tensor(sizes)
        filler = model.layout.elements[0]
        templates = [
            fragment.template(size, filler)
            for fragment, size in zip(fragments, self._checked(wanted).tolist(), strict=True)
        ]

        def solve(rows: Tensor, mask: Tensor, streams: Streams, asked: Tensor | None) -> tuple[Product, Tensor]:
            space, x = self._states([templates[row] for row in rows.tolist()])
            first = (torch.arange(mask.shape[1]) < held[rows, None]).to(model.device)
            return space, self._complete(solver, space, x, Parts(first, first), streams, resamples, jump, asked)

        found = self._all(sizes_of(templates), streams, condition, solve)
        return [fragment.put_into(molecule) for fragment, molecule in zip(fragments, found, strict=True)]

    def _complete(
        self,
        solver: Solver,
        space: Product,
        x: Tensor,
        parts: Parts,
        streams: Streams,
        resamples: int | None,
        jump: int,
        asked: Tensor | None,
    ) -> Tensor:
        """x_hat [B, D] whose given parts are those of x."""
        if not self.model.network.given or resamples is not None:
            rounds = REPAINT if resamples is None else resamples
            return solver.inpaint(space, x, parts.known(space), streams, rounds, jump, asked)
        rest, left, denoiser = self.model.completing(solver.denoiser, space, x, parts)
        return replace(solver, denoiser=denoiser).sample(rest, x, streams, asked) + (x - left)

    def _streams(self, places: Tensor) -> Streams:
        return Streams(self.seed, places)

    def _solver(self, strength: float = 1.0) -> Solver:
        """From t = strength to the data, by classifier-free guidance first and then the caller's own guide."""
        model, guide = self.model, self.guide
        denoiser: Denoiser = model.denoiser
        if self.guidance != 1:
            try:
                denoiser = ClassifierFree(denoiser, self.guidance, interval=self.interval)
            except ValueError as error:
                raise InputError(str(error)) from error
        return Solver.named(denoiser, model.schedule, self.steps, self.sampler, self.spacing, guide, strength)

    def _condition(self, count: int, formulas: Sequence[str] | None) -> Tensor | None:
        """[count, C] what the network is asked; None where that is nothing."""
        if not self.properties and formulas is None:
            if self.guidance != 1:
                raise InputError(f"guidance = {self.guidance} needs something to guide to: ask for properties")
            return None
        conditioning = self.model.known_conditioning()
        counts = None if formulas is None else counts_of(formulas, self.model.layout.elements)
        return conditioning.encode(conditioning.asked(count, self.properties or {}, counts).to(self.model.device))

    def _checked(self, sizes: Tensor) -> Tensor:
        """The sizes, if the model makes molecules so large."""
        if (largest := int(sizes.max())) > (most := self.model.size.max_atoms):
            raise InputError(
                f"a molecule of {largest} atoms is asked for of a model of up to {most}: ask for fewer, or train with "
                "a larger max_atoms"
            )
        return sizes

    def _states(self, molecules: list[Molecule]) -> tuple[Product, Tensor]:
        """(space, clean state [B, D]); bonds and charges that the molecules lack are perceived."""
        layout = self.model.layout
        if layout.bond_orders or layout.formal_charges:
            molecules = [perceived(molecule, layout.bond_orders) for molecule in molecules]
        space, x, _ = layout.encode(MoleculeBatch.collate(molecules).to(self.model.device))
        return space, x

    def _all(self, sizes: Tensor, streams: Streams, condition: Tensor | None, solve: Solve) -> list[Molecule]:
        """Molecules of these sizes, as one block, in the order of ``sizes``."""
        return list(in_order(self._parts([(torch.arange(len(sizes)), sizes, streams)], condition, solve)))

    @torch.no_grad()
    def _parts(
        self, blocks: Iterable[Block], condition: Tensor | None, solve: Solve, wanted: Wanted = everything
    ) -> Iterator[Part[Molecule]]:
        """The wanted parts, a batch each; the noise of a molecule is that of (seed, place)."""
        number = done = 0
        for block, sizes, streams in blocks:
            for rows in batches_of_size(sizes, self.pair_budget):
                if wanted(number):
                    places = block[rows]
                    mask = (torch.arange(int(sizes[rows].max())) < sizes[rows, None]).to(self.model.device)
                    asked = None if condition is None else condition[places.to(condition.device)]
                    space, x_hat = solve(places, mask, streams.take(rows), asked)
                    found = self.model.layout.decode(x_hat, space, mask, places).unbatch()
                    done += len(found)
                    yield Part(number, places.tolist(), found)
                    if self.progress is not None:
                        self.progress(done)
                number += 1


def sizes_of(molecules: list[Molecule]) -> Tensor:
    """[M] int64 numbers of atoms of molecules that a state can hold.

    Raises:
        InputError: there are none, or one has a single atom.
    """
    if not molecules:
        raise InputError("no molecules are given: at least one is needed to start from")
    for molecule in molecules:
        if molecule.num_atoms < 2:
            raise InputError(f"molecule {molecule.name!r} has a single atom: two or more are needed")
    return torch.tensor([molecule.num_atoms for molecule in molecules])


def batches_of_size(sizes: Tensor, pair_budget: int) -> Iterator[Tensor]:
    """Places of molecules of one size, at most ``pair_budget`` pairs (the sum of N^2) a batch, and at least one."""
    for size in sizes.unique().tolist():
        rows = (sizes == size).nonzero()[:, 0]
        yield from rows.split(max(1, pair_budget // size**2))


def _each(formula: Formulas, count: int, name: str) -> Sequence[str] | None:
    """One formula for each molecule; None where there is none."""
    if formula is None or isinstance(formula, str):
        return None if formula is None else [formula] * count
    if len(formula) != count:
        raise InputError(f"{name} has {len(formula)} entries for {count} molecules: give one for each")
    return formula
