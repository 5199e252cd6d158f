"""`medmol sample`: new molecules or scans."""

import argparse
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

from rich.markup import escape

from medmol_diffusion import __version__
from medmol_diffusion.cli.inputs import load
from medmol_diffusion.cli.output import console
from medmol_diffusion.cli.parser import Verbs, add_model, add_verb, at_least
from medmol_diffusion.cli.partial import Partial
from medmol_diffusion.cli.ranks import Ranks
from medmol_diffusion.cli.sampling import (
    add_asking,
    add_sampling,
    check_molecule_file,
    count_sound,
    finished,
    guide,
    molecule_model,
    recipe,
    say_molecules,
    scan_steering,
    steering,
    write_scan,
)
from medmol_diffusion.errors import InputError
from medmol_diffusion.plural import counted
from medmol_diffusion.progress import Bar


def add(verbs: Verbs) -> None:
    about = "generate molecules (-o FILE.sdf with bonds, or FILE.xyz) or scans (-o FOLDER of .nii.gz)"
    sub = add_verb(verbs, "sample", about, sample)
    add_model(sub)
    sub.add_argument("-n", type=at_least(1), default=100, help="how many (default 100)")
    what = (
        "file or folder; what is done lies in PATH.partial until it is whole, and the same command goes on from there"
    )
    sub.add_argument("-o", "--output", required=True, metavar="PATH", help=what)
    add_sampling(sub)
    add_asking(sub)
    sub.add_argument("--formula", metavar="C7H10O2", help="molecules: keep to it exactly, with any model")
    sub.add_argument(
        "--bids", metavar="T1w", help="scans: write BIDS derivatives whose names end in this suffix (default: flat)"
    )
    sub.add_argument("--size", type=at_least(2), help="molecules: their number of atoms (default: drawn)")


def sample(options: argparse.Namespace) -> None:
    from medmol_diffusion.core import grid
    from medmol_diffusion.training.model import DiffusionModel

    out = Path(options.output)
    model = load(options.model, options.device)
    molecules = isinstance(model, molecule_model())
    asked = steering(options) if molecules else scan_steering(options)
    if molecules:
        check_molecule_file(options.output)
        if out.is_dir():
            raise InputError(f"-o {out} is a folder: molecules are written to a file")
        if options.bids:
            raise InputError("--bids is for scans")
    elif out.suffix:
        raise InputError(f"-o {out}: scans are written to a folder, one .nii.gz each")
    settings: dict[str, Any] = {"seed": options.seed}
    if isinstance(model, DiffusionModel):
        settings |= recipe(options, model)
        try:
            grid(model.schedule, options.steps, options.grid)
        except ValueError as error:
            raise InputError(f"--grid {options.grid}: {error}") from error
        settings["guide"] = guide(options, model)
    else:
        _in_one_pass(options)
    if options.size is not None:
        asked["sizes"] = options.size
    partial = _make(model, settings | asked, options, molecules)
    if partial is None:
        return
    if molecules:
        _join(partial, options)
    else:
        console.print(f"{counted(options.n, 'scan')} in [bold]{escape(str(out))}[/]")
    partial.remove()


def _make(model: Any, settings: dict[str, Any], options: argparse.Namespace, molecules: bool) -> Partial | None:
    """Make what is not there yet, this process its share; the first process gets what all have made."""
    ranks = Ranks.here()
    done: dict[int, int] = {}
    parts = model.parts(options.n, wanted=lambda number: ranks.has(number) and number not in done, **settings)
    # what cannot be asked has been told by now, and leaves no folder
    partial = Partial(Path(options.output), _asked(options, model))
    if not molecules:
        partial.forget(lambda number, part: ranks.has(number) and not all(map(_is_there, part["scans"])))
    done |= partial.done
    what = "molecule" if molecules else "scan"
    if partial.items and ranks.first:
        console.print(f"going on: {partial.items} of {counted(options.n, what)} are in {escape(str(partial.folder))}")
    title, total = ("sampling", options.n) if ranks.count == 1 else (f"sampling, one of {ranks.count} processes", None)
    try:
        with ranks.together(), Bar(title, total, partial.items, transient=True, disable=not ranks.first) as bar:
            for part in parts:
                if molecules:
                    texts = list(finished(part.items, part.places, options))
                    content = {"places": part.places, "texts": texts, "sound": count_sound(part.items)}
                else:
                    pairs = zip(part.items, part.places, strict=True)
                    content = {"scans": [str(write_scan(scan, place, options)) for scan, place in pairs]}
                partial.save(part.number, len(part.places), content)
                bar.reach(partial.items)
    except BaseException as error:
        if ranks.count == 1 and not partial.items:
            partial.remove()
        if not isinstance(error, KeyboardInterrupt):
            raise
        kept = f"{partial.items} of {counted(options.n, what)} are kept in {partial.folder}: the same command goes on"
        raise KeyboardInterrupt(kept) from None
    return partial if ranks.first else None


def _is_there(sidecar: str) -> bool:
    return Path(sidecar).is_file() and Path(f"{sidecar.removesuffix('.json')}.nii.gz").is_file()


def _join(partial: Partial, options: argparse.Namespace) -> None:
    """All molecules in their order in one file, which takes its name when it is whole."""
    from medmol_diffusion.molecules.formats.sdf import write_texts
    from medmol_diffusion.training.sampling import Part, in_order

    sound: list[int | None] = []

    def parts() -> Iterator[Part[str]]:
        for number, content in partial.contents(options.n):
            sound.append(content["sound"])
            yield Part(number, content["places"], content["texts"])

    whole = partial.folder / Path(options.output).name
    write_texts(in_order(parts()), whole)
    whole.replace(options.output)
    counts = [one for one in sound if one is not None]
    say_molecules(options.n, sum(counts) if len(counts) == len(sound) else None, options)


def _asked(options: argparse.Namespace, model: Any) -> dict[str, Any]:
    """All that decides the output: models and embeddings by what is in them, the options by their values."""
    apart = ("run", "verb", "output", "device", "model", "worse", "tokens")
    found = {name: value for name, value in vars(options).items() if name not in apart and value is not None}
    found |= {"model": f"{Path(options.model).resolve().name} ({model.fingerprint()[:16]})"}
    found |= {"device": model.device.type, "version": __version__}
    if options.worse is not None:
        found["worse"] = f"{Path(options.worse).resolve().name} ({load(options.worse, 'cpu').fingerprint()[:16]})"
    if options.tokens is not None:
        digest = sha256(Path(options.tokens).read_bytes()).hexdigest()
        found["tokens"] = f"{Path(options.tokens).name} ({digest[:16]})"
    return found


def _in_one_pass(options: argparse.Namespace) -> None:
    """Of a model without steps: refuse what says how to take them, and say nothing of them beside the samples."""
    names = ("steps", "sampler", "grid", "eta", "noise_scale", "worse", "away")
    if any(getattr(options, name) is not None for name in names):
        raise InputError(
            f"{options.model} makes a scan in one pass: --steps, --sampler, --grid, --eta, --noise-scale and "
            "--worse are for diffusion"
        )
