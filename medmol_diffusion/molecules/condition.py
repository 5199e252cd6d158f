"""What a molecule is asked to be: properties and composition, as the numbers a network reads."""

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from medmol_diffusion.core import Streams
from medmol_diffusion.core.noise import Randomness
from medmol_diffusion.errors import InputError
from medmol_diffusion.molecules.dataset import MoleculeDataset
from medmol_diffusion.molecules.molecule import MoleculeBatch

Asked = Mapping[str, float | Sequence[float]]
"""Of every property that is asked for: one value for all molecules, or one for each; NaN asks nothing."""
FAR = 5.0
"""Standard deviations from the mean of the training molecules, beyond which a value asked for is warned of."""


class Conditioning(nn.Module):
    """Questions to a model: Q of them, each one property, or, the last one, the composition.

    Values are the raw numbers v (B, V): one for every property and, of the composition, the number of atoms of every
    element; NaN where nothing is asked. The network reads

        [(v - mean) / std where asked, else 0;  1 for every question asked, else 0],   V + Q numbers,

    with mean and std of the training molecules. Nothing asked is all zeros, which is the unconditional model.

    In training nothing is asked of a molecule with probability ``dropout``, and of the others every question is left
    out with probability ``dropout`` by itself: one network is the unconditional model, that of every single question
    and that of all together (classifier-free guidance, Ho & Salimans 2022).

    Args:
        properties: names of the columns.
        elements: atomic numbers whose counts are the composition; empty where that is no question.
        dropout: the probability of leaving out.

    Raises:
        ValueError: there is no question, one comes twice, or dropout is no probability below 1.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, properties: Sequence[str], elements: Sequence[int] = (), dropout: float = 0.15) -> None:
        super().__init__()
        if not properties and not elements:
            raise ValueError("a condition needs a question: name properties, or elements for the composition")
        if len(set(properties)) < len(properties):
            raise ValueError(f"properties name a column twice: {', '.join(properties)}")
        if not 0 <= dropout < 1:
            raise ValueError(f"condition_dropout = {dropout} must be a probability, 0 or more and below 1")
        self.properties, self.elements, self.dropout = tuple(properties), tuple(elements), dropout
        self.register_buffer("mean", torch.zeros(len(properties) + len(elements)))
        self.register_buffer("std", torch.ones(len(properties) + len(elements)))

    @property
    def questions(self) -> tuple[str, ...]:
        """Their names."""
        return (*self.properties, *(("composition",) if self.elements else ()))

    @property
    def size(self) -> int:
        """V + Q, the condition_size of a network."""
        return len(self.mean) + len(self.questions)

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

    def leave_out(self, values: Tensor, generator: Randomness) -> Tensor:
        """(B, V) values as training asks them, NaN where a question is left out."""
        shape = (len(values), len(self.questions) + 1)
        if isinstance(generator, Streams):
            u = torch.stack([generator.uniform() for _ in range(shape[1])], -1)
        else:
            u = torch.rand(shape, generator=generator, dtype=torch.float64, device=generator.device)
        out = (u < self.dropout).to(values.device)
        return values.masked_fill(self._spread(out[:, 1:] | out[:, :1]), torch.nan)

    def encode(self, values: Tensor) -> Tensor:
        """(B, V) values -> (B, V + Q), what a network reads."""
        present = values.isfinite()
        standard = torch.where(present, (values - self.mean) / self.std, 0.0)
        flags = [present[:, place] for place in range(len(self.properties))]
        if self.elements:
            flags.append(present[:, len(self.properties)])
        return torch.cat([standard, torch.stack(flags, -1)], -1).to(self.mean.dtype)

    def _spread(self, questions: Tensor) -> Tensor:
        """(B, Q) of the questions -> (B, V) of their values."""
        places = [min(place, len(self.properties)) for place in range(len(self.mean))]
        return questions[:, places]
