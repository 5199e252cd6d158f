"""What holds the core's calls against the shapes in their signatures, named in pyproject.toml (--jaxtyping-packages).

Classes are left alone: a test may hand over a stand-in for a denoiser, but no tensor of another shape.
"""

import inspect
from collections.abc import Callable
from typing import Any, get_args

import beartype
from jaxtyping import AbstractArray


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function by beartype, its annotations without shapes left out."""
    hints = inspect.get_annotations(function)
    function.__annotations__ = {name: hint for name, hint in hints.items() if _has_shape(hint)}
    return beartype.beartype(function)


def _has_shape(hint: Any) -> bool:
    return (isinstance(hint, type) and issubclass(hint, AbstractArray)) or any(map(_has_shape, get_args(hint)))
