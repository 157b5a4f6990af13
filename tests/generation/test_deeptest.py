"""DeepTest: sweeps, the greedy search, and parameters by slopes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cwjax as cw
from cwjax.generation import deeptest, metamorphic
from cwjax.generation.transforms import TRANSFORMS
from tests.generation import made

UNITS, X = made.units(), made.inputs(4)
LIGHT, FOG = TRANSFORMS["brightness"], TRANSFORMS["fog"]


def test_every_image_under_every_setting():
    changed = np.asarray(deeptest.swept(X, FOG, FOG.grid))
    assert changed.shape == (10, *X.shape)
    wanted = np.round(255 * (X[2] * (1 - FOG.grid[3][0]) + FOG.grid[3][0])) / 255
    np.testing.assert_allclose(changed[3, 2], wanted, atol=1 / 255 + 1e-6)
    np.testing.assert_allclose(255 * changed, np.round(255 * changed), atol=1e-3)


def test_the_greedy_search_keeps_what_covers_more():
    criterion = cw.coverage.section_coverage(cw.coverage.profiled(UNITS, made.inputs(40)), sections=20)
    found = deeptest.guided(UNITS, criterion, X, [LIGHT, FOG, TRANSFORMS["contrast"]], tries=4, most=60)
    assert len(found.x) == len(found.origin) == len(found.transforms) > 3
    assert found.tried <= 63
    every = np.concatenate([X, found.x])
    counts = (4, len(every) - 1, len(every))
    values = [said.value for said in cw.coverage.curve(UNITS, criterion, every, counts, batch=1)]
    assert np.all(np.diff(values) > 0)
    assert all(len(names) % 2 == 0 and len(set(names[:2])) == 2 for names in found.transforms)
    for x, origin, names, numbers in zip(found.x, found.origin, found.transforms, found.parameters, strict=True):
        again = deeptest.repeated(X[origin], [TRANSFORMS[name] for name in names], numbers)
        np.testing.assert_allclose(again, x, atol=1.1 / 255)
    known = deeptest.guided(UNITS, criterion, X[:1], [LIGHT, FOG], tries=4, most=4, known=every)
    assert len(known.x) < 4


def test_slopes_find_the_fog_that_breaks_the_label():
    def apply(params, x):
        mean = x.reshape(len(x), -1).mean(-1, keepdims=True) - 0.6
        return jnp.concatenate([-mean, mean], -1)

    x = np.stack([np.full((4, 4, 1), 0.5), np.full((4, 4, 1), 0.1)]).astype(np.float32)
    relation = metamorphic.label_kept(np.array([0, 0]))
    attack = cw.attacks.ddn(steps=60)
    keys = jax.random.split(jax.random.key(0), 2)
    worst = deeptest.worst(jax.jit(cw.batched(attack)), cw.bind(apply), FOG, keys, x, relation.goal)
    np.testing.assert_array_equal(worst.found, [True, False])  # the second would take more than the limit
    np.testing.assert_allclose(worst.parameters[0], [0.2], atol=0.02)
    np.testing.assert_array_equal(worst.x[1], x[1])
    assert metamorphic.violated(relation, apply((), worst.x)).tolist() == [True, False]


def test_a_search_that_begins_at_the_best_draw_finds_what_has_no_slope_where_nothing_changes():
    """A checkerboard's contrast is flat in the blur at 0."""

    def apply(params, x):
        contrast = x.std((1, 2, 3), keepdims=False)[:, None] - 0.25
        return jnp.concatenate([contrast, -contrast], -1)

    x = (np.indices((6, 6)).sum(0) % 2).astype(np.float32)[None, ..., None]
    model, blur, relation = cw.bind(apply), TRANSFORMS["blur"], metamorphic.label_kept(np.array([0]))
    attack = cw.attacks.pgd(epsilon=1.0, relative_step=0.1, steps=4, random_start=False)
    run, keys = jax.jit(cw.batched(attack)), jax.random.split(jax.random.key(0), 1)
    assert not deeptest.worst(run, model, blur, keys, x, relation.goal).found.any()
    start = deeptest.best_drawn(model, blur, keys, x, relation, 4)
    worst = deeptest.worst(run, model, blur, keys, x, relation.goal, start=start)
    assert worst.found.all()
    assert 0 < worst.parameters[0, 0] <= start[0, 0] <= 1


@pytest.mark.usefixtures("as_users_have_it")
def test_mistakes():
    criterion = cw.coverage.neuron_coverage(UNITS.convention)
    with pytest.raises(ValueError, match="two transforms are drawn"):
        deeptest.guided(UNITS, criterion, X, [LIGHT])
