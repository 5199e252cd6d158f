"""What the verbs that make molecules or scans share: how to sample, what to ask for, where to write."""

import argparse
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from medmol_diffusion.cli.inputs import load
from medmol_diffusion.cli.output import console
from medmol_diffusion.cli.parser import CoreNames, above, at_least, model_there
from medmol_diffusion.errors import InputError
from medmol_diffusion.extras import installed
from medmol_diffusion.plural import counted

if TYPE_CHECKING:
    from medmol_diffusion.molecules import Molecule
    from medmol_diffusion.mri import Volume
    from medmol_diffusion.training.sampling import SamplingOptions

SAMPLERS, GRIDS = CoreNames("STEPPERS"), CoreNames("GRIDS")
MOLECULE_FILES = (".sdf", ".sdf.gz", ".xyz", ".xyz.gz")
"""What molecules can be written to."""


def add_sampling(sub: argparse.ArgumentParser) -> None:
    """Steps, sampler, grid and autoguidance. What is not given is as the model's own recipe has it."""
    sub.add_argument("--steps", type=at_least(1), help="of the sampler (default: the model's own)")
    sub.add_argument(
        "--sampler", choices=SAMPLERS, metavar="NAME", help="one of %(choices)s (default: the model's own)"
    )
    sub.add_argument(
        "--grid",
        choices=GRIDS,
        metavar="NAME",
        help="how the steps are spaced: one of %(choices)s (default: the model's own)",
    )
    sub.add_argument(
        "--eta",
        type=float,
        metavar="ETA",
        help="how much fresh noise: of ddim 0 to 1, of dpm++3m-sde 0 or more (their own: 0 and 1)",
    )
    sub.add_argument(
        "--noise-scale",
        type=float,
        metavar="K",
        help="factor on the fresh noise of a sampler that draws some, up to 1: below it samples are sounder and less "
        "varied",
    )
    sub.add_argument(
        "--worse",
        type=model_there,
        metavar="MODEL",
        help="an earlier or smaller model of the same data, to move the samples away from (autoguidance)",
    )
    sub.add_argument("--away", type=above(1), metavar="W", help="how far: above 1, which is not at all (default 2)")


def add_asking(sub: argparse.ArgumentParser) -> None:
    """Properties and composition, covariates of scans, and guidance to them."""
    sub.add_argument(
        "--property", action="append", metavar="NAME=VALUE", help="molecules: ask for it; may come several times"
    )
    sub.add_argument(
        "--composition", metavar="C7H10O2", help="molecules: ask for it, of a model that knows compositions"
    )
    add_asking_scans(sub)


def add_asking_scans(sub: argparse.ArgumentParser) -> None:
    """Covariates, and guidance to what is asked."""
    sub.add_argument(
        "--covariate",
        action="append",
        metavar="NAME=VALUE",
        help="scans: ask for it, a number or a word that the model knows; may come several times",
    )
    sub.add_argument(
        "--tokens", metavar="FILE.npy", help="scans: a sequence of embeddings (L, D), of a report for example"
    )
    sub.add_argument("--guidance", type=float, help="scale of classifier-free guidance to it (default 1: none)")
    sub.add_argument(
        "--interval", type=float, nargs=2, metavar=("LOW", "HIGH"), help="levels gamma inside which guidance holds"
    )


def steering(options: argparse.Namespace) -> dict[str, Any]:
    """What molecules are asked to be, by the names of MoleculeDiffusion.sample; what is not asked is left out.

    Raises:
        InputError: what cannot be asked, or not at once.
    """
    formula = getattr(options, "formula", None)
    asked: dict[str, float] = {}
    for text in options.property or ():
        name, _, value = text.partition("=")
        name = name.strip()
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise InputError(f"--property {text}: write NAME=VALUE, qed=0.8 for example")
        if name in asked:
            raise InputError(f"--property {name} is asked for twice: one value each")
        asked[name] = number
    if options.covariate or options.tokens:
        raise InputError("--covariate and --tokens are for scans: ask for molecules by --property")
    if options.composition and formula:
        raise InputError("--composition asks for what --formula keeps exactly: give one of them")
    if options.guidance is not None and not (asked or options.composition or formula):
        raise InputError("--guidance needs something to guide to: ask for it by --property or --composition")
    _check_interval(options)
    found = {"properties": asked, "composition": options.composition, "formula": formula}
    found |= {"guidance": options.guidance, "interval": options.interval and tuple(options.interval)}
    return {name: value for name, value in found.items() if value not in (None, {})}


