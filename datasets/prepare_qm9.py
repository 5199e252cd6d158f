"""Raw QM9 to one npz: python datasets/prepare_qm9.py dsgdb9nsd.xyz.tar.bz2 --without uncharacterized.txt -o qm9.npz"""

import argparse
import re
from pathlib import Path

import numpy as np

from medmol_diffusion.molecules import read_molecules
from medmol_diffusion.molecules.formats.qm9 import COLUMNS
from medmol_diffusion.molecules.molecule import pad


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", help="the tar of xyz files, or the folder it unpacks to")
    parser.add_argument("--without", type=Path, help="a list of gdb9 indices, the first number of a line")
    parser.add_argument("-o", "--output", required=True)
    options = parser.parse_args()
    lines = options.without.read_text().splitlines() if options.without else []
    without = {int(found[1]) for line in lines if (found := re.match(r"\s*(\d+)\s", line + " "))}
    molecules, bad = read_molecules(options.source)
    for record in bad:
        print(record)
    kept = [molecule for molecule in molecules if int(molecule.name.removeprefix("gdb_")) not in without]
    numbers, positions, count = pad(kept)
    np.savez_compressed(
        options.output,
        atomic_numbers=numbers.astype(np.uint8),
        positions=positions,
        num_atoms=count.astype(np.uint8),
        index=np.array([int(molecule.name.removeprefix("gdb_")) for molecule in kept], dtype=np.int32),
        smiles=np.array([str(molecule.properties.get("smiles", "")) for molecule in kept]),
        **{name: np.array([molecule.properties[name] for molecule in kept], dtype=np.float64) for name in COLUMNS},
    )
    print(f"{len(kept)} of {len(molecules)} molecules, {len(bad)} unreadable: {options.output}")


if __name__ == "__main__":
    main()
