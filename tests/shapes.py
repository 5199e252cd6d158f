"""What holds the core's calls against the shapes in their signatures, where a test asks for it (tests/conftest.py).

Classes are left alone: a test may hand over a stand-in for a denoiser, but no tensor of another shape. Functions inside
functions are, too: jaxtyping's import hook wraps and compiles them anew at every call, which made the core's tests four
times as slow.
"""

import functools
import importlib
import inspect
import pkgutil
import sys
from collections import defaultdict
from collections.abc import Callable
from types import FunctionType
from typing import Any, get_args

import beartype
from jaxtyping import AbstractArray, jaxtyped

from medmol_diffusion import core

CALLS = 20
"""Of each function that are checked in one test: a sampler makes the same ones at every step."""
_left: defaultdict[Callable[..., Any], int] = defaultdict(int)
"""How many of them are still to come."""


def check_calls(count: int) -> None:
    """From now on, the next so many of each function."""
    _left.clear()
    _left.default_factory = lambda: count


def hold_the_core() -> None:
    """Functions and methods of the core that have shapes are exchanged for checked ones, wherever they were imported.

    jaxtyping is to be imported before the core (core/shapes.py).
    """
    names = [found.name for found in pkgutil.walk_packages(core.__path__, f"{core.__name__}.")]
    modules = [importlib.import_module(name) for name in names]
    exchanged: dict[Callable[..., Any], Callable[..., Any]] = {}
    for module in modules:
        for value in list(vars(module).values()):
            if getattr(value, "__module__", None) != module.__name__:
                continue
            if isinstance(value, FunctionType) and _has_shapes(value):
                exchanged[value] = _held(value)
            elif isinstance(value, type):
                _hold_methods(value)
    for name, module in list(sys.modules.items()):
        if name.startswith("medmol_diffusion"):
            for key, value in list(vars(module).items()):
                if isinstance(value, FunctionType) and value in exchanged:
                    setattr(module, key, exchanged[value])


def _hold_methods(kind: type) -> None:
    for name, value in list(vars(kind).items()):
        function = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
        if isinstance(function, FunctionType) and _has_shapes(function):
            held = _held(function)
            setattr(kind, name, held if function is value else type(value)(held))


def _held(function: Callable[..., Any]) -> Callable[..., Any]:
    strict = jaxtyped(function, typechecker=_checked)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if not _left[function]:
            return function(*args, **kwargs)
        _left[function] -= 1
        return strict(*args, **kwargs)

    return call


def _checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function by beartype, its annotations without shapes left out."""
    hints = inspect.get_annotations(function)
    function.__annotations__ = {name: hint for name, hint in hints.items() if _is_shape(hint)}
    return beartype.beartype(function)


def _has_shapes(function: Callable[..., Any]) -> bool:
    return any(map(_is_shape, inspect.get_annotations(function).values()))


def _is_shape(hint: Any) -> bool:
    return (isinstance(hint, type) and issubclass(hint, AbstractArray)) or any(map(_is_shape, get_args(hint)))
