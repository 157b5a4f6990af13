import jax.numpy as jnp
import numpy as np
import pytest

import cwjax as cw
from cwjax.coverage import Activations
from tests.coverage import made

OF = made.convention(3, 2)


def covered(values, *, of=OF, seen=None, **options):
    it = cw.coverage.neuron_coverage(of, **options)
    return it.value(made.updated(it, seen or made.activations(np.asarray(values, np.float32), of))).covered


def test_each_layer_of_each_input_is_scaled_by_itself():
    values = [[0, 50, 100, 0, 0.001], [3, 1, 1, 7, 7]]
    assert covered(values, threshold=0.5) == {"relu_0": 2, "relu_1": 1}
    assert covered(values, threshold=0.5, scaled=False) == {"relu_0": 3, "relu_1": 2}


def test_the_threshold_is_strict():
    values = [[0, 1, 2, 0, 0]]
    assert covered(values, threshold=0.5)["relu_0"] == 1
    assert covered(values, threshold=0.49)["relu_0"] == 2


def test_a_channels_mean_is_taken_after_the_whole_layer_is_scaled():
    """The two neurons have means 1 and 2 while an element of the layer is 10: neither is above a quarter."""
    seen = Activations(jnp.asarray([[1.0, 2.0]]), jnp.asarray([[0.0]]), jnp.asarray([[10.0]]))
    assert covered(None, of=made.convention(2), seen=seen, threshold=0.25) == {"relu_0": 0}
    assert covered(None, of=made.convention(2), seen=seen, threshold=0.15) == {"relu_0": 1}


@pytest.mark.usefixtures("as_users_have_it")
def test_mistakes():
    with pytest.raises(ValueError, match="threshold must be at least 0"):
        cw.coverage.neuron_coverage(OF, threshold=-0.1)
    cw.coverage.neuron_coverage(OF, threshold=-0.1, scaled=False)
