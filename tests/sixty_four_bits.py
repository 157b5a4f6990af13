"""With `jax_enable_x64`, and with models and inputs of any precision: every attack, every runner, every command.

`test_x64.py` runs this file in a process of its own, because x64 is a setting of the whole process.
"""

import dataclasses
import os
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow.parquet as pq
import pytest
from jax.sharding import Mesh

import cwjax as cw
from cwjax.lab import cli, data
from cwjax.problems import problem
from cwjax.runners.batch import looped
from tests import problems, test_laws
from tests.lab import called
from tests.lab.conftest import Blobs
from tests.test_laws import KEYS, MODEL, Row, X, assert_same

LONG = bool(os.environ.get("CWJAX_LONG"))
EVERY = test_laws.ATTACKS | test_laws.RIVALS | test_laws.COMBINATIONS
# One of each family: a descent in rounds with a mask, by L-BFGS, with a multiplier, by proximal steps, in rounds of two
# kinds; rules with a fixed radius, with several losses, with multipliers of their own; several targets, with tau.
FAMILIES = ("l0", "lbfgs", "fast_linf", "fast_l0", "pgd")
FAMILIES += ("deepfool, best target", "alma, l2", "linf, best target")
TRACED = ("lbfgs", "fast_l0", "pgd", "linf, best target")
RUN = ("pgd",)

DTYPES = tuple(jnp.dtype(dtype) for dtype in (jnp.bfloat16, jnp.float16, jnp.float32, jnp.float64))
SINGLE, DOUBLE = DTYPES[2:]


def rows(*quick: str):
    return test_laws.rows(EVERY if LONG else {name: EVERY[name] for name in quick})


def model_in(dtype) -> cw.Model:
    """The laws' network in an arithmetic of its own, whatever its inputs have."""
    return cw.bind(_computed, jax.tree.map(lambda weight: jnp.asarray(weight, dtype), MODEL.params))


def _computed(params, x):
    return problems.mlp(params, x.astype(params["w1"].dtype))


def in_64_bits(value):
    """The number, with a dtype that it keeps."""
    return jnp.asarray(value, jnp.int64 if isinstance(value, int) else jnp.float64)


def widened(row: Row) -> Row:
    """The row, with numbers of 64 bits."""

    def make(confidence=0.0, **numbers):
        numbers = row.numbers | numbers
        return row.make(in_64_bits(confidence), **{name: in_64_bits(value) for name, value in numbers.items()})

    return dataclasses.replace(row, make=make)


def widest(jaxpr) -> Iterator[tuple[str, int]]:
    """Where a program computes in float64, and how many numbers at once."""
    for equation in jaxpr.eqns:
        for result in equation.outvars:
            if result.aval.dtype == np.float64:
                yield equation.primitive.name, result.aval.size
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda leaf: hasattr(leaf, "eqns")):
            if hasattr(inner, "eqns") or hasattr(inner, "jaxpr"):
                yield from widest(getattr(inner, "jaxpr", inner))


def traced_step(attack: cw.Attack, model: cw.Model, x, goal: cw.LabelGoal):
    """The dtypes of an attack's state, those after a step, and the program of that step."""
    looping, given = looped(attack), problem(x[3], jax.tree.map(lambda leaf: leaf[3], goal))
    state = jax.eval_shape(looping.init, KEYS[3], given)
    program, after = jax.make_jaxpr(looping.step, return_shape=True)(model, given, state)
    return *([leaf.dtype for leaf in jax.tree.leaves(each)] for each in (state, after)), program.jaxpr


def test_this_process_computes_in_64_bits():
    assert jnp.zeros(()).dtype == np.float64


@rows(*TRACED)
def test_a_float32_input_is_attacked_in_float32(row):
    before, after, program = traced_step(row.make(), MODEL, X.astype(SINGLE), row.goal)
    assert before == after
    assert not {np.dtype(np.float64), np.dtype(np.int64)} & set(before)
    assert not [(name, size) for name, size in widest(program) if size >= X[0].size]


@rows(*FAMILIES)
def test_no_number_or_model_widens_what_a_loop_carries(row):
    before, after, _ = traced_step(widened(row).make(0.5), model_in(DOUBLE), X.astype(SINGLE), row.goal)
    assert before == after
    assert np.dtype(np.float64) not in before


