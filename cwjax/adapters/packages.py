"""Packages of other frameworks, imported when they are used."""

import importlib
from typing import Any


def package(name: str, *, extra: str, wanted_by: str) -> Any:
    """The package, or a module of it.

    Args:
      name: of the module, such as "onnx.helper".
      extra: of cwjax that installs it.
      wanted_by: the function that the user called, for the error.

    Raises:
      ImportError: the package is not installed; the message says how to install it.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and error.name.partition(".")[0] != name.partition(".")[0]:
            raise  # something that the package itself needs
        missing = name.partition(".")[0]
        raise ImportError(
            f"{wanted_by} needs {missing}, which is not installed: pip install 'cwjax[{extra}]'"
        ) from error
