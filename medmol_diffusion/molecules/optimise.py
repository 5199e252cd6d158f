"""Molecules made better in small steps: variation by partial noise, and selection."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medmol_diffusion.errors import InputError
from medmol_diffusion.molecules.judge.diversity import fingerprint
from medmol_diffusion.molecules.molecule import Molecule
from medmol_diffusion.molecules.properties import compute, known
from medmol_diffusion.molecules.sound import sound

if TYPE_CHECKING:
    from rdkit.Chem import Mol

    from medmol_diffusion.molecules.model import MoleculeDiffusion

Objective = str | Callable[[Molecule], float]
"""The name of a ready property (properties.PROPERTIES), or any number of a molecule; NaN where there is none."""


@dataclass(frozen=True)
class Descendant:
    """What became of a seed molecule.

    Attributes:
        molecule: the best that was found; the seed where nothing better was.
        score: its objective; NaN for a seed that has none.
        seed_score: that of the seed.
        similarity: to the seed, Tanimoto on Morgan fingerprints of radius 2, 2048 bits; NaN where the seed is not
            sound.
        rounds: how many rounds of variation lie between.
    """

    molecule: Molecule
    score: float
    seed_score: float
    similarity: float
    rounds: int


def optimise(
    model: "MoleculeDiffusion",
    molecules: list[Molecule],
    objective: Objective,
    rounds: int = 5,
    children: int = 8,
    survivors: int = 2,
    strength: float = 0.3,
    minimise: bool = False,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
    **options: Any,
) -> list[Descendant]:
    """The best descendant of every molecule, by its objective.

    A family begins as the seed. In every round each member has ``children`` variations (MoleculeDiffusion.vary); those
    that are sound join it, and the ``survivors`` best stay, one of each SMILES. The best never gets worse.

    Args:
        model: makes the variations.
        molecules: the seeds.
        objective: to be made large.
        rounds, children, survivors: of the search: rounds * children * survivors network samplings for every seed.
        strength: of a variation, as for ``vary``.
        minimise: make the objective small instead.
        seed: of the random streams; round r draws from seed + r.
        progress: called with the number of rounds done.
        options: of ``vary``: steps, sampler, properties, guidance, ...

    Raises:
        InputError: a count below 1, a property that is not ready, or what ``vary`` raises.
    """
    for name, value in (("rounds", rounds), ("children", children), ("survivors", survivors)):
        if value < 1:
            raise InputError(f"{name} = {value} must be at least 1")
    if isinstance(objective, str):
        known(objective)
    sign = -1.0 if minimise else 1.0

    def fitness(molecule: Molecule) -> float:
        """The signed objective; -inf where there is none."""
        value = compute(molecule, [objective])[objective] if isinstance(objective, str) else objective(molecule)
        return -math.inf if math.isnan(value) else sign * value

    families = [{_smiles(molecule): (fitness(molecule), 0, molecule)} for molecule in molecules]
    origins = [next(iter(family.values())) for family in families]
    for done in range(1, rounds + 1):
        parents = [
            (family, member)
            for family in families
            for member in [member for _, _, member in family.values()]
            for _ in range(children)
        ]
        born = model.vary([member for _, member in parents], strength, seed=seed + done, **options)
        for (family, _), child in zip(parents, born, strict=True):
            if (mol := sound(child)) is None:
                continue
            found = (fitness(child), done, child)
            key = _key(mol)
            if found[0] > -math.inf and (key not in family or found[0] > family[key][0]):
                family[key] = found
        for family in families:
            best = sorted(family.items(), key=lambda entry: entry[1][0], reverse=True)[:survivors]
            family.clear()
            family.update(best)
        if progress is not None:
            progress(done)

    def number(value: float) -> float:
        return math.nan if value == -math.inf else sign * value

    descendants = []
    for family, (seed_score, _, origin) in zip(families, origins, strict=True):
        score, generation, winner = next(iter(family.values()))
        descendants.append(
            Descendant(winner, number(score), number(seed_score), similarity(winner, origin), generation)
        )
    return descendants


def similarity(a: Molecule, b: Molecule) -> float:
    """Tanimoto similarity of two molecules' fingerprints (judge/diversity.py); NaN where one is not sound."""
    from rdkit import DataStructs

    first, second = sound(a), sound(b)
    if first is None or second is None:
        return math.nan
    return float(DataStructs.TanimotoSimilarity(fingerprint(first), fingerprint(second)))


def _smiles(molecule: Molecule) -> str:
    mol = sound(molecule)
    return "" if mol is None else _key(mol)


def _key(mol: "Mol") -> str:
    from rdkit import Chem

    return str(Chem.MolToSmiles(mol))
