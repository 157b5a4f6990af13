import jax
import jax.numpy as jnp
import numpy as np

import cwjax as cw
from cwjax.coverage import Convention, Layer
from cwjax.coverage.convention import of_layers
from tests.coverage import made


def test_where_each_layers_neurons_lie():
    of = made.convention(3, 1, 4)
    assert of.neurons == 8
    assert of.slices == (slice(0, 3), slice(3, 4), slice(4, 8))
    assert str(of) == "8 neurons, each the element after the activation function, of relu_0, relu_1, relu_2"


def test_the_ends_of_a_layer_are_those_of_its_elements():
    layers = (Layer("relu_0", "activation", (2, 2, 3), 2, 3), Layer("relu_1", "activation", (4,), 0, 4))
    values = [jnp.arange(24.0).reshape(2, 2, 2, 3), jnp.ones((2, 4), jnp.bfloat16)]
    seen = of_layers(values, Convention(layers, "after", "channel mean"))
    np.testing.assert_array_equal(seen.values[0], [4.5, 5.5, 6.5, 1, 1, 1, 1])
    np.testing.assert_array_equal(seen.low, [[0, 1], [12, 1]])
    np.testing.assert_array_equal(seen.high, [[11, 1], [23, 1]])
    assert seen.values.dtype == jnp.float32, "what is narrower is widened first"


def test_a_networks_hash_is_of_values_shapes_and_dtypes():
    x = np.ones((2, 4), np.float32)

    def hashed(weights) -> str:
        return cw.coverage.neurons(
            cw.bind(lambda params, x: jnp.tanh(x * jnp.ravel(params[0])[0]), weights), x
        ).network()

    weights = np.ones(4, np.float32)
    hashes = [hashed([each]) for each in (weights, weights * 2, weights.reshape(2, 2), weights.astype(np.int32))]
    assert len(set(hashes)) == 4
    assert hashed([weights]) == hashes[0]
    assert hashed([weights, jax.random.key(0)]) != hashed([weights, jax.random.key(1)])
