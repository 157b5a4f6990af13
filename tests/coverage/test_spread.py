import numpy as np
import pytest

import cwjax as cw
from tests.coverage import made

OF = made.convention(3, 5)


def test_against_numpy():
    values = np.random.default_rng(0).normal(size=(20, 8)).astype(np.float32)
    it = cw.coverage.covariance_spread(OF)
    reached = it.value(made.updated(it, made.activations(values, OF)))
    wanted = [np.abs(np.cov(values[:, part].T, ddof=0)).mean() for part in OF.slices]
    np.testing.assert_allclose(list(reached.covered.values()), wanted, rtol=1e-4)
    assert reached.value == pytest.approx(sum(wanted), rel=1e-4)


def test_a_layer_too_wide_is_refused():
    with pytest.raises(ValueError, match="relu_1 has more than 4 neurons"):
        cw.coverage.covariance_spread(OF, most=4)
