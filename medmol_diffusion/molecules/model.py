"""MoleculeDiffusion: the layout, the network, the size distribution and the core, composed."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, Unpack

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from medmol_diffusion.core import (
    WEIGHTINGS,
    Denoiser,
    Given,
    Logits,
    NetworkDenoiser,
    NormalGamma,
    PerBlock,
    Polynomial,
    Preconditioned,
    Prediction,
    Product,
    Schedule,
    UniformTime,
    Weighting,
    X,
)
from medmol_diffusion.core.noise import Randomness
from medmol_diffusion.core.objective import draw, schedule_loss
from medmol_diffusion.errors import InputError
from medmol_diffusion.molecules import likelihood
from medmol_diffusion.molecules.batch import MoleculeBatch
from medmol_diffusion.molecules.chemistry import SYMBOLS
from medmol_diffusion.molecules.condition import Conditioning
from medmol_diffusion.molecules.features import Layout
from medmol_diffusion.molecules.fragment import Fixed
from medmol_diffusion.molecules.generation import Generator, MoleculeOptions
from medmol_diffusion.molecules.likelihood import Molecules
from medmol_diffusion.molecules.molecule import Molecule
from medmol_diffusion.molecules.networks.egnn import EGNN
from medmol_diffusion.molecules.networks.network import MoleculeNetwork
from medmol_diffusion.molecules.objective import state_error
from medmol_diffusion.molecules.parts import Parts
from medmol_diffusion.molecules.size import SizeDistribution
from medmol_diffusion.molecules.state import StateNetwork
from medmol_diffusion.training.model import DiffusionModel, Observed
from medmol_diffusion.training.recipe import Recipe
from medmol_diffusion.training.sampling import Part, Wanted, everything, in_order

if TYPE_CHECKING:
    from medmol_diffusion.molecules.data import MoleculeData


class MoleculeDiffusion(DiffusionModel):
    """Equivariant diffusion of molecules: positions (zero centre of mass), elements and nuclear charges, and bonds and
    formal charges where the state has them.

    Args:
        elements: atomic numbers of the vocabulary.
        network: an E(3)-equivariant network with the signature of EGNN; an EGNN of its default size when left out.
        schedule: gamma(t) of the bound and of sampling; polynomial_2 of EDM when left out.
        max_atoms: the largest molecule the size distribution can hold.
        weighting: of the positions' squared error, a name in core.WEIGHTINGS.
        gamma_mean, gamma_std: training noise levels gamma ~ N(mean, std^2), cut to the schedule; uniform in t when
            None.
        element_weight: factor on the cross-entropies of the elements and the formal charges, per atom.
        bond_orders: where the model makes bonds too, their orders: 0 for none, 1, 2, 3, and 4 for aromatic ones.
        formal_charges: where it makes charges too, their values.
        bond_weight: factor on the cross-entropy of the bonds, a molecule's sum divided by its number of atoms.
        properties: what the model can be asked for (Conditioning), columns of the data: data.properties names them too.
        composition: whether it can be asked for the number of atoms of every element.
        condition_dropout: the probability of leaving out a question in training.
        given: whether some of the training molecules come with a part that is given (parts.Parts.drawn): ``inpaint``
            and ``formula`` then sample p(rest | given), and need no rounds of RePaint.
        given_share: how many of them, in (0, 1].
        sampling: how the model is sampled where nothing is said (training.recipe.Recipe): steps (100 when left out),
            sampler ("ancestral"), spacing, eta, noise_scale.
    """

    default_transitions = 1000
    data_std: Tensor

    def __init__(
        self,
        elements: list[int],
        network: MoleculeNetwork | None = None,
        schedule: Schedule | None = None,
        max_atoms: int = 64,
        weighting: str = "native",
        gamma_mean: float | None = None,
        gamma_std: float = 2.4,
        element_weight: float = 1.0,
        bond_orders: list[int] | None = None,
        formal_charges: list[int] | None = None,
        bond_weight: float = 1.0,
        properties: list[str] | None = None,
        composition: bool = False,
        condition_dropout: float = 0.15,
        given: bool = False,
        given_share: float = 0.5,
        sampling: dict[str, int | float | str | None] | None = None,
    ) -> None:
        super().__init__()
        if weighting not in WEIGHTINGS:
            raise ValueError(f"unknown weighting '{weighting}': choose one of {', '.join(WEIGHTINGS)}")
        if not elements or len({*elements} & {*range(1, len(SYMBOLS))}) < len(elements):
            raise ValueError(f"elements = {elements} must be different atomic numbers, 1 to {len(SYMBOLS) - 1}")
        if max_atoms < 1:
            raise ValueError(f"max_atoms = {max_atoms} must be at least 1")
        if not 0 < given_share <= 1:
            raise ValueError(f"given_share = {given_share} must lie in (0, 1]; given: false gives no parts at all")
        self.layout = Layout(tuple(elements), tuple(bond_orders or ()), tuple(formal_charges or ()))
        self.unit = self.layout.unit
        self.conditioning: Conditioning | None = None
        if properties or composition:
            self.conditioning = Conditioning(properties or (), elements if composition else (), condition_dropout)
        told = 0 if self.conditioning is None else self.conditioning.size
        if network is None:
            k, pairs = self.layout.atoms_size, len(self.layout.bond_orders)
            network = EGNN(k + given, k, pairs_in=pairs, pairs_out=pairs, condition_size=told)
        if network.condition_size != told:
            raise ValueError(
                f"network.condition_size = {network.condition_size}, but the condition has {told} numbers: two for "
                "every property, and with composition one for every element and one more"
            )
        self.network, self.given_share = StateNetwork(self.layout, network, given), given_share
        self.schedule = Polynomial() if schedule is None else schedule
        self.size = SizeDistribution(max_atoms)
        self.recipe = Recipe.of(sampling, steps=100, sampler="ancestral")
        self.weighting = WEIGHTINGS[weighting]()
        self.element_weight, self.bond_weight = element_weight, bond_weight
        self.levels = (
            UniformTime(self.schedule) if gamma_mean is None else NormalGamma(self.schedule, gamma_mean, gamma_std)
        )
        self.register_buffer("data_std", torch.ones(()))

    @property
    def denoiser(self) -> NetworkDenoiser:
        """The network, read block by block: F for positions, logits for elements, their mean charge for charges."""
        return NetworkDenoiser(
            self.network,
            PerBlock(
                {"positions": Preconditioned(self.data_std, scale=False), "charges": X()}
                | {name: Logits(1 / scale) for name, (_, scale) in self.layout.categories.items()}
            ),
        )

    @property
    def vocabulary(self) -> dict[str, Any]:
        return {
            "elements": list(self.layout.elements),
            "bond_orders": list(self.layout.bond_orders),
            "formal_charges": list(self.layout.formal_charges),
            "questions": list(self.questions),
        }

    @property
    def questions(self) -> tuple[str, ...]:
        return () if self.conditioning is None else self.conditioning.questions

    def open_data(self, path: str, skip: bool = False) -> "MoleculeData":
        """All molecules of a file. One with an element that the model does not know, or of more than max_atoms, is an
        error, or with ``skip`` counted and left out. Where the model makes bonds, with those of the file or else of
        rule 1 (MoleculeSource, bonds: either)."""
        from medmol_diffusion.molecules.data import every_molecule

        return every_molecule(path, self.layout, self.size.max_atoms, [], skip)

    def open_conditional_data(self, path: str, skip: bool = False) -> "MoleculeData":
        from medmol_diffusion.molecules.data import every_molecule

        properties = list(self.known_conditioning().properties)
        return every_molecule(path, self.layout, self.size.max_atoms, properties, skip)

    def known_conditioning(self) -> Conditioning:
        """Raises InputError where the model takes no condition."""
        if self.conditioning is None:
            raise InputError(
                "the model takes no condition: train one with model.properties or model.composition; formula and sizes "
                "are for any model"
            )
        return self.conditioning

    def encode(self, batch: MoleculeBatch) -> tuple[Product, Tensor]:
        """(space, clean state x [B, D])."""
        return self.layout.encode(batch)[:2]

    def prepare(self, data: Any) -> None:
        """Measure p(N), the positions' standard deviation, and mean and standard deviation of what the model is asked
        for, on the training molecules of a MoleculeData."""
        self.size.fit(data.size_counts())
        if self.conditioning is not None:
            self.conditioning.fit(data.train)
        self.data_std.fill_(data.train.position_std())

    def training_example(self, batch: MoleculeBatch, generator: Randomness) -> tuple[Product, Tensor, Tensor | None]:
        """The condition is [B, C] the molecules' own values as the network reads them, questions left out at random."""
        space, x = self.encode(batch)
        if self.conditioning is None:
            return space, x, None
        return space, x, self.conditioning.encode(self.conditioning.leave_out(self.conditioning.of(batch), generator))

    def loss(self, batch: MoleculeBatch, generator: Randomness) -> Tensor:
        """[B] weighted squared error of the positions per degree of freedom, plus the cross-entropy of an element."""
        space, x, condition = self.training_example(batch, generator)
        denoiser: Denoiser = self.denoiser
        if self.network.given:
            space, x, denoiser = self.completing(denoiser, space, x, Parts.drawn(batch, generator, self.given_share))
        prediction, eps, gamma_derivative = draw(denoiser, self.levels, space, x, generator, condition)
        error = self.error(prediction, x, eps, self.weighting, gamma_derivative)
        return error + schedule_loss(self.levels, prediction, x, eps, gamma_derivative, generator)

    def fitted_to(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """A model that is not told what is given begins as one that does not listen."""
        key = "network.network.embed.weight"
        own, theirs = self.state_dict().get(key), weights.get(key)
        if own is None or theirs is None or own.shape[1] != theirs.shape[1] + self.network.given:
            return weights
        return weights | {key: F.pad(theirs, (0, own.shape[1] - theirs.shape[1]))}

    def completing(
        self, denoiser: Denoiser, space: Product, x: Tensor, parts: Parts
    ) -> tuple[Product, Tensor, Denoiser]:
        """(space, clean state, denoiser) of what is left of x when parts of it are given (core.Given)."""
        rest = parts.rest(space)
        left = rest.project(x)
        return rest, left, Given(denoiser, x - left)

    def error(
        self,
        prediction: Prediction,
        x: Tensor,
        eps: Tensor,
        weighting: Weighting,
        gamma_derivative: Tensor | None = None,
    ) -> Tensor:
        """objective.state_error."""
        weights = {"elements": self.element_weight, "formal_charges": self.element_weight, "bonds": self.bond_weight}
        return state_error(self.layout, weights, prediction, x, eps, weighting, gamma_derivative)

    def observed(self, batch: Molecules, seed: int = 0) -> Observed:
        """What -log p(molecule) reads, of a batch, molecules or one molecule, and its own term size = -log p(N).

        Positions count 3 (N - 1) degrees of freedom. With T = 1000 the bound is the recipe of EDM (Hoogeboom et al.
        2022).

        Raises:
            InputError: no molecules or something else, an element that is not in the model's vocabulary, or a molecule
                larger than max_atoms.
        """
        return likelihood.observed(self, batch, seed)

    def observed_with_condition(self, batch: Molecules, seed: int = 0) -> Observed:
        """What -log p(molecule | its own properties and composition) reads; a value that is missing is not told.

        p(N) stands in for p(N | properties). A composition says N, and the size term is zero.
        """
        return likelihood.observed_with_condition(self, batch, seed)

    @torch.no_grad()
    def atom_scores(
        self,
        molecules: Molecules,
        transitions: int = 0,
        draws: int | None = 64,
        seed: int = 0,
        pair_budget: int = 32_000,
    ) -> list[np.ndarray]:
        """(N,) nats of every atom of every molecule: the diffusion term of the bound, split over the atoms.

        An atom has its positions, its element, its charges, and half of every bond it takes part in. The scores of a
        molecule add up to its diffusion term at the same transitions, draws and seed.

        Args:
            molecules: in one list, or a batch, or one molecule.
            transitions, draws, seed: as for ``elbo``; the times differ by molecule, so few draws make a rough map.
            pair_budget: the largest sum of N^2 in one batch.

        Raises:
            InputError: what ``elbo`` raises.
        """
        return likelihood.atom_scores(self, molecules, transitions, draws, seed, pair_budget)

    def sample(
        self,
        count: int,
        sizes: int | Sequence[int] | Tensor | None = None,
        formula: str | Sequence[str] | None = None,
        resamples: int | None = None,
        jump: int = 10,
        **how: Unpack[MoleculeOptions],
    ) -> list[Molecule]:
        """Generate molecules. Molecule i depends on (seed, i) and its size alone, not on the batch it ran in.

        Args:
            count: how many.
            sizes: their number of atoms, or one for each; drawn from p(N) when left out.
            formula: a formula that is kept exactly, by any model: the elements are given, the rest is generated.
                A model of compositions is asked for it besides.
            resamples, jump: as for ``inpaint``.
            how: steps, sampler, seed (0), properties, guidance and the other MoleculeOptions; what is left out is as
                the model's own recipe has it.

        Raises:
            InputError: count is below 1, not a size of 2 to max_atoms for each, an unknown sampler or spacing, a
                spacing that the schedule does not have, or something the model cannot be asked for.
        """
        return list(self.stream(count, sizes, formula, resamples, jump, **how))

    def stream(
        self,
        count: int,
        sizes: int | Sequence[int] | Tensor | None = None,
        formula: str | Sequence[str] | None = None,
        resamples: int | None = None,
        jump: int = 10,
        **how: Unpack[MoleculeOptions],
    ) -> Iterator[Molecule]:
        """The molecules of ``sample``, which see, one after the other: however many, no more than a block is held."""
        return in_order(self.parts(count, sizes, formula, resamples, jump, **how))

    def parts(
        self,
        count: int,
        sizes: int | Sequence[int] | Tensor | None = None,
        formula: str | Sequence[str] | None = None,
        resamples: int | None = None,
        jump: int = 10,
        wanted: Wanted = everything,
        **how: Unpack[MoleculeOptions],
    ) -> Iterator[Part[Molecule]]:
        """The molecules of ``sample``, which see, in the parts they are made in, those of a block by size; ``wanted``
        shares the parts out, or leaves out those that are there already."""
        return Generator(self, **(self.recipe.options() | how)).parts(count, sizes, formula, resamples, jump, wanted)

    @torch.no_grad()
    def vary(self, molecules: list[Molecule], strength: float = 0.5, **how: Unpack[MoleculeOptions]) -> list[Molecule]:
        """Molecules like the given ones: each noised to t = strength and sampled from there (core.edit).

        Numbers of atoms, names and centres are kept; elements and bonds are not. A model of bonds starts from the
        molecules' own, or, where they have none, from those of rule 1.

        Args:
            molecules: where to start from.
            strength: t in (0, 1]; near 0 little changes, at 1 all but nothing is kept.
            how: steps of the sampler from there, and the other MoleculeOptions.

        Raises:
            InputError: no molecules, one of a single atom or with an element the model does not know, a strength
                outside (0, 1], or an unknown sampler or spacing.
        """
        return Generator(self, **(self.recipe.options() | how)).vary(molecules, strength)

    @torch.no_grad()
    def inpaint(
        self,
        molecules: list[Molecule],
        fixed: Sequence[Fixed],
        sizes: Sequence[int] | Literal["drawn"] | None = None,
        resamples: int | None = None,
        jump: int = 10,
        **how: Unpack[MoleculeOptions],
    ) -> list[Molecule]:
        """Generate molecules round fixed atoms: by a model that was trained to (``given``) from p(rest | fixed), by any
        other with RePaint (core.inpaint), which small molecules and strong constraints defeat.

        A molecule's fixed atoms come first, in their order, with their elements and their positions as given; then the
        generated ones. Where the fixed atoms are all, a larger size makes this the decoration of a scaffold, and, where
        they are several fragments (fragment.joined), the design of a linker. Of a single fixed atom the element is
        known, its place fixes the frame alone.

        The bonds between fixed atoms and their formal charges come out as given. The other bonds are the model's; those
        of a model without bonds are left to the distances.

        Args:
            molecules: that hold the fixed atoms.
            fixed: for each molecule, the indices of its fixed atoms from 0, or one bool for each of its atoms.
            sizes: numbers of atoms of the results; those of the given molecules when left out; "drawn" from p(N | N >
                fixed).
            resamples: rounds of RePaint, whatever the model was trained for: how often every stretch of ``jump`` steps
                is run, 1 is plain replacement. Left out, 5 with a model that was not trained with ``given``, else none.
                The network is called steps * resamples times.
            jump: steps of a stretch.
            how: MoleculeOptions.

        Raises:
            InputError: no molecules, not one ``fixed`` (and size) for each, a mask of the wrong size, no atom fixed or
                none free, an element the model does not know, or an unknown sampler or spacing.
        """
        return Generator(self, **(self.recipe.options() | how)).inpaint(molecules, fixed, sizes, resamples, jump)
