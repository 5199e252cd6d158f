"""Molecules for training: any file, folder or archive of them, or the embedded set, in batches of one size."""

import hashlib
import warnings
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytorch_lightning as pl

from medmol_diffusion.errors import InputError
from medmol_diffusion.molecules import cache
from medmol_diffusion.molecules.batch import MoleculeBatch
from medmol_diffusion.molecules.chemistry import SYMBOLS
from medmol_diffusion.molecules.dataset import Bonds, MoleculeDataset
from medmol_diffusion.molecules.features import Layout
from medmol_diffusion.molecules.fingerprint import fingerprint
from medmol_diffusion.molecules.flat import FlatMolecules
from medmol_diffusion.molecules.formats import files
from medmol_diffusion.molecules.sampler import SizeBucketSampler
from medmol_diffusion.molecules.split import Split, draw
from medmol_diffusion.molecules.unit import check_unit
from medmol_diffusion.plural import counted
from medmol_diffusion.progress import Bar
from medmol_diffusion.training.loader import ResumableLoader

IN_MEMORY = 64 << 20
"""Bytes of files that are read anew each time; more are read once, into the cache."""


class MoleculeSource(pl.LightningDataModule, ABC):
    """Split, filter and batch the molecules that load() brings.

    The split is a permutation of the whole source drawn from split_seed: first the test part, then validation, the rest
    trains; limit keeps that many of the permutation. Conformers of one molecule stay together and count as one.
    Molecules with an element outside elements (atomic numbers; all that occur when None), or of more than max_atoms,
    are counted (left_out), skipped and warned of; with strict they are an error. A batch holds at most pair_budget
    pairs (the sum of N^2); by default batch_size molecules of average N^2. With several ranks it is so many times as
    large, and dealt out to them (DealtBatches).

    split_file takes the split from a file instead (Split; the fractions and split_seed are not used then). bonds says
    what batches say of bonds and charges: "file" those of the source, "distances" those of rule 1 with charges of zero
    (no RDKit), "either" those of the source or, where not every molecule has some, of rule 1 with a warning, None
    nothing. properties are the columns that batches carry: of the source, or else ready ones, computed once
    (properties.py, with RDKit).

    After setup(): elements, left_out, train, validation, test, size_counts() and write_split(). Raises InputError when
    nothing is left to train, when a split is of other data, and when bonds or properties are not there.
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
        split_file: str | None = None,
        bonds: Bonds | Literal["either"] | None = None,
        properties: list[str] | None = None,
        max_atoms: int | None = None,
        strict: bool = False,
    ) -> None:
        super().__init__()
        if min(validation, test) < 0 or validation + test >= 1:
            raise InputError(f"validation {validation} and test {test} must be fractions that leave some to train on.")
        counts = {"batch_size": batch_size, "pair_budget": pair_budget, "limit": limit, "max_atoms": max_atoms}
        for name, value in counts.items():
            if value is not None and value < 1:
                raise InputError(f"{name} is {value}: it must be at least 1.")
        if limit is not None and split_file is not None:
            raise InputError("limit and split_file exclude each other: write a smaller split file.")
        if bonds not in (None, "file", "distances", "either"):
            raise InputError(f"bonds is {bonds!r}: say file, distances, either or null.")
        self.elements = sorted(elements) if elements else []
        self.split_file, self.bonds, self.properties = split_file, bonds, tuple(properties or ())
        self.fractions = {"validation": validation, "test": test}
        self.split_seed, self.batch_size, self.num_workers = split_seed, batch_size, num_workers
        self.seed, self.limit, self.pair_budget = seed, limit, pair_budget
        self._given_budget = pair_budget
        self.max_atoms, self.strict, self.left_out = max_atoms, strict, 0
        self._flat: FlatMolecules | None = None
        self._ready = False

    @abstractmethod
    def load(self) -> FlatMolecules:
        """Every usable molecule of the source."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Of the source's content: what a split file must agree with."""

    @property
    @abstractmethod
    def source(self) -> str:
        """What messages call this data."""

    def prepare_data(self) -> None:
        """Read and cache the source, on one process before the others: Lightning's hook."""
        if self._flat is None:
            self._flat = self._with_properties(self.load())

    def setup(self, stage: str | None = None) -> None:
        if self._ready:
            return
        self.prepare_data()
        flat, self._flat = self._flat, None
        assert flat is not None  # prepare_data has read it
        if flat.skipped:
            shown = "; ".join(flat.faults) + ("; ..." if flat.skipped > len(flat.faults) else "")
            skipped = counted(flat.skipped, "record")
            warnings.warn(f"{self.source}: skipped {skipped} that cannot be used: {shown}", stacklevel=2)
        if len(flat) == 0:
            raise InputError(f"{self.source} holds no molecule that can be used.")
        data = self._known_elements(MoleculeDataset(flat, None, self._bonds(flat), self.properties))
        data = self._small_enough(data)
        check_unit(data, self.source)
        if self.split_file is None:
            parts = draw(data.group, self.fractions["validation"], self.fractions["test"], self.split_seed, self.limit)
        else:
            parts = Split.read(self.split_file).rows(data, self.fingerprint(), self.source)
        self.train, self.validation, self.test = (data.subset(rows) for rows in parts)
        if len(self.train) == 0:
            raise InputError(f"{self.source} leaves no molecule to train on: it holds {len(data)}.")
        squares = data.num_atoms.astype(np.float64) ** 2
        self._mean_pairs, self._most_pairs = squares.mean(), squares.max()
        self.pair_budget = self._pairs(1)
        self._ready = True

    def _pairs(self, ranks: int) -> int:
        """The budget of a batch that so many ranks share."""
        if self._given_budget is not None:
            return ranks * self._given_budget
        return int(max(ranks * self.batch_size * self._mean_pairs, self._most_pairs))

    def _bonds(self, flat: FlatMolecules) -> Bonds | None:
        """Where the bonds of these molecules come from."""
        if self.bonds != "either":
            return self.bonds
        if flat.bonds is not None:
            return "file"
        warnings.warn(
            f"{self.source}: not every molecule has bonds of its own, so all bonds are read off the distances by rule 1"
            " (data.bonds: distances), with charges of zero.",
            stacklevel=3,
        )
        return "distances"

    def _with_properties(self, flat: FlatMolecules) -> FlatMolecules:
        """The ready properties that are asked for and are no columns of the source, computed and kept in the cache."""
        missing = [name for name in self.properties if name not in flat.columns]
        if not missing:
            return flat
        from medmol_diffusion.molecules.properties import PROPERTIES, compute

        if unknown := [name for name in missing if name not in PROPERTIES]:
            raise InputError(
                f"properties: {self.source} has no column {', '.join(unknown)} (it has"
                f" {', '.join(flat.columns) or 'none'}), and the ready ones are {', '.join(PROPERTIES)}."
            )
        columns = {name: np.empty(len(flat)) for name in missing}
        with Bar("properties", len(flat), transient=True) as bar:
            for row in range(len(flat)):
                for name, value in compute(flat.molecule(row), missing).items():
                    columns[name][row] = value
                bar.reach(row + 1)
        if flat.folder is not None:
            return cache.add_columns(flat.folder, columns)
        flat.columns.update(columns)
        return flat

    def _known_elements(self, data: MoleculeDataset) -> MoleculeDataset:
        present = data.elements
        unknown = [number for number in present if self.elements and number not in self.elements]
        self.elements = self.elements or present
        if not unknown:
            return data
        keep = data.count_with(unknown) == 0
        wanted, extra = (", ".join(SYMBOLS[number] for number in group) for group in (self.elements, unknown))
        none = f"No molecule of {self.source} is made of {wanted} alone: add {extra} to elements."
        return self._kept(data, keep, f"with elements other than {wanted}: {extra}", none)

    def _small_enough(self, data: MoleculeDataset) -> MoleculeDataset:
        if self.max_atoms is None or (keep := data.num_atoms <= self.max_atoms).all():
            return data
        none = f"No molecule of {self.source} has {self.max_atoms} atoms or fewer: raise max_atoms."
        return self._kept(data, keep, f"of more than {self.max_atoms} atoms", none)

    def _kept(self, data: MoleculeDataset, keep: np.ndarray, fault: str, none: str) -> MoleculeDataset:
        """The molecules to keep. The others are counted and said, or refused; where there is nothing to keep, ``none``
        is what is wrong."""
        count = int((~keep).sum())
        if self.strict:
            raise InputError(
                f"{self.source}: {count} of {counted(len(data), 'molecule')} cannot be used, {fault}; the first is "
                f"record {data.index[~keep][0] + 1}: take such molecules out of the file, or "
                "skip them (medmol validate --skip, data.strict: false)."
            )
        if not keep.any():
            raise InputError(none)
        self.left_out += count
        warnings.warn(f"{self.source}: skipped {count} of {counted(len(data), 'molecule')} {fault}.", stacklevel=4)
        return data.subset(np.flatnonzero(keep))

    def write_split(self, path: str) -> None:
        """Write the split to a file that split_file reads, here or on another machine with the same data."""
        places = ([int(i) for i in np.sort(part.index)] for part in (self.train, self.validation, self.test))
        Split(self.fingerprint(), *places).write(path)

    def describe(self) -> list[tuple[str, str]]:
        """What `medmol doctor` says of these data once they are set up."""
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        sizes = np.concatenate([part.num_atoms for part in parts.values()])
        return [
            ("molecules", ", ".join(f"{len(part)} {name}" for name, part in parts.items())),
            ("left out", str(self.left_out)),
            ("elements", ", ".join(SYMBOLS[number] for number in self.elements)),
            ("atoms", f"{sizes.min()} to {sizes.max()}, {np.median(sizes):.0f} in the median"),
            ("pairs of atoms in a batch, at most", str(self.pair_budget)),
        ]

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
        rank, ranks = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        sampler = SizeBucketSampler(data.num_atoms, self._pairs(ranks), self.seed, shuffle, rank, ranks)
        return ResumableLoader(data, sampler, num_workers=self.num_workers, collate_fn=_as_is)


