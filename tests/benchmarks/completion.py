"""Are molecules that are completed molecules? python -m tests.benchmarks.completion MODEL DATA [-n 200] [--resamples 5]

From DATA (any molecules; those of a test part are the honest choice) -n molecules that are stable by rule 1 are drawn,
and of each a part is kept: all but one atom, the heavy atoms, half of the atoms (a ball round a random one), all but
such a half (fragments to be joined), or the formula. The size is the molecule's own. By rule 1: atoms and molecules
stable, and valid and in one piece, with 95 % bootstrap intervals over molecules; and how often the very molecule comes
back (the same canonical SMILES). "drawn" is the model left free at the same sizes.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from medmol_diffusion.molecules import Molecule, MoleculeDiffusion, read_molecules
from medmol_diffusion.molecules.formula import formula_of
from medmol_diffusion.molecules.judge.verdict import verdicts
from medmol_diffusion.molecules.metrics import score_molecules
from medmol_diffusion.progress import Bar

MEASURES = ("atom_stability", "molecule_stability", "connectivity")


def nearest(molecule: Molecule, place: int, count: int) -> np.ndarray:
    """The ``count`` atoms nearest to one, itself included."""
    apart = np.linalg.norm(molecule.positions - molecule.positions[place], axis=1)
    return np.argsort(apart)[:count]


def one_free(molecule: Molecule, draw: np.random.Generator) -> np.ndarray:
    return np.setdiff1d(np.arange(molecule.num_atoms), draw.integers(molecule.num_atoms))


def heavy(molecule: Molecule, draw: np.random.Generator) -> np.ndarray:
    return np.flatnonzero(molecule.atomic_numbers > 1)


def ball(molecule: Molecule, draw: np.random.Generator) -> np.ndarray:
    return np.sort(nearest(molecule, int(draw.integers(molecule.num_atoms)), molecule.num_atoms // 2))


def shell(molecule: Molecule, draw: np.random.Generator) -> np.ndarray:
    return np.setdiff1d(np.arange(molecule.num_atoms), ball(molecule, draw))


KEPT: dict[str, Callable[[Molecule, np.random.Generator], np.ndarray]] = {
    "all but one atom": one_free,
    "heavy atoms": heavy,
    "a ball of half of the atoms": ball,
    "all but such a ball": shell,
}


def judged(found: list[Molecule], truth: list[Molecule]) -> dict[str, Any]:
    own, theirs = ([one for _, part in verdicts(molecules) for one in part] for molecules in (found, truth))
    scores = score_molecules(found)
    back = np.mean([a is not None and a == b for a, b in zip(own, theirs, strict=True)])
    return {name: asdict(getattr(scores, name)) for name in MEASURES} | {"back": float(back)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data")
    parser.add_argument("-n", type=int, default=200)
    parser.add_argument("--steps", type=int, help="default: the model's own")
    parser.add_argument("--sampler", help="default: the model's own")
    parser.add_argument("--resamples", type=int, help="rounds of RePaint in the place of what the model was trained to")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    model = MoleculeDiffusion.from_pretrained(options.model)
    draw = np.random.default_rng(options.seed)
    every, _ = read_molecules(options.data)
    order = draw.permutation(len(every))
    known = set(model.layout.elements)
    truth: list[Molecule] = []
    for place in order:
        one = every[place]
        fits = set(one.atomic_numbers.tolist()) <= known and 4 <= one.num_atoms <= model.size.max_atoms
        if fits and score_molecules([one]).molecule_stability.value == 1:
            truth.append(one)
        if len(truth) == options.n:
            break
    how = {"steps": options.steps, "sampler": options.sampler, "seed": options.seed}
    how = {name: value for name, value in how.items() if value is not None}
    rounds = {} if options.resamples is None else {"resamples": options.resamples}
    found: dict[str, dict[str, Any]] = {}
    with Bar("kept", len(KEPT) + 2) as bar:
        for done, (name, part) in enumerate(KEPT.items(), start=1):
            fixed = [part(one, draw) for one in truth]
            # where all atoms are heavy nothing is left to be made
            pairs = [(one, kept) for one, kept in zip(truth, fixed, strict=True) if 0 < len(kept) < one.num_atoms]
            made = model.inpaint([one for one, _ in pairs], [kept for _, kept in pairs], **how, **rounds)
            found[name] = judged(made, [one for one, _ in pairs])
            bar.reach(done)
        formulas = [formula_of(one.atomic_numbers) for one in truth]
        found["the formula"] = judged(model.sample(len(truth), formula=formulas, **how, **rounds), truth)
        bar.reach(len(KEPT) + 1)
        found["drawn"] = judged(model.sample(len(truth), sizes=[one.num_atoms for one in truth], **how), truth)
        bar.reach(len(KEPT) + 2)
    table = Table("kept", "atoms stable", "molecules stable", "valid and connected", "the same molecule")
    for name, figures in found.items():
        cells = [
            f"{100 * figures[m]['value']:.1f} % [{100 * figures[m]['low']:.1f}, {100 * figures[m]['high']:.1f}]"
            for m in MEASURES
        ]
        table.add_row(name, *cells, f"{100 * figures['back']:.1f} %")
    Console().print(table)
    if options.json:
        options.json.write_text(json.dumps({"settings": how | rounds, "n": len(truth), "kept": found}, indent=2))


if __name__ == "__main__":
    main()
