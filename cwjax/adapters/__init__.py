"""Models of other frameworks as cwjax models. No framework is imported before it is asked for."""

import importlib
from typing import TYPE_CHECKING, Any

from cwjax.adapters.checking import NotConvertible, confirmed
from cwjax.adapters.inputs import adapted, inputs_of

if TYPE_CHECKING:
    from cwjax.adapters.pytorch.attack import torch_attack
    from cwjax.adapters.pytorch.modules import from_torch

_WHERE = {  # a name -> the module below this folder that is imported when it is first used, and the extra it needs
    "from_torch": ("pytorch.modules", "torch"),
    "torch_attack": ("pytorch.attack", "torch"),
}

__all__ = ["NotConvertible", "adapted", "confirmed", "from_torch", "inputs_of", "torch_attack"]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'cwjax.adapters' has no attribute {name!r}")
    module, extra = _WHERE[name]
    try:
        return getattr(importlib.import_module(f"cwjax.adapters.{module}"), name)
    except ModuleNotFoundError as error:
        if not error.name or error.name.partition(".")[0] == "cwjax":
            raise
        raise ImportError(f"{name} needs {error.name}, which is not installed: pip install 'cwjax[{extra}]'") from error


def __dir__() -> list[str]:
    return sorted(__all__)
