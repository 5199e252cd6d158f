"""Several processes of one command, as torchrun and srun start them: which of them this is, and meeting the others."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from medmol_diffusion.errors import InputError

PATIENCE = timedelta(days=30)
"""How long a process waits for those that still work. One that has died is noticed at once."""


@dataclass(frozen=True)
class Ranks:
    """The processes of a command.

    Attributes:
        rank: which one this is, from 0.
        count: how many there are.
        local: which one of its machine.
    """

    rank: int = 0
    count: int = 1
    local: int = 0

    @classmethod
    def here(cls, environment: Mapping[str, str] = os.environ) -> "Ranks":
        """By the variables of torchrun, or of a step that srun has started. What runs in the script of a SLURM job
        itself, without srun, is one process, however many tasks the job has."""
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
        if not {"RANK", "WORLD_SIZE"} <= environment.keys():
            names = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID")
        rank, count, local = (int(environment.get(name, default)) for name, default in zip(names, "010", strict=True))
        return cls(rank, count, local) if count > 1 else cls()

    @property
    def first(self) -> bool:
        """Whether it is the one that speaks."""
        return self.rank == 0

    def has(self, number: int) -> bool:
        """Whether a piece of work is this process's."""
        return number % self.count == self.rank

    @contextmanager
    def together(self) -> Iterator[None]:
        """The processes meet at both ends of the block: what follows it finds what all have done inside.

        Raises:
            InputError: one of them has ended before.
        """
        if self.count == 1:
            yield
            return
        import torch.distributed as dist

        if "MASTER_ADDR" not in os.environ:
            from pytorch_lightning.plugins.environments import SLURMEnvironment

            os.environ["MASTER_ADDR"] = SLURMEnvironment.resolve_root_node_address(os.environ["SLURM_NODELIST"])
            os.environ["MASTER_PORT"] = str(15_000 + int(os.environ["SLURM_JOB_ID"]) % 10_000)
        dist.init_process_group("gloo", rank=self.rank, world_size=self.count, timeout=PATIENCE)
        try:
            yield
            try:
                dist.barrier()
            except RuntimeError as error:
                raise InputError(
                    "another process of this command has ended early: what is done is kept, the same command goes on"
                ) from error
        finally:
            dist.destroy_process_group()
