"""The atom lines of a frame, as xyz files of every kind have them."""

import numpy as np

from medmol_diffusion.errors import InputError
from medmol_diffusion.molecules import chemistry


def atoms(count: int, frame: list[str], line: int, species: int = 0, place: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """(N,) atomic numbers and (N, 3) positions of a frame that starts at that line with its count; frame is the rest.

    Raises InputError for a frame that is cut short, and for a line without an element and three coordinates.
    """
    if len(frame) < count + 1:
        raise InputError(f"The frame at line {line} ends after {max(len(frame) - 1, 0)} of its {count} atoms.")
    numbers, positions = [], []
    for offset, text in enumerate(frame[1 : count + 1]):
        try:
            values = text.split()
            symbol = values[species]
            x, y, z = map(_coordinate, values[place : place + 3])
        except (ValueError, IndexError) as error:
            raise InputError(f"Line {line + offset + 2} should be an element and three coordinates.") from error
        is_number = symbol.isascii() and symbol.isdigit() and len(symbol) < 4
        numbers.append(int(symbol) if is_number else chemistry.atomic_number(symbol))
        positions.append((x, y, z))
    return np.array(numbers, dtype=np.int64), np.array(positions).reshape(-1, 3)


def _coordinate(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float(text.replace("*^", "e"))  # as some of QM9's files write 1e-6
