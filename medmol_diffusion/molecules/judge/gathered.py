"""Gathered: a torchmetric whose state is rows of numbers, kept of molecules and gathered from all ranks."""

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from medmol_diffusion.molecules.judge.verdict import Protocol, check_protocol
from medmol_diffusion.molecules.molecule import Molecule


class Gathered(Metric):
    """update(molecules), compute() -> () float64: a figure of the rows of all ranks' molecules together.

    Args:
        state: the rows' name. In a MetricCollection those of one name that are equal after the first update are kept
            and updated once (torchmetrics' compute groups): so the name must say all that the rows hang on.
        width: how many numbers a row has.
        dtype: of these.
        protocol: "distances" or "bonds", see verdict.py.
        options: of torchmetrics.Metric.

    Raises:
        InputError: an unknown protocol.
    """

    is_differentiable = False
    higher_is_better: bool | None = True
    full_state_update = False

    def __init__(self, state: str, width: int, dtype: torch.dtype, protocol: Protocol, **options: Any) -> None:
        super().__init__(**options)
        check_protocol(protocol)
        self.protocol: Protocol = protocol
        self._state, self._width, self._dtype = state, width, dtype
        self.add_state(state, default=[], dist_reduce_fx="cat")
        self.reset()

    @abstractmethod
    def rows(self, molecules: list[Molecule]) -> Iterator[np.ndarray]:
        """Arrays (n, width) of what is kept of some molecules."""

    @abstractmethod
    def figure(self, table: np.ndarray) -> float:
        """The figure of all rows (n, width); NaN where they say nothing."""

    def reset(self) -> None:
        super().reset()
        # Never an empty list: a rank without molecules must gather a table of the same type as the others.
        self._keep(np.zeros((0, self._width)))

    def update(self, molecules: list[Molecule]) -> None:
        for rows in self.rows(molecules):
            self._keep(rows)

    def compute(self) -> Tensor:
        table = dim_zero_cat(getattr(self, self._state)).cpu().numpy()
        return torch.tensor(self.figure(table), dtype=torch.float64, device=self.device)

    def _keep(self, rows: np.ndarray) -> None:
        getattr(self, self._state).append(torch.as_tensor(rows, dtype=self._dtype, device=self.device))
