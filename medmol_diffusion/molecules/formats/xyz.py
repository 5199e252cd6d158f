"""XYZ: plain frames, extended xyz (a comment of key=value, with Properties=species:S:1:pos:R:3:...), and QM9's own."""

import re
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain, islice

from medmol_diffusion.errors import InputError
from medmol_diffusion.molecules.formats import qm9
from medmol_diffusion.molecules.formats.frame import atoms
from medmol_diffusion.molecules.formats.record import Record, number_or_text
from medmol_diffusion.molecules.molecule import Molecule

_FIELD = re.compile(r"""([^\s=]+)=("[^"]*"|'[^']*'|\{[^}]*\}|\S+)""")
_TRUE = re.compile(r"\b(T|True|true|1)\b")


def records(lines: Iterable[str]) -> Iterator[Record]:
    """The frames of an xyz file, given its lines without their ends; what lies between frames is one bad record."""
    numbered = enumerate(lines, start=1)
    lost = False
    for place, line in numbered:
        if not line.strip():
            continue
        if not is_count(line):  # no frame starts here: give up what lies before the next count
            if not lost:
                yield Record("", partial(_fault, place))
            lost = True
            continue
        lost = False
        frame = [text for _, text in islice(numbered, int(line) + 1)]
        comment = frame[0].strip() if frame else ""
        if qm9.is_property_line(comment):
            after = next(numbered, None)
            if after and not is_count(after[1]):
                frame += [after[1], *(text for _, text in islice(numbered, qm9.LINES_AFTER - 1))]
            elif after:
                numbered = chain([after], numbered)  # type: ignore[assignment]
            yield Record(qm9.name(comment), partial(qm9.molecule, int(line), frame, place))
        else:
            fields = _fields(comment)
            yield Record(fields.pop("name", comment if not fields else ""), partial(_molecule, int(line), frame, place))


def is_count(line: str) -> bool:
    """Whether a line is a number of atoms, which has fewer than ten digits."""
    text = line.strip()
    return text.isascii() and text.isdigit() and len(text) < 10


def _fault(line: int) -> Molecule:
    raise InputError(f"Line {line} should be a number of atoms.")


def _fields(comment: str) -> dict[str, str]:
    """The key=value pairs of an extended comment; none where the comment holds anything else."""
    return {} if _FIELD.sub("", comment).strip() else {k: _bare(v) for k, v in _FIELD.findall(comment)}


def _bare(value: str) -> str:
    return value[1:-1] if value[0] in "\"'{" and len(value) > 1 else value


def _molecule(count: int, frame: list[str], line: int) -> Molecule:
    fields = _fields(frame[0] if frame else "")
    name = fields.pop("name", "" if fields or not frame else frame[0].strip())
    species, place = _columns(fields.pop("Properties", "species:S:1:pos:R:3"))
    periodic = fields.pop("pbc", "T T T" if fields.pop("Lattice", "") else "F")
    if _TRUE.search(periodic):
        raise InputError("The frame is periodic: unwrap the molecule and write it without its cell.")
    numbers, positions = atoms(count, frame, line, species, place)
    return Molecule(numbers, positions, name=name, properties={k: number_or_text(v) for k, v in fields.items()})


def _columns(layout: str) -> tuple[int, int]:
    """The columns of the element and of x in Properties=name:type:width:..."""
    parts = layout.split(":")
    found, place = {}, 0
    for name, width in zip(parts[::3], parts[2::3], strict=False):
        found[name] = place
        place += int(width) if is_count(width) else 1
    species = found.get("species", found.get("Z"))
    if species is None or "pos" not in found:
        raise InputError(f"Properties={layout} names no species (or Z) and pos: the frame cannot be read without them.")
    return species, found["pos"]
