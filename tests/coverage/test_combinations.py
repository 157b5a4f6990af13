import itertools

import numpy as np
import pytest

import cwjax as cw
from tests.coverage import made

RNG = np.random.default_rng(8)
ON = RNG.random((9, 8)) < 0.5
OF = made.convention(6, 2)


@pytest.mark.parametrize("strength", [1, 2, 3, 5])
def test_against_a_count_of_every_combination(strength):
    it = cw.coverage.combination_coverage(OF, strength=strength)
    reached = it.value(made.updated(it, made.activations(ON.astype(np.float32), OF)))
    for layer, part in zip(OF.layers, OF.slices, strict=True):
        seen = [
            len({tuple(row) for row in ON[:, part][:, list(which)]})
            for which in itertools.combinations(range(layer.neurons), strength)
        ]
        assert (reached.covered[layer.name], reached.total[layer.name]) == (sum(seen), 2**strength * len(seen))


@pytest.mark.usefixtures("as_users_have_it")
def test_mistakes():
    with pytest.raises(ValueError, match="1,770 combinations of 2 neurons; from 1 to 100 can be kept"):
        cw.coverage.combination_coverage(made.convention(60), most=100)
    with pytest.raises(ValueError, match="0 combinations of 3 neurons"):
        cw.coverage.combination_coverage(made.convention(2), strength=3)
    with pytest.raises(ValueError, match="strength must be at most 5"):
        cw.coverage.combination_coverage(OF, strength=6)
    with pytest.raises(ValueError, match="share must be more than 0"):
        cw.coverage.combination_coverage(OF, share=0)
