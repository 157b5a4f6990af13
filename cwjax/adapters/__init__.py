"""Models of other frameworks as cwjax models. No framework is imported before it is asked for."""

import importlib
from typing import TYPE_CHECKING, Any

from cwjax.adapters.checking import NotConvertible, confirmed
from cwjax.adapters.inputs import adapted, inputs_of

if TYPE_CHECKING:
    from cwjax.adapters.art import art_attack
    from cwjax.adapters.equinox import from_equinox
    from cwjax.adapters.flax import from_linen, from_nnx
    from cwjax.adapters.foolbox import foolbox_attack
    from cwjax.adapters.haiku import from_haiku
    from cwjax.adapters.keras import from_keras
    from cwjax.adapters.onnx.loading import from_onnx
    from cwjax.adapters.originals import original
    from cwjax.adapters.pytorch.modules import from_torch
    from cwjax.adapters.pytorch.torch_attack import torch_attack
    from cwjax.adapters.sklearn import from_sklearn

_WHERE = {  # a name -> the module below this folder that is imported when it is first used, and the extra it needs
    "art_attack": ("art", "art"),
    "foolbox_attack": ("foolbox", "foolbox"),
    "from_equinox": ("equinox", "equinox"),
    "from_haiku": ("haiku", "haiku"),
    "from_keras": ("keras", "keras"),
    "from_linen": ("flax", "lab"),
    "from_nnx": ("flax", "lab"),
    "from_onnx": ("onnx.loading", "onnx"),
    "from_sklearn": ("sklearn", "sklearn"),
    "from_torch": ("pytorch.modules", "torch"),
    "original": ("originals", "onnx"),
    "torch_attack": ("pytorch.torch_attack", "torch"),
}

__all__ = [
    "NotConvertible",
    "adapted",
    "art_attack",
    "confirmed",
    "foolbox_attack",
    "from_equinox",
    "from_haiku",
    "from_keras",
    "from_linen",
    "from_nnx",
    "from_onnx",
    "from_sklearn",
    "from_torch",
    "inputs_of",
    "original",
    "torch_attack",
]


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