def scan_steering(options: argparse.Namespace) -> dict[str, Any]:
    """What scans are asked to be, by the names of VolumeDiffusion.sample; what is not asked is left out.

    Which names and words there are, the model knows.

    Raises:
        InputError: what cannot be asked of scans, or not at once.
    """
    asked = asked_covariates(options.covariate or ())
    others = [getattr(options, option, None) for option in ("property", "composition", "formula")]
    if any(other is not None for other in others) or isinstance(getattr(options, "size", None), int):
        raise InputError("--property, --composition, --formula and --size are for molecules: give --covariate")
    if options.guidance is not None and not asked and options.tokens is None:
        raise InputError("--guidance needs something to guide to: ask for it by --covariate, or give --tokens")
    _check_interval(options)
    found: dict[str, Any] = {"guidance": options.guidance, "interval": options.interval and tuple(options.interval)}
    if asked:
        found["covariates"] = asked
    if options.tokens is not None:
        from medmol_diffusion.mri.tokens import read_tokens

        found["tokens"] = read_tokens(options.tokens)
    return {name: value for name, value in found.items() if value is not None}


def asked_covariates(texts: Sequence[str]) -> dict[str, float | str]:
    """Name -> value, of NAME=VALUE.

    Raises:
        InputError: it is written otherwise, a name comes twice, or a value is no finite number.
    """
    asked: dict[str, float | str] = {}
    for text in texts:
        name, _, value = (part.strip() for part in text.partition("="))
        if not name or not value:
            raise InputError(f"--covariate {text}: write NAME=VALUE, contrast=FLAIR for example")
        if name in asked:
            raise InputError(f"--covariate {name} is asked for twice: one value each")
        try:
            asked[name] = float(value)
        except ValueError:
            asked[name] = value
        if isinstance(asked[name], float) and not math.isfinite(float(value)):
            raise InputError(f"--covariate {text}: leave it out, or give a number")
    return asked


def _check_interval(options: argparse.Namespace) -> None:
    if options.interval is None:
        return
    low, high = options.interval
    if not low < high:
        raise InputError(f"--interval {low:g} {high:g} holds nothing: give the lower level first")
    if options.guidance in (None, 1):
        raise InputError("--interval says where guidance holds: give its scale by --guidance")


def recipe(options: argparse.Namespace, model: Any) -> "SamplingOptions":
    """Steps, sampler and grid by the names of the generating methods: what is asked for, and what is not as the model's
    own recipe has it, which the options say from now on.

    Raises:
        InputError: a value that is out of range, or that the sampler has no use for.
    """
    chosen = model.recipe.instead(
        steps=options.steps,
        sampler=options.sampler,
        spacing=options.grid,
        eta=options.eta,
        noise_scale=options.noise_scale,
    )
    options.steps, options.sampler, options.grid = chosen.steps, chosen.sampler, chosen.spacing
    options.eta, options.noise_scale = chosen.eta, chosen.noise_scale
    return chosen.options()


def guide(options: argparse.Namespace, model: Any) -> Any:
    """Away from the model of --worse, if there is one."""
    if options.worse is None:
        if options.away is not None:
            raise InputError("--away says how far to go from a worse model: name it by --worse MODEL")
        return None
    return model.away_from(load(options.worse, options.device), away(options), name=f"--worse {options.worse}")


def away(options: argparse.Namespace) -> float:
    """How far from the worse model."""
    return 2.0 if options.away is None else float(options.away)


def molecule_model() -> type | tuple[()]:
    """The class of the models of molecules; none where their extra is not installed."""
    if not installed("molecules"):
        return ()
    from medmol_diffusion.molecules import MoleculeDiffusion

    return MoleculeDiffusion


def check_scan_model(model: Any, options: argparse.Namespace) -> None:
    """Raises InputError unless the model makes scans, and -o, where there is one, is no file."""
    from medmol_diffusion.mri import VolumeDiffusion

    if not isinstance(model, VolumeDiffusion):
        raise InputError(f"{options.model} is a {type(model).__name__}: medmol {options.verb} takes a VolumeDiffusion")
    check_scan_folder(getattr(options, "output", ""))


def check_scan_folder(path: str) -> None:
    """Raises InputError where the name is that of a file."""
    if Path(path).suffix:
        raise InputError(f"-o {path}: scans are written to a folder, one .nii.gz each")


@dataclass(frozen=True)
class Branch:
    """What a verb does with models of one domain.

    Attributes:
        domain: "molecules" or "scans".
        run: the verb, given the model and its options.
        own: the options of this domain alone, name -> what it is when not given.
    """

    domain: str
    run: Callable[[Any, argparse.Namespace], None]
    own: dict[str, Any]


