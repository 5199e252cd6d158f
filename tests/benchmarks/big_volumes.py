"""Peak memory and time of every task on one head of 182 x 218 x 182 voxels of 1 mm, each in a process of its own.

    python -m tests.benchmarks.big_volumes [--channels 64 96 128] [--json FILE]

Networks are untrained, for what they say changes neither figure. Memory is the peak of the process, which holds torch
and the package besides (their share is the first row).
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from medmol_diffusion.mri import VolumeDiffusion

SHAPE, GRID, STEPS = (182, 218, 182), [184, 220, 184], 2
WINDOW = [96, 112, 96]


def model_of(task: str, channels: list[int]) -> "VolumeDiffusion":
    from medmol_diffusion.mri import HaarStage, Inpainting, SuperResolution, Translation, UNet3D, VolumeDiffusion

    tasks = {
        "super-resolve": (lambda: SuperResolution([1, 1, 5]), 1),
        "inpaint": (Inpainting, 2),
        "translate": (lambda: Translation("T1w"), 1),
    }
    made, images = tasks.get(task, (lambda: None, 0))
    window = WINDOW if task.endswith("in windows") else None
    wide = 128 + 64 * images + (3 if window else 0)
    network = UNet3D(wide, 128, channels, blocks=1, checkpointing=window is not None)
    model = VolumeDiffusion(GRID, HaarStage(2), network=network, spacing=1.0, task=made(), window=window)
    model.first_stage.spectrum.std.fill_(0.1)
    return model


def run(task: str, scan: Path, channels: list[int]) -> None:
    """The work of one process."""
    import torch

    from medmol_diffusion.core import Streams
    from medmol_diffusion.mri import AnomalyDetector, Volume
    from medmol_diffusion.mri.data import VolumeData

    if task == "nothing":
        return
    model, volume = model_of(task, channels), Volume.read(scan)
    model.eval()
    region = np.zeros(volume.shape, dtype=bool)
    region[60:110, 80:130, 70:120] = True
    if task == "sample":
        model.sample(1, steps=STEPS)
    elif task == "vary":
        model.vary([volume], steps=STEPS)
    elif task == "super-resolve":
        coarse = Volume(volume.data[:, :, ::5], volume.affine @ np.diag([1, 1, 5, 1]), volume.provenance)
        model.super_resolve([coarse], steps=STEPS)
    elif task == "translate":
        model.translate([volume], steps=STEPS)
    elif task == "inpaint":
        model.inpaint([volume], [region], steps=STEPS)
    elif task == "inpaint by RePaint":
        model.inpaint([volume], [region], steps=STEPS, resamples=2)
    elif task == "detect":
        AnomalyDetector(model, method="one_shot").detect(volume)
    else:
        data = VolumeData(str(scan.parent), GRID, spacing=1.0, validation=0.0, test=0.0, batch_size=1)
        data.setup()
        (batch,) = data.evaluation_dataloader("train", np.arange(1))
        if task.startswith("bound"):
            with torch.no_grad():
                model.elbo(batch, draws=1)
        else:
            optimizer = torch.optim.AdamW(model.parameters())
            for step in range(STEPS):
                optimizer.zero_grad()
                model.loss(batch, Streams(step, batch.index)).mean().backward()
                optimizer.step()


TASKS = (
    "nothing",
    "sample",
    "vary",
    "inpaint by RePaint",
    "inpaint",
    "super-resolve",
    "translate",
    "detect",
    "bound",
    "bound in windows",
    "train",
    "train in windows",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--channels", type=int, nargs="+", default=[64, 96, 128])
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS), metavar="TASK")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--run", nargs=2, metavar=("TASK", "SCAN"), help="the work of one process, for itself alone")
    options = parser.parse_args()
    if options.run:
        begin = time.process_time()
        run(options.run[0], Path(options.run[1]), options.channels)
        from medmol_diffusion.training.memory import peak

        print(json.dumps({"peak": peak(), "seconds": time.process_time() - begin}))
        return
    from medmol_diffusion.mri.phantom import head_phantom

    found = {}
    with tempfile.TemporaryDirectory() as folder:
        scan = Path(folder) / "sub-01_T1w.nii.gz"
        head_phantom(0, SHAPE, 1.0).volume.write(scan)
        for task in options.tasks:
            command = [sys.executable, "-m", "tests.benchmarks.big_volumes", "--run", task, str(scan)]
            command += ["--channels", *map(str, options.channels)]
            answer = subprocess.run(command, capture_output=True, text=True, check=True)
            found[task] = json.loads(answer.stdout.splitlines()[-1])
            print(f"{task:22s} {found[task]['peak'] / 2**30:6.2f} GiB {found[task]['seconds']:8.1f} s", flush=True)
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
