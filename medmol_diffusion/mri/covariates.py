"""What a scan is asked to be: columns of the table beside the scans, as the numbers a network reads."""

import math
import warnings
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri.table import Row
from medmol_diffusion.training.questions import Questions

Value = float | str
Asked = Mapping[str, Value | Sequence[Value]]
"""Of every covariate that is asked for: one value for all scans, or one for each; NaN asks nothing."""
FAR = 5.0
"""Standard deviations from the mean of the training scans, beyond which a value asked for is warned of."""


class Covariates(Questions):
    """Questions to a model of scans, each a column: age, sex, diagnosis.

    Values (B, V) are one number for a column of numbers, and for one of words as many as it has words, 1 for the one
    that holds and 0 for the others.

    Args:
        columns: name -> the words it may hold, or None for numbers.
        dropout: the probability of leaving out.

    Raises:
        InputError: there is no column, or fewer than two words in one.
    """

    def __init__(self, columns: Mapping[str, Sequence[str] | None], dropout: float = 0.15) -> None:
        if not columns:
            raise InputError("model.covariates is empty: name columns, or leave it out")
        for name, words in columns.items():
            if words is not None and len(set(words)) < 2:
                raise InputError(f"model.covariates.{name} needs two words or more, or null for numbers")
        sizes = {name: 1 if words is None else len(words) for name, words in columns.items()}
        super().__init__(sizes, dropout)
        self.columns = {name: None if words is None else tuple(words) for name, words in columns.items()}

    def fit(self, rows: Sequence[Row]) -> None:
        """Measure mean and std of the columns of numbers on the training scans that have a value.

        Raises:
            InputError: no scan has one, or a value is none of the words.
        """
        values = self.of(rows)
        place = 0
        for name, words in self.columns.items():
            column = values[:, place]
            known = column[column.isfinite()]
            if not len(known):
                raise InputError(
                    f"no training scan has a value of {name}: bring a table with that column (participants.tsv, or "
                    "data.table), or leave it out of model.covariates"
                )
            if words is None:
                spread = known.std(correction=0).item()
                self.mean[place], self.std[place] = known.mean(), spread if spread > 0 else 1.0
            place += self.sizes[name]

    def of(self, rows: Sequence[Row]) -> Tensor:
        """(B, V) the scans' own values, float64; NaN for what their rows do not have."""
        columns = [self._values([row.get(name, math.nan) for row in rows], name) for name in self.columns]
        return torch.cat(columns, 1)

    def asked(self, count: int, covariates: Asked) -> Tensor:
        """(count, V) the values asked for, float64.

        Warns of a number that is asked for more than FAR standard deviations from the training scans' mean.

        Raises:
            InputError: a column or a word the model does not know, or not one value for each scan.
        """
        for name in covariates:
            if name not in self.columns:
                raise InputError(f"the model cannot be asked for {name}: it knows {', '.join(self.questions)}")
        columns, place = [], 0
        for name, words in self.columns.items():
            given = covariates.get(name, math.nan)
            each = [given] * count if isinstance(given, str) or not isinstance(given, Sequence) else list(given)
            if len(each) != count:
                raise InputError(f"covariates[{name}] has {len(each)} values for {count} scans: give one for each")
            column = self._values(each, name)
            if words is None:
                self._warn_of(name, column[:, 0], self.mean[place].item(), self.std[place].item())
            columns.append(column)
            place += self.sizes[name]
        return torch.cat(columns, 1)

    def _values(self, given: Sequence[Value], name: str) -> Tensor:
        """(B, v_q)."""
        words = self.columns[name]
        out = torch.full((len(given), self.sizes[name]), torch.nan, dtype=torch.float64)
        for row, value in enumerate(given):
            if isinstance(value, float) and math.isnan(value):
                continue
            if words is None:
                try:
                    out[row] = float(value)
                except ValueError:
                    raise InputError(f"{name} = {value} is no number: list its words in model.covariates") from None
            else:
                word = str(value)
                if word not in words:
                    raise InputError(f"{name} = {word} is none of {', '.join(words)}")
                out[row] = torch.tensor([float(word == one) for one in words], dtype=torch.float64)
        return out

    def _warn_of(self, name: str, values: Tensor, mean: float, std: float) -> None:
        if len(far := values[(values - mean).abs() > FAR * std]):
            warnings.warn(
                f"{name} = {far[0].item():g} is asked for, more than {FAR:g} standard deviations from what the model "
                f"was trained on, {mean:.4g} +- {std:.4g}: it can only guess what that looks like.",
                stacklevel=3,
            )
