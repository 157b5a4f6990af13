"""For the tests of attacks: some images."""

import pytest

from cwjax.lab import data
from tests.lab.conftest import Blobs


@pytest.fixture(scope="module")
def some():
    """Six blobs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(data.SOURCES, "blobs", Blobs())
        whole = data.load("blobs", "test")
    return whole._replace(images=whole.images[:6], labels=whole.labels[:6], index=whole.index[:6])
