"""What should not win, against the attacks themselves and by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cwjax as cw
from cwjax.evaluation.diagnosis import asking, weaker
from cwjax.parts.norms import NORMS
from cwjax.problems import Allowed
from tests import problems
from tests.evaluation.diagnosis.known import between

COUNT = 6
MODEL = cw.bind(problems.mlp, problems.mlp_params())
X = jnp.asarray(problems.inputs(COUNT))
GOAL = problems.goals(MODEL, np.asarray(X))
KEYS = problems.keys(COUNT)
LINF = cw.attacks.fmn(norm="linf")
BOX = between(0.0, 1.0, X)
UP = Allowed(low=X, high=jnp.minimum(X + 0.05, 1))  # each input its own


def lead(x, label, sign):
    logits = problems.mlp(MODEL.params, x[None])[0]
    other = jnp.max(jnp.where(jnp.arange(problems.CLASSES) == label, -jnp.inf, logits))
    return sign * (logits[label] - other)


@pytest.mark.parametrize("name", weaker.WEAKER)
@pytest.mark.parametrize(("norm", "order"), [("l1", 1), ("l2", 2), ("linf", np.inf)])
def test_a_weaker_attack_stays_within_each_examples_radius_and_the_box(name, norm, order):
    radius = jnp.array([0.1, 0.5, 1.0, 2.0, 4.0, 8.0]) * (1.0 if norm == "linf" else 3.0)
    result, asked = weaker.within(MODEL, KEYS, X, GOAL, BOX, radius, 0.0, name=name, norm=norm, block=COUNT)
    length = np.linalg.norm(np.asarray(result.x - X).reshape(COUNT, -1), order, axis=1)
    hit = np.asarray(result.success)
    assert (length <= np.asarray(radius) * 1.0001).all()
    np.testing.assert_allclose(result.distance[hit], length[hit], rtol=1e-4)
    assert result.x.min() >= 0
    assert result.x.max() <= 1
    assert hit.any()
    assert asked <= (2 if name == "fgsm" else 20) + 1
    assert asked == result.forwards.max() + 1  # of the clean input
    own, _ = weaker.within(MODEL, KEYS, X, GOAL, UP, radius, 0.0, name=name, norm=norm, block=COUNT)
    assert ((own.x >= UP.low) & (own.x <= UP.high)).all()


@pytest.mark.parametrize(("name", "norm"), [pytest.param("pgd", "l2", marks=pytest.mark.long), ("fgsm", "linf")])
def test_a_weaker_attack_whose_steps_are_told_what_the_model_says_is_the_attack(name, norm):
    radius = jnp.full(COUNT, 0.3 if norm == "linf" else 1.0)
    numbers = weaker.WEAKER[name]
    found, _ = weaker.within(MODEL, KEYS, X, GOAL, BOX, radius, 0.0, name=name, norm=norm, block=4)
    data = jnp.tile(jax.random.key_data(KEYS), 2)
    draws = jax.vmap(NORMS[norm].draw)(jax.random.wrap_key_data(data[:4], impl="rbg"), X[:4])
    start = jnp.clip(X[:4] + numbers.random * radius[:4, None, None] * draws, 0, 1)
    attack = cw.attacks.pgd(
        epsilon=radius[0].item(),
        norm=norm,
        relative_step=numbers.relative_step,
        steps=numbers.steps,
        random_start=False,
        objective=cw.losses.negative_margin(),
    )
    own = jax.jit(cw.batched(attack))(MODEL, KEYS[:4], X[:4], jax.tree.map(lambda leaf: leaf[:4], GOAL), start=start)
    np.testing.assert_array_equal(found.success[:4], own.success)
    np.testing.assert_allclose(found.x[:4], own.x, atol=1e-5)


def test_the_margin_of_noise_is_of_the_image_within_the_box():
    radius, asked = jnp.full(COUNT, 5.0), []

    def ask(images, goal, context):
        asked.append((images, goal))
        return asking.leads(MODEL, images, goal, context)

    margins, distances = weaker.drawn(ask, LINF, {}, KEYS, X, GOAL, BOX, radius, count=30, block=15)
    assert margins.shape == distances.shape == (COUNT, 30)
    assert len(asked) == 2 * COUNT
    for i in range(COUNT):  # so wide that every element ends on a bound or in the box
        images, goal = asked[2 * i]
        assert ((images >= 0) & (images <= 1)).all()
        assert ((images == 0) | (images == 1)).mean() > 0.5
        for j in range(3):
            np.testing.assert_allclose(distances[i, j], np.abs(images[j] - X[i]).max(), rtol=1e-5)
            expected = lead(images[j], goal.label[j], goal.sign[j])
            np.testing.assert_allclose(margins[i, j], expected, rtol=1e-3, atol=1e-5)
    own = weaker.drawn(ask, LINF, {}, KEYS, X, GOAL, UP, radius, count=30, block=15)[1]
    np.testing.assert_allclose(own.max(1), (UP.high - X).max((1, 2)), rtol=1e-5)
    broken = cw.bind(lambda params, x: problems.mlp(params, x).at[:, 3].set(jnp.inf), MODEL.params)
    ask = functools.partial(asking.leads, broken)
    assert np.isnan(weaker.drawn(ask, LINF, {}, KEYS, X, GOAL, BOX, radius, count=15, block=15)[0]).all()


@pytest.mark.parametrize(("shape", "pixels"), [((3, 4), 12), ((3, 4, 3), 12), ((12,), 12)])
def test_so_many_pixels_change_each_to_one_of_its_bounds(shape, pixels):
    clean = jnp.full(shape, 0.25)
    low, high = jnp.full(shape, -1.0), jnp.full(shape, 2.0)
    for count in (1, 5, pixels):
        change = np.stack(
            [
                weaker._few_pixels(key, clean, jnp.float32(count), low, high, 2 if clean.ndim == 3 else None)
                for key in jax.random.split(jax.random.key(count), 40)
            ]
        )
        changed = (change != 0).reshape(40, pixels, -1)
        assert (changed.any(-1).sum(1) == count).all()
        assert (changed.all(-1) == changed.any(-1)).all()  # all channels of a pixel
        assert set(np.unique(change).tolist()) <= {-1.25, 0.0, 1.75}
        share = (change == 1.75).sum() / (change != 0).sum()
        assert 0.2 < share < 0.8
    assert len(np.unique((change != 0).reshape(40, -1), axis=0)) == 1  # all of them, and before that others each time
