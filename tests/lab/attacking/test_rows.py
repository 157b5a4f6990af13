"""The rows of a run: which examples towards which targets, and what became of them."""

import jax
import numpy as np
import pyarrow as pa
import pytest

from cwjax.lab.attacking import rows


def test_targets_are_what_they_are_called(some):
    untargeted = rows.rows_of(some, "untargeted", seed=0)
    assert (untargeted.target == -1).all()
    assert (untargeted.goal().sign == -1).all()
    for name in ("random", "average"):
        drawn = rows.rows_of(some, name, seed=0)
        assert (drawn.target != some.labels).all()
        np.testing.assert_array_equal(drawn.target, rows.rows_of(some, name, seed=0).target)
    for name in ("best", "worst", "all"):
        every = rows.rows_of(some, name, seed=0)
        for i in range(6):
            wrong = set(range(3)) - {int(some.labels[i])}
            assert set(every.target[every.place == i].tolist()) == wrong
    many = some._replace(labels=np.zeros(3000, np.int32), images=np.zeros((3000, 1)), index=np.arange(3000))
    drawn = rows.rows_of(many, "random", seed=1).target
    assert 1400 < (drawn == 1).sum() < 1600


def test_a_class_is_the_target_of_all_images_of_others(some):
    aimed = rows.aimed_at(some, "1")
    assert aimed.index.tolist() == some.index[some.labels != 1].tolist()
    found = rows.rows_of(aimed, "1", seed=0)
    assert (found.target == 1).all()
    assert (found.goal().sign == 1).all()
    assert rows.aimed_at(some, "all") is some
    with pytest.raises(ValueError, match=r"--targets 3 is no class of .*: they are 0 to 2"):
        rows.aimed_at(some, "3")


@pytest.mark.parametrize("targets", ["seven", "-1", "1.5", "²", ""])
def test_targets_that_are_none_are_refused_with_all_that_there_are(targets):
    with pytest.raises(ValueError, match=r"choose one of untargeted, .*, all, or the number of a class"):
        rows.check_targets(targets)


def test_a_rows_target_and_key_are_its_examples_own(some):
    for targets in ("untargeted", "random", "all"):
        every = rows.rows_of(some, targets, seed=3)
        keys = jax.random.key_data(rows.keys_of(some, every, seed=3))
        part = some._replace(images=some.images[4:1:-1], labels=some.labels[4:1:-1], index=some.index[4:1:-1])
        few = rows.rows_of(part, targets, seed=3)
        known = {
            (some.index[place], target): key.tolist()
            for place, target, key in zip(every.place, every.target, keys, strict=True)
        }
        assert len({tuple(key) for key in known.values()}) == len(every.place)
        for place, target, key in zip(
            few.place, few.target, jax.random.key_data(rows.keys_of(part, few, seed=3)), strict=True
        ):
            assert known[part.index[place], target] == key.tolist()
        assert (jax.random.key_data(rows.keys_of(some, every, seed=4)) != keys).any()


def test_a_goal_is_to_reach_a_target_or_else_to_leave_the_label():
    label = np.array([2, 0], np.int32)
    reach = rows.Rows(np.arange(2), label, np.array([0, 1], np.int32)).goal()
    assert (reach.label.tolist(), reach.sign.tolist()) == ([0, 1], [1, 1])
    leave = rows.Rows(np.arange(2), label, np.full(2, -1, np.int32)).goal()
    assert (leave.label.tolist(), leave.sign.tolist()) == ([2, 0], [-1, -1])


INF = float("inf")
TARGETS = pa.table(  # two examples, of which the second comes first
    {
        "index": [7, 7, 7, 3, 3, 3],
        "target": [0, 1, 2, 0, 1, 2],
        "distance": [2.0, 1.0, INF, 4.0, 5.0, 5.0],
        "forwards": pa.array([1, 2, 3, 10, 20, 30], pa.int32()),
        "backwards": pa.array([0, 1, 0, 1, 0, 1], pa.int32()),
    }
)


@pytest.mark.parametrize(("worst", "places"), [(False, [1, 3]), (True, [2, 4])])
def test_of_each_example_the_easiest_or_the_hardest_target_is_kept_and_all_are_paid_for(worst, places):
    """A failure is the hardest; of two that are equal the first is kept."""
    chosen, kept = rows.extreme(TARGETS, worst=worst)
    assert kept.tolist() == places
    assert chosen["index"].to_pylist() == [7, 3]
    assert chosen.select(["target", "distance"]) == TARGETS.take(places).select(["target", "distance"])
    assert chosen["forwards"].to_pylist() == [6, 60]
    assert chosen["backwards"].to_pylist() == [1, 2]
    assert chosen.schema == TARGETS.schema


def test_images_are_found_by_their_index_whatever_their_order(some):
    turned = some.take(np.array([4, 0, 5, 2, 1, 3]))
    table = pa.table({"index": some.index[[3, 3, 0]], "label": some.labels[[3, 3, 0]]})
    assert rows.places_of(table, turned).tolist() == [5, 5, 1]


@pytest.mark.parametrize("change", [{"index": [999]}, {"index": [2000]}, {"label": [2]}])
def test_other_images_are_refused(some, change):
    table = pa.table({"index": some.index[:1], "label": some.labels[:1]} | change)
    with pytest.raises(ValueError, match="the data has other images than those that were attacked"):
        rows.places_of(table, some)
