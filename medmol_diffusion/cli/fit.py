"""`medmol fit`: training from a config. LightningCLI parses its arguments."""

from itertools import pairwise
from pathlib import Path

from medmol_diffusion.cli.output import console
from medmol_diffusion.cli.parser import Verbs, add_verb
from medmol_diffusion.errors import InputError

FIT_HELP = """usage: medmol fit --config FILE [--key value ...]

Trains from a config. Every key of the config can be set on the command line too; the most useful ones:

  --config FILE                     YAML; of several the last wins. Copy one of configs/ to begin with
  --trainer.default_root_dir DIR    the run folder: config.yaml, checkpoints/, metrics.csv, TensorBoard events
  --ckpt_path last                  go on where the run in that folder stopped; or a checkpoint file
  --data.path PATH                  the data
  --trainer.max_steps N             how long; with --model.decay_steps N, the end of the cosine of the learning rate
  --trainer.max_time DD:HH:MM:SS    stop in time, saved
  --trainer.accelerator gpu         with --trainer.devices and --trainer.precision bf16-mixed: as Lightning has them
  --print_config                    show the whole config, every key with its value, and do nothing else
"""


def add(verbs: Verbs) -> None:
    about = "train from a config: medmol fit --config FILE [--key value ...]; --ckpt_path last resumes"
    add_verb(verbs, "fit", about, fit)


def fit(arguments: list[str]) -> None:
    if {"-h", "--help"} & set(arguments):
        console.print(FIT_HELP, end="", markup=False, highlight=False, soft_wrap=True)
        return
    if not arguments:
        raise InputError("fit needs a config: medmol fit --config FILE; medmol fit --help says more")
    for flag, value in pairwise(arguments):
        if flag == "--config" and not Path(value).exists():
            raise InputError(f"--config {value} does not exist: check the path")
    from pytorch_lightning.utilities import rank_zero_only

    from medmol_diffusion.training.fit import fit as train
    from medmol_diffusion.training.memory import keep_freed_memory

    keep_freed_memory()
    folder = train(arguments)
    if getattr(rank_zero_only, "rank", 0):  # one of several processes, whose first one speaks
        return
    console.print(f"The run is in [bold]{folder}[/]: try medmol validate {folder}, medmol sample {folder} -o ...")
