"""EAD follows ISTA and FISTA as the paper prints them, and leaves elements exactly as they were."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cwjax as cw
from cwjax.attacks.ead import ead
from tests import problems
from tests.attacks.plain_net import MODEL, X, asked, goal, jacobian, logits, walk

C, BETA, RATE, STEPS = 0.5, 5e-3, 0.05, 12


def recipe(x, label, sign, *, accelerated):
    clean = x.astype(np.float64)
    before, y, points = clean, clean, []
    for k in range(STEPS):
        points.append(y)
        z, slopes = logits(y), jacobian(y)
        other = int(np.where(np.arange(5) == label, -np.inf, z).argmax())
        unmet = sign * (z[other] - z[label]) > 0
        f = unmet * sign * (slopes[other] - slopes[label])
        stepped = y - RATE * np.sqrt(1 - k / STEPS) * (C * f + 2 * (y - clean))
        far = stepped - clean
        following = np.where(far > BETA, np.minimum(stepped - BETA, 1), clean)
        following = np.where(far < -BETA, np.maximum(stepped + BETA, 0), following)
        y = np.clip(following + accelerated * k / (k + 3) * (following - before), 0, 1)
        before = following
    return np.stack(points)


@pytest.mark.parametrize("accelerated", [True, False])
def test_a_round_follows_its_recipe(accelerated):
    attack = ead(
        beta=BETA,
        learning_rate=RATE,
        steps=STEPS,
        accelerated=accelerated,
        abort=cw.aborts.never(),
        search=cw.search.binary_search(2, initial_c=C),
    )
    for place, sign in ((0, -1.0), (1, 1.0)):
        label = asked(place, sign)
        points, progress = walk(attack, X[place], goal(label, sign), STEPS)
        expected = recipe(X[place], label, sign, accelerated=accelerated)
        np.testing.assert_allclose(points, expected, atol=1e-4)
        np.testing.assert_array_equal(points == X[place], expected == X[place].astype(np.float64))
        assert int(progress.forwards) == STEPS


@pytest.mark.parametrize("decision", ["en", "l1"])
def test_it_fools_and_reports_the_distance_it_decides_by(decision):
    x = problems.inputs(8)
    aims = problems.goals(MODEL, x)
    attack = ead(
        beta=BETA, decision=decision, learning_rate=RATE, steps=60, search=cw.search.binary_search(5, initial_c=0.3)
    )
    result = jax.jit(cw.batched(attack))(MODEL, problems.keys(8), jnp.asarray(x), aims)
    assert result.success.all()
    assert cw.metrics.successes(MODEL, result.x, aims).all()
    delta = (np.asarray(result.x, np.float64) - x).reshape(8, -1)
    l1, l2 = np.abs(delta).sum(1), (delta**2).sum(1)
    np.testing.assert_allclose(result.distance, l1 if decision == "l1" else l2 + BETA * l1, rtol=1e-4)
    assert (delta == 0).mean() > 0.2


def test_wrong_words():
    with pytest.raises(ValueError, match="decision must be en or l1, got 'EN'"):
        ead(decision="EN")
