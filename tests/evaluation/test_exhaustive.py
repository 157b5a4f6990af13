"""The fewest changes, against every input there is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cwjax as cw
from cwjax.evaluation import fewest_changes
from cwjax.parts.lattices import lattice
from tests.runners.test_snapping import GOAL, LABELS, LEVELS, MODEL, PAIRS, TOPS, F, X, answers, bounds, inputs_of

SOME = 8


def of(**more):
    goal = jax.tree.map(lambda leaf: leaf[:SOME], GOAL)
    return fewest_changes(
        MODEL, X[:SOME], goal, **({"values": lattice(LEVELS), "at_once": 64} | bounds(True, slice(SOME)) | more)
    )


@pytest.mark.parametrize("pairs", [pytest.param((), marks=pytest.mark.long), PAIRS])
def test_it_is_the_fewest_of_all(pairs):
    found = of(values=lattice(LEVELS, implies=pairs, shape=(F,)))
    for x, changes, clean, label in zip(found.x, found.changes, X, LABELS, strict=False):
        every = inputs_of(clean)
        for i, j in pairs:
            lacks = (every[:, i] > 0) & (every[:, j] == 0) & ~((clean[i] > 0) & (clean[j] == 0))
            every = every[~lacks]
        counts = (every != clean).sum(1)[answers(every) != label]
        fewest = counts.min(initial=99)
        assert changes == (fewest if fewest <= 3 else np.inf)
        assert (x != clean).sum() == (changes if np.isfinite(changes) else 0)
        if np.isfinite(changes):
            assert answers(x[None])[0] != label


def test_what_meets_the_goal_already_needs_no_change():
    found = fewest_changes(MODEL, X[:1], cw.targeted(LABELS[:1]), values=lattice(LEVELS), high=TOPS)
    assert (found.changes.tolist(), found.tried.tolist()) == ([0.0], [1])


def test_every_set_is_tried_once_where_none_will_do():
    model = cw.bind(lambda params, x: jnp.stack([x[:, 0] + 1, x[:, 0]], 1))
    goal = cw.untargeted(np.zeros(1, np.int32))
    found = fewest_changes(model, np.zeros((1, F), np.float32), goal, most=2, at_once=10, mask=np.arange(F) < 5)
    assert found.tried.tolist() == [1 + 5 + 10]
    assert np.isinf(found.changes).all()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"most": 5}, "most must be at most 4, got 5"),
        ({"values": lattice(steps=1e-4)}, "element . has .* values: too many"),
        ({"mask": np.zeros(F, bool)}, "no element may change"),
        ({"values": lattice()}, "none of their levels"),
    ],
)
def test_what_cannot_be_tried_is_refused(more, words):
    with pytest.raises(ValueError, match=words):
        of(**more)
