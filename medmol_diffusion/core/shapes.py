"""The shapes of tensors in the core's signatures, in the words of jaxtyping.

A name of an axis stands for one size throughout a call: `diffuse(x: State, eps: State, gamma: PerExample) -> State`
takes two tensors of one shape and as many levels as they have examples. `*` is any number of axes, `#` a size that may
also be 1, for broadcasting.

The core needs torch alone, so to it, and to a type checker, these are tensors with a note. Where jaxtyping was imported
before the core they are its own types, against which `jaxtyped` or its import hook holds calls: the core's own tests
do (tests/shapes.py), and so can whoever builds on it.
"""

import sys
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING or "jaxtyping" not in sys.modules:
    from typing import Annotated as Bool
    from typing import Annotated as Float
    from typing import Annotated as Int
    from typing import Annotated as Shaped
else:
    _loaded = sys.modules["jaxtyping"]
    Bool, Float, Int, Shaped = _loaded.Bool, _loaded.Float, _loaded.Int, _loaded.Shaped

State = Float[Tensor, "batch *state"]
"""A state of every example, or anything of its shape: z, x, eps, an output, an error."""

PerExample = Float[Tensor, " batch"]
"""One number for each example: a level gamma, nats, degrees of freedom."""

Scale = Float[Tensor, "#batch *#state"]
"""What is broadcast against a state."""

Scalar = Float[Tensor, ""]
"""A single number."""

Factor = Scale | Scalar
"""What multiplies a state."""

Vectors = Float[Tensor, "*vectors"]
"""States, or several of them side by side, and what has their shape."""

Times = Float[Tensor, "*times"]
"""Times or levels of any shape, and what a schedule makes of them, one by one."""

Grid = Float[Tensor, " levels"]
"""The levels that a sampler visits, or the table of a schedule: one vector for all examples."""

Path = Float[Tensor, "levels batch"]
"""Levels of each example."""

Stretches = Float[Tensor, "steps batch"]
"""One number for each step between the levels of a path."""

Probes = Float[Tensor, "probes batch *state"]
"""Random vectors of the space, several for each example."""

PerProbe = Float[Tensor, "probes batch"]
"""One number for each probe of each example."""

Draws = Float[Tensor, "draws batch"]
"""One number for each draw of each example."""

Uniforms = Float[Tensor, "batch draws"]
"""Numbers in [0, 1], several for each example."""

Places = Bool[Tensor, "batch *place"]
"""Which voxels or atoms of a localised state."""

Mask = Shaped[Tensor, "batch *place"]
"""The same before it is known to be boolean: whoever takes it says so in a sentence."""

Labels = Int[Tensor, "batch *place"]
"""Whole numbers at places: categories, charges."""

Index = Int[Tensor, " items"]
"""The places of items in their set."""

Flat = Float[Tensor, "batch numbers"]
"""The numbers of every example side by side."""

Joined = Shaped[Tensor, "*count batch numbers"]
"""The same of one state, of several or of masks: the blocks of a product space in one vector."""

Spectrum = Float[Tensor, " modes"]
"""One number for each mode of a covariance, or each part of a mixture."""

Modes = Float[Tensor, "elements modes"]
"""The modes as columns over the elements of a flat state."""

Means = Float[Tensor, "modes elements"]
"""The centre of each part of a mixture over the elements of a flat state."""
