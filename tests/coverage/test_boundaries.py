import numpy as np
import pytest

import cwjax as cw
from tests.coverage import made

OF = made.convention(1)
PROFILE = made.profile_of(np.asarray([[0], [10]], np.float32), OF)  # σ = 5


@pytest.mark.parametrize(
    ("offset", "value", "corners", "strong"),
    [(0, 0, 0, 0), (0, 10, 0, 0), (0, 10.1, 0.5, 1), (0, -0.1, 0.5, 0), (1, 15, 0, 0), (1, 15.1, 0.5, 1)],
)
def test_the_corners_of_one_neuron_are_strict(offset, value, corners, strong):
    seen = made.activations(np.asarray([[value]], np.float32), OF)
    for make, expected in (
        (cw.coverage.boundary_coverage, corners),
        (cw.coverage.strong_activation_coverage, strong),
    ):
        it = make(PROFILE, offset=offset)
        assert it.value(made.updated(it, seen)).value == expected


@pytest.mark.usefixtures("as_users_have_it")
def test_mistakes():
    with pytest.raises(ValueError, match="offset must be at least 0"):
        cw.coverage.boundary_coverage(PROFILE, offset=-1)
