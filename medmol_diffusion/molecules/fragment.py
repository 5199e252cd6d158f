"""The atoms that inpainting leaves as they are."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from medmol_diffusion.errors import InputError
from medmol_diffusion.molecules.molecule import Molecule

Fixed = Sequence[int] | Sequence[bool] | np.ndarray
"""Atoms of a molecule: their indices from 0, or one bool for each atom."""


@dataclass(frozen=True)
class Fragment:
    """k atoms of a molecule, in the order in which they stand there.

    atoms: of them alone, with their positions in the molecule's own frame, angstrom.
    """

    atoms: Molecule

    @classmethod
    def of(cls, molecule: Molecule, fixed: Fixed) -> "Fragment":
        """The fragment that ``fixed`` marks.

        Raises:
            InputError: a mask of the wrong size, indices that are no atoms or come twice, or no atom at all.
        """
        name = f"molecule {molecule.name!r}" if molecule.name else "a molecule"
        marked, count = np.asarray(fixed), molecule.num_atoms
        if marked.dtype == bool:
            if marked.shape != (count,):
                raise InputError(
                    f"the mask of the fixed atoms of {name} has the shape {marked.shape}: give one bool for each of "
                    f"its {count} atoms"
                )
            marked = marked.nonzero()[0]
        if marked.size == 0:
            raise InputError(f"no atom of {name} is fixed: mark one or more, or sample freely")
        if marked.ndim != 1 or not np.issubdtype(marked.dtype, np.integer):
            raise InputError(f"the fixed atoms of {name} must be a flat list of indices or of bools")
        places = np.unique(marked)
        if len(places) < len(marked) or places[0] < 0 or places[-1] >= count:
            raise InputError(f"the fixed atoms of {name} must be different indices from 0 to {count - 1}")
        return cls(Molecule(molecule.atomic_numbers[places], molecule.positions[places], name=molecule.name))

    def __len__(self) -> int:
        return self.atoms.num_atoms

    def template(self, size: int, filler: int) -> Molecule:
        """``size`` atoms: the fragment about its own centre, then atoms of the element ``filler`` at that centre.

        Raises:
            InputError: nothing is left to be generated.
        """
        free = size - len(self)
        if free < 1:
            raise InputError(
                f"{len(self)} atoms are fixed of {size}: give a size above {len(self)}, or fix fewer, so that there is "
                "something to generate"
            )
        positions = np.zeros((size, 3))
        positions[: len(self)] = self.atoms.positions - self.atoms.positions.mean(0)
        numbers = np.concatenate([self.atoms.atomic_numbers, np.full(free, filler)])
        return Molecule(numbers, positions, name=self.atoms.name)

    def put_into(self, molecule: Molecule) -> Molecule:
        """A molecule whose first k atoms are the fragment's, moved as a whole to where the fragment lies; these atoms
        are then set to the fragment's to the last digit."""
        k = len(self)
        positions = molecule.positions + self.atoms.positions.mean(0) - molecule.positions[:k].mean(0)
        numbers = molecule.atomic_numbers.copy()
        positions[:k], numbers[:k] = self.atoms.positions, self.atoms.atomic_numbers
        return replace(molecule, atomic_numbers=numbers, positions=positions, name=self.atoms.name)
