"""MODULE:FUNCTION: a function of the user's own, as the command line names it."""

import contextlib
import importlib
import inspect
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cwjax.arguments import reason_of
from cwjax.frameworks import framework_of
from cwjax.lab.console.spelling import near
from cwjax.models import Model, takes

_EXTRAS = ("torch", "keras", "equinox", "haiku", "sklearn", "onnx")
"""Packages that models are written in. The extra of cwjax that installs one has its name."""


def named(flag: str, name: str) -> Callable[..., Any]:
    """The function of this name. Its module may lie in the working folder.

    Args:
      flag: of the command line, for the error: "--model".
      name: MODULE:FUNCTION, such as mynet:model or my.nets:small.

    Raises:
      ValueError: there is no such function, or its module cannot be imported; in one line.
    """
    module, _, function = name.partition(":")
    if not module or not function:
        raise ValueError(f"{flag} {name} is no MODULE:FUNCTION, such as mynet:model for the function model of mynet.py")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    with blamed(flag, name):
        holder = importlib.import_module(module)
        found = getattr(holder, function, None)
    if found is None:
        own = [key for key, value in vars(holder).items() if getattr(value, "__module__", "") == module]
        has = f"{near(function, own)}it has {', '.join(own)}" if own else "it defines none"
        raise ValueError(f"{flag} {name}: {module} has no function {function}: {has}")
    if not callable(found):
        raise ValueError(f"{flag} {name} is no function, but of the type {type(found).__name__}")
    return found


def maker(flag: str, name: str, makes: str = "the model") -> Callable[[], Any]:
    """The function of this name, which takes nothing: see `named`.

    Args:
      flag: of the command line, for the error.
      name: MODULE:FUNCTION.
      makes: what it returns, for the error.

    Raises:
      ValueError: as `named` does; it is the model itself; it cannot be called without arguments.
    """
    function, (_, _, own) = named(flag, name), name.partition(":")
    must = f"{flag} {name} must be a function without arguments that returns {makes}"
    if isinstance(function, Model) or (framework_of(function) and not isinstance(function, type)):
        raise ValueError(f"{must}, got a {type(function).__name__}: write def model(): return {own}, and name model")
    if not takes(function, 0):
        signature = inspect.signature(function)
        bound = f"{own}, params" if len(signature.parameters) == 2 else f"lambda params, x: {own}(x)"
        raise ValueError(
            f"{must}, got {own}{signature}; if that is the network: def model(): return cwjax.bind({bound}), and name "
            "model"
        )
    return function


@contextlib.contextmanager
def blamed(flag: str, name: str) -> Iterator[None]:
    """Whatever the user's code raises in the block is a ValueError of one line that names the flag. So is sys.exit."""
    try:
        yield
    except (Exception, SystemExit) as error:
        raise ValueError(f"{flag} {name}: {' '.join(_said(error, name).split())}") from error


def _said(error: BaseException, name: str) -> str:
    """What went wrong in the user's code; of a package that is missing, how to install it."""
    if isinstance(error, SystemExit):
        return reason_of(error)
    if isinstance(error, ModuleNotFoundError) and error.name:
        module, colon, _ = name.partition(":")
        if colon and f"{module}.".startswith(f"{error.name}."):
            return f"there is no {error.name.replace('.', '/')}.py in this folder or on PYTHONPATH"
        package = error.name.partition(".")[0]
        known = package in _EXTRAS
        how = f"not installed: pip install 'cwjax[{package}]'" if known else "neither installed nor in this folder"
        return f"it imports {error.name}, which is {how}"
    return f"{type(error).__name__}: {error}"
