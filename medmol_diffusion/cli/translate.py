"""`medmol translate`: scans of another contrast."""

import argparse
from functools import partial

from medmol_diffusion.cli.inputs import load
from medmol_diffusion.cli.parser import Verbs, add_model, add_verb
from medmol_diffusion.cli.sampling import check_scan_model
from medmol_diffusion.cli.scans import add_also, add_answering, also, read, sampling, write_answers
from medmol_diffusion.errors import InputError


def add(verbs: Verbs) -> None:
    about = "scans of another contrast, each on the grid of the one it is made from, by a model of Translation"
    sub = add_verb(verbs, "translate", about, translate)
    add_model(sub)
    add_answering(sub)
    what = "of a model with several sources: the scans of another one, in the order of the first: --also T2w a.nii"
    add_also(sub, what)
    sub.add_argument("--bids", metavar="FLAIR", help="write BIDS derivatives whose names end in this suffix")


def translate(options: argparse.Namespace) -> None:
    from medmol_diffusion.mri import Translation, Volume

    model = load(options.model, options.device)
    check_scan_model(model, options)
    how = sampling(options, model)
    files, volumes = read(options.scans, options)
    given: list[Volume | dict[str, Volume]] = list(volumes)
    if options.also:
        if not isinstance(model.task, Translation):
            raise InputError("--also names the further sources of a model of Translation, and the model is none")
        if len(files) != len(options.scans):
            raise InputError("--also goes scan by scan with the first source, of which some cannot be used")
        sources = {model.task.sources[0]: volumes}
        for name, scans in also(options, files).items():
            sources[name] = [Volume.read(scan, options.frame, series=options.series) for scan in scans]
        given = [dict(zip(sources, row, strict=True)) for row in zip(*sources.values(), strict=True)]
    write_answers(files, "translated", partial(model.translate, given, **how), options, options.bids or "")
