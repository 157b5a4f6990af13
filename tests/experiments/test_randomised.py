"""A tiny network with dropout, on one mask and on three."""

import jax
import numpy as np
import pytest

from experiments import randomised
from tests.experiments.conftest import check_table


@pytest.mark.long
def test_what_fools_every_mask_goes_farthest_and_holds_best(tmp_path):
    arguments = randomised.Arguments(
        data="blobs", updates=60, masks=3, fresh=20, examples=4, steps=40, seed=1, out=tmp_path
    )
    rows = randomised.main(arguments)
    check_table("randomised", rows, tmp_path)
    one, mean, every = rows
    assert one["success"] == mean["success"] == every["success"] == 1
    assert every["mean L2"] >= 0.99 * max(one["mean L2"], mean["mean L2"])
    assert every["misread under fresh masks"] >= one["misread under fresh masks"]


def test_masks_keep_the_mean():
    drawn = np.asarray(randomised.masks(jax.random.key(0), 500))
    assert set(np.unique(drawn)) == {0, 2}
    np.testing.assert_allclose(drawn.mean(), 1, atol=0.02)
