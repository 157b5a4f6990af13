import sys

import numpy
import pytest

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
