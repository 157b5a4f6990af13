"""Projected L-BFGS finds the minimum that SciPy's L-BFGS-B finds, and counts every trial point."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

import cwjax as cw
from cwjax.problems import problem
from tests import problems

C = 2.0  # the weight of f


def descended(x, goal, steps):
    """The least loss after each step, and the last state."""
    attack = cw.attacks.quasi_newton(
        objective=cw.objectives.cross_entropy(),
        distance=cw.distances.l2(),
        box=cw.boxes.projected(),
        steps=steps,
        abort=cw.aborts.never(),
    )
    given = problem(x, goal)._replace(c=jnp.asarray(C, x.dtype))
    model = cw.bind(problems.mlp, jax.tree.map(jnp.asarray, problems.mlp_params(dtype=np.float64)))
    step = jax.jit(lambda state: attack.step(model, given, state))
    state, losses = attack.init(jax.random.key(0), given), []
    while not state.progress.done:
        state = step(state)
        losses.append(float(state.memory.loss))
    return np.array(losses), state


def expected(x, goal):
    """The least loss that L-BFGS-B finds from x."""
    objective = cw.objectives.cross_entropy()
    params = jax.tree.map(jnp.asarray, problems.mlp_params(dtype=np.float64))

    @jax.jit
    @jax.value_and_grad
    def loss(flat):
        image = flat.reshape(problems.SHAPE)
        return jnp.sum((image - x) ** 2) + C * objective.loss(problems.mlp(params, image[None])[0], goal)

    solved = optimize.minimize(loss, np.ravel(x), jac=True, method="L-BFGS-B", bounds=[(0, 1)] * x.size)
    return float(solved.fun)


@pytest.mark.parametrize("place", [0, 1, *(pytest.param(place, marks=pytest.mark.long) for place in range(2, 6))])
def test_it_reaches_the_minimum_of_l_bfgs_b(place):
    with jax.enable_x64(True):
        x = jnp.asarray(problems.inputs(6)[place].astype(np.float64))
        goal = cw.LabelGoal(jnp.asarray(place % problems.CLASSES, jnp.int32), jnp.asarray(1.0))
        losses, state = descended(x, goal, 120)
        assert losses[-1] == pytest.approx(expected(x, goal), abs=1e-5)
        assert (np.diff(losses) <= 0).all()  # a trial point that is worse is not moved to
        assert int(state.progress.forwards) == int(state.progress.backwards) == len(losses) == int(state.taken)
        inside = np.asarray(state.memory.w)
        assert inside.min() >= 0
        assert inside.max() <= 1


def test_it_takes_far_fewer_gradients_than_gradient_descent_would():
    with jax.enable_x64(True):
        x = jnp.asarray(problems.inputs(6)[1].astype(np.float64))
        goal = cw.LabelGoal(jnp.asarray(1, jnp.int32), jnp.asarray(1.0))
        losses, _ = descended(x, goal, 500)
        assert len(losses) < 200  # it noticed by itself that there is nothing left to gain
        least = losses[-1]
        assert losses[25] - least < 0.01 * (losses[0] - least)


@pytest.mark.long
def test_the_attack_fools_and_reports_what_it_found():
    model = cw.bind(problems.mlp, problems.mlp_params())
    x = problems.inputs(8)
    goal = problems.goals(model, x)
    run = jax.jit(cw.batched(cw.lbfgs(steps=60)))
    result = run(model, problems.keys(8), jnp.asarray(x), goal)
    assert result.success.all()
    assert cw.metrics.successes(model, result.x, goal).all()
    reference = jax.jit(cw.batched(cw.l2(box=cw.boxes.projected(), steps=1000)))(
        model, problems.keys(8), jnp.asarray(x), goal
    )
    ratio = np.asarray(result.distance / reference.distance)
    assert np.median(ratio) < 1.1
    assert result.forwards.mean() < 0.2 * reference.forwards.mean()
