"""What a molecule is asked to be: properties and composition, as the numbers a network reads."""

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from medmol_diffusion.errors import InputError
from medmol_diffusion.molecules.batch import MoleculeBatch
from medmol_diffusion.molecules.dataset import MoleculeDataset
from medmol_diffusion.training.questions import Questions

Asked = Mapping[str, float | Sequence[float]]
"""Of every property that is asked for: one value for all molecules, or one for each; NaN asks nothing."""
FAR = 5.0
"""Standard deviations from the mean of the training molecules, beyond which a value asked for is warned of."""


class Conditioning(Questions):
    """Questions to a model of molecules: each one property, or, the last one, the composition.

    Values (B, V) are one number for every property and, of the composition, the number of atoms of every element.

    Args:
        properties: names of the columns.
        elements: atomic numbers whose counts are the composition; empty where that is no question.
        dropout: the probability of leaving out.

    Raises:
        ValueError: there is no question, one comes twice, or dropout is no probability below 1.
    """

    def __init__(self, properties: Sequence[str], elements: Sequence[int] = (), dropout: float = 0.15) -> None:
        if not properties and not elements:
            raise ValueError("a condition needs a question: name properties, or elements for the composition")
        if len(set(properties)) < len(properties):
            raise ValueError(f"properties name a column twice: {', '.join(properties)}")
        composition = {"composition": len(elements)} if elements else {}
        super().__init__({**dict.fromkeys(properties, 1), **composition}, dropout)
        self.properties, self.elements = tuple(properties), tuple(elements)

    def fit(self, data: MoleculeDataset) -> None:
        """Measure mean and std on the molecules that have a value; a property all of them share has std 1.

        Raises:
            InputError: the data have no such property.
        """
        if missing := [name for name in self.properties if name not in data.properties]:
            raise InputError(
                f"the model is to be asked for {', '.join(missing)}, but the data do not bring "
                f"{'it' if len(missing) == 1 else 'them'}: add to data.properties"
            )
        columns = [np.asarray(data.flat.columns[name], dtype=np.float64)[data.rows] for name in self.properties]
        columns += [data.count_with([number]).astype(np.float64) for number in self.elements]
        for place, column in enumerate(columns):
            known = column[np.isfinite(column)]
            if not known.size:
                raise InputError(f"no training molecule has a value of {self.properties[place]}: take another property")
            self.mean[place], spread = known.mean(), known.std()
            self.std[place] = spread if spread > 0 else 1.0

    def of(self, batch: MoleculeBatch) -> Tensor:
        """(B, V) the molecules' own values, float64; NaN for a property the batch does not have."""
        unknown = torch.full((len(batch),), torch.nan, dtype=torch.float64, device=batch.mask.device)
        columns = [batch.properties.get(name, unknown) for name in self.properties]
        columns += [(batch.atomic_numbers == number).sum(1).double() for number in self.elements]
        return torch.stack(columns, -1)

    def asked(self, count: int, properties: Asked, counts: np.ndarray | None = None) -> Tensor:
        """(count, V) the values asked for, float64.

        Args:
            count: molecules.
            properties: one value for all of them, or one for each.
            counts: (count, K) atoms of each element; None asks no composition.

        Warns of a property that is asked for more than FAR standard deviations from the training molecules' mean.

        Raises:
            InputError: a property the model does not know, not one value for each molecule, or a composition of a
                model that was not trained with it.
        """
        values = torch.full((count, len(self.mean)), torch.nan, dtype=torch.float64)
        for name, value in properties.items():
            if name not in self.properties:
                raise InputError(f"the model cannot be asked for {name}: it knows {', '.join(self.questions)}")
            given = torch.as_tensor(value, dtype=torch.float64)
            if given.ndim > 1 or (given.ndim == 1 and len(given) != count):
                raise InputError(f"properties[{name}] has {len(given)} values for {count} molecules: give one for each")
            place = self.properties.index(name)
            values[:, place] = given
            mean, std = self.mean[place].item(), self.std[place].item()
            if len(far := given[(given - mean).abs() > FAR * std]):
                warnings.warn(
                    f"{name} = {far[0].item():g} is asked for, more than {FAR:g} standard deviations from what "
                    f"the model was trained on, {mean:.4g} +- {std:.4g}: it can only guess what that looks like.",
                    stacklevel=2,
                )
        if counts is not None:
            if not self.elements:
                raise InputError(
                    f"the model cannot be asked for a composition: it knows {', '.join(self.questions)}; formula fixes "
                    "the elements of any model"
                )
            values[:, len(self.properties) :] = torch.as_tensor(counts, dtype=torch.float64)
        return values
