"""QM9 as it was published: the raw xyz files, and what is peculiar about gdb9.sdf.

Ramakrishnan, Dral, Rupp and von Lilienfeld, Scientific Data 1, 140022 (2014). A file dsgdb9nsd_NNNNNN.xyz is

    N
    gdb INDEX A B C mu alpha homo lumo gap r2 zpve U0 U H G Cv
    N lines: element x y z Mulliken charge
    harmonic frequencies, 3N - 5 or 3N - 6
    SMILES of GDB-17, SMILES of the relaxed geometry
    InChI of both

with exponents written 1*^-6 here and there.
"""

from pathlib import Path

from medmol_diffusion.errors import InputError
from medmol_diffusion.molecules.formats.frame import atoms
from medmol_diffusion.molecules.formats.record import number_or_text
from medmol_diffusion.molecules.molecule import Molecule

COLUMNS = ["A", "B", "C", "mu", "alpha", "homo", "lumo", "gap", "r2", "zpve", "u0", "u298", "h298", "g298", "cv"]
"""Of the property line, named as in gdb9.sdf.csv. A, B, C GHz; mu debye; alpha a_0^3; homo, lumo, gap, zpve, u0, u298,
h298, g298 hartree; r2 a_0^2; cv cal/(mol K)."""
LINES_AFTER = 3


def is_property_line(comment: str) -> bool:
    fields = comment.split()
    return len(fields) == len(COLUMNS) + 2 and fields[0] == "gdb" and fields[1].isdigit()


def name(comment: str) -> str:
    """gdb_INDEX, as gdb9.sdf calls the same molecule."""
    return f"gdb_{comment.split()[1]}"


def molecule(count: int, frame: list[str], line: int) -> Molecule:
    """The molecule of a frame (all lines after the count) that starts at that line, with COLUMNS and its smiles.

    Raises:
        InputError: the frame is damaged.
    """
    numbers, positions = atoms(count, frame, line)
    comment = frame[0]
    values = [number_or_text(text) for text in comment.split()[2:]]
    if any(isinstance(value, str) for value in values):
        raise InputError(f"Line {line + 1} should be 'gdb', a number and {len(COLUMNS)} properties.")
    properties: dict[str, float | str] = dict(zip(COLUMNS, values, strict=True))
    after = frame[count + 1 :]
    if len(after) == LINES_AFTER and after[1].split():
        properties["smiles"] = after[1].split()[-1]  # of the relaxed geometry
    return Molecule(numbers, positions, name=name(comment), properties=properties)


def bonds_are_artefacts(path: Path) -> bool:
    """Whether a file is gdb9.sdf, whose bonds and charges are no chemistry.

    They were perceived from the coordinates by a program, and about a fifth of the molecules, all of them neutral,
    carry formal charges that are artefacts of it. The readers drop both; rule 1 takes their place where bonds are asked
    for. A copy of another name is read as it stands.
    """
    return path.name.lower().removesuffix(".gz") == "gdb9.sdf"
