"""Models of other frameworks as cwjax models. No framework is imported before it is asked for."""

import importlib
from typing import Any

from cwjax.adapters.checking import NotConvertible, confirmed
from cwjax.adapters.inputs import adapted, inputs_of

_WHERE: dict[str, str] = {}  # a name -> the module below this folder that is imported when it is first used

__all__ = ["NotConvertible", "adapted", "confirmed", "inputs_of"]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'cwjax.adapters' has no attribute {name!r}")
    return getattr(importlib.import_module(f"cwjax.adapters.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
