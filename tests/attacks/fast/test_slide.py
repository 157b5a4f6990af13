"""Count within a radius that is turned at every step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cwjax as cw
from cwjax.answers import Seen
from cwjax.attacks.fast import slide
from cwjax.base import untouched
from cwjax.parts.norms import NORMS
from cwjax.problems import problem as problem_of
from tests.attacks.fast.made import KEYS, MARGIN, SIZE, X, bent, followed, leg_of

WIDE = {"low": jnp.full(SIZE, -99.0), "high": jnp.full(SIZE, 99.0)}  # bounds that nothing meets


@pytest.mark.long
@pytest.mark.parametrize(
    ("norm", "times", "steps"),
    # In L-infinity 100 steps end at three times the distance: the first leg goes no farther than three times what the
    # slope promised, and the next begins anywhere in these wide bounds.
    [("l2", 6, 100), ("l2", 30, 300), ("linf", 6, 150), ("linf", 30, 300)],
)
def test_a_boundary_is_found_farther_away_than_the_slope_promises(norm, times, steps):
    model = cw.bind(bent, jnp.float32(0.9 / (times - 0.1)))
    for goal in (cw.untargeted(np.zeros(1, int)), cw.targeted(np.ones(1, int))):
        result = jax.jit(cw.batched(cw.fast(norm, steps=steps)))(model, KEYS[:1], X[:1], goal, low=-99, high=99)
        np.testing.assert_allclose(result.distance, times / (SIZE if norm == "linf" else SIZE**0.5), rtol=3e-2)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_first_look_at_a_model_is_also_the_first_step(norm):
    slope = jnp.linspace(-1, 2, SIZE)
    model = cw.bind(lambda slope, x: jnp.stack([0.7 + 0 * x[:, 0], (x - X[:1]) @ slope], axis=1), slope)
    attack = followed(slide.slide(norm, leg_of(1000), MARGIN), norm, 1000)
    problem = problem_of(X[0], cw.LabelGoal(jnp.int32(1), jnp.float32(1)))._replace(**WIDE)
    state = attack.step(model, problem, attack.init(KEYS[0], problem))
    promised = 0.7 / (jnp.sum(jnp.abs(slope)) if norm == "linf" else jnp.linalg.norm(slope))
    assert float(state.memory.tau) == pytest.approx(float(promised), rel=1e-5)
    gone = NORMS[norm].distance.measure(state.w - X[0])
    share = {"linf": 0.4, "l2": 1.0}[norm]  # in L2 a point is moved out onto the sphere
    assert float(gone / promised) == pytest.approx(share, rel=1e-4)


def seen_with(*, x, loss, slope, **told) -> Seen:
    """What a rule is told that goes down the loss itself."""
    return Seen(**told, w=x, x=x, loss=loss, slope=slope, total=loss, gradient=slope, outputs=jnp.zeros_like(x))


@pytest.mark.parametrize(("sign", "turned"), [(-1, True), (1, False)])
def test_once_there_is_an_example_the_last_slope_leads_away_from_a_label_and_their_mean_towards_one(sign, turned):
    rule = slide.slide("linf", leg_of(10_000), MARGIN)
    problem = problem_of(X[0], cw.LabelGoal(jnp.int32(1), jnp.float32(sign)))._replace(**WIDE)
    zero, example = jnp.zeros_like(X[0]), untouched(problem).best._replace(distance=jnp.float32(1))
    x, memory = rule.init(KEYS[0], problem)
    for taken, slope in enumerate([1.0, 1.0, 1.0, -1.0]):
        told = {"x": X[0], "delta": zero, "slope": jnp.full(SIZE, slope), "loss": jnp.float32(1)}
        told |= {"distance": zero.sum(), "met": jnp.array(True), "taken": jnp.int32(taken)}
        x, memory = rule.move(problem, memory, seen_with(**told, best=example))
    assert ((x > X[0]) == turned).all()


@pytest.mark.parametrize(("left", "farther"), [(0.6, 1.0), (0.7, 3.0)])  # of the loss after a step that was to take all
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_it_looks_farther_where_a_slope_does_not_keep_its_promise(norm, left, farther):
    rule, slope = slide.slide(norm, leg_of(10_000), MARGIN), jnp.linspace(-1, 2, SIZE)
    problem = problem_of(X[0], cw.LabelGoal(jnp.int32(1), jnp.float32(1)))._replace(**WIDE)
    promised = 1 / NORMS[norm].dual(slope)
    _, memory = rule.init(KEYS[0], problem)
    for taken, (loss, distance) in enumerate([(1.0, 0.0), (left, promised)]):
        told = {"x": X[0], "delta": jnp.zeros_like(X[0]), "slope": slope, "loss": jnp.float32(loss)}
        told |= {"distance": jnp.float32(distance), "met": jnp.array(False), "taken": jnp.int32(taken)}
        _, memory = rule.move(problem, memory, seen_with(**told, best=untouched(problem).best))
    assert float(memory.promise.distance / promised) == pytest.approx(farther, rel=1e-4)
