"""The whole judgement of a set of molecules, as tables by one protocol that the terminal, JSON and HTML share."""

import warnings
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from medmol_diffusion.errors import InputError
from medmol_diffusion.judging.cells import NONE, interval, number
from medmol_diffusion.judging.table import ScoreTable, Stage
from medmol_diffusion.molecules.hydrogens import missing_hydrogens
from medmol_diffusion.molecules.judge.distributions import distances
from medmol_diffusion.molecules.judge.diversity import distance_to_nearest, fingerprints, internal_diversity
from medmol_diffusion.molecules.judge.druglikeness import property_columns, property_scores
from medmol_diffusion.molecules.judge.poses import pose_scores
from medmol_diffusion.molecules.judge.strain import STEPS, strain_scores
from medmol_diffusion.molecules.judge.verdict import Protocol
from medmol_diffusion.molecules.metrics import Score, score_molecules, smiles_of
from medmol_diffusion.molecules.molecule import Molecule
from medmol_diffusion.plural import counted

LIMIT = 200
"""How many molecules, drawn at random, the slow measures look at unless told: strain and PoseBusters."""
REFERENCE_LIMIT = 10_000
"""How many of the reference, drawn at random, everything but novelty looks at."""
POOL_PAYS = 100_000
"""Molecules from which on the rules are worth a second process, see verdict.verdicts."""
RULES = {
    "distances": "bonds read off the distances, rule 1 of EDM",
    "bonds": "the file's own bonds and charges, the corrected rule",
}

RADICALS = {
    "distances": "which fills open valences with hydrogens, so that radicals pass; molecule stability leaves them out",
    "bonds": "which lets radicals pass; molecule stability leaves them out, but for sulphur of three bonds",
}
"""What validity, as the field has it, does with unpaired electrons by each protocol. A row of their own would count
again what molecule stability counts, and PoseBusters has one."""


def as_judged(molecules: Sequence[Molecule], protocol: Protocol) -> list[Molecule]:
    """The molecules with the bonds that the protocol goes by: none stored, so that rule 1 speaks, or the file's own.

    Raises InputError under "bonds" for a molecule without bonds.
    """
    if protocol == "distances":
        return [replace(molecule, bonds=None, formal_charges=None) for molecule in molecules]
    for place, molecule in enumerate(molecules):
        if molecule.bonds is None:
            raise InputError(f"Molecule {place + 1} has no bonds in its file: judge by --protocol distances.")
    return list(molecules)


def rules_table(
    molecules: Sequence[Molecule], reference: Sequence[Molecule] | None, protocol: Protocol, seed: int, workers: int = 1
) -> ScoreTable:
    """Stability, validity, connectivity, uniqueness, novelty; warns of molecules without hydrogens."""
    for name, given in (("", molecules), ("The reference: ", reference or ())):
        if said := missing_hydrogens(given):
            warnings.warn(f"{name}{said}.", stacklevel=2)
    if len(molecules) + len(reference or ()) < POOL_PAYS:
        workers = 1
    smiles = None if reference is None else smiles_of(reference, protocol, workers)
    scores = score_molecules(molecules, smiles, seed=seed, protocol=protocol, workers=workers)
    return ScoreTable(
        "rules",
        f"Rules ({RULES[protocol]})",
        "A stable atom has exactly the bonds its element allows, a stable molecule only such atoms; a valid one is "
        f"accepted by RDKit, {RADICALS[protocol]}. A connected one is valid and in one piece. Unique ones are distinct "
        "among the valid, novel ones are not in the reference.",
        ("score", "value", "95 % interval", "n"),
        list(scores.rows()),
        scores.to_dict(),
    )


