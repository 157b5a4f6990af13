"""Models are arguments: pytrees whose new weights never recompile, and that may bring their own scale of inputs."""

from typing import Any

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


def test_a_function_of_one_argument_is_told_how_to_be_bound():
    words = (
        r"bind takes a function apply\(params, x\) -> logits, got f\(x\); .*: cwjax\.bind\(lambda params, x: f\(x\)\)$"
    )
    with pytest.raises(TypeError, match=words):
        cw.bind(lambda x: x)
    assert cw.bind(lambda *both: both[1])(jnp.ones(2)).tolist() == [1, 1]


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


# Several models, several draws, and what a model is told besides its input.


def scaled(params, x, context):
    return linear(params, x) * context["scale"][:, None] + context["offset"]


def some_context() -> dict[str, jax.Array]:
    return {"scale": jnp.float32(3.0), "offset": jnp.arange(4.0)}


def scaled_by_hand(params, x) -> np.ndarray:
    return by_hand(params, x) * 3 + np.arange(4)


def several(params, x) -> Any:
    return {"mean": x.mean((1, 2, 3)), "x": x}


def test_several_models_are_one_that_returns_a_tuple():
    params, x = [some_params(0), some_params(1)], some_image()
    models = [cw.bind(linear, params[0]), cw.normalised(cw.bind(linear, params[1]), MEAN, STD)]
    joined = cw.joined([*models, cw.bind(several)])
    outputs = joined(x)
    assert isinstance(outputs, tuple)
    for output, model in zip(outputs[:2], models, strict=True):
        np.testing.assert_array_equal(output, model(x))
    np.testing.assert_allclose(outputs[0], by_hand(params[0], x), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(outputs[2]["mean"], np.asarray(x).mean(), rtol=1e-6)
    np.testing.assert_array_equal(outputs[2]["x"], x)
    batch = joined.apply(joined.params, jnp.stack([x, 1 - x]))
    np.testing.assert_allclose(batch[1][1], models[1](1 - x), rtol=1e-5, atol=1e-5)


def test_each_of_several_models_is_told_the_context():
    params, x = [some_params(0), some_params(1)], some_image()
    outputs = cw.joined([cw.bind(scaled, each) for each in params])(x, some_context())
    for output, each in zip(outputs, params, strict=True):
        np.testing.assert_allclose(output, scaled_by_hand(each, x), rtol=1e-5, atol=1e-5)


def test_one_model_joined_is_a_tuple_of_one():
    (output,) = cw.joined([cw.bind(linear, some_params(0))])(some_image())
    np.testing.assert_allclose(output, by_hand(some_params(0), some_image()), rtol=1e-5, atol=1e-6)


def test_joined_takes_models(as_users_have_it):
    with pytest.raises(ValueError, match=r"^joined takes at least one model, got none$"):
        cw.joined([])
    with pytest.raises(TypeError, match=r"^joined takes models from cwjax.bind\(apply, params\), got a function$"):
        cw.joined([cw.bind(linear, some_params(0)), linear])  # type: ignore


DRAWS = np.random.default_rng(10).normal(size=(5, 2, 2, 3)).astype(np.float32)


def noisy(params, x, draw):
    return jnp.tanh(linear(params, x + draw["noise"][None]) * draw["factor"])


def noisy_by_hand(params, x) -> np.ndarray:
    shifted = [np.tanh(by_hand(params, np.asarray(x, np.float64) + draw) * (1 + row)) for row, draw in enumerate(DRAWS)]
    return np.mean(shifted, 0)


def of_noise(params) -> cw.Model:
    return cw.averaged(noisy, params, {"noise": DRAWS, "factor": np.arange(1.0, 6.0, dtype=np.float32)})


def test_an_averaged_model_is_the_mean_over_its_draws():
    params, x = some_params(0), some_image()
    model = of_noise(params)
    np.testing.assert_allclose(model(x), noisy_by_hand(params, x), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(jax.jit(lambda model, x: model(x))(model, x), model(x), rtol=1e-5)
    batch = model.apply(model.params, jnp.stack([x, 1 - x]))
    np.testing.assert_allclose(batch[1], noisy_by_hand(params, 1 - x), rtol=1e-4, atol=1e-5)


def test_the_slope_of_an_averaged_model_is_the_mean_of_the_slopes():
    params, x = some_params(0), some_image()

    def of_draw(row):
        draw = {"noise": DRAWS[row], "factor": jnp.float32(1 + row)}
        return jax.grad(lambda x: noisy(params, x[None], draw)[0, 2])(x)

    slope = jax.grad(lambda x: of_noise(params)(x)[2])(x)
    np.testing.assert_allclose(slope, np.mean([of_draw(row) for row in range(5)], 0), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("make", [jax.random.key, jax.random.PRNGKey])
def test_draws_may_be_keys(make):
    def dropped(params, x, key):
        return linear(params, x * jax.random.bernoulli(key, 0.5, x.shape))

    params, x, keys = some_params(0), some_image(), jax.random.split(make(4), 6)
    masks = [np.asarray(jax.random.bernoulli(key, 0.5, (1, 2, 2, 3)))[0] for key in keys]
    expected = np.mean([by_hand(params, np.asarray(x, np.float64) * mask) for mask in masks], 0)
    model = cw.averaged(dropped, params, keys)
    np.testing.assert_allclose(model(x), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(model(x), model(x))
    assert not np.allclose(model(x), cw.averaged(dropped, params, jax.random.split(make(5), 6))(x))


def test_the_outputs_of_an_averaged_model_may_be_any_pytree():
    model = cw.averaged(lambda params, x, draw: (x * draw, {"sum": (x + draw).sum((1, 2, 3))}), (), jnp.array([1.0, 4]))
    first, second = model(some_image())
    np.testing.assert_allclose(first, 2.5 * np.asarray(some_image()), rtol=1e-6)
    np.testing.assert_allclose(second["sum"], np.sum(some_image()) + 12 * 2.5, rtol=1e-5)


def test_other_draws_and_other_weights_do_not_compile_again():
    chex.clear_trace_counter()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def run(model, x):
        return model(x)

    def shifted(params, x, draw):
        return linear(params, x + draw)

    for seed in range(3):
        model = cw.averaged(shifted, some_params(seed), np.array([seed, seed + 1], np.float32))
        expected = by_hand(some_params(seed), np.asarray(some_image(), np.float64) + seed + 0.5)
        np.testing.assert_allclose(run(model, some_image()), expected, rtol=1e-4, atol=1e-5)
    joined = [jax.tree.structure(cw.joined([cw.bind(linear, some_params(seed))] * 2)) for seed in range(2)]
    assert joined[0] == joined[1]


@pytest.mark.parametrize(
    "draws", [(), np.zeros((0, 3)), 1.0, {"a": np.zeros((2, 3)), "b": np.zeros(3)}, {"a": np.zeros(2), "b": 1.0}]
)
def test_draws_that_are_none_are_refused(draws):
    with pytest.raises(
        ValueError, match=r"^draws must be a pytree of arrays that all have one entry for each draw, at"
    ):
        cw.averaged(noisy, some_params(0), draws)


def test_an_averaged_model_takes_a_function_and_arrays(as_users_have_it):
    with pytest.raises(TypeError, match=r"^bind takes a function"):
        cw.averaged(3, some_params(0), DRAWS)  # type: ignore
    with pytest.raises(TypeError, match=r"^bind takes a pytree of arrays as params, got "):
        cw.averaged(noisy, {"weights": "many"}, DRAWS)


def plain(params) -> cw.Model:
    return cw.bind(scaled, params)


def of_255(params) -> cw.Model:
    return cw.normalised(cw.bind(scaled, params), MEAN, STD)


WRAPPED = {
    "bind": (plain, lambda x: x),
    "normalised": (of_255, lambda x: (x - MEAN) / STD),
    "highest": (lambda params: cw.in_precision(plain(params), "highest"), lambda x: x),
    "tensorfloat32": (lambda params: cw.in_precision(of_255(params), "tensorfloat32"), lambda x: (x - MEAN) / STD),
}


@pytest.mark.parametrize("way", ["called", "given"])
@pytest.mark.parametrize("name", WRAPPED)
def test_a_model_is_told_its_context(name, way):
    make, scale = WRAPPED[name]
    model, x = make(some_params(0)), some_image()
    output = model(x, some_context()) if way == "called" else model.given(some_context())(x)
    expected = scaled_by_hand(some_params(0), scale(np.asarray(x, np.float64)))
    np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-4)


def test_in_bfloat16_a_context_is_in_bfloat16_too_and_outputs_are_not():
    seen = []

    def apply(params, x, context) -> Any:
        seen.extend(each.dtype for each in (x, context["scale"], context["length"]))
        return linear(params, x) * context["scale"][:, None], x.sum((1, 2, 3))

    context = {"scale": jnp.float32(3.0), "length": jnp.int32(2)}
    outputs = cw.in_precision(cw.bind(apply, some_params(0)), "bfloat16")(some_image(), context)
    assert seen == [jnp.bfloat16, jnp.bfloat16, jnp.int32]
    assert [output.dtype for output in outputs] == [jnp.float32, jnp.float32]
    np.testing.assert_allclose(outputs[0], by_hand(some_params(0), some_image()) * 3, atol=0.3)


def test_a_context_has_the_axis_of_the_batch_in_its_function():
    shapes = []

    def apply(params, x, context):
        shapes.extend((x.shape, context["scale"].shape, context["offset"].shape))
        return scaled(params, x, context)

    cw.bind(apply, some_params(0))(some_image(), {"scale": 3.0, "offset": np.arange(4.0, dtype=np.float32)})
    assert shapes == [(1, 2, 2, 3), (1,), (1, 4)]


def test_a_model_that_is_told_nothing_is_itself():
    model = cw.bind(linear, some_params(0))
    assert model.given(None) is model
    np.testing.assert_array_equal(model(some_image(), None), model(some_image()))


def test_a_model_that_is_told_something_is_a_pytree_of_its_weights_and_of_that():
    told = plain(some_params(0)).given(some_context())
    sizes = sorted(leaf.size for leaf in jax.tree.leaves(told))
    assert sizes == [1, 4, 4, 48]
    assert jax.tree.structure(told) == jax.tree.structure(plain(some_params(1)).given(some_context()))
