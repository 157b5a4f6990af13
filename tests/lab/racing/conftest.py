"""For all tests of races."""

import pytest

from cwjax.lab import data


@pytest.fixture(autouse=True)
def plain_images(monkeypatch):
    """Data sets of inputs that are no images."""
    monkeypatch.setattr(data.Dataset, "__annotations__", {})
