"""MoleculeDiffusion: the layout, the network, the size distribution and the core, composed."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medmol_diffusion.core import (
    WEIGHTINGS,
    Logits,
    NetworkDenoiser,
    NormalGamma,
    PerBlock,
    Polynomial,
    Preconditioned,
    Product,
    Schedule,
    Space,
    Streams,
    UniformTime,
    X,
    grid,
    sample,
    stepper_named,
)
from medmol_diffusion.core.noise import Randomness
from medmol_diffusion.core.objective import draw, schedule_loss, weighted_error
from medmol_diffusion.errors import InputError
from medmol_diffusion.molecules.data import MoleculeData
from medmol_diffusion.molecules.egnn import EGNN
from medmol_diffusion.molecules.features import ELEMENT_SCALE, Layout
from medmol_diffusion.molecules.molecule import Molecule, MoleculeBatch
from medmol_diffusion.molecules.size import SizeDistribution
from medmol_diffusion.training.model import DiffusionModel, Observed


class MoleculeNetwork(nn.Module):
    """An equivariant network between the blocks of the state.

    The network sees positions, the posterior of every atom's element given that atom alone, and gamma; its feature
    output is added to the log-evidence of that posterior, so that it learns only what the rest of the molecule says.
    """

    def __init__(self, layout: Layout, network: nn.Module) -> None:
        super().__init__()
        self.layout, self.network = layout, network

    def forward(self, z: Tensor, gamma: Tensor, space: Space, condition: Any = None) -> Tensor:
        assert isinstance(space, Product)
        parts = space.split(z)
        mask = space.blocks["positions"].mask  # type: ignore[attr-defined]
        evidence = self.layout.evidence(parts, gamma)
        vectors, context = self.network(parts["positions"], torch.softmax(evidence, -1), mask, gamma.to(z))
        logits = evidence + context
        charges = torch.tensor(self.layout.elements, device=z.device, dtype=z.dtype) / 10.0
        expected = torch.softmax(logits, -1) @ charges[:, None]
        return space.join({"positions": vectors.to(z), "elements": logits, "charges": expected * mask[..., None]})


class MoleculeDiffusion(DiffusionModel):
    """Equivariant diffusion of molecules: positions (zero centre of mass), elements and nuclear charges.

    Args:
        elements: atomic numbers of the vocabulary.
        network: an E(3)-equivariant network with the signature of EGNN; an EGNN of its default size when left out.
        schedule: gamma(t) of the bound and of sampling; polynomial_2 of EDM when left out.
        max_atoms: the largest molecule the size distribution can hold.
        weighting: of the positions' squared error, a name in core.WEIGHTINGS.
        gamma_mean, gamma_std: training noise levels gamma ~ N(mean, std^2), cut to the schedule; uniform in t when
        None. element_weight: factor on the cross-entropy of the elements.
    """

    unit = "nats per molecule; positions in angstrom, 3 (N - 1) of them, and N (K + 1) features"
    default_transitions = 1000
    data_std: Tensor

    def __init__(
        self,
        elements: list[int],
        network: nn.Module | None = None,
        schedule: Schedule | None = None,
        max_atoms: int = 64,
        weighting: str = "native",
        gamma_mean: float | None = None,
        gamma_std: float = 2.4,
        element_weight: float = 1.0,
    ) -> None:
        super().__init__()
        if weighting not in WEIGHTINGS:
            raise ValueError(f"unknown weighting '{weighting}': choose one of {', '.join(WEIGHTINGS)}")
        self.layout = Layout(tuple(elements))
        k = len(elements)
        self.network = MoleculeNetwork(self.layout, EGNN(k, k) if network is None else network)
        self.schedule = Polynomial() if schedule is None else schedule
        self.size = SizeDistribution(max_atoms)
        self.weighting = WEIGHTINGS[weighting]()
        self.element_weight = element_weight
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
                {
                    "positions": Preconditioned(self.data_std, scale=False),
                    "elements": Logits(1 / ELEMENT_SCALE),
                    "charges": X(),
                }
            ),
        )

    def open_data(self, path: str) -> MoleculeData:
        """All molecules of a file that are made of the model's elements."""
        return MoleculeData(path, elements=list(self.layout.elements), validation=0.0, test=0.0)

    def prepare(self, data: Any) -> None:
        """Measure p(N) and the positions' standard deviation on the training molecules of a MoleculeData."""
        self.size.fit(data.size_counts())
        train = data.train
        self.data_std.fill_(float(((train.positions**2).sum() / (3 * (train.num_atoms - 1).sum())) ** 0.5))

    def loss(self, batch: MoleculeBatch, generator: Randomness) -> Tensor:
        """[B] weighted squared error of the positions per degree of freedom, plus the cross-entropy of an element."""
        space, x, data = self.layout.encode(batch)
        prediction, eps, gamma_derivative = draw(self.denoiser, self.levels, space, x, generator)
        error = weighted_error(prediction, x, eps, self.weighting, gamma_derivative)
        positions = space.blocks["positions"]
        squared = positions.sum(space.split(error)["positions"]) / positions.dim().to(x)
        squared = squared + self.weighting.offset(prediction.gamma).to(x)
        logits = space.split(prediction.output)["elements"]
        entropy = F.cross_entropy(logits.transpose(1, 2), data["elements"], reduction="none") * batch.mask
        loss = squared + self.element_weight * entropy.sum(1) / batch.mask.sum(1)
        return loss + schedule_loss(self.levels, prediction, x, eps, gamma_derivative)

    def observed(self, batch: "MoleculeBatch | list[Molecule]") -> Observed:
        """What -log p(molecule) reads, and its own term size = -log p(N).

        Positions count 3 (N - 1) degrees of freedom. With T = 1000 the bound is the recipe of EDM (Hoogeboom et al.
        2022).

        Raises:
            InputError: an element is not in the model's vocabulary, or a molecule is larger than max_atoms.
        """
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
        sampler: str = "ancestral",
        seed: int = 0,
        sizes: Tensor | None = None,
        spacing: str = "time",
        pair_budget: int = 32_000,
        progress: Callable[[int], None] | None = None,
    ) -> list[Molecule]:
        """Generate molecules. Molecule i depends on (seed, i) and its size alone, not on the batch it ran in.

        Args:
            count: how many.
            steps: transitions of the sampler; one more network call reads x_hat off z_0.
            sampler: a name in core.STEPPERS.
            seed: of the random streams.
            sizes: [count] numbers of atoms; drawn from p(N) when left out.
            spacing: of the grid, a name in core.GRIDS.
            pair_budget: the largest sum of N^2 in one batch.
            progress: called with the number of molecules finished, after every batch.

        Raises:
            InputError: count is below 1.
            ValueError: an unknown sampler or spacing, or a spacing that the schedule does not have.
        """
        if count < 1:
            raise InputError(f"count is how many molecules to generate: at least 1, not {count}")
        stepper = stepper_named(sampler)
        gammas = grid(self.schedule, steps, spacing)
        index = torch.arange(count)
        all_streams = Streams(seed, index)
        drawn = self.size.sample(all_streams.uniform())
        sizes = drawn if sizes is None else sizes
        found: list[Molecule | None] = [None] * count
        done = 0
        denoiser = self.denoiser
        for rows in _batches(sizes, pair_budget):
            mask = torch.arange(int(sizes[rows].max())) < sizes[rows, None]
            mask = mask.to(self.device)
            space = self.layout.space(mask)
            streams = all_streams.take(rows)
            z = space.noise(torch.zeros(space.shape, device=self.device), streams)
            z_0 = sample(denoiser, stepper, gammas, space, z, streams)
            gamma_0 = gammas[-1].to(self.device).expand(len(rows))
            x_hat = denoiser(z_0, gamma_0, space).x
            for row, molecule in zip(
                rows.tolist(), self.layout.decode(x_hat, space, mask, index[rows]).unbatch(), strict=True
            ):
                found[row] = molecule
            done += len(rows)
            if progress is not None:
                progress(done)
        return [molecule for molecule in found if molecule is not None]


def _batches(sizes: Tensor, pair_budget: int) -> Iterator[Tensor]:
    """Places of molecules of one size, at most ``pair_budget`` pairs a batch."""
    for size in sizes.unique().tolist():
        rows = (sizes == size).nonzero()[:, 0]
        yield from rows.split(max(1, pair_budget // size**2))
