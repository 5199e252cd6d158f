"""Molecules for training: any npz, SDF or xyz file, or the embedded set, in batches of one size."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from medmol_diffusion.errors import InputError
from medmol_diffusion.molecules import molecule as files
from medmol_diffusion.molecules.chemistry import SYMBOLS
from medmol_diffusion.molecules.molecule import Molecule, MoleculeBatch


class MoleculeDataset(Dataset[Molecule]):
    """Molecules as padded arrays: atomic_numbers (M, N) uint8, positions (M, N, 3) float32 angstrom about the centroid,
    num_atoms (M,), index (M,), each one's place in the file it came from (random streams hang on it), and group (M,),
    equal for conformers of one molecule, which a split never parts."""

    def __init__(
        self, atomic_numbers: np.ndarray, positions: np.ndarray, index: np.ndarray, group: np.ndarray | None = None
    ) -> None:
        self.atomic_numbers = atomic_numbers.astype(np.uint8)
        self.num_atoms = (atomic_numbers != 0).sum(axis=1)
        real = (atomic_numbers != 0)[..., None]
        mean = positions.sum(axis=1, dtype=np.float64, where=real) / np.maximum(self.num_atoms, 1)[:, None]
        self.positions = np.where(real, positions - mean[:, None], 0).astype(np.float32)
        self.index = index
        self.group = index if group is None else group

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, row: int) -> Molecule:
        size = self.num_atoms[row]
        return Molecule(self.atomic_numbers[row, :size], self.positions[row, :size], name=str(self.index[row]))

    def __getitems__(self, rows: list[int]) -> MoleculeBatch:
        """What DataLoader asks for: the whole batch at once, padded to its own largest molecule."""
        size = int(self.num_atoms[rows].max())
        numbers = torch.from_numpy(self.atomic_numbers[rows, :size].astype(np.int64))
        positions = torch.from_numpy(self.positions[rows, :size])
        return MoleculeBatch(numbers, positions, numbers != 0, torch.from_numpy(self.index[rows]))

    def subset(self, rows: np.ndarray) -> "MoleculeDataset":
        return MoleculeDataset(self.atomic_numbers[rows], self.positions[rows], self.index[rows], self.group[rows])


class SizeBucketSampler(Sampler[list[int]]):
    """Batches of molecules of one size N, at most pair_budget / N^2 of them; what is left of a size joins the next.

    The number of batches and their sizes are the same in every epoch; which molecules meet, and the order of the
    batches, are drawn from (seed, epoch), or once and for all from the seed without shuffle. Each item comes once an
    epoch. With several ranks each takes every num_replicas-th batch, and the first batches are repeated until all ranks
    have as many.
    """

    def __init__(
        self,
        num_atoms: np.ndarray,
        pair_budget: int,
        seed: int = 0,
        shuffle: bool = True,
        rank: int = 0,
        num_replicas: int = 1,
    ) -> None:
        largest = int(num_atoms.max(initial=0))
        if largest**2 > pair_budget:
            raise InputError(
                f"pair_budget {pair_budget} does not hold one molecule of {largest} atoms: give {largest**2} or more."
            )
        self.num_atoms, self.pair_budget, self.seed, self.shuffle = num_atoms, pair_budget, seed, shuffle
        self.rank, self.num_replicas = rank, num_replicas
        self.epoch = 0
        self.skip = 0
        self._slots = self._plan()

    def _plan(self) -> list[np.ndarray]:
        """Batches as places in the order of size."""
        sizes = np.sort(self.num_atoms)
        batches, left = [], np.empty(0, dtype=np.int64)
        for size in np.unique(sizes):
            capacity = self.pair_budget // int(size) ** 2
            # what smaller sizes left behind goes first; a batch is as large as its largest molecule allows
            slots = np.concatenate([left, np.flatnonzero(sizes == size)])
            while len(left) > capacity:
                batches.append(left[:capacity])
                left, slots = left[capacity:], slots[capacity:]
            whole = len(slots) // capacity * capacity
            batches += np.split(slots[:whole], max(whole // capacity, 1)) if whole else []
            left = slots[whole:]
        return [*batches, left] if len(left) else batches

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-len(self._slots) // self.num_replicas)

    def __iter__(self) -> Iterator[list[int]]:
        draw = np.random.default_rng((self.seed, self.epoch if self.shuffle else 0))
        tie = draw.random(len(self.num_atoms)) if self.shuffle else np.arange(len(self.num_atoms))
        rows = np.lexsort((tie, self.num_atoms))
        order = draw.permutation(len(self._slots))  # without shuffle too: the first few are a fair sample of all sizes
        mine = np.resize(order, len(self) * self.num_replicas)[self.rank :: self.num_replicas]
        for place in mine[self.skip :]:
            yield rows[self._slots[place]].tolist()


class ResumableLoader(DataLoader):
    """A DataLoader over a SizeBucketSampler that Lightning can stop and take up again in the middle of an epoch.

    It counts its epochs itself, one for every pass: Lightning tells batch samplers nothing, and its own count moves on
    when a run stops in the middle of an epoch.
    """

    def __init__(self, dataset: MoleculeDataset, sampler: SizeBucketSampler, num_workers: int = 0) -> None:
        super().__init__(
            dataset,
            batch_sampler=sampler,
            num_workers=num_workers,
            collate_fn=_as_is,  # the data set hands over whole batches
            generator=torch.Generator().manual_seed(sampler.seed),  # else every epoch draws from the global one
        )
        self.buckets = sampler
        self._served = 0
        self._next = {"epoch": 0, "served": 0}

    def __iter__(self) -> Iterator[MoleculeBatch]:  # type: ignore[override]
        epoch, served = self._next["epoch"], self._next["served"]
        if served >= len(self.buckets):  # a checkpoint of the end of an epoch
            epoch, served = epoch + 1, 0
        self._next = {"epoch": epoch + 1, "served": 0}
        self.buckets.set_epoch(epoch)
        self._served = self.buckets.skip = served
        for batch in super().__iter__():
            self._served += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self.buckets.epoch, "served": self._served}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self._next = dict(state)


def _as_is(batch: Any) -> Any:
    return batch


class MoleculeSource(pl.LightningDataModule, ABC):
    """Split, filter and batch the molecules that load() brings.

    The split is a permutation of the whole source drawn from split_seed: first the test part, then validation, the rest
    trains; limit keeps that many of the permutation. Conformers of one molecule stay together and count as one.
    Molecules with an element outside elements (atomic numbers; all that occur when None) are counted, skipped and
    warned of. A batch holds at most pair_budget pairs (the sum of N^2); by default batch_size molecules of average N^2.

    After setup(): elements, train, validation, test and size_counts(). Raises InputError when nothing is left to train.
    """

    train: MoleculeDataset
    validation: MoleculeDataset
    test: MoleculeDataset

    def __init__(
        self,
        elements: list[int] | None = None,
        validation: float = 0.05,
        test: float = 0.05,
        split_seed: int = 0,
        batch_size: int = 64,
        pair_budget: int | None = None,
        num_workers: int = 0,
        seed: int = 0,
        limit: int | None = None,
    ) -> None:
        super().__init__()
        if min(validation, test) < 0 or validation + test >= 1:
            raise InputError(f"validation {validation} and test {test} must be fractions that leave some to train on.")
        for name, value in (("batch_size", batch_size), ("pair_budget", pair_budget), ("limit", limit)):
            if value is not None and value < 1:
                raise InputError(f"{name} is {value}: it must be at least 1.")
        self.elements = sorted(elements) if elements else []
        self.fractions = {"validation": validation, "test": test}
        self.split_seed, self.batch_size, self.num_workers = split_seed, batch_size, num_workers
        self.seed, self.limit, self.pair_budget = seed, limit, pair_budget
        self._ready = False

    @abstractmethod
    def load(self) -> MoleculeDataset:
        """Every usable molecule of the source."""

    @property
    @abstractmethod
    def source(self) -> str:
        """What messages call this data."""

    def setup(self, stage: str | None = None) -> None:
        if self._ready:
            return
        data = self._known_elements(self.load())
        order = np.random.default_rng(self.split_seed).permutation(np.unique(data.group))[: self.limit]
        num_test, num_validation = (round(self.fractions[part] * len(order)) for part in ("test", "validation"))
        parts = np.split(order, [num_test, num_test + num_validation])
        self.test, self.validation, self.train = (
            data.subset(np.flatnonzero(np.isin(data.group, groups))) for groups in parts
        )
        if len(self.train) == 0:
            raise InputError(f"{self.source} leaves no molecule to train on: it holds {len(data)}.")
        if self.pair_budget is None:
            squares = data.num_atoms.astype(np.float64) ** 2
            self.pair_budget = int(max(self.batch_size * squares.mean(), squares.max()))
        self._ready = True

    def _known_elements(self, data: MoleculeDataset) -> MoleculeDataset:
        present = [int(number) for number in np.unique(data.atomic_numbers) if number]
        unknown = [number for number in present if self.elements and number not in self.elements]
        self.elements = self.elements or present
        if not unknown:
            return data
        keep = ~np.isin(data.atomic_numbers, unknown).any(axis=1)
        wanted, extra = (", ".join(SYMBOLS[number] for number in group) for group in (self.elements, unknown))
        if not keep.any():
            raise InputError(f"No molecule of {self.source} is made of {wanted} alone: add {extra} to elements.")
        warnings.warn(
            f"{self.source}: skipped {int((~keep).sum())} of {len(data)} molecules with elements other than {wanted}:"
            f" {extra}.",
            stacklevel=3,
        )
        return data.subset(np.flatnonzero(keep))

    def size_counts(self) -> np.ndarray:
        """(N_max + 1,) int64: how many molecules of the training part have N atoms."""
        return np.bincount(self.train.num_atoms)

    def train_dataloader(self) -> ResumableLoader:
        return self._loader(self.train, shuffle=True)

    def val_dataloader(self) -> ResumableLoader:
        return self._loader(self.validation, shuffle=False)

    def test_dataloader(self) -> ResumableLoader:
        return self._loader(self.test, shuffle=False)

    def evaluation_dataloader(self, split: str, rows: np.ndarray) -> ResumableLoader:
        """These rows of the train, validation or test part, each once, in an order that is always the same."""
        return self._loader(getattr(self, split).subset(rows), shuffle=False)

    def _loader(self, data: MoleculeDataset, shuffle: bool) -> ResumableLoader:
        assert self.pair_budget is not None  # set by setup
        rank, replicas = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        sampler = SizeBucketSampler(data.num_atoms, self.pair_budget, self.seed, shuffle, rank, replicas)
        return ResumableLoader(data, sampler, self.num_workers)


class MoleculeData(MoleculeSource):
    """The molecules of one file: .npz (read straight into arrays), .sdf, .sdf.gz or .xyz. Options: MoleculeSource.

    Records that cannot be used are counted, skipped and warned of.
    """

    def __init__(self, path: str, elements: list[int] | None = None, **options: Any) -> None:
        super().__init__(elements=elements, **options)
        self.path = path

    @property
    def source(self) -> str:
        return self.path

    def load(self) -> MoleculeDataset:
        path = files.check_file(self.path)
        if files.suffix(path) == ".npz":
            arrays = files.read_npz(path)
            numbers, positions = arrays["atomic_numbers"], arrays["positions"]
            good = files.usable_rows(numbers, positions, arrays["num_atoms"])
            index = np.flatnonzero(good)
            faults = [f"row {row}" for row in np.flatnonzero(~good)]
            numbers, positions = numbers[index], positions[index]
        else:
            molecules, bad = files.read_molecules(path)
            numbers, positions, _ = files.pad(molecules)
            faults = [str(record) for record in bad]
            index = np.setdiff1d(np.arange(len(molecules) + len(bad)), [record.index for record in bad])
        if faults:
            shown = "; ".join(faults[:5]) + ("; ..." if len(faults) > 5 else "")
            warnings.warn(f"{path}: skipped {len(faults)} records that cannot be used: {shown}", stacklevel=2)
        if len(index) == 0:
            raise InputError(f"{path} holds no molecule that can be used.")
        return MoleculeDataset(numbers, positions, index)


class EnumeratedData(MoleculeSource):
    """The embedded data: small real molecules of C, N, O, F and H (enumerate.py). Options: MoleculeSource."""

    def __init__(
        self, max_heavy_atoms: int = 4, conformers: int = 3, elements: list[int] | None = None, **options: Any
    ) -> None:
        super().__init__(elements=elements, **options)
        self.max_heavy_atoms, self.conformers = max_heavy_atoms, conformers

    @property
    def source(self) -> str:
        return f"the enumerated molecules of up to {self.max_heavy_atoms} heavy atoms"

    def load(self) -> MoleculeDataset:
        from medmol_diffusion.molecules.enumerate import enumerate_molecules

        molecules = enumerate_molecules(self.max_heavy_atoms, self.conformers)
        _, group = np.unique([molecule.name for molecule in molecules], return_inverse=True)
        numbers, positions, _ = files.pad(molecules)
        return MoleculeDataset(numbers, positions, np.arange(len(numbers)), group)
