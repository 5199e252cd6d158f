r"""Precision and recall of a set of scans, density and coverage: what a distance alone cannot tell apart.

The support of a set is taken to be the union of balls round its members, each as wide as the distance r_k to its k-th
nearest other member. With real features y_j and generated x_i:

* precision, the share of x_i inside the real support: does it make what is not real?
* recall, the share of y_j inside the generated support: does it leave real scans out? (Kynkaanniemi et al. 2019, eq. 2)
* density, $\frac{1}{k n} \sum_i \#\{j: x_i \in B(y_j, r_k(y_j))\}$: precision that one real outlier does not lift;
  around 1, and above where samples crowd in the middle (Naeem et al. 2020, eq. 4)
* coverage, the share of y_j whose own ball holds an x_i: recall that one generated outlier does not lift (eq. 5)

All of them depend on both numbers of scans: they are held against the real set's own at equal n, not against 1.
"""

from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist

from medmol_diffusion.errors import InputError

NEIGHBOURS = 3
"""k, as Kynkaanniemi et al. have it."""


@dataclass(frozen=True)
class Manifold:
    """What the four measures are means of.

    Attributes:
        precision: (n,) whether each generated scan lies in the real support.
        recall: (m,) whether each real one lies in the generated support.
        density: (n,) real balls that hold each generated scan, over k.
        coverage: (m,) whether each real scan's ball holds a generated one.
    """

    precision: np.ndarray
    recall: np.ndarray
    density: np.ndarray
    coverage: np.ndarray


def manifold(generated: np.ndarray, real: np.ndarray, neighbours: int = NEIGHBOURS) -> Manifold:
    """The measures of features (n, d) against (m, d).

    Raises:
        InputError: not more scans on a side than neighbours.
    """
    if min(len(generated), len(real)) <= neighbours:
        raise InputError(
            f"Precision and recall with {neighbours} neighbours need more scans than that on each side, not "
            f"{len(generated)} and {len(real)}."
        )
    across = cdist(generated, real)
    in_real = across <= _radii(real, neighbours)[None]
    in_generated = across <= _radii(generated, neighbours)[:, None]
    return Manifold(in_real.any(1), in_generated.any(0), in_real.sum(1) / neighbours, in_real.any(0))


def _radii(x: np.ndarray, neighbours: int) -> np.ndarray:
    """Distance of each row to its k-th nearest other one: the row itself is the nearest of all."""
    return np.partition(cdist(x, x), neighbours, axis=1)[:, neighbours]
