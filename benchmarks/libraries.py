"""Other libraries, as every benchmark that runs them needs them. They are imported when they are asked for."""

# pyright: reportMissingImports=false, reportPrivateImportUsage=false
import importlib
import sys
import types
from typing import Any


def attacks_of(module: str) -> Any:
    """The attacks of a library; adv-lib without what it imports for its other parts."""

    class Absent(types.ModuleType):
        def __getattr__(self, name):
            return None

    if module == "adv_lib":
        for name in ("torchvision", "torchvision.utils", "visdom"):
            sys.modules.setdefault(name, Absent(name))
    return importlib.import_module(f"{module}.attacks")


def art_classifier(net: Any, loss: Any, images: Any, classes: int) -> Any:
    """The network, a PyTorch module for images [N, C, H, W] in [0, 1], as ART attacks it."""
    from art.estimators.classification import PyTorchClassifier

    return PyTorchClassifier(net, loss, tuple(images.shape[1:]), classes, clip_values=(0, 1), device_type="cpu")
