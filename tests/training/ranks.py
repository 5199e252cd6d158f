"""python -m tests.training.ranks PORT JOBS: `medmol fit` on two ranks, as torchrun starts them.

Both are children of this process, which has imported everything. JOBS is a json file with the arguments of several
runs, which follow one another.
"""

import json
import os
import sys
import traceback
from pathlib import Path

import torch

from medmol_diffusion.training.fit import fit

RANKS = 2
DDP = ["--trainer.strategy", "ddp", "--trainer.devices", str(RANKS)]


def run(rank: int, port: str, jobs: list[list[str]]) -> None:
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": 0, "WORLD_SIZE": RANKS, "LOCAL_WORLD_SIZE": RANKS}
    os.environ |= {name: str(value) for name, value in numbers.items()}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "test"}
    for arguments in jobs:
        torch.manual_seed(0)
        fit([*arguments, *DDP])


def main(port: str, jobs: str) -> None:
    torch.set_num_threads(1)
    children = []
    for rank in range(RANKS):
        child = os.fork()
        if not child:
            try:
                run(rank, port, json.loads(Path(jobs).read_text()))
            except BaseException:
                traceback.print_exc()
                os._exit(1)  # the other rank then fails too, at its next message
            os._exit(0)
        children.append(child)
    for child in children:
        _, status = os.waitpid(child, 0)
        assert status == 0, status


if __name__ == "__main__":
    main(*sys.argv[1:])
