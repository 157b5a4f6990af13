"""The engine: what it must not change, what it must not waste, how it stops, goes on, and keeps within memory."""

import functools
import io
import itertools
import time

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

import cwjax as cw
from cwjax.lab.files import compiling
from cwjax.runners import memory, queue, turn
from tests import problems

COUNT = 41
MODEL = cw.bind(problems.mlp, problems.mlp_params())
X = jnp.asarray(problems.inputs(COUNT))
GOAL = problems.goals(MODEL, np.asarray(X))
KEYS = problems.keys(COUNT)
ARGUMENTS = (MODEL, KEYS, X, GOAL)
ATTACK = problems.small_l2()
SIMPLE = cw.attacks.pgd(epsilon=0.3, steps=20)  # which compiles faster, for what any attack would show; draws its start

pytestmark = pytest.mark.timeout(100)  # a fault of the engine may be an endless loop


@pytest.fixture(scope="module")
def expected():
    return jax.jit(cw.batched(ATTACK))(*ARGUMENTS)


@pytest.fixture(scope="module")
def simple():
    return jax.jit(cw.batched(SIMPLE))(*ARGUMENTS)


def assert_same(result: cw.Result, expected: cw.Result) -> None:
    np.testing.assert_array_equal(result.success, expected.success)
    np.testing.assert_allclose(result.distance, expected.distance, rtol=1e-4)
    np.testing.assert_array_equal(result.finished, expected.finished)


@functools.cache
def engine(width, every):
    """The attack under the engine, whose programs are compiled once for all tests."""
    return cw.streamed(ATTACK, width=width, every=every)


class Watch(list):
    """Keeps every status, and stops when `until` says so."""

    def __init__(self, until=lambda status: False):
        self.until = until

    def __call__(self, status):
        self.append(status)
        return self.until(status)


@pytest.fixture
def impatient(monkeypatch):
    """Lanes are moved together as soon as half of them are idle, whatever the compiler costs."""
    monkeypatch.setattr(queue, "_PATIENCE", 0.0)


@pytest.mark.parametrize(
    ("width", "every"),
    [(16, 13), (8, 9), *(pytest.param(*each, marks=pytest.mark.long) for each in [(1, 500), (7, 1), (1000, 10_000)])],
)
def test_neither_width_nor_turn_changes_a_result(width, every, expected):
    assert_same(engine(width, every)(*ARGUMENTS), expected)


def test_a_second_run_and_new_weights_compile_nothing():
    run = engine(16, 13)
    first = run(*ARGUMENTS)
    others = (cw.bind(problems.mlp, problems.mlp_params(seed=5)), KEYS, X[::-1], GOAL._replace(sign=-GOAL.sign))
    with compiling.timed() as seen:
        second = run(*ARGUMENTS)
        run(*others)
    assert len(seen) == 0
    chex.assert_trees_all_equal(first, second)


def test_numbers_are_traced_so_that_a_sweep_compiles_once(expected):
    def make(confidence, steps, learning_rate, initial_c, rounds):
        return cw.l2(
            objective=cw.objectives.logit_margin(confidence),
            optimizer=cw.optimizers.adam(learning_rate),
            steps=steps,
            search=cw.search.binary_search(rounds, initial_c=initial_c),
        )

    run = cw.streamed(make, width=16, every=13)
    numbers = {"confidence": 0.0, "steps": 40, "learning_rate": 5e-2, "initial_c": 0.3, "rounds": 4}
    first = run(*ARGUMENTS, **numbers)
    assert_same(first, expected)
    others = {"confidence": 1.0, "steps": np.int32(30), "learning_rate": 1e-2, "initial_c": jnp.ones(()), "rounds": 3}
    with compiling.timed() as seen:
        for name, value in others.items():
            changed = run(*ARGUMENTS, **numbers | {name: value})
            assert (np.asarray(changed.forwards) != np.asarray(first.forwards)).any()
    assert len(seen) == 0


def test_the_precision_in_force_is_part_of_the_program():
    run = cw.streamed(SIMPLE, width=8)
    run(*ARGUMENTS)
    with compiling.timed() as seen, jax.default_matmul_precision("highest"):
        run(*ARGUMENTS)
    assert len(seen) >= 1


