"""MoleculeDiffusion: the layout, the network, the size distribution and the core, composed."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from medmol_diffusion.core import (
    WEIGHTINGS,
    Logits,
    NetworkDenoiser,
    NormalGamma,
    PerBlock,
    Polynomial,
    Preconditioned,
    Prediction,
    Product,
    Schedule,
    Space,
    Stepper,
    Streams,
    UniformTime,
    Weighting,
    X,
)
from medmol_diffusion.core.noise import Randomness
from medmol_diffusion.core.objective import draw, schedule_loss, weighted_error
from medmol_diffusion.errors import InputError
from medmol_diffusion.molecules.data import MoleculeData
from medmol_diffusion.molecules.egnn import EGNN
from medmol_diffusion.molecules.features import CHARGE_SCALE, Layout, pack, unpack
from medmol_diffusion.molecules.fragment import Fixed, Fragment
from medmol_diffusion.molecules.molecule import Molecule, MoleculeBatch
from medmol_diffusion.molecules.network import MoleculeNetwork
from medmol_diffusion.molecules.size import SizeDistribution
from medmol_diffusion.training.model import DiffusionModel, Observed
from medmol_diffusion.training.solver import Guide, Solver


class StateNetwork(nn.Module):
    """An equivariant network between the blocks of the state.

    The network sees positions, the posterior of every category given its own noisy blocks alone, and gamma; what it
    says of a category is added to the log-evidence of that posterior, so that it learns only what the rest of the
    molecule says.
    """

    def __init__(self, layout: Layout, network: MoleculeNetwork) -> None:
        super().__init__()
        self.layout, self.network = layout, network
        sizes = {"atoms_in": layout.atoms_size, "atoms_out": layout.atoms_size}
        sizes |= {"pairs_in": len(layout.bond_orders), "pairs_out": len(layout.bond_orders)}
        for name, size in sizes.items():
            if getattr(network, name) != size:
                raise ValueError(
                    f"network.{name} = {getattr(network, name)}, but the state has {size}: atoms count elements and "
                    "formal_charges, pairs bond_orders"
                )

    def forward(self, z: Tensor, gamma: Tensor, space: Space, condition: Tensor | None = None) -> Tensor:
        assert isinstance(space, Product)
        parts = space.split(z)
        mask = space.blocks["positions"].mask  # type: ignore[attr-defined]
        size = mask.shape[1]
        logits = self.layout.evidence(parts, gamma)
        seen = {name: torch.softmax(value, -1) for name, value in logits.items()}
        of_atoms = [name for name in seen if name != "bonds"]
        said = self.network(
            parts["positions"],
            torch.cat([seen[name] for name in of_atoms], -1),
            mask,
            gamma.to(z),
            unpack(seen["bonds"], size) if "bonds" in seen else None,
            condition,
        )
        widths = [logits[name].shape[-1] for name in of_atoms]
        for name, context in zip(of_atoms, said.atoms.split(widths, -1), strict=True):
            logits[name] = logits[name] + context
        if said.pairs is not None:
            logits["bonds"] = logits["bonds"] + pack(said.pairs)
        nuclear = torch.tensor(self.layout.elements, device=z.device, dtype=z.dtype) / CHARGE_SCALE
        expected = torch.softmax(logits["elements"], -1) @ nuclear[:, None]
        return space.join({"positions": said.vectors.to(z), "charges": expected * mask[..., None], **logits})


class MoleculeDiffusion(DiffusionModel):
    """Equivariant diffusion of molecules: positions (zero centre of mass), elements and nuclear charges.

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
    """

    unit = "nats per molecule; positions in angstrom, 3 (N - 1) of them, and N (K + 1) features"
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
    ) -> None:
        super().__init__()
        if weighting not in WEIGHTINGS:
            raise ValueError(f"unknown weighting '{weighting}': choose one of {', '.join(WEIGHTINGS)}")
        self.layout = Layout(tuple(elements), tuple(bond_orders or ()), tuple(formal_charges or ()))
        if network is None:
            k, pairs = self.layout.atoms_size, len(self.layout.bond_orders)
            network = EGNN(k, k, pairs_in=pairs, pairs_out=pairs)
        self.network = StateNetwork(self.layout, network)
        self.schedule = Polynomial() if schedule is None else schedule
        self.size = SizeDistribution(max_atoms)
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
        }

    def open_data(self, path: str) -> MoleculeData:
        """All molecules of a file that are made of the model's elements."""
        return MoleculeData(path, elements=list(self.layout.elements), validation=0.0, test=0.0)

    def encode(self, batch: MoleculeBatch) -> tuple[Product, Tensor]:
        """(space, clean state x [B, D])."""
        return self.layout.encode(batch)[:2]

    def prepare(self, data: Any) -> None:
        """Measure p(N) and the positions' standard deviation on the training molecules of a MoleculeData."""
        self.size.fit(data.size_counts())
        self.data_std.fill_(data.train.position_std())

    def loss(self, batch: MoleculeBatch, generator: Randomness) -> Tensor:
        """[B] weighted squared error of the positions per degree of freedom, plus the cross-entropy of an element."""
        space, x = self.encode(batch)
        prediction, eps, gamma_derivative = draw(self.denoiser, self.levels, space, x, generator)
        error = self.error(prediction, x, eps, self.weighting, gamma_derivative)
        return error + schedule_loss(self.levels, prediction, x, eps, gamma_derivative)

    def error(
        self,
        prediction: Prediction,
        x: Tensor,
        eps: Tensor,
        weighting: Weighting,
        gamma_derivative: Tensor | None = None,
    ) -> Tensor:
        """[B] weighted squared error of the positions per degree of freedom, plus KL(p || softmax(logits)) of every
        category, summed over its rows and divided by the number of atoms.

        p is a category's block of x: the one-hot of the data, which makes the divergence a cross-entropy, or the
        distribution that a teacher holds. Nuclear charges are the means of the same logits and need no term of their
        own.
        """
        space = prediction.space
        assert isinstance(space, Product)
        squared_error = weighted_error(prediction, x, eps, weighting, gamma_derivative)
        positions = space.blocks["positions"]
        error = positions.sum(space.split(squared_error)["positions"]) / positions.dim().to(x)
        error = error + weighting.offset(prediction.gamma).to(x)
        clean, output = space.split(x), space.split(prediction.output)
        num_atoms = space.blocks["charges"].dim().to(x)
        for name, (_, scale) in self.layout.categories.items():
            p, log_q = scale * clean[name], torch.log_softmax(output[name], -1)
            divergence = space.blocks[name].sum(torch.xlogy(p, p) - p * log_q) / num_atoms
            error = error + (self.bond_weight if name == "bonds" else self.element_weight) * divergence
        return error

    def observed(self, batch: "MoleculeBatch | list[Molecule]") -> Observed:
        """What -log p(molecule) reads, and its own term size = -log p(N).

        Positions count 3 (N - 1) degrees of freedom. With T = 1000 the bound is the recipe of EDM (Hoogeboom et al.
        2022).

        Raises:
            InputError: an element is not in the model's vocabulary, or a molecule is larger than max_atoms.
        """
        if not len(batch):
            raise InputError("no molecules are given: at least one is needed for a likelihood")
        if isinstance(batch, list):
            batch = MoleculeBatch.collate(batch).to(self.device)
        largest = int(batch.num_atoms.max())
        if largest > self.size.max_atoms:
            raise InputError(
                f"a molecule of {largest} atoms has no likelihood in a model of up to {self.size.max_atoms}: leave the "
                "larger ones out, or train with a larger max_atoms"
            )
        space, x, data = self.layout.encode(batch)
        size = -self.size.log_prob(batch.num_atoms)
        terms = {"log_volume": torch.zeros_like(size), "size": size}
        return Observed(space, x, self.layout.observation(), data, batch.index, terms)

    @torch.no_grad()
    def sample(
        self,
        count: int,
        steps: int = 100,
        sampler: str | Stepper = "ancestral",
        seed: int = 0,
        sizes: Sequence[int] | Tensor | None = None,
        spacing: str = "time",
        pair_budget: int = 32_000,
        progress: Callable[[int], None] | None = None,
        guide: Guide | None = None,
    ) -> list[Molecule]:
        """Generate molecules. Molecule i depends on (seed, i) and its size alone, not on the batch it ran in.

        Args:
            count: how many.
            steps: transitions of the sampler; one more network call reads x_hat off z_0.
            sampler: a name in core.STEPPERS, or a stepper, core.DDIM(eta=0.5) for example.
            seed: of the random streams.
            sizes: [count] numbers of atoms; drawn from p(N) when left out.
            spacing: of the grid, a name in core.GRIDS.
            pair_budget: the largest sum of N^2 in one batch.
            progress: called with the number of molecules finished, after every batch.
            guide: wraps the model's denoiser (core.Autoguidance, core.Classifier, ...).

        Raises:
            InputError: count is below 1, not a size of 2 or more for each, an unknown sampler or spacing, or a spacing
                that the schedule does not have.
        """
        if count < 1:
            raise InputError(f"count is how many molecules to generate: at least 1, not {count}")
        if sizes is not None and (len(sizes) != count or min(sizes) < 2):
            raise InputError(f"sizes has {len(sizes)} entries for {count} molecules: give one of 2 or more for each")
        solver = Solver.named(self.denoiser, self.schedule, steps, sampler, spacing, guide)
        streams = Streams(seed, torch.arange(count))
        drawn = self.size.sample(streams.uniform())

        def solve(rows: Tensor, mask: Tensor, streams: Streams) -> tuple[Product, Tensor]:
            space = self.layout.space(mask)
            return space, solver.sample(space, torch.zeros(space.shape, device=self.device), streams)

        return self._generate(drawn if sizes is None else torch.as_tensor(sizes), streams, solve, pair_budget, progress)

    @torch.no_grad()
    def vary(
        self,
        molecules: list[Molecule],
        strength: float = 0.5,
        steps: int = 100,
        sampler: str | Stepper = "ancestral",
        seed: int = 0,
        spacing: str = "time",
        pair_budget: int = 32_000,
        progress: Callable[[int], None] | None = None,
        guide: Guide | None = None,
    ) -> list[Molecule]:
        """Molecules like the given ones: each noised to t = strength and sampled from there (core.edit).

        Numbers of atoms, names and centres are kept; elements and bonds are not.

        Args:
            molecules: where to start from.
            strength: t in (0, 1]; near 0 little changes, at 1 all but nothing is kept.
            steps: transitions of the sampler from there.

        The rest as for ``sample``.

        Raises:
            InputError: no molecules, one of a single atom or with an element the model does not know, a strength
                outside (0, 1], or an unknown sampler or spacing.
        """
        solver = Solver.named(self.denoiser, self.schedule, steps, sampler, spacing, guide, strength)
        centres = [molecule.positions.mean(0) for molecule in molecules]
        centred = [
            Molecule(molecule.atomic_numbers, molecule.positions - centre, name=molecule.name)
            for molecule, centre in zip(molecules, centres, strict=True)
        ]

        def solve(rows: Tensor, mask: Tensor, streams: Streams) -> tuple[Product, Tensor]:
            space, x = self._states(centred, rows)
            return space, solver.vary(space, x, streams)

        streams = Streams(seed, torch.arange(len(molecules)))
        found = self._generate(_sizes(molecules), streams, solve, pair_budget, progress)
        return [
            replace(new, positions=new.positions + centre, name=old.name)
            for new, old, centre in zip(found, molecules, centres, strict=True)
        ]

    @torch.no_grad()
    def inpaint(
        self,
        molecules: list[Molecule],
        fixed: Sequence[Fixed],
        sizes: Sequence[int] | None = None,
        steps: int = 100,
        sampler: str | Stepper = "ancestral",
        seed: int = 0,
        resamples: int = 5,
        jump: int = 10,
        spacing: str = "time",
        pair_budget: int = 32_000,
        progress: Callable[[int], None] | None = None,
        guide: Guide | None = None,
    ) -> list[Molecule]:
        """Generate molecules round fixed atoms (core.inpaint).

        A molecule's fixed atoms come first, in their order, with their elements and their positions as given; then the
        generated ones. Where the fixed atoms are all, a larger size makes this the decoration of a scaffold. Of a
        single fixed atom the element is known, its place fixes the frame alone.

        Args:
            molecules: that hold the fixed atoms.
            fixed: for each molecule, the indices of its fixed atoms from 0, or one bool for each of its atoms.
            sizes: numbers of atoms of the results; those of the given molecules when left out.
            resamples: how often every stretch of ``jump`` steps is run; 1 is plain replacement.
            jump: steps of a stretch.

        The rest as for ``sample``; the network is called steps * resamples times.

        Raises:
            InputError: no molecules, not one ``fixed`` (and size) for each, a mask of the wrong size, no atom fixed or
                none free, an element the model does not know, or an unknown sampler or spacing.
        """
        sizes = _sizes(molecules).tolist() if sizes is None else sizes
        for name, given in (("fixed", fixed), ("sizes", sizes)):
            if len(given) != len(molecules):
                raise InputError(f"{name} has {len(given)} entries for {len(molecules)} molecules: give one for each")
        solver = Solver.named(self.denoiser, self.schedule, steps, sampler, spacing, guide)
        fragments = [Fragment.of(molecule, marked) for molecule, marked in zip(molecules, fixed, strict=True)]
        filler = self.layout.elements[0]
        templates = [fragment.template(int(size), filler) for fragment, size in zip(fragments, sizes, strict=True)]
        held = torch.tensor([len(fragment) for fragment in fragments], device=self.device)

        def solve(rows: Tensor, mask: Tensor, streams: Streams) -> tuple[Product, Tensor]:
            space, x = self._states(templates, rows)
            first = torch.arange(mask.shape[1], device=self.device) < held[rows.to(self.device), None]
            both = pack(first[:, :, None] & first[:, None, :])
            known = space.join(
                {
                    name: (both if name == "bonds" else first)[..., None].expand(block.shape)
                    for name, block in space.blocks.items()
                }
            )
            return space, solver.inpaint(space, x, known, streams, resamples, jump)

        streams = Streams(seed, torch.arange(len(molecules)))
        found = self._generate(_sizes(templates), streams, solve, pair_budget, progress)
        return [fragment.put_into(molecule) for fragment, molecule in zip(fragments, found, strict=True)]

    def _states(self, molecules: list[Molecule], rows: Tensor) -> tuple[Product, Tensor]:
        """(space, clean state) of some of the molecules."""
        batch = MoleculeBatch.collate([molecules[row] for row in rows.tolist()]).to(self.device)
        space, x, _ = self.layout.encode(batch)
        return space, x

    def _generate(
        self,
        sizes: Tensor,
        streams: Streams,
        solve: Callable[[Tensor, Tensor, Streams], tuple[Product, Tensor]],
        pair_budget: int,
        progress: Callable[[int], None] | None,
    ) -> list[Molecule]:
        """Molecules of these sizes; ``solve`` takes (rows, mask, streams) to a space and x_hat on it."""
        found: list[Molecule | None] = [None] * len(sizes)
        done = 0
        for rows in _batches(sizes, pair_budget):
            mask = (torch.arange(int(sizes[rows].max())) < sizes[rows, None]).to(self.device)
            space, x_hat = solve(rows, mask, streams.take(rows))
            decoded = self.layout.decode(x_hat, space, mask, streams.index[rows])
            for row, molecule in zip(rows.tolist(), decoded.unbatch(), strict=True):
                found[row] = molecule
            done += len(rows)
            if progress is not None:
                progress(done)
        return [molecule for molecule in found if molecule is not None]


def _sizes(molecules: list[Molecule]) -> Tensor:
    """[count] numbers of atoms of molecules that a state can hold."""
    if not molecules:
        raise InputError("no molecules are given: at least one is needed to start from")
    for molecule in molecules:
        if molecule.num_atoms < 2:
            raise InputError(f"molecule {molecule.name!r} has a single atom: two or more are needed")
    return torch.tensor([molecule.num_atoms for molecule in molecules])


def _batches(sizes: Tensor, pair_budget: int) -> Iterator[Tensor]:
    """Places of molecules of one size, at most ``pair_budget`` pairs a batch."""
    for size in sizes.unique().tolist():
        rows = (sizes == size).nonzero()[:, 0]
        yield from rows.split(max(1, pair_budget // size**2))