@rows(*RUN)
@pytest.mark.parametrize("dtype", DTYPES if LONG else [DOUBLE], ids=str)
@pytest.mark.parametrize("weights", DTYPES if LONG else [DOUBLE], ids=str)
def test_any_precision_of_inputs_and_weights(row, dtype, weights):
    model, x = model_in(weights), X.astype(dtype)
    halves = 2 in (dtype.itemsize, weights.itemsize)
    confidence = 0.5 if weights.itemsize == 2 else 0.0  # above the model's own rounding: see `rounding_margin`
    batched = jax.jit(cw.batched(row.make(confidence)))(model, KEYS, x, row.goal)
    streamed = cw.streamed(widened(row).make, width=5, every=7)
    in_lanes = streamed(model, KEYS, x, row.goal, confidence=np.float64(confidence))
    for result in (batched, in_lanes):
        assert result.x.dtype == dtype
        assert result.distance.dtype == jnp.promote_types(dtype, SINGLE)
        assert result.forwards.dtype == jnp.int32
        assert result.finite.all()
        assert result.success.mean() > row.fooled / (2 if halves else 1)
        assert cw.metrics.successes(model, result.x, row.goal)[result.success].all()
        measured = cw.metrics.norms(x, result.x)[row.norm]
        np.testing.assert_allclose(result.distance[result.success], measured[result.success], rtol=1e-5)
    both = np.asarray(batched.success & in_lanes.success)
    ratios = np.asarray(in_lanes.distance)[both] / np.asarray(batched.distance)[both]
    if halves:  # XLA rounds at other places in each program, and a loss is a staircase with other steps
        assert both.sum() >= max(batched.success.sum(), in_lanes.success.sum()) - 1
        np.testing.assert_allclose(np.median(ratios), 1, rtol=0.01)
    else:  # the numbers of one are constants: a last bit may send an example to another minimum, one at the most
        np.testing.assert_array_equal(in_lanes.success, batched.success)
        assert (np.abs(ratios - 1) > 0.01).sum() <= 1
        np.testing.assert_allclose(np.median(ratios), 1, rtol=1e-4)


@pytest.mark.parametrize("dtype", [SINGLE, DOUBLE] if LONG else [SINGLE], ids=str)
def test_every_runner(dtype):
    row, model, x = EVERY["fmn, l2"], model_in(dtype), X.astype(dtype)
    arguments, attack = (model, KEYS, x, row.goal), row.make()
    expected = jax.jit(cw.batched(attack))(*arguments)
    mesh = Mesh(jax.devices(), ("devices",))
    assert mesh.size == 2
    for run in (
        jax.jit(cw.chunked(cw.batched(attack), 5)),
        jax.jit(cw.sharded(cw.batched(attack), mesh)),
        *([cw.streamed(attack, width="auto")] if LONG else []),
        cw.streamed(attack, width=4, mesh=mesh),
    ):
        assert_same(run(*arguments), expected)
    result, trace = jax.jit(cw.traced(attack, 200))(*arguments)
    assert_same(result, expected)
    np.testing.assert_array_equal(trace.distance[:, -1], result.distance)

    seen = []

    def watch(status):
        seen.append(status.snapshot())
        return len(seen) == 3

    run = cw.streamed(row.make, width=4, every=7)
    for numbers in (row.numbers, {name: in_64_bits(value) for name, value in row.numbers.items()}):
        assert not run(*arguments, watch=watch, **numbers).finished.all()
        assert_same(run(*arguments, resume=seen.pop(), **numbers), expected)
        seen.clear()


@pytest.mark.parametrize("dtype", [SINGLE, DOUBLE] if LONG else [DOUBLE], ids=str)
def test_what_is_put_around_a_runner(dtype):
    # Bytes that were divided in float32 are off the levels of float64, by less than anybody means.
    bytes_ = np.rint(np.asarray(X) * 255).astype(SINGLE)
    row, model, x = EVERY["l2"], model_in(DOUBLE), jnp.asarray(bytes_ / SINGLE.type(255), dtype)
    arguments = (model, KEYS, x, row.goal)
    rounded, rounding = jax.jit(cw.discretised(cw.batched(row.make())))(*arguments)
    accepted, verification = jax.jit(cw.verified(cw.batched(row.make())))(*arguments)
    left, _ = jax.jit(cw.restored(cw.batched(row.make())))(*arguments)
    for result, claimed in ((rounded, rounding.success), (accepted, verification.claimed), (left, left.success)):
        assert result.x.dtype == dtype
        assert result.success.sum() > 0.9 * claimed.sum() > 4
        assert cw.metrics.successes(model, result.x, row.goal)[result.success].all()
        measured = cw.metrics.norms(x, result.x)["l2"]
        np.testing.assert_allclose(result.distance[result.success], measured[result.success], rtol=1e-6)
    same = np.rint(np.asarray(rounded.x) * 255) == bytes_
    assert same[rounded.success].any()
    np.testing.assert_array_equal(np.asarray(rounded.x)[same], np.asarray(x)[same])

    if not LONG:  # the checks compile as much as all the rest
        return
    numbers = {"steps": jnp.int64(40), "rounds": jnp.int64(4), "initial_c": np.float64(0.3)}
    diagnosis = cw.diagnose(model, row.make, x, row.goal, accepted, KEYS[0], numbers=numbers)
    failed = [name for name, check in diagnosis.checks.items() if check.verdict == "fail"]
    assert set(failed) <= {"weaker_wins"}  # the attack is short


