"""How lengths change over a run."""

import jax.numpy as jnp
import numpy as np
import pytest

import cwjax as cw
from cwjax.base import untouched
from cwjax.problems import problem as problem_of
from tests.attacks.fast.made import SIZE, X


@pytest.mark.parametrize("c", [1.0, 10.0])
def test_without_an_example_a_length_grows_to_ten_times_what_the_slope_promises(c):
    search = cw.search.multiplier(steps=40)
    plain = problem_of(X[0], cw.LabelGoal(jnp.int32(0), jnp.float32(-1)))
    problem = plain._replace(c=jnp.float32(c))
    nothing = untouched(problem)
    state, lengths = search.init(problem), []
    for step in range(40):
        loss, distance = (1, 0) if step == 0 else (1.0, SIZE**-0.5)
        seen = cw.base.Evaluation(jnp.float32(loss), jnp.float32(distance), jnp.array(False), jnp.ones(SIZE))
        state = search.tell(problem, state, nothing._replace(last=seen))
        lengths.append(float(state.length) * SIZE**0.5)
    assert lengths[0] == pytest.approx(1)
    assert (np.diff(lengths) >= 0).all()
    assert max(lengths[:12]) <= 3 * c
    assert 5 < lengths[-1] <= 10.1 * c
