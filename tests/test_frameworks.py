"""Modules of other frameworks are known by the names of their classes, and refused with the lines that help."""

import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

import cwjax as cw
from cwjax.frameworks import FRAMEWORKS, as_array, described, framework_of
from cwjax.lab.subjects import model_of

pytestmark = pytest.mark.usefixtures("as_users_have_it")

X = np.random.default_rng(0).uniform(size=(4, 6)).astype(np.float32)
GOAL = cw.untargeted(np.zeros(4, int))


def made(*bases: str) -> type:
    """A class of one's own that inherits from classes of these names, the nearest first."""
    kind: type = object
    for name in reversed(bases):
        module, _, base = name.rpartition(".")
        kind = type(base, (kind,), {"__module__": module})
    return type("Net", (kind,), {"__module__": "mine", "__call__": lambda self, params, x: x})


# The base classes as the frameworks name them, the nearest first, and what each is called here.
MODULES = {
    ("torch.nn.modules.container.Sequential", "torch.nn.modules.module.Module"): "PyTorch",
    ("torch.jit._script.ScriptModule", "torch.nn.modules.module.Module"): "PyTorch",
    ("flax.nnx.module.Module", "flax.nnx.pytreelib.Pytree"): "Flax NNX",
    ("flax.linen.module.Module", "flax.linen.module.ModuleBase"): "Flax Linen",
    ("equinox.nn._mlp.MLP", "equinox._module._module.Module"): "Equinox",
    ("haiku._src.module.Module",): "Haiku",
    ("haiku._src.transform.Transformed",): "Haiku",
    ("haiku._src.transform.TransformedWithState",): "Haiku",
    ("keras.src.models.model.Model", "keras.src.layers.layer.Layer"): "Keras",
    ("keras.src.layers.core.dense.Dense", "keras.src.layers.layer.Layer"): "Keras",
    ("tf_keras.src.engine.training.Model",): "Keras",
    ("tensorflow.python.module.module.Module",): "Keras",
}


@pytest.mark.parametrize("bases", MODULES)
def test_a_module_is_refused_with_two_lines_that_bind_it(bases):
    kind = made(*bases)
    for net, what in ((kind(), "module"), (kind, "class of modules")):
        with pytest.raises(TypeError) as caught:
            cw.bind(net)
        first, *code = str(caught.value).splitlines()
        assert first.startswith(
            f"bind takes a function (params, x) -> logits first, got Net, a {what} of {MODULES[bases]}. Make a model"
        )
        assert len(code) == 2
        assert code[1].startswith("    model = ")
        compile("\n".join(line.strip() for line in code), "the recipe", "exec")
    with pytest.raises(
        TypeError, match=f"the model must come from cwjax.bind.*, got Net, a module of {MODULES[bases]}"
    ):
        cw.validate(kind(), X, GOAL)
    with pytest.raises(TypeError, match=f"a pytree of arrays as params, got Net, a module of {MODULES[bases]}"):
        cw.bind(lambda params, x: x, kind())


@pytest.mark.parametrize(
    "name",
    ["torchlike.nn.Module", "mine.torch.Module", "kerastuner.Model", "flax.core.Scope", "equinox._jit.Wrapper"],
)
def test_a_function_of_ones_own_is_no_module(name):
    model = cw.bind(made(name)())
    assert framework_of(model.apply) is None
    assert described(model.apply) == "Net"


def test_what_a_framework_has_compiled_is_a_function():
    wrapper = type("Wrapped", (made("equinox._module._module.Module"),), {"__wrapped__": print})
    assert framework_of(wrapper()) is None
    assert cw.bind(nnx.jit(lambda params, x: x)).params == ()
    apply: Any = linen.Dense(3).apply
    assert cw.bind(apply).params == ()


