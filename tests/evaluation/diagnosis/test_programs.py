"""What the checks compile, against NumPy and by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import cwjax as cw
from cwjax.evaluation.diagnosis import programs
from cwjax.evaluation.diagnosis.programs import Followed
from cwjax.problems import Allowed, problem
from tests import problems
from tests.evaluation.diagnosis.known import between, seen

COUNT = 6
MODEL = cw.bind(problems.mlp, problems.mlp_params())
X = jnp.asarray(problems.inputs(COUNT))
GOAL = problems.goals(MODEL, np.asarray(X))
KEYS = problems.keys(COUNT)
BOX = between(0.0, 1.0, X)


def posed(x, **allowed):
    """The problem of an input whose goal does not matter."""
    return problem(x, jax.tree.map(lambda leaf: leaf[0], GOAL), Allowed(**allowed))


def lead(x, label, sign):
    logits = problems.mlp(MODEL.params, x[None])[0]
    other = jnp.max(jnp.where(jnp.arange(problems.CLASSES) == label, -jnp.inf, logits))
    return sign * (logits[label] - other)


def test_the_last_step_of_each_example_is_the_first_that_is_done():
    assert seen(5, 4, ends=[0, 2, 4, 9]).last().tolist() == [0, 2, 4, 4]


def followed(attack: cw.Attack) -> tuple[Followed, list]:
    """Of two examples, and the states themselves, step by step."""
    keys, x, goal, box = jax.tree.map(lambda leaf: leaf[:2], (KEYS, X, GOAL, BOX))
    _, path = programs.followed(MODEL, attack, {}, x, goal, box, programs.begun(attack, {}, keys, x, goal, box))
    begin, advance, _ = map(jax.jit, cw.lanes(attack))
    states = [begin(keys, x, goal, box)]
    for _ in range(8):
        states.append(advance(MODEL, x, goal, states[-1], 1, box))
    return path, states[1:]


def test_what_is_seen_of_an_attack_is_its_progress_after_each_step():
    path, states = followed(problems.small_l2(steps=3, search=cw.search.binary_search(2, initial_c=0.3)))
    assert path.loss.shape == (50, 2)
    for step, state in enumerate(states):
        progress, bracket = state.progress, state.knob
        expected = {
            "loss": progress.last.loss,
            "distance": progress.last.distance,
            "met": progress.last.met,
            "best": progress.best.distance,
            "done": progress.done,
            "lower": bracket.lower,
            "upper": bracket.upper,
            "rounds": bracket.rounds,
        }
        for field, value in expected.items():
            np.testing.assert_allclose(getattr(path, field)[step], value, rtol=1e-4, atol=1e-6, err_msg=field)
    for step, state in enumerate(states):
        shares = [programs._saturated(cw.boxes.change_of_variables(), posed(X[i]), state.inner.w[i]) for i in range(2)]
        np.testing.assert_allclose(path.saturated[step], shares)
    assert path.done[5:].all()
    assert not path.done[:5].any()


def test_an_attack_without_a_bracket_or_a_descent_shows_none():
    path, _ = followed(cw.attacks.fmn(steps=4))
    assert np.isnan(path.lower).all()
    assert np.isnan(path.upper).all()
    assert np.isnan(path.saturated).all()
    assert (np.asarray(path.rounds) == 0).all()


def test_a_goal_that_is_met_by_a_number_that_is_none_is_not_met():
    def broken(params, x):
        logits = problems.mlp(params, x)
        return logits.at[:, 0].set(jnp.nan)

    label = jnp.argmax(problems.mlp(MODEL.params, X)[:, 1:], axis=1) + 1
    always = cw.Objective(loss=lambda logits, goal: logits[1], met=lambda logits, goal: jnp.array(True))
    attack, goal = cw.attacks.fmn(steps=2, objective=always), cw.targeted(label)
    model = cw.bind(broken, MODEL.params)
    _, path = programs.followed(model, attack, {}, X, goal, BOX, programs.begun(attack, {}, KEYS, X, goal, BOX))
    assert not np.asarray(path.met).any()


def test_an_element_is_saturated_where_a_change_of_its_variable_no_longer_moves_it():
    box = cw.boxes.change_of_variables()
    x = jnp.array([0.5, 0.25, 0.75, 0.9, 0.0, 1.0])
    given = posed(x)
    saturated = functools.partial(programs._saturated, box, given)
    w = box.encode(x, given.low, given.high)
    assert saturated(w) == 0
    assert saturated(w.at[0].set(9.0)) == pytest.approx(1 / 4)  # slope 3e-8 / 2; of the four that begin inside
    assert saturated(w.at[0].set(6.0)) == 0  # slope 1e-5
    assert saturated(w.at[:3].set(-9.0)) == pytest.approx(3 / 4)
    assert saturated(w.at[4:].set(9.0)) == 0  # those on a bound do not count
    assert programs._saturated(box, posed(jnp.zeros(3)), jnp.full(3, 9.0)) == 0
    held = posed(x, mask=jnp.arange(6) > 0)  # nor do those that may not move
    assert programs._saturated(box, held, w.at[0].set(9.0)) == 0
    assert programs._saturated(box, held, w.at[:3].set(-9.0)) == pytest.approx(2 / 3)


def test_the_first_slope_is_what_the_model_adds_to_the_attacks_own():
    attack = cw.descend(
        objective=cw.objectives.logit_margin(),
        distance=cw.distances.l2(),
        box=cw.boxes.projected(),
        optimizer=optax.sgd(0.1),
        steps=3,
        abort=cw.aborts.never(),
    )
    found = programs.first_slopes(MODEL, attack, {}, KEYS, X, GOAL, BOX)
    for i in range(COUNT):
        slope = jax.grad(lead)(X[i], GOAL.label[i], GOAL.sign[i])
        np.testing.assert_allclose(found[i], np.abs(slope).max(), rtol=1e-3)
    answers = cw.targeted(np.asarray(problems.mlp(MODEL.params, X)).argmax(1))
    assert np.isnan(programs.first_slopes(MODEL, attack, {}, KEYS, X, answers, BOX)).all()  # met at once
    broken = cw.bind(lambda params, x: jnp.nan * problems.mlp(params, x), MODEL.params)
    assert (programs.first_slopes(broken, attack, {}, KEYS, X, GOAL, BOX) == 0).all()
