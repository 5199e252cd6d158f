"""Bonds and formal charges for a model that has them in its state."""

from dataclasses import replace

import numpy as np

from medmol_diffusion.errors import InputError
from medmol_diffusion.molecules import chemistry
from medmol_diffusion.molecules.molecule import AROMATIC, Molecule


def perceived(molecule: Molecule, bond_orders: tuple[int, ...]) -> Molecule:
    """The molecule with bonds and formal charges, as a state of these bond orders can hold them.

    Bonds that nobody has said are those of rule 1, charges that nobody has said are zero: what data.bonds: distances
    trains on. Aromatic bonds are written as single and double ones where the state has no aromatic order.

    Raises:
        InputError: aromatic bonds that have no such form.
    """
    bonds, charges = molecule.bonds, molecule.formal_charges
    if bonds is None:
        bonds = chemistry.rule_one_bonds(molecule.atomic_numbers, molecule.positions)
    elif AROMATIC not in bond_orders and (bonds[:, 2] == AROMATIC).any():
        graph = chemistry.graph(molecule.atomic_numbers, bonds, charges, implicit_hydrogens=False)
        bonds = chemistry.kekulised_bonds(graph)
        if bonds is None:
            raise InputError(
                f"the aromatic bonds of molecule {molecule.name!r} cannot be written as single and double ones: check "
                "its hydrogens and charges"
            )
    return replace(
        molecule, bonds=bonds, formal_charges=np.zeros(molecule.num_atoms, dtype=int) if charges is None else charges
    )
