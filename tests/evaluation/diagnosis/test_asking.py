"""How the checks ask the model, against NumPy and by hand."""

import jax
import jax.numpy as jnp
import numpy as np

import cwjax as cw
from cwjax.evaluation.diagnosis import asking
from tests import problems

COUNT = 6
MODEL = cw.bind(problems.mlp, problems.mlp_params())
X = jnp.asarray(problems.inputs(COUNT))
GOAL = problems.goals(MODEL, np.asarray(X))


def lead(x, label, sign):
    logits = problems.mlp(MODEL.params, x[None])[0]
    other = jnp.max(jnp.where(jnp.arange(problems.CLASSES) == label, -jnp.inf, logits))
    return sign * (logits[label] - other)


def test_slopes_are_of_the_margin_and_of_the_cross_entropy_of_the_answer():
    found = asking.slopes(MODEL, X, GOAL)
    for i in range(COUNT):
        value, slope = jax.value_and_grad(lead)(X[i], GOAL.label[i], GOAL.sign[i])
        np.testing.assert_allclose(found.margin[i], value, rtol=1e-5)
        np.testing.assert_allclose(found.slope[i], slope, rtol=1e-3, atol=1e-5)
        answer = problems.mlp(MODEL.params, X[i][None])[0].argmax()
        entropy = jax.grad(lambda x, answer=answer: -jax.nn.log_softmax(problems.mlp(MODEL.params, x[None])[0])[answer])
        np.testing.assert_allclose(found.entropy[i], np.abs(entropy(X[i])).max(), rtol=1e-3)


def test_blocks_are_filled_up_and_what_fills_them_is_left_out():
    seen = []

    def program(x):
        seen.append(x.tolist())
        return 2 * x

    assert asking.by_blocks(program, 4, np.arange(6)).tolist() == [0, 2, 4, 6, 8, 10]
    assert seen == [[0, 1, 2, 3], [4, 5, 0, 1]]


def test_code_that_draws_does_not_repeat_itself():
    state = np.random.default_rng(0)

    def drawing(params, x):
        return problems.mlp(params, x) + state.normal(size=(1, 1)).astype(np.float32)

    def calling(params, x):
        return jax.pure_callback(lambda x: np.asarray(x), x, x).reshape(len(x), -1)

    def inside(params, x):
        return jax.lax.map(lambda row: row.ravel() * state.normal(size=x[0].size), x)

    def relu(params, x):  # its printed program holds addresses
        return jax.nn.relu(problems.mlp(params, x))

    for apply, repeats in ((problems.mlp, True), (relu, True), (drawing, False), (calling, False), (inside, False)):
        assert asking.repeatable(cw.bind(apply, MODEL.params), X, None, 3) == repeats
