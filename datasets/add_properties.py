"""Ready properties as columns of an npz, for training where there is no rdkit:
python datasets/add_properties.py qm9_noF.npz -o qm9_properties.npz logp tpsa qed rings"""

import argparse

import numpy as np

from medmol_diffusion.molecules import read_molecules
from medmol_diffusion.molecules.formats.npz import read_npz
from medmol_diffusion.molecules.properties import compute, known
from medmol_diffusion.progress import Bar


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source")
    parser.add_argument("-o", "--output", required=True)
    parser.add_argument("names", nargs="+", metavar="PROPERTY")
    options = parser.parse_args()
    for name in options.names:
        known(name)
    arrays = read_npz(options.source)
    molecules, bad = read_molecules(options.source)
    rows = np.setdiff1d(np.arange(len(arrays["num_atoms"])), [record.index for record in bad])
    columns = {name: np.full(len(arrays["num_atoms"]), np.nan) for name in options.names}
    with Bar("properties", len(molecules)) as bar:
        for place, (row, molecule) in enumerate(zip(rows, molecules, strict=True)):
            for name, value in compute(molecule, options.names).items():
                columns[name][row] = value
            bar.reach(place + 1)
    np.savez_compressed(options.output, **arrays, **columns)


if __name__ == "__main__":
    main()
