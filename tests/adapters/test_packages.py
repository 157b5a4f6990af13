import sys
from pathlib import Path

import numpy
import pytest

from cwjax import adapters
from cwjax.adapters.packages import package


def test_a_package_that_is_there():
    assert package("numpy", extra="none", wanted_by="me") is numpy


def test_a_package_that_is_missing_names_the_extra(monkeypatch):
    for name in ("onnx", "onnx.helper"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"from_onnx needs onnx, which is not installed: pip install 'cwjax\[onnx\]'"):
        package("onnx", extra="onnx", wanted_by="from_onnx")
    with pytest.raises(ImportError, match=r"needs onnx, which is not installed"):
        package("onnx.helper", extra="onnx", wanted_by="from_onnx")


@pytest.mark.parametrize("name", sorted(adapters._WHERE))
def test_the_module_that_a_name_is_imported_from_is_there(name):
    """Also where the framework that it needs is not."""
    module, _ = adapters._WHERE[name]
    assert Path(adapters.__file__).parent.joinpath(*module.split(".")).with_suffix(".py").is_file()
