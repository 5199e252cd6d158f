"""The pictures of README.md and docs/results.md, from what `medmol sample` wrote.

    python -m tests.benchmarks.pictures molecules led.sdf qm9-chno.svg            20 molecules
    python -m tests.benchmarks.pictures scans samples/ real/ hippocampus.png      16 generated scans, 16 real ones

They are written to docs/images. Nothing is selected: each takes the first in the order of the file, or of the names.
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    molecules = kinds.add_parser("molecules")
    molecules.add_argument("file", help="SDF of generated molecules")
    scans = kinds.add_parser("scans")
    scans.add_argument("generated", help="folder of generated scans")
    scans.add_argument("real", help="folder of real scans")
    for kind in (molecules, scans):
        kind.add_argument("name", help="of the picture in docs/images")
    options = parser.parse_args()
    IMAGES.mkdir(exist_ok=True)
    picture = IMAGES / options.name
    if options.kind == "molecules":
        picture.write_text(depictions(read_molecules(options.file)[0][:20], columns=5))
    else:
        made, real = first_scans(options.generated), first_scans(options.real)
        rows = {"generated": made[:8], " ": made[8:], "real": real[:8], "  ": real[8:]}
        picture.write_bytes(scan_sheet(rows, width=1.2, dpi=100))
    print(picture)


if __name__ == "__main__":
    main()
