"""What a device does in a turn: which lane takes which row, and what is known of a row afterwards."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cwjax as cw
from cwjax.base import LabelGoal
from cwjax.problems import ANYWHERE
from cwjax.runners import turn
from tests.search.made import fake

AXES = ("device",)


@pytest.mark.parametrize(
    ("free", "expected", "count"),
    [
        ([[1, 0, 1, 1]], [[0, None, 1, 2]], 3),
        ([[0, 1], [1, 1], [0, 0], [1, 0]], [[None, 0], [1, 2], [None, None], [3, None]], 4),
        ([[0, 0], [0, 0]], [[None, None], [None, None]], 0),
    ],
)
def test_free_lanes_are_counted_through_all_devices(free, expected, count):
    """Devices are lanes of `vmap` here, which have the same axis to talk along."""
    place, total = jax.vmap(partial(turn.places, axes=AXES), axis_name="device")(jnp.array(free, bool))
    rows = zip(place, free, strict=True)
    told = [[int(each) if lane else None for each, lane in zip(*row, strict=True)] for row in rows]
    assert told == expected
    assert total.tolist() == [count] * len(free)


def results(forwards, distance) -> cw.Result:
    """Of two devices on three rows each, whose x says which device it is from."""
    count = np.arange(6)
    fields = {name: jnp.asarray(count) for name in cw.Result._fields}
    told = {"x": count[:, None] // 3 * np.ones((6, 2)), "forwards": np.array(forwards), "distance": np.array(distance)}
    return cw.Result(**fields | {name: jnp.asarray(value) for name, value in told.items()})


def test_of_a_row_that_moved_the_result_is_from_where_it_ran_last():
    merged = turn.merged(results([5, 0, 7, 2, 4, 9], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), 2)
    assert merged.forwards.tolist() == [5, 4, 9]
    assert merged.distance.tolist() == [1.0, 5.0, 6.0]
    np.testing.assert_array_equal(merged.x, [[0, 0], [1, 1], [1, 1]])


def test_the_results_of_one_device_are_its_own():
    given = results([5, 0, 7, 2, 4, 9], [1.0] * 6)
    assert turn.merged(given, 1) is given


ROWS, LANES, LENGTH = 5, 2, 3
MODEL = cw.bind(lambda params, x: x)
QUEUE = turn.Queue(
    keys=jax.random.split(jax.random.key(0), ROWS),
    x=jnp.tile(jnp.linspace(0, 1, ROWS)[:, None], (1, 3)),
    goal=LabelGoal(label=jnp.ones(ROWS, jnp.int32), sign=jnp.ones(ROWS, jnp.float32)),
    allowed=jax.tree.map(jnp.asarray, ANYWHERE),
)


def make() -> cw.Attack:
    """Takes three steps, and then finds an input at distance 2."""
    return fake(threshold=0.0, length=LENGTH, distance=lambda c: 2 * c)


def test_before_the_first_turn_no_lane_works_and_no_row_has_a_result():
    pool = turn.empty_pool(make, ({}, MODEL, QUEUE), LANES, 2)
    assert pool.states.progress.done.tolist() == [True] * LANES
    assert pool.row.tolist() == [ROWS] * LANES
    assert pool.head == 0
    assert pool.results.success.tolist() == [False] * 2 * ROWS  # each device has its own
    np.testing.assert_array_equal(pool.results.x, jnp.concatenate([QUEUE.x] * 2))
    assert not pool.results.finished.any()
    assert not pool.results.forwards.any()


def test_lanes_take_rows_do_their_steps_and_store_what_they_found():
    """Two lanes, five rows of three steps each, two steps a turn."""
    one = jax.vmap(lambda pool: turn.take_turn(make, 2, AXES, {}, MODEL, QUEUE, pool), axis_name="device")
    step = jax.jit(lambda pool: jax.tree.map(lambda leaf: leaf[0], one(jax.tree.map(lambda leaf: leaf[None], pool))))
    pool, told = turn.empty_pool(make, ({}, MODEL, QUEUE), LANES, 1), []
    for _ in range(7):
        pool, tally = step(pool)
        told.append([int(field[0]) for field in tally])
        rows = np.flatnonzero(pool.results.finished)
        np.testing.assert_array_equal(pool.results.forwards[rows], LENGTH)
        np.testing.assert_array_equal(pool.results.distance[rows], 2)
        assert not pool.results.success[tally.head[0] :].any()
    assert turn.Tally._fields == ("finished", "found", "forwards", "spent", "running", "head")
    assert told == [
        [0, 0, 4, 4, 2, 2],
        [2, 2, 6, 2, 0, 2],
        [2, 2, 10, 4, 2, 4],
        [4, 4, 12, 2, 0, 4],
        [4, 4, 14, 2, 1, 5],
        [5, 5, 15, 1, 0, 5],
        [5, 5, 15, 0, 0, 5],
    ]
