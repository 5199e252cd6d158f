"""Chemical formulas: C7H10O2 as atoms, and as counts."""

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from medmol_diffusion.errors import InputError
from medmol_diffusion.molecules.chemistry import SYMBOLS, atomic_number

_TERM = re.compile(r"([A-Z][a-z]?)(\d*)")


def atoms_of(formula: str, elements: Sequence[int]) -> np.ndarray:
    """(N,) atomic numbers of a formula's atoms, element by element as it names them.

    Args:
        formula: element symbols, each with its number of atoms, one where none stands: "C7H10O2".
        elements: those there may be.

    Raises:
        InputError: it is no formula, names an element that is not among ``elements``, or has fewer than two atoms.
    """
    terms = _TERM.findall(formula)
    if not formula or "".join(symbol + count for symbol, count in terms) != formula:
        raise InputError(f"{formula!r} is no formula: write element symbols and numbers of atoms, C7H10O2 for example")
    numbers = np.array([atomic_number(symbol) for symbol, count in terms for _ in range(int(count or 1))], dtype=int)
    if strangers := sorted(set(numbers.tolist()) - set(elements)):
        known = ", ".join(SYMBOLS[number] for number in elements)
        raise InputError(
            f"{formula} holds {', '.join(SYMBOLS[number] for number in strangers)}, but the model makes {known} alone"
        )
    if len(numbers) < 2:
        raise InputError(f"{formula} has {len(numbers)} atoms: two or more are needed")
    return numbers


def formula_of(numbers: np.ndarray) -> str:
    """The formula of atoms in the order of Hill: carbon, hydrogen, the others by their symbols; without carbon all by
    their symbols."""
    counts = Counter(SYMBOLS[number] for number in numbers.tolist())
    first = [symbol for symbol in ("C", "H") if "C" in counts and symbol in counts]
    ordered = first + sorted(set(counts) - set(first))
    return "".join(symbol + (str(counts[symbol]) if counts[symbol] > 1 else "") for symbol in ordered)


def counts_of(formulas: Sequence[str], elements: Sequence[int]) -> np.ndarray:
    """(len(formulas), K) atoms of each of the ``elements``; raises InputError as ``atoms_of``."""
    rows = [atoms_of(formula, elements) for formula in formulas]
    return np.array([[(row == number).sum() for number in elements] for row in rows])