@pytest.mark.long  # a quick sister: lanes that are moved by steps, below
def test_lanes_are_moved_together_at_the_end_and_each_width_compiles_once(impatient, monkeypatch, expected):
    widths, compiled = [], queue._compiled

    def counted(make, every, devices, shapes, width):
        widths.append(width)
        return compiled(make, every, devices, shapes, width)

    monkeypatch.setattr(queue, "_compiled", counted)
    watch = Watch()
    assert_same(cw.streamed(ATTACK, width=8, every=5)(*ARGUMENTS, watch=watch), expected)
    assert widths[0] == 8
    assert len(widths) == len(set(widths)) <= 4  # log2(8) + 1
    assert widths == sorted(widths, reverse=True)
    assert watch[-1].width < 8
    for status in watch:  # half of the lanes and more are at work
        assert status.width <= 2 * max(status.total - status.finished, 1) or status.width == 8 or status is watch[-1]


def test_patience_keeps_a_short_run_from_compiling_for_its_tail(expected):
    watch = Watch()
    assert_same(engine(16, 13)(*ARGUMENTS, watch=watch), expected)
    assert {status.width for status in watch} == {16}


def test_a_repeatable_run_moves_its_lanes_by_steps_and_agrees_in_every_bit(monkeypatch, expected):
    monkeypatch.setattr(queue, "_PATIENT_STEPS", 10)
    run, results, widths = cw.streamed(ATTACK, width=8, every=5, repeatable=True), [], []
    for speed in (0.0, 100.0):  # of the clock, which has no say
        ticks = itertools.count()
        monkeypatch.setattr(queue.time, "monotonic", lambda ticks=ticks, speed=speed: speed * next(ticks))
        watch = Watch()
        results.append(run(*ARGUMENTS, watch=watch))
        widths.append([status.width for status in watch])
    assert widths[0] == widths[1]
    assert min(widths[0]) < 8
    width, idle, lane_steps = 8, 0.0, 0
    for status in watch:
        lane_steps += 5 * width
        assert (status.width, status.lane_steps) == (width, lane_steps)
        left, half = COUNT - status.finished, -(-width // 2)
        idle += 5 * max(1 - left / width, 0)
        if left <= half < width and idle >= 10:
            width, idle = half, 0.0
    jax.tree.map(np.testing.assert_array_equal, *results)
    assert_same(results[0], expected)


def test_lanes_do_not_wait(impatient, expected):
    # Utilisation: passes spent over steps of all lanes, of which each example may waste one turn.
    every, watch = 5, Watch()
    cw.streamed(ATTACK, width=4, every=every)(*ARGUMENTS, watch=watch)
    spent = int(expected.forwards.sum())
    assert watch[-1].forwards == spent
    assert spent <= watch[-1].lane_steps <= spent + every * COUNT + every * 4 * 4
    # `chunked` waits for the slowest of every four.
    chunks = [int(expected.forwards[i : i + 4].max()) * 4 for i in range(0, COUNT, 4)]
    assert watch[-1].lane_steps < sum(chunks)


def test_what_a_watcher_sees_grows_and_ends_as_the_result(expected):
    watch = Watch()
    result = engine(8, 9)(*ARGUMENTS, watch=watch)
    for field in ("finished", "found", "forwards", "lane_steps"):
        values = [getattr(status, field) for status in watch]
        assert values == sorted(values)
        assert values[0] < values[-1]
    assert watch[-1].finished == watch[-1].total == COUNT
    assert watch[-1].found == int(result.success.sum())
    assert watch[-1].forwards == int(result.forwards.sum())


def test_a_stopped_run_returns_what_it_has():
    run = engine(8, 9)
    stopped, whole = run(*ARGUMENTS, watch=Watch(until=lambda status: status.finished >= 15)), run(*ARGUMENTS)
    over = np.asarray(stopped.finished)
    assert 15 <= over.sum() < COUNT
    np.testing.assert_array_equal(stopped.distance[over], whole.distance[over])
    assert (stopped.distance[~over] >= whole.distance[~over]).all()
    begun = np.asarray(stopped.forwards) > 0
    assert over.sum() < begun.sum() < COUNT
    np.testing.assert_array_equal(stopped.x[~begun], X[~begun])
    assert not stopped.success[~begun].any()


@pytest.mark.parametrize("finished", [0, 15, 38])
def test_a_stored_run_goes_on_where_it_was(finished, expected):
    run = engine(8, 9)
    watch = Watch(until=lambda status: status.finished >= finished)
    run(*ARGUMENTS, watch=watch)
    file = io.BytesIO()
    np.savez(file, *watch[-1].snapshot())
    file.seek(0)
    with np.load(file, allow_pickle=False) as arrays:
        stored = [arrays[name] for name in arrays.files]
    again = Watch()
    result = engine(3, 9)(*ARGUMENTS, watch=again, resume=stored)
    chex.assert_trees_all_equal(result, run(*ARGUMENTS))
    assert again[0].finished >= finished
    assert again[0].width == 8  # the run's own


def test_a_stored_run_goes_on_with_keys_of_another_kind():
    keys = jax.random.split(jax.random.key(7, impl="rbg"), COUNT)
    run, watch = cw.streamed(SIMPLE, width=8, every=3), Watch(until=lambda status: status.finished >= 15)
    run(MODEL, keys, X, GOAL, watch=watch)
    result = run(MODEL, keys, X, GOAL, resume=watch[-1].snapshot())
    chex.assert_trees_all_equal(result, run(MODEL, keys, X, GOAL))


def test_a_stored_run_of_something_else_is_refused():
    watch = Watch(until=lambda status: True)
    run = engine(8, 9)
    run(*ARGUMENTS, watch=watch)
    stored = watch[-1].snapshot()
    fewer = (MODEL, *jax.tree.map(lambda leaf: leaf[:9], ARGUMENTS[1:]))
    for other, arguments in ((run, fewer), (cw.streamed(problems.small("linf")), ARGUMENTS)):
        with pytest.raises(ValueError, match="the run to resume had another attack, other arguments or"):
            other(*arguments, resume=stored)
    with pytest.raises(ValueError, match="the run to resume"):
        run(*ARGUMENTS, resume=stored[1:])


@pytest.mark.parametrize(("numbers", "message"), [({"width": 0}, "width must be at least 1"), ({"every": 0}, "every")])
def test_bad_numbers_are_refused(numbers, message):
    with pytest.raises(ValueError, match=message):
        cw.streamed(ATTACK, **numbers)


def test_bad_arguments_are_refused_before_anything_is_compiled():
    with pytest.raises(ValueError, match=r"goal\.label must have one entry an example"):
        cw.streamed(ATTACK)(MODEL, KEYS, X, cw.untargeted(np.zeros(3, int)))


def test_under_jit_it_is_refused():
    with pytest.raises(ValueError, match=r"call it outside jax\.jit"):
        jax.jit(cw.streamed(ATTACK))(*ARGUMENTS)


def test_auto_is_a_width_of_the_device_and_never_more_than_the_examples(monkeypatch):
    watch = Watch(until=lambda status: True)
    cw.streamed(SIMPLE)(*ARGUMENTS, watch=watch)
    monkeypatch.setattr(queue, "WIDTH", {"cpu": 5})
    cw.streamed(SIMPLE)(*ARGUMENTS, watch=watch)
    assert [status.width for status in watch] == [COUNT, 5]


@pytest.mark.long
def test_a_width_that_memory_does_not_hold_is_halved_before_it_runs(monkeypatch, expected):
    watch, compiled, programs = Watch(), queue._compiled, []

    def kept(*arguments):
        programs.append(compiled(*arguments))
        return programs[-1]

    monkeypatch.setattr(queue, "_compiled", kept)
    cw.streamed(ATTACK, width=4)(*ARGUMENTS)
    room = memory.needed(programs[0].turn)  # for four lanes, and not for eight
    monkeypatch.setattr(memory, "available", lambda devices: int(room * 1.3 / 0.8))
    with pytest.warns(UserWarning, match="a width of 32 does not fit into memory: it is"):
        result = cw.streamed(ATTACK, width=32)(*ARGUMENTS, watch=watch)
    assert_same(result, expected)
    assert watch[0].width <= 8
    cw.streamed(ATTACK, width="auto")(*ARGUMENTS)  # says nothing: no number was asked for


@pytest.mark.long
def test_a_device_that_runs_out_of_memory_is_given_half(monkeypatch, expected):
    served, tried = queue._served, []

    def out_of_memory(program, every, work, pool, *rest):
        tried.append(len(pool.row))
        if tried[-1] > 10:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 1 bytes.")
        return served(program, every, work, pool, *rest)

    monkeypatch.setattr(queue, "_served", out_of_memory)
    with pytest.warns(UserWarning, match="a width of 32 does not fit"):
        assert_same(cw.streamed(ATTACK, width=32)(*ARGUMENTS), expected)
    assert tried == [32, 16, 8]

    def never(program, every, work, pool, *rest):
        tried.append(len(pool.row))
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 1 bytes.")

    tried.clear()
    monkeypatch.setattr(queue, "_served", never)
    with pytest.raises(jax.errors.JaxRuntimeError, match="RESOURCE_EXHAUSTED"):
        cw.streamed(ATTACK, width="auto")(*ARGUMENTS)
    assert tried[-1] == 1  # and not once more
    assert len(set(tried)) == len(tried)

    def broken(*arguments):
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")

    monkeypatch.setattr(queue, "_served", broken)
    with pytest.raises(jax.errors.JaxRuntimeError, match="something else"):
        cw.streamed(ATTACK, width=32)(*ARGUMENTS)


def test_it_is_known_how_long_a_program_took_to_compile(monkeypatch):
    compiled, programs, began = queue._compiled, [], time.monotonic()
    monkeypatch.setattr(queue, "_compiled", lambda *given: programs.append(compiled(*given)) or programs[-1])
    cw.streamed(SIMPLE, width=8)(*ARGUMENTS, watch=Watch(until=lambda status: True))
    [program] = programs
    assert 0.01 < program.seconds < time.monotonic() - began


def test_one_lane_is_tried_whatever_memory_there_is(monkeypatch, simple):
    monkeypatch.setattr(memory, "available", lambda devices: 0)
    with pytest.warns(UserWarning, match="a width of 2 does not fit into memory: it is 1 now"):
        assert_same(cw.streamed(SIMPLE, width=2)(*ARGUMENTS), simple)


def test_an_attack_that_never_calls_the_model_is_an_error_and_no_endless_loop():
    idle = ATTACK._replace(step=lambda model, problem, state: state)
    with pytest.raises(RuntimeError, match="a turn ended none of 8 examples and did not call the model"):
        cw.streamed(idle, width=8)(*ARGUMENTS)


@pytest.mark.parametrize(
    "broken",
    [
        lambda places: lambda free, axes: (places(free, axes)[0], 0 * places(free, axes)[1]),  # the queue stands still
        pytest.param(  # a row is left out
            lambda places: lambda free, axes: (places(free, axes)[0] + 1, places(free, axes)[1]),
            marks=pytest.mark.long,
        ),
        pytest.param(  # all take the same row
            lambda places: lambda free, axes: (0 * places(free, axes)[0], places(free, axes)[1]),
            marks=pytest.mark.long,
        ),
    ],
)
def test_a_queue_that_loses_examples_is_an_error_and_no_endless_loop(broken, monkeypatch):
    monkeypatch.setattr(turn, "places", broken(turn.places))
    with pytest.raises(
        RuntimeError, match=r"streamed lost examples: .* were begun, .* have ended and .* being attacked"
    ):
        cw.streamed(SIMPLE, width=8)(*ARGUMENTS)


def test_one_device_of_a_mesh_is_as_good_as_none(simple):
    mesh = Mesh(jax.devices()[:1], ("any",))
    assert_same(cw.streamed(SIMPLE, width=8, mesh=mesh)(*ARGUMENTS), simple)
