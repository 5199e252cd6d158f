"""`medmol super-resolve`: fine scans from coarse ones."""

import argparse
from functools import partial

from medmol_diffusion.cli.inputs import load
from medmol_diffusion.cli.parser import Verbs, add_model, add_verb
from medmol_diffusion.cli.sampling import check_scan_model
from medmol_diffusion.cli.scans import add_answering, add_bids, read, sampling, write_answers


def add(verbs: Verbs) -> None:
    about = "fine scans from coarse ones, thick slices included, by a model of SuperResolution"
    sub = add_verb(verbs, "super-resolve", about, super_resolve)
    add_model(sub)
    add_answering(sub)
    add_bids(sub)


def super_resolve(options: argparse.Namespace) -> None:
    model = load(options.model, options.device)
    check_scan_model(model, options)
    how = sampling(options, model)
    files, volumes = read(options.scans, options)
    write_answers(files, "superres", partial(model.super_resolve, volumes, **how), options)
