"""The pictures of README.md and docs/results.md, from what `medmol sample` wrote.

    python -m tests.benchmarks.pictures SCANS REAL MOLECULES.sdf

Writes docs/images/hippocampus.png (16 generated scans, 16 real ones) and docs/images/molecules.svg (20 molecules).
Nothing is selected: both take the first in the order of their names.
"""

import argparse
from itertools import islice
from pathlib import Path

from medmol_diffusion.molecules import read_molecules
from medmol_diffusion.molecules.picture import depictions
from medmol_diffusion.mri import Volume
from medmol_diffusion.mri.formats.files import find_scans
from medmol_diffusion.mri.picture import scan_sheet

IMAGES = Path("docs/images")


def first_scans(folder: str, count: int = 16) -> list[Volume]:
    return [Volume.read(file) for file in islice(find_scans(folder), count)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scans", help="folder of generated scans")
    parser.add_argument("real", help="folder of real scans")
    parser.add_argument("molecules", help="SDF of generated molecules")
    options = parser.parse_args()
    IMAGES.mkdir(parents=True, exist_ok=True)
    made, real = first_scans(options.scans), first_scans(options.real)
    rows = {"generated": made[:8], " ": made[8:], "real": real[:8], "  ": real[8:]}
    (IMAGES / "hippocampus.png").write_bytes(scan_sheet(rows, width=1.2, dpi=100))
    molecules, _ = read_molecules(options.molecules)
    (IMAGES / "molecules.svg").write_text(depictions(molecules[:20], columns=5))


if __name__ == "__main__":
    main()