def test_float64_comes_closer_to_a_minimum_that_is_known():
    # Of two classes apart by a plane, the nearest example lies on it: at |w·x|/|w|.
    rng = np.random.default_rng(0)
    w, x = rng.normal(size=(8, 2)).astype(SINGLE), rng.uniform(0.3, 0.7, size=(6, 8)).astype(SINGLE)
    normal = w[:, 0].astype(DOUBLE) - w[:, 1].astype(DOUBLE)
    nearest = np.abs(x.astype(DOUBLE) @ normal) / np.linalg.norm(normal)
    attack = cw.lbfgs(
        search=cw.search.binary_search(40, initial_c=1.0), steps=30, objective=cw.objectives.logit_margin()
    )
    run = jax.jit(cw.batched(attack))

    def excess(dtype):
        model, label = cw.bind(lambda w, x: x @ w, jnp.asarray(w, dtype)), (x @ w).argmax(1)
        result = run(model, problems.keys(6), jnp.asarray(x, dtype), cw.untargeted(label))
        assert result.success.all()
        return np.abs(np.asarray(result.distance, DOUBLE) / nearest - 1).max()

    assert excess(DOUBLE) < 1e-10
    assert not LONG or 1e-10 < excess(SINGLE) < 1e-4


def bright():
    """The user's own model of the command line's tests, in float64."""
    return cw.bind(_bright_in_float64)


def _bright_in_float64(params, x):
    return called.brightness().apply(params, x.astype(DOUBLE))


@pytest.fixture
def call(monkeypatch):
    monkeypatch.setitem(data.SOURCES, "blobs", Blobs())
    monkeypatch.setattr(cli.compiling, "keep", lambda folder: None)
    return lambda *arguments: cli.main([str(argument) for argument in arguments])


long = pytest.mark.skipif(not LONG, reason="they compute little that others do not: CWJAX_LONG=1")
OWN, DOUBLED = "tests.lab.called:brightness", "tests.sixty_four_bits:bright"


def test_attack_verify_and_report(call, tmp_path):
    where = ["--data", "blobs", "--model", DOUBLED, "--examples", 4, "--out", tmp_path]
    checks = [] if LONG else ["--no-checks"]
    call(
        "attack",
        "--attack",
        *(["fast_l2", "l0"] if LONG else ["fast_linf"]),
        *where,
        "--steps",
        20,
        "--rounded",
        *checks,
    )
    table = pq.read_table(tmp_path / "results.parquet").to_pandas()
    assert table.success.all()
    assert (table.margin > 0).all()
    call("verify", tmp_path)  # exits with 1 unless all rows agree
    call("report", tmp_path)


@long
def test_sweep_results_report_and_verify(call, tmp_path, capsys):
    models = [OWN, DOUBLED] if LONG else [DOUBLED]
    where = ["--data", "blobs", "--model", *models, "--examples", 4, "--out", tmp_path]
    call("sweep", *where, "--attack", "fast_l2", "--confidence", 0, 1, "--steps", 20, "--no-checks")
    capsys.readouterr()
    call("results", tmp_path, "select count(*) as rows, bool_and(success) as all_of_them from results")
    assert str(8 * len(models)) in capsys.readouterr().out
    call("report", tmp_path)
    call("verify", tmp_path)


@long
def test_race(call, tmp_path):
    attacks = ["ddn", "fast_l2", "deepfool", "apgd", "fmn"] if LONG else ["ddn"]
    call(
        "race",
        "--model",
        DOUBLED,
        "--data",
        "blobs",
        "--budgets",
        40,
        "--examples",
        3,
        "--attack",
        *attacks,
        "--out",
        tmp_path,
    )
    table = pq.read_table(tmp_path / "race.parquet").to_pandas()
    assert table[table.attack != "fmn"].success.all()  # whose own steps are too short for these pictures
    assert (table.distance[table.success] < 10).all()


@long
def test_train_and_doctor(call, tmp_path):
    call("train", "--data", "blobs", "--recipe", "paper_mnist", "--epochs", 2, "--out", tmp_path)
    call("doctor")