def full_tables(
    molecules: Sequence[Molecule],
    reference: Sequence[Molecule] | None,
    protocol: Protocol,
    stage: Stage,
    limit: int = LIMIT,
    seed: int = 0,
    workers: int = 1,
) -> list[ScoreTable]:
    """Every table but the rules', by one protocol. Raises InputError for molecules that the protocol cannot judge."""
    ours = as_judged(molecules, protocol)
    theirs = None if reference is None else drawn(as_judged(reference, protocol), REFERENCE_LIMIT, seed)
    some = drawn(ours, limit, seed)
    part = f"{len(some)} of {counted(len(ours), 'molecule')}" + (
        f", drawn at random (seed {seed})" if len(some) < len(ours) else ""
    )
    by = f"protocol {protocol}"
    tables = []
    if theirs is not None:
        with stage("distances of distributions", 5) as reach:
            found = distances(ours, theirs, seed=seed, progress=reach)
        tables.append(
            ScoreTable(
                "distances",
                f"Distance from the reference ({by})",
                "Wasserstein-1: by how much the values must move, on average, to become the reference's. By type, "
                "weighted as the reference has them; dihedrals on the circle; for atom types the share of atoms that "
                "must change element. The floor is what real molecules score against the rest of their set: noise. "
                f"Against {counted(len(theirs), 'molecule')} of the reference.",
                ("quantity", "W1", "95 % interval", "floor", "all types in one heap", "types covered", "n"),
                [one.row() for one in found],
                [one.to_dict() for one in found],
            )
        )
    with stage("properties", len(ours)) as reach:
        columns = property_columns(ours, workers=workers, progress=reach)
    real = None
    if theirs is not None:
        with stage("properties of the reference", len(theirs)) as reach:
            real = property_columns(theirs, workers=workers, progress=reach)
    properties = property_scores(columns, real, seed)
    tables.append(
        ScoreTable(
            "properties",
            f"Drug-likeness and composition ({by})",
            "QED: 0 to 1, higher is more like an oral drug. SA: 1 easy to make, 10 hard. logP: fat over water. TPSA: "
            "polar surface. Over the valid molecules in one piece; W1 in the property's own unit.",
            ("property", "mean", "95 % interval", "median", "mean of the reference", "W1", "n"),
            [one.row() for one in properties] or [("no valid molecule in one piece", *[NONE] * 5, "0")],
            [one.to_dict() for one in properties],
        )
    )
    tables.append(_diversity(ours, theirs, by, stage, seed))
    with stage("strain (MMFF94)", len(some)) as reach:
        strain = strain_scores(some, seed=seed, workers=workers, progress=reach)
    tables.append(
        ScoreTable(
            "strain",
            f"Strain by MMFF94 ({by})",
            f"Energy given up and distance moved when the force field relaxes a molecule, at most {STEPS} steps: small "
            f"is near a minimum. {part}: {strain.outcome()}.",
            ("figure", "median", "95 % interval", "mean", "95 % interval", "n"),
            list(strain.rows()) or [("none could be relaxed", *[NONE] * 4, "0")],
            strain.to_dict(),
        )
    )
    with stage("PoseBusters", len(some)) as reach:
        poses = pose_scores(some, seed, workers, reach)
    tables.append(
        ScoreTable(
            "posebusters",
            f"PoseBusters ({by})",
            f"The share that passes each check for a sound molecule, without a protein; one that cannot be checked "
            f"does not pass. {part}.",
            ("check", "passes", "95 % interval", "n"),
            [one.row() for one in poses],
            [one.to_dict() for one in poses],
        )
    )
    return tables


def drawn(molecules: Sequence[Molecule], limit: int, seed: int) -> list[Molecule]:
    """At most limit of the molecules, drawn at random, in their order."""
    if len(molecules) <= limit:
        return list(molecules)
    places = np.random.default_rng(seed).choice(len(molecules), limit, replace=False)
    return [molecules[place] for place in np.sort(places)]


def _diversity(
    ours: Sequence[Molecule], theirs: Sequence[Molecule] | None, by: str, stage: Stage, seed: int
) -> ScoreTable:
    prints = fingerprints(ours)
    found = {"among each other": internal_diversity(prints, seed=seed)}
    if theirs is not None:
        with stage("nearest of the reference", len(prints)) as reach:
            found["to the nearest of the reference"] = distance_to_nearest(prints, fingerprints(theirs), seed, reach)
    return ScoreTable(
        "diversity",
        f"Diversity ({by})",
        "Mean of 1 - Tanimoto of Morgan fingerprints (radius 2, 2048 bits): 0 all alike, 1 nothing in common. "
        "Over the valid molecules; among each other takes two, the nearest a valid one in the reference.",
        ("distance", "mean", "95 % interval", "n"),
        [_distance(name, score, len(prints)) for name, score in found.items()],
        {name: vars(score) for name, score in found.items() if score is not None},
    )


def _distance(name: str, score: Score | None, valid: int) -> tuple[str, ...]:
    if score is None:
        return name, NONE, NONE, str(valid)
    return name, number(score.value, ".3f"), interval(score.low, score.high, ".3f"), str(score.n)