def branch(options: argparse.Namespace, molecules: Branch, scans: Branch) -> None:
    """Run the branch of the model's domain.

    Raises:
        InputError: an option is given that is for the other domain.
    """
    model = load(options.model, options.device)
    ours, theirs = (molecules, scans) if isinstance(model, molecule_model()) else (scans, molecules)
    for name, value in theirs.own.items():
        if getattr(options, name) != value:
            raise InputError(f"--{name.replace('_', '-')} is for {theirs.domain}, which {options.model} does not make")
    ours.run(model, options)


def check_molecule_file(path: str) -> None:
    """Raises InputError unless molecules can be written there."""
    if not path.lower().endswith(MOLECULE_FILES):
        raise InputError(f"-o {path}: molecules are written to one file that ends in {', '.join(MOLECULE_FILES)}")


def write_molecules(molecules: Sequence["Molecule"], options: argparse.Namespace, order: str = "") -> None:
    """Write molecules to -o, see ``finished``, and say how many there are and are sound.

    Args:
        molecules: that were made.
        options: of the verb.
        order: of the atoms, to be told.
    """
    from medmol_diffusion.molecules.formats.sdf import write_texts

    write_texts(finished(molecules, range(len(molecules)), options), options.output)
    say_molecules(len(molecules), count_sound(molecules), options, order)


def finished(molecules: Iterable["Molecule"], places: Iterable[int], options: argparse.Namespace) -> Iterator[str]:
    """The record of each molecule in the format of -o, with the field ``made_by``: the model, the seed, how it was
    sampled. Those without a name are called sample-0001 and so on by their places, which begin at 0. The same command
    makes the same bytes."""
    made_by = " ".join(f"{name}={value}" for name, value in settings(options).items())
    as_xyz = options.output.lower().removesuffix(".gz").endswith(".xyz")
    for place, molecule in zip(places, molecules, strict=True):
        name = molecule.name or f"sample-{place + 1:04d}"
        named = replace(molecule, name=name, properties={**molecule.properties, "made_by": made_by})
        yield named.to_xyz() if as_xyz else named.to_sdf()


def count_sound(molecules: Sequence["Molecule"]) -> int | None:
    """How many are sound; None where RDKit is not there to tell: sampling does without."""
    if find_spec("rdkit") is None:
        return None
    from medmol_diffusion.molecules.sound import sound

    return sum(sound(molecule) is not None for molecule in molecules)


def say_molecules(count: int, whole: int | None, options: argparse.Namespace, order: str = "") -> None:
    """How many molecules are in -o, and how many of them are sound."""
    said = "" if whole is None else f"; {whole} sound: in one piece, without radicals, accepted by RDKit"
    console.print(f"{counted(count, 'molecule')} in [bold]{escape(options.output)}[/]{order}{said}")


def write_scan(scan: "Volume", place: int, options: argparse.Namespace) -> Path:
    """Write a scan to the folder -o, with a JSON sidecar: the model, the seed, how it was sampled, the version. Returns
    the sidecar, which is written last."""
    from medmol_diffusion.mri.bids import Derivatives, provenance, write_sidecar
    from medmol_diffusion.mri.formats.files import stem

    out = Path(options.output)
    made_by = {name.capitalize(): value for name, value in settings(options).items()}
    if options.bids:
        path = Derivatives(out, made_by).write(scan, f"{place:04d}", "sample", options.bids)
        return path.with_name(f"{stem(path)}.json")
    return write_sidecar(scan.write(out / f"sample-{place:04d}.nii.gz"), provenance(scan, made_by))


def settings(options: argparse.Namespace) -> dict[str, Any]:
    """The model, the seed and how it was sampled: what samples say of where they come from."""
    model = Path(options.model).name or Path(options.model).resolve().name
    found = {"model": model, "seed": options.seed, "steps": options.steps}
    found |= {"sampler": options.sampler, "grid": options.grid}
    found = {name: value for name, value in found.items() if value is not None}
    for name in ("eta", "noise_scale"):
        if getattr(options, name) is not None:
            found[name] = f"{getattr(options, name):g}"
    if options.worse is not None:
        found |= {"worse": Path(options.worse).name, "away": f"{away(options):g}"}
    if getattr(options, "covariate", None):
        found["covariates"] = " ".join(options.covariate)
    if getattr(options, "tokens", None):
        found["tokens"] = Path(options.tokens).name
    if "covariates" in found or "tokens" in found:
        found["guidance"] = 1.0 if options.guidance is None else options.guidance
        if options.interval is not None:
            found["interval"] = list(options.interval)
    return found
