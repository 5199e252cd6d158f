"""Table of the hippocampus crops by person: hippocampus_001 and _002 are the two sides of one, and so on.

    python datasets/pair_hippocampus.py msd_hippocampus/images -o subjects.csv

Why it is believed: see hippocampus.md. Use it as data.table, so that no person is in two parts of a split.
"""

import argparse
import csv
import re
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="images/ of the data set")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")
    options = parser.parse_args()
    found = {file.name: re.fullmatch(r"hippocampus_(\d+)\.nii(\.gz)?", file.name) for file in options.folder.iterdir()}
    numbers = {name: int(match[1]) for name, match in found.items() if match}
    if not numbers:
        parser.error(f"{options.folder} holds no hippocampus_XXX.nii.gz")
    with options.output.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file", "subject"])
        table.writerows((name, f"person-{(numbers[name] + 1) // 2:03d}") for name in sorted(numbers))
    people = {(number + 1) // 2 for number in numbers.values()}
    print(f"{len(numbers)} crops of {len(people)} people in {options.output}")


if __name__ == "__main__":
    main()
