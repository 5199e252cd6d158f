"""`medmol evaluate`: the answers of a conditional model beside its baselines."""

import argparse

from medmol_diffusion.cli.inputs import load
from medmol_diffusion.cli.output import console, show, write_json
from medmol_diffusion.cli.parser import Verbs, add_model, add_verb, at_least, there
from medmol_diffusion.cli.sampling import SAMPLERS, check_scan_model
from medmol_diffusion.plural import counted
from medmol_diffusion.progress import Bar


def add(verbs: Verbs) -> None:
    about = "PSNR, SSIM and MS-SSIM of a model of super-resolution, inpainting or translation, beside its baselines"
    sub = add_verb(verbs, "evaluate", about, evaluate)
    add_model(sub)
    sub.add_argument("--data", type=there, metavar="PATH", help="scans to measure on (default: the run's own)")
    sub.add_argument(
        "--split", choices=("all", "train", "validation", "test"), help="default: all of PATH, else the run's test part"
    )
    sub.add_argument(
        "-n", type=at_least(1), default=4, help="draws for each scan; their mean is measured too (default 4)"
    )
    sub.add_argument("--steps", type=at_least(1), default=50, help="of the sampler (default 50)")
    sub.add_argument(
        "--sampler", choices=SAMPLERS, metavar="NAME", default="dpm++2m", help="one of %(choices)s (default dpm++2m)"
    )
    sub.add_argument("--limit", type=at_least(1), help="look at this many scans only, drawn at random")
    sub.add_argument("--json", metavar="FILE", help="write the figures there too, of every scan")


def evaluate(options: argparse.Namespace) -> None:
    from medmol_diffusion.mri.tasks.comparison import HEADER, TABLES, compare
    from medmol_diffusion.training.validation import chosen, open_data

    model = load(options.model, options.device)
    check_scan_model(model, options)
    data, split = open_data(model, options.model, options.data, options.split)
    total = len(chosen(data, split, options.limit))
    with Bar("answers", total, transient=True) as bar:
        found = compare(
            model, data, split, options.n, options.steps, options.sampler, options.seed, options.limit, bar.reach
        )
    subjects = counted(len(set(found.subjects)), "subject")
    title = f"{type(model.task).__name__}: {counted(len(found.subjects), 'scan')} of {subjects}"
    for where, measures in TABLES.items():
        show(f"{title}, {where}", HEADER, found.rows(measures))
    console.print(
        "PSNR in dB, of a range of 2; means over subjects. Gains are paired by subject, with the 95 % interval of a "
        "bootstrap over subjects. The head is found by its brightness in the true scan."
    )
    settings = {"steps": options.steps, "sampler": options.sampler, "seed": options.seed}
    write_json(options.json, {"task": type(model.task).__name__, **settings, **found.to_dict()})
