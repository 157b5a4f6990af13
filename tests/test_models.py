"""Models are arguments: pytrees whose new weights never recompile, and that may bring their own scale of inputs."""

import chex
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

import cwjax as cw


def linear(params, x):
    return x.reshape(len(x), -1) @ params["weights"] + params["offset"][None]


def some_params(seed: int) -> dict[str, jax.Array]:
    generator = np.random.default_rng(seed)
    return {
        "weights": jnp.asarray(generator.normal(size=(12, 4)), jnp.float32),
        "offset": jnp.asarray(generator.normal(size=4), jnp.float32),
    }


def some_image(dtype=jnp.float32) -> jax.Array:
    return jnp.asarray(np.random.default_rng(9).uniform(size=(2, 2, 3)), dtype)


def by_hand(params, x) -> np.ndarray:
    weights, offset = (np.asarray(params[name], np.float64) for name in ("weights", "offset"))
    return np.asarray(x, np.float64).ravel() @ weights + offset


def test_a_model_takes_one_input_and_its_function_a_batch():
    params, x = some_params(0), some_image()
    shapes = []

    def apply(params, x):
        shapes.append(x.shape)
        return linear(params, x)

    logits = cw.bind(apply, params)(x)
    assert shapes == [(1, 2, 2, 3)]
    assert logits.shape == (4,)
    np.testing.assert_allclose(logits, by_hand(params, x), rtol=1e-5, atol=1e-6)


def test_a_model_is_a_pytree_of_its_weights():
    params = some_params(0)
    model = cw.bind(linear, params)
    leaves, treedef = jax.tree.flatten(model)
    assert [id(leaf) for leaf in leaves] == [id(leaf) for leaf in jax.tree.leaves(params)]
    assert treedef == jax.tree.structure(cw.bind(linear, some_params(1)))
    assert treedef != jax.tree.structure(cw.bind(lambda params, x: linear(params, x), params))
    doubled = jax.tree.map(lambda leaf: 2 * leaf, model)
    assert isinstance(doubled, cw.Model)
    np.testing.assert_allclose(doubled(some_image()), 2 * by_hand(params, some_image()), rtol=1e-5, atol=1e-6)


def test_a_model_without_weights():
    model = cw.bind(lambda params, x: x.sum((1, 2)))
    assert jax.tree.leaves(model) == []
    np.testing.assert_allclose(model(some_image()), np.asarray(some_image()).sum((0, 1)), rtol=1e-6)


def test_new_weights_do_not_compile_again():
    chex.clear_trace_counter()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def run(model, x):
        return model(x)

    for seed in range(3):
        params, x = some_params(seed), some_image()
        np.testing.assert_allclose(run(cw.bind(linear, params), x), by_hand(params, x), rtol=1e-5, atol=1e-6)


MEAN, STD = np.array([0.49, 0.48, 0.45]), np.array([0.25, 0.5, 2.0])  # one number a channel


@pytest.mark.parametrize(
    ("mean", "std"), [(MEAN, STD), (0.5, 0.25), (MEAN, 0.25), (jnp.asarray(MEAN), jnp.asarray(STD))]
)
def test_normalised_is_the_model_of_the_normalised_input(mean, std):
    params, x = some_params(0), some_image()
    expected = by_hand(params, (np.asarray(x, np.float64) - np.asarray(mean)) / np.asarray(std))
    np.testing.assert_allclose(cw.normalised(cw.bind(linear, params), mean, std)(x), expected, rtol=1e-5, atol=1e-5)


def test_normalised_keeps_the_inputs_dtype():
    seen = []

    def apply(params, x):
        seen.append(x.dtype)
        return linear(params, x)

    cw.normalised(cw.bind(apply, some_params(0)), MEAN, STD)(some_image(jnp.bfloat16))
    assert seen == [jnp.bfloat16]


def test_normalised_twice():
    params, x = some_params(0), some_image()
    model = cw.normalised(cw.normalised(cw.bind(linear, params), MEAN, STD), 0.0, 1 / 255)
    expected = by_hand(params, (np.asarray(x, np.float64) * 255 - MEAN) / STD)
    np.testing.assert_allclose(model(x), expected, rtol=1e-5, atol=1e-3)


def test_normalised_models_share_one_program():
    chex.clear_trace_counter()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def run(model, x):
        return model(x)

    models = [cw.normalised(cw.bind(linear, some_params(seed)), MEAN + seed, STD) for seed in range(3)]
    assert len({jax.tree.structure(model) for model in models}) == 1
    answers = [np.asarray(run(model, some_image())) for model in models]
    assert not np.allclose(answers[0], answers[1])
    other = cw.normalised(cw.bind(lambda params, x: linear(params, x), some_params(0)), MEAN, STD)
    assert jax.tree.structure(other) != jax.tree.structure(models[0])


@pytest.mark.parametrize("wrong", [3, {"weights": 1.0}, np.zeros(3), None])
def test_binding_what_is_no_function_raises(wrong, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as users have it
    with pytest.raises(TypeError, match=f"bind takes a function .* got {type(wrong).__name__}"):
        cw.bind(wrong, some_params(0))


@pytest.mark.parametrize(
    ("mean", "std"), [(0.0, [1.0, 0.0, 1.0]), ([0.0, np.nan, 0.0], 1.0), ([np.inf, 0.0, 0.0], 1.0), (0.0, -1.0)]
)
def test_a_scale_that_is_none_is_refused(mean, std):
    with pytest.raises(ValueError, match="normalised takes a finite mean and a std above 0, got mean="):
        cw.normalised(cw.bind(linear, some_params(0)), np.asarray(mean), np.asarray(std))


@pytest.mark.parametrize("traced", ["mean", "std"])
def test_a_scale_may_be_traced(traced):
    params, x, scale = some_params(0), some_image(), {"mean": 0.5, "std": 0.25}

    @jax.jit
    def run(number):
        return cw.normalised(cw.bind(linear, params), **scale | {traced: number})(x)

    np.testing.assert_allclose(run(scale[traced]), by_hand(params, (np.asarray(x, np.float64) - 0.5) / 0.25), rtol=1e-4)
