"""The whole judgement of a set of molecules, as tables by one protocol that the terminal, JSON and HTML share."""

import warnings
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from medmol_diffusion.errors import InputError
from medmol_diffusion.judging.cells import NONE, interval, number
from medmol_diffusion.judging.kept import NOTHING, Kept
from medmol_diffusion.judging.table import ScoreTable, Stage
from medmol_diffusion.molecules.hydrogens import missing_hydrogens
from medmol_diffusion.molecules.judge.distributions import distances
from medmol_diffusion.molecules.judge.diversity import distance_to_nearest, fingerprints, internal_diversity
from medmol_diffusion.molecules.judge.druglikeness import property_columns, property_scores
from medmol_diffusion.molecules.judge.judged import Judged
from medmol_diffusion.molecules.judge.pool import Results
from medmol_diffusion.molecules.judge.poses import pose_scores
from medmol_diffusion.molecules.judge.strain import STEPS, strain_scores
from medmol_diffusion.molecules.judge.verdict import Protocol
from medmol_diffusion.molecules.metrics import MoleculeScores, Score, score_molecules, scores_of, smiles_of
from medmol_diffusion.molecules.molecule import Molecule
from medmol_diffusion.plural import counted

LIMIT = 200
"""How many molecules, drawn at random, the slow measures look at unless told: strain and PoseBusters."""
MOST = 10_000
"""How many molecules of a file, drawn at random, everything but the rules looks at; of the reference too."""
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
    _warn_of_hydrogens(missing_hydrogens(molecules), missing_hydrogens(reference or ()))
    if len(molecules) + len(reference or ()) < POOL_PAYS:
        workers = 1
    smiles = None if reference is None else smiles_of(reference, protocol, workers)
    return _rules(score_molecules(molecules, smiles, seed=seed, protocol=protocol, workers=workers), protocol)


def judged_table(ours: Judged, theirs: Judged | None, protocol: Protocol, seed: int) -> ScoreTable:
    """The same table of files that were judged in a stream."""
    _warn_of_hydrogens(ours.missing_hydrogens(), None if theirs is None else theirs.missing_hydrogens())
    known = None if theirs is None else theirs.identities(protocol)
    return _rules(scores_of(ours.tables[protocol], protocol, known, seed=seed), protocol)


def _warn_of_hydrogens(ours: str | None, theirs: str | None) -> None:
    for name, said in (("", ours), ("The reference: ", theirs)):
        if said:
            warnings.warn(f"{name}{said}.", stacklevel=3)


def _rules(scores: MoleculeScores, protocol: Protocol) -> ScoreTable:
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
    total: int | None = None,
    kept: Kept = NOTHING,
    kept_reference: Kept = NOTHING,
) -> list[ScoreTable]:
    """Every table but the rules', by one protocol.

    Args:
        molecules, reference: all of a set, or those that were drawn of ``total``.
        protocol: that they are judged by.
        stage: makes the bar of what takes long.
        limit: how many strain and PoseBusters look at.
        seed: of what is drawn.
        workers: processes.
        total: how many molecules there are of which these were drawn.
        kept, kept_reference: the results that belong to the files they are of.

    Raises:
        InputError: molecules that the protocol cannot judge.
    """
    ours = as_judged(molecules, protocol)
    theirs = None if reference is None else drawn(as_judged(reference, protocol), MOST, seed)
    some = drawn(ours, limit, seed)
    total = total or len(ours)
    part = _part(len(some), total, seed)
    partly = f" Of {_part(len(ours), total, seed)}." if len(ours) < total else ""
    name = f"{protocol}-{seed}-{len(ours)}"
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
                f"Against {counted(len(theirs), 'molecule')} of the reference.{partly}",
                ("quantity", "W1", "95 % interval", "floor", "all types in one heap", "types covered", "n"),
                [one.row() for one in found],
                [one.to_dict() for one in found],
            )
        )
    with stage("properties", len(ours)) as reach:
        results = Results[dict[str, float]](kept, f"properties-{name}")
        columns = property_columns(ours, workers=workers, progress=reach, kept=results)
    real = None
    if theirs is not None:
        with stage("properties of the reference", len(theirs)) as reach:
            results = Results(kept_reference, f"properties-{protocol}-{seed}-{len(theirs)}")
            real = property_columns(theirs, workers=workers, progress=reach, kept=results)
    properties = property_scores(columns, real, seed)
    tables.append(
        ScoreTable(
            "properties",
            f"Drug-likeness and composition ({by})",
            "QED: 0 to 1, higher is more like an oral drug. SA: 1 easy to make, 10 hard. logP: fat over water. TPSA: "
            f"polar surface. Over the valid molecules in one piece; W1 in the property's own unit.{partly}",
            ("property", "mean", "95 % interval", "median", "mean of the reference", "W1", "n"),
            [one.row() for one in properties] or [("no valid molecule in one piece", *[NONE] * 5, "0")],
            [one.to_dict() for one in properties],
        )
    )
    tables.append(_diversity(ours, theirs, by, stage, seed, partly))
    with stage("strain (MMFF94)", len(some)) as reach:
        named = f"strain-{name}-{len(some)}"
        strain = strain_scores(some, seed=seed, workers=workers, progress=reach, kept=kept, name=named)
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
        checked = Results[dict[str, bool]](kept, f"poses-{name}-{len(some)}")
        poses = pose_scores(some, seed, workers, reach, checked)
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


def _part(some: int, total: int, seed: int) -> str:
    return f"{some} of {counted(total, 'molecule')}" + (f", drawn at random (seed {seed})" if some < total else "")


def drawn(molecules: Sequence[Molecule], limit: int, seed: int) -> list[Molecule]:
    """At most limit of the molecules, drawn at random, in their order."""
    if len(molecules) <= limit:
        return list(molecules)
    places = np.random.default_rng(seed).choice(len(molecules), limit, replace=False)
    return [molecules[place] for place in np.sort(places)]


def _diversity(
    ours: Sequence[Molecule], theirs: Sequence[Molecule] | None, by: str, stage: Stage, seed: int, partly: str
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
        f"Over the valid molecules; among each other takes two, the nearest a valid one in the reference.{partly}",
        ("distance", "mean", "95 % interval", "n"),
        [_distance(name, score, len(prints)) for name, score in found.items()],
        {name: vars(score) for name, score in found.items() if score is not None},
    )


def _distance(name: str, score: Score | None, valid: int) -> tuple[str, ...]:
    if score is None:
        return name, NONE, NONE, str(valid)
    return name, number(score.value, ".3f"), interval(score.low, score.high, ".3f"), str(score.n)