class Linen(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Dense(3)(x)


def given() -> dict[str, dict[str, Any]]:
    """What the recipes start from, of the frameworks that are here: names and values."""
    linear = Linen()
    return {
        "Flax NNX": {"net": nnx.Linear(6, 3, rngs=nnx.Rngs(0)), "shape": (6,)},
        "Flax Linen": {"net": linear, "params": linear.init(jax.random.key(0), X)["params"], "shape": (6,)},
    }


@pytest.mark.parametrize("name", given())
def test_the_recipe_makes_a_model_that_answers_as_the_module_does(name):
    names: dict[str, Any] = given()[name] | {"cw": cw, "jax": jax}
    framework = next(framework for framework in FRAMEWORKS if framework.name == name)
    with pytest.raises(TypeError, match=f"a module of {name}"):
        cw.bind(names["net"])
    exec(f"{framework.first}\n{framework.second}", names)
    net = names["net"].bind({"params": names["params"]}) if name == "Flax Linen" else names["net"]
    np.testing.assert_allclose(jax.vmap(names["model"])(jnp.asarray(X)), net(jnp.asarray(X)), rtol=1e-5, atol=1e-6)
    assert cw.validate(names["model"], X, GOAL).examples == 4


def test_a_network_of_nnx_will_do_as_params():
    net = nnx.Linear(6, 3, rngs=nnx.Rngs(0))
    assert cw.validate(cw.bind(lambda net, x: net(x), net), X, GOAL).examples == 4


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"a": [1.0, "two"]}, r"got str at params\['a'\]\[1\]$"),
        ([np.zeros(3), print], r"got builtin_function_or_method at params\[1\]$"),
        (np.array(["a", "b"]), r"got ndarray at params$"),
        (object(), r"got object at params$"),
        ([2**40], r"got int at params\[0\]$"),
    ],
)
def test_weights_that_are_no_arrays_are_refused(params, words):
    with pytest.raises(TypeError, match=f"^bind takes a pytree of arrays as params, {words}"):
        cw.bind(lambda params, x: x, params)


@pytest.mark.parametrize(
    "params",
    [(), None, 1.0, True, np.float32(1), np.zeros(2), jnp.zeros(2), {"a": [jnp.int8(1)]}, jax.random.key(0)],
)
def test_weights_that_are_arrays_are_taken(params):
    assert cw.bind(lambda params, x: x, params).params is params


def test_shapes_will_do_and_tracers():
    shape = jax.ShapeDtypeStruct((6, 3), jnp.float32)
    assert jax.eval_shape(lambda params: cw.bind(lambda params, x: x @ params, params)(jnp.zeros(6)), shape).shape == (
        3,
    )
    assert cw.bind(lambda params, x: x @ params, shape).params is shape


def my_module():
    return nnx.Linear(6, 3, rngs=nnx.Rngs(0))


def my_exit():
    sys.exit("no weights here")


def test_the_command_line_asks_for_the_shape_that_a_module_takes():
    with pytest.raises(ValueError, match=r"Say the shape .* --model tests.test_frameworks:my_module,shape=3/32/32"):
        model_of("tests.test_frameworks:my_module")


def test_the_command_line_survives_a_function_that_leaves():
    with pytest.raises(
        ValueError, match=r"--model tests.test_frameworks:my_exit: it calls sys.exit\('no weights here'\)"
    ):
        model_of("tests.test_frameworks:my_exit")


def test_a_tensor_becomes_an_array_and_nothing_else_does():
    values = np.arange(3)
    tensor = type("Tensor", (), {"__module__": "torch", "detach": lambda self: self, "cpu": lambda self: self})
    tensor.numpy = lambda self: values  # type: ignore
    assert as_array(tensor()) is values
    assert as_array(type("Parameter", (tensor,), {"__module__": "torch.nn"})()) is values
    for other in (values, jnp.ones(2), [1], None, type("Tensor", (), {"__module__": "mine"})()):
        assert as_array(other) is other


@pytest.mark.long
def test_no_framework_is_imported():
    names = {"flax", "torch", "equinox", "haiku", "keras", "tensorflow"}
    code = f"import sys, cwjax; print(sorted({names} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
