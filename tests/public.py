"""The public names: what the front door leads to. The tests and the site's reference are held to this list."""

import types
from collections.abc import Iterator

import cwjax


def modules(module: types.ModuleType = cwjax) -> dict[str, types.ModuleType]:
    """By name, every module that one gets to through the `__all__` of another, `cwjax` first."""
    found = {module.__name__: module}
    for name in getattr(module, "__all__", ()):
        try:
            value = getattr(module, name)
        except ImportError:  # an adapter whose framework is not installed
            continue
        if isinstance(value, types.ModuleType) and value.__name__ not in found:
            found |= {each: it for each, it in modules(value).items() if each not in found}
    return found


def names(module: types.ModuleType) -> Iterator[str]:
    """What a module offers besides other modules: its `__all__`, or what is defined in it and has a docstring."""
    for name in getattr(module, "__all__", None) or [*vars(module)]:
        try:
            value = getattr(module, name)
        except ImportError:
            yield name
            continue
        own = hasattr(module, "__all__") or getattr(value, "__module__", None) == module.__name__
        if own and not name.startswith("_") and not isinstance(value, types.ModuleType):
            yield name