def _as_is(batch: MoleculeBatch) -> MoleculeBatch:
    """The data set hands over whole batches."""
    return batch


class MoleculeData(MoleculeSource):
    """The molecules of a file, folder or archive (docs/guides/own-molecules.md has the layouts).

    Options: MoleculeSource. Records that cannot be used are counted, skipped and warned of. What is larger than
    IN_MEMORY is read once, into a memory-mapped cache, and so is anything when cache_dir is given. group_by keeps
    together in a split what is equal in it: a field, "name", "smiles" (canonical, computed where the source does not
    say it) or "scaffold". conformers keeps that many of each molecule, the lowest in energy, where the layout is one of
    ensembles (GEOM's msgpack).
    """

    def __init__(
        self,
        path: str,
        elements: list[int] | None = None,
        cache_dir: str | None = None,
        group_by: str | None = None,
        conformers: int = files.CONFORMERS,
        **options: Any,
    ) -> None:
        super().__init__(elements=elements, **options)
        if conformers < 1:
            raise InputError(f"conformers is {conformers}: it must be at least 1.")
        self.path, self.cache_dir, self.group_by, self.conformers = path, cache_dir, group_by, conformers
        self._fingerprint: str | None = None

    @property
    def source(self) -> str:
        return self.path

    def fingerprint(self) -> str:
        if self._fingerprint is None:
            self._fingerprint = fingerprint(files.inputs(Path(self.path)))
        return self._fingerprint

    def load(self) -> FlatMolecules:
        path = files.check_path(self.path)
        read = files.inputs(path)
        if self.cache_dir is None and sum(file.stat().st_size for file in read) <= IN_MEMORY:
            return FlatMolecules.concatenate(files.chunks(path, self.group_by, self.conformers))
        root = cache.default_root() if self.cache_dir is None else Path(self.cache_dir)
        settings = {"group_by": self.group_by, "conformers": self.conformers}
        with Bar(f"reading {path.name}", None, transient=True) as bar:
            flat = cache.open_or_build(
                path, read, settings, lambda: files.chunks(path, self.group_by, self.conformers), root, bar.reach
            )
        assert flat.folder is not None  # a cache lies in one
        self._fingerprint = cache.known_fingerprint(flat.folder)
        return flat


def every_molecule(path: str, layout: Layout, max_atoms: int, properties: list[str], skip: bool) -> MoleculeData:
    """All molecules of a file in the training part, as a model of that layout needs them. One that the model cannot
    hold is an error, or with ``skip`` left out."""
    return MoleculeData(
        path,
        elements=list(layout.elements),
        validation=0.0,
        test=0.0,
        bonds="either" if layout.bond_orders or layout.formal_charges else None,
        properties=properties,
        max_atoms=max_atoms,
        strict=not skip,
    )


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

    def fingerprint(self) -> str:
        flat = self.load()
        arrays = (flat.atomic_numbers, flat.positions, flat.offsets)
        return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()

    def load(self) -> FlatMolecules:
        from medmol_diffusion.molecules.enumerate import enumerate_molecules

        molecules = enumerate_molecules(self.max_heavy_atoms, self.conformers)
        _, group = np.unique([molecule.name for molecule in molecules], return_inverse=True)
        return FlatMolecules.of(molecules, group=group)
