import jax
import jax.numpy as jnp
import numpy as np

from cwjax.coverage import jaxprs

X = jnp.linspace(-2, 2, 12).reshape(3, 4)


def nested(x):
    inner = jax.jit(lambda x: jax.jit(jax.nn.relu)(x) + 1)
    return {"twice": inner(inner(x)), "gate": jax.nn.sigmoid(x)}


def test_a_flat_program_computes_the_same():
    program, structure = jaxprs.flattened(nested, X)
    outputs = jax.tree.unflatten(structure, jaxprs.evaluated(program, [X]))
    for name, value in nested(X).items():
        np.testing.assert_allclose(outputs[name], value, rtol=1e-6)


def test_calls_are_written_out_and_activation_functions_are_not():
    program, _ = jaxprs.flattened(nested, X)
    assert [name for name in map(jaxprs.called, program.jaxpr.eqns) if name] == ["relu", "relu"]
    assert sum(step.primitive.name == "add" for step in program.jaxpr.eqns) == 2


def test_a_variable_inside_can_be_asked_for():
    program, _ = jaxprs.flattened(nested, X)
    [first, *_] = [step for step in program.jaxpr.eqns if jaxprs.called(step)]
    [value] = jaxprs.evaluated(program, [X], [first.outvars[0]])
    np.testing.assert_array_equal(value, jax.nn.relu(X))


def test_constants_of_a_program_come_along():
    table = np.arange(4, dtype=np.float32)
    program, _ = jaxprs.flattened(lambda x: jax.jit(lambda x: jax.nn.relu(x) * jnp.asarray(table)[None])(x), X)
    np.testing.assert_allclose(jaxprs.evaluated(program, [X])[0], np.maximum(X, 0) * table[None])
