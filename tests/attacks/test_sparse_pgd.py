"""Sparse-PGD follows its paper, changes no more pixels than it may, and draws scores anew when it is stuck."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cwjax as cw
from cwjax.attacks.sparse_pgd import sparse_pgd
from tests import problems
from tests.attacks.plain_net import CONSTANT, MODEL, X, asked, cross_entropy_slope, goal, logits, walk

POINTS = 24
PIXELS = X[0].size


def draws(count):
    """What the attack draws of `walk`'s key: the first sizes and scores, and `count` further scores."""
    key, sizes, first = jax.random.split(jax.random.key(0), 3)
    scores = [jax.random.normal(first, X[0].shape)]
    noise = jax.random.uniform(sizes, X[0].shape, minval=-1, maxval=1)
    for _ in range(count):
        key, drawn = jax.random.split(key)
        scores.append(jax.random.normal(drawn, X[0].shape))
    return np.asarray(noise, np.float64), [np.asarray(each, np.float64) for each in scores]


def recipe(x, label, sign, k, *, projected, patience):
    """The loop of the authors' public code (`SparsePGD`), in NumPy, with the paper's loss."""

    def mask_of(m):
        mask = np.zeros(m.size)
        mask[np.argsort(-m.ravel())[:k]] = 1
        return mask.reshape(m.shape)

    noise, scores = draws(POINTS)
    p, m, count, points = np.clip(noise, -x, 1 - x), scores[0], 0, []
    drawn = previous = None
    for i in range(POINTS):
        points.append(x + p * mask_of(m))
        if previous is not None:
            count = count + 1 if (mask_of(m) == mask_of(previous)).all() else 0
        if count >= patience:
            m, count, drawn = scores[i + 1], 0, i
            previous = m
            continue
        g, s = -cross_entropy_slope(points[-1], label, sign), 1 / (1 + np.exp(-m))  # the code raises its loss
        up = g * p * s * (1 - s)
        previous = m
        m = m + np.sqrt(m.size) * 0.25 * up / np.linalg.norm(up)
        p = np.clip(p + 0.25 * np.sign(g * mask_of(previous) if projected else g), -x, 1 - x)
    return points, drawn


@pytest.mark.parametrize("projected", [False, True])
@pytest.mark.parametrize(("place", "sign"), [(2, -1.0), (3, -1.0), (1, 1.0)])
def test_it_follows_the_authors_code(place, sign, projected):
    label = asked(place, sign)
    # At a confidence that is out of reach no point ends it.
    objective = cw.losses.label_cross_entropy(1e4)
    attack = sparse_pgd(epsilon=3, steps=POINTS, projected=projected, patience=2, objective=objective)
    points, _ = walk(attack, X[place], goal(label, sign), 1 + POINTS)
    expected, drawn = recipe(X[place].astype(np.float64), label, sign, 3, projected=projected, patience=2)
    assert drawn is not None
    np.testing.assert_array_equal(points[0], X[place])
    np.testing.assert_allclose(points[1:], np.stack(expected), atol=1e-5)


@pytest.mark.parametrize(("epsilon", "most"), [(1, 1), (2.9, 2), (0.2, 1), (5, 5), (100, PIXELS)])
def test_no_more_pixels_change_than_may(epsilon, most):
    attack = sparse_pgd(epsilon=epsilon, steps=20, objective=cw.losses.label_cross_entropy(1e4))
    points, _ = walk(attack, X[2], goal(asked(2, -1.0), -1.0), 21)
    changed = (np.abs(points - X[2]) > 0).reshape(len(points), -1).sum(1)
    assert changed.max() <= most
    assert changed.max() >= most - 3  # some stand at a bound already


def test_a_pixel_has_all_its_channels():
    image = X.reshape(len(X), 6, 1, 2)
    shaped = cw.bind(lambda params, x: MODEL.apply(params, x.reshape(len(x), *problems.SHAPE)), MODEL.params)
    goals = cw.untargeted(jnp.asarray([asked(place, -1.0) for place in range(len(X))]))
    for per_pixel in (True, False):
        attack = sparse_pgd(epsilon=2, distance=cw.distances.l0(per_pixel=per_pixel))
        result = jax.jit(cw.batched(attack))(shaped, problems.keys(len(X)), jnp.asarray(image), goals)
        changed = np.asarray(result.x != image)
        counted = (changed.any(-1) if per_pixel else changed).reshape(len(X), -1).sum(1)
        np.testing.assert_array_equal(np.asarray(result.distance)[result.success], counted[result.success])
        assert counted.max() == 2
        if per_pixel:
            assert changed.reshape(len(X), -1).sum(1).max() > 2


def test_it_ends_at_its_first_success():
    points, progress = walk(sparse_pgd(epsilon=2), X[2], goal(asked(2, -1.0), -1.0), 300)
    assert len(points) < 300
    assert float(progress.best.distance) <= 2
    assert int(logits(points[-1]).argmax()) != asked(2, -1.0)
    assert all(int(logits(point).argmax()) == asked(2, -1.0) for point in points[:-1])


@pytest.mark.long
def test_the_least_number_of_pixels_is_found():
    goals = cw.untargeted(jnp.asarray([asked(place, -1.0) for place in range(len(X))]))
    run = jax.jit(cw.batched(cw.minimised(sparse_pgd(epsilon=4, steps=60), steps=6)))
    result = run(MODEL, problems.keys(len(X)), jnp.asarray(X), goals)
    np.testing.assert_array_equal(result.distance, [1, 1, 2, 2, 1, 1])  # no element alone is enough for two of them
    for place in (2, 3):
        for element in range(PIXELS):
            for value in np.linspace(0, 1, 11):
                tried = X[place].copy().ravel()
                tried[element] = value
                assert int(logits(tried.reshape(X[0].shape)).argmax()) == asked(place, -1.0)


def test_pixels_that_may_not_change_are_not_chosen():
    mask = jnp.arange(12).reshape(3, 4) % 4 == 0
    attack = sparse_pgd(epsilon=3, steps=8, objective=cw.losses.label_cross_entropy(1e4))
    points, _ = walk(attack, X[0], goal(asked(0, -1.0), -1.0), 9, mask=mask)
    held = ~np.asarray(mask)
    np.testing.assert_array_equal(points[:, held], np.stack([X[0][held]] * len(points)).astype(np.float64))
    assert (points[1:][:, np.asarray(mask)] != X[0][np.asarray(mask)]).any()


def test_without_a_slope_it_draws_again_and_fails():
    points, progress = walk(sparse_pgd(epsilon=2, steps=9), X[0], goal(0, -1.0), 10, model=CONSTANT)
    assert len(np.unique(points[1:].reshape(9, -1), axis=0)) > 1
    assert progress.finite
    assert np.isinf(progress.best.distance)


@pytest.mark.usefixtures("as_users_have_it")
@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"epsilon": 0}, "epsilon must be more than 0, got 0"),
        ({"relative_step": 0}, "relative_step must be more than 0, got 0"),
        ({"score_step": 0}, "score_step must be more than 0, got 0"),
        ({"patience": 0}, "patience must be at least 1, got 0"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"objective": "f6"}, "objective must be of the type cwjax.Objective, got the text 'f6'"),
        ({"distance": cw.distances.l0}, "got the function l0, and not what it returns"),
    ],
)
def test_what_it_refuses(told, message):
    with pytest.raises((ValueError, TypeError), match=message):
        sparse_pgd(**{"epsilon": 2} | told)
