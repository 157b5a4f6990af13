import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cwjax.coverage import uncertainty
from tests import golden_net
from tests.coverage import made

SCORES = {
    "deepgini": uncertainty.gini,
    "vanilla_softmax": uncertainty.least_confidence,
    "pcs": uncertainty.margin,
    "entropy": uncertainty.entropy,
}


@pytest.mark.parametrize("name", SCORES)
def test_golden_scores_also_where_one_class_is_nearly_certain(name):
    """Of the golden network in float32, whose logits differ from those of the golden file by some 1e-5. The golden
    scores are 1 less a number near 1, in float64: they are exact to 1e-15.
    """
    model, digits = golden_net.load()[0], made.digits()
    logits = jax.jit(lambda model, x: model.of_batch(x))(model, digits)
    np.testing.assert_allclose(SCORES[name](logits), made.golden()[0][name], rtol=1e-3, atol=1e-15)


def test_a_certain_class_and_none():
    certain, unsure = jnp.asarray([[1e4, 0, 0, 0]]), jnp.zeros((1, 4))
    most = {"deepgini": 0.75, "vanilla_softmax": 0.75, "pcs": 1, "entropy": 2}
    for name, score in SCORES.items():
        assert score(certain)[0] == 0
        assert float(score(unsure)[0]) == pytest.approx(most[name])


def test_a_class_that_is_switched_off():
    for score in SCORES.values():
        np.testing.assert_allclose(
            score(jnp.asarray([[1.0, 0.5, -jnp.inf]])), score(jnp.asarray([[1.0, 0.5]])), rtol=1e-6
        )
