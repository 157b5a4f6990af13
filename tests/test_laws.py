"""The laws: what holds for every attack, under every runner. A new attack adds a row to ATTACKS and is held to all of
them.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import cwjax as cw
from cwjax.problems import geometric_mean
from tests import problems, rivals_from_2019, rivals_until_2018

COUNT = 12
MODEL = cw.bind(problems.mlp, problems.mlp_params())
X = jnp.asarray(problems.inputs(COUNT))
GOAL = problems.goals(MODEL, np.asarray(X))
KEYS = problems.keys(COUNT)
LEAVE = cw.untargeted(MODEL.apply(MODEL.params, X).argmax(-1))


@dataclasses.dataclass(frozen=True, eq=False)
class Row:
    """An attack: `make(confidence=…, **numbers)` gives it with that confidence, and with numbers other than its own."""

    make: Callable[..., cw.Attack]
    norm: str
    numbers: dict[str, float | int]  # that may be traced: what `make` takes without being told
    others: dict[str, float | int]  # other values for some of them, that make the attack shorter
    low: float = 0.0
    high: float = 1.0
    goal: cw.LabelGoal = GOAL
    fooled: float = 0.6  # at least this share of the examples
    lengths: tuple[str, ...] = ()  # those of its numbers that are lengths in the unit of x
    first: int = 1  # forward passes of its first step
    group: str = ""  # of rows that share `make`, and with it a program: theirs is one process


def paper(name: str, *, objective=None, box=None, around=lambda attack: attack, lengths=None, row=None, **fixed) -> Row:
    """One of the paper's attacks, with something of it changed, or in something that takes an attack, and `lengths`."""
    objective = objective or (cw.objectives.cross_entropy if name == "lbfgs" else cw.objectives.logit_margin)
    box = box or (cw.boxes.projected if name == "lbfgs" else cw.boxes.change_of_variables)
    lengths, row = lengths or {}, row or {}

    def make(confidence=0.0, **numbers):
        own = {key: numbers.pop(key, value) for key, value in lengths.items()}
        attack = problems.small(name, objective=objective(confidence), box=box(), **(fixed | numbers))
        return around(attack, **own)

    given = problems.SMALL[name] | fixed | lengths
    numbers = {key: value for key, value in given.items() if isinstance(value, float | int)}
    others = {"steps": 6} | ({"rounds": 2, "initial_c": 3.0} if "rounds" in numbers else {"largest_c": 1.0})
    return Row(make, "l2" if name == "lbfgs" else name, numbers, others, lengths=tuple(lengths), **row)


OBJECTIVES = cw.objectives.OBJECTIVES | {
    "f5 without its hinge": functools.partial(cw.objectives.log_half_probability, hinged=False)
}


def by_number(norm: str):
    """The paper's attack with any of the objectives: `which` is one more number, so that they share a program."""

    def make(confidence=0.0, which=0, **numbers):
        each = [objective(confidence) for objective in OBJECTIVES.values()]
        losses = [objective.loss for objective in each]
        chosen = each[0]._replace(loss=lambda logits, goal: jax.lax.switch(which, losses, logits, goal))
        return problems.small(norm, objective=chosen, **numbers)

    return make


def multiplied(confidence=0.0, steps=40):
    """The paper's descent, with c and the length of a step turned at every step."""
    parts = {"objective": cw.objectives.logit_margin(confidence), "distance": cw.distances.l2()}
    parts |= {"box": cw.boxes.projected(), "optimizer": optax.adam(1.0), "abort": cw.aborts.never()}
    return cw.tracked(cw.descend(**parts, steps=steps), cw.search.multiplier(steps=steps))


def shrunk(confidence=0.0, **numbers):
    """The first phase of the attack on speech, within the whole box."""
    return cw.attacks.audio(objective=cw.losses.negative_margin(confidence), **numbers)


def fast(norm: str, *, objective=cw.losses.softened_margin) -> Row:
    """One of the fast attacks, with something of it changed."""

    def make(confidence=0.0, steps=40):
        return cw.fast(norm, objective=objective(confidence), steps=steps)

    return Row(make, norm, {"steps": 40}, {"steps": 6})


# Held to every law.
ATTACKS = {
    "l2": paper("l2"),
    "l2, clipped, Nesterov": paper("l2", box=cw.boxes.clipped, optimizer=cw.optimizers.nesterov(1e-2)),
    "l1": paper("l1"),
    "linf": paper("linf"),
    "l0": paper("l0"),
    "lbfgs": paper("lbfgs"),
    "l2, restarted": paper(
        "l2", around=lambda attack, radius: cw.restarted(attack, 3, radius), lengths={"radius": 0.5}
    ),
    "linf, best target": paper(
        "linf", around=lambda attack: cw.best_target(attack, problems.CLASSES), row={"goal": LEAVE}
    ),
    # Every one of its targets has to be reached.
    "l2, worst target": paper(
        "l2",
        around=lambda attack: cw.worst_target(attack, problems.CLASSES),
        steps=80,
        rounds=6,
        row={"goal": LEAVE, "fooled": 0.2},
    ),
}

FAST = {
    "fast_l2": fast("l2"),
    "fast_linf": fast("linf"),
    "fast_l0": fast("l0"),
}


def task(inner, outputs, goal, *, norm: str | None = None) -> Row:
    """A task that is met exactly where the label goal is: an objective of outputs that are made of the logits, and of a
    goal that is made of the label goal.
    """

    def objective(confidence):
        own = inner(confidence)

        def through(function):
            return lambda logits, given: function(outputs(logits, given), goal(given))

        return own._replace(
            loss=through(own.loss),
            met=through(own.met),
            check=cw.objectives.logit_margin().check,
            reaches=lambda given: own.reaches(goal(given)),
            logits=None,
        )

    return fast(norm, objective=objective) if norm else paper("l2", objective=objective)


def led(logits, given):
    """By how much the label leads the other classes: [1]."""
    return cw.objectives.margin(logits, given._replace(sign=jnp.ones_like(given.sign)))[None]


def one_label(given):
    return cw.goals.LabelsGoal(wanted=given.sign[None], least=jnp.int32(1))


def one_pixel(given):
    share = jnp.ones_like(given.sign)
    return cw.goals.PixelsGoal(given.label[None], counted=jnp.ones(1, bool), share=share, sign=given.sign)


def unhinged(objective):
    return lambda confidence: objective(confidence, hinged=False)


# Tasks of other kinds, one row for each: their objectives decide as those of the label goal do.
TASKS = {
    "several labels": task(cw.objectives.several_labels, led, one_label),
    "pixels, linf": task(unhinged(cw.objectives.pixels), lambda logits, _: logits[None], one_pixel, norm="linf"),
    "two models": task(
        lambda confidence: cw.objectives.all_of([cw.objectives.logit_margin(confidence)] * 2),
        lambda logits, _: (logits, logits),
        lambda given: given,
    ),
    "one output, alternating": task(
        lambda confidence: cw.objectives.one_output(cw.losses.negative_margin(confidence)),
        led,
        lambda given: given._replace(label=jnp.ones_like(given.label)),
        norm="l2",
    ),
    "audio": Row(shrunk, "linf", {"steps": 60, "factor": 0.8}, {"steps": 6}),
}

# Held to every law but that they run without jit, which takes half of their time: runners see to that, and no attack.
# Of an attack in several norms one is here, and the others with the combinations below.
_NORMS = ("pgd l2", "pgd l1", "deepfool, restarted", "ddn, 64 levels", "fmn, l0", "fmn, l1", "fmn, linf")
_NORMS += ("pdpgd, l0", "pdpgd, l2", "pdpgd, linf", "alma, l1", "trust_region, linf")
_NORMS += ("brendel_bethge, l1", "brendel_bethge, linf")
_EVERY = {name: Row(**row) for name, row in (rivals_until_2018.RIVALS | rivals_from_2019.RIVALS).items()}
RIVALS = FAST | {name: row for name, row in _EVERY.items() if name not in _NORMS}

# Held to the laws that one compiled program can show.
# Every norm with every box, every norm with every optimiser, and every box with every optimiser.
_RATES = {"gradient_descent": 0.05, "momentum": 0.01, "nesterov": 0.01, "adam": 0.05}
_TRIPLES = [
    (norm, list(cw.boxes.BOXES)[(i + j) % len(cw.boxes.BOXES)], name)
    for i, norm in enumerate(("l2", "l1", "linf", "l0"))
    for j, name in enumerate(_RATES)
]
COMBINATIONS = {
    f"{norm}, {box}, {name}": paper(
        norm, box=cw.boxes.BOXES[box], optimizer=cw.optimizers.OPTIMIZERS[name](_RATES[name])
    )
    for norm, box, name in _TRIPLES
} | {
    # Where the softmax saturates, f2, f3 and f4 have next to no slope: they fail more often (the paper's Table III).
    f"{norm}, {name}": Row(
        make,
        norm,
        problems.SMALL[norm] | {"which": which},
        {"steps": 6},
        fooled=0.3 if name in ("f2", "f3", "f4") else 0.6,
        group=f"{norm}, objectives",
    )
    for norm, make in (("l2", by_number("l2")), ("linf", by_number("linf")))
    for which, name in enumerate(OBJECTIVES)
}
COMBINATIONS |= {name: _EVERY[name] for name in _NORMS}
COMBINATIONS |= {
    "l2, first success": paper("l2", abort=cw.aborts.first_success()),
    "l2, no abort": paper("l2", abort=cw.aborts.never()),
    "lbfgs, change of variables": paper("lbfgs", box=cw.boxes.change_of_variables),
    "lbfgs, clipped": paper("lbfgs", box=cw.boxes.clipped),
    "l2, wider box": dataclasses.replace(ATTACKS["l2"], low=-0.5, high=1.7, group="l2"),
    "l0, one pixel a round, projected": paper("l0", removal=cw.search.one_pixel(), box=cw.boxes.projected),
    "l0, average target": paper(
        "l0", around=lambda attack: cw.average_target(attack, problems.CLASSES), row={"goal": LEAVE}
    ),
    "lbfgs, f6": paper("lbfgs", objective=cw.objectives.logit_margin),
    "fast_l1": fast("l1"),  # the rule of fast_l0 in another norm
    "multiplier": Row(multiplied, "l2", {"steps": 40}, {"steps": 6}),
}


def rows(table: dict[str, Row], long: Iterable[str] = ()):
    """Each law on each row; all laws of a row in one process, which compiles it once. Some only by `make test-all`."""
    marks = {
        name: [pytest.mark.xdist_group(row.group or name)] + [pytest.mark.long] * (name in long)
        for name, row in table.items()
    }
    return pytest.mark.parametrize(
        "row", [pytest.param(row, id=name, marks=marks[name]) for name, row in table.items()]
    )


# What a runner does with an attack's steps. Most rivals are rules for the one loop, which does not know them apart: one
# of each kind will do. Of targets that is the one below, of tasks that of several labels, and that of speech.
_KINDS = ("pgd", "apgd, l2, minimised", "deepfool, best target", "jsma-z", "ead", "pdgd")
_FURTHER = {"l2, clipped, Nesterov", "linf, best target", "l2, worst target", "apgd, l2, minimised", "pdgd"}
_FURTHER |= {"pixels, linf", "two models", "one output, alternating"}
_OTHERS = RIVALS.keys() - FAST.keys() - {*_KINDS, "fmn, l2", "vfga"}  # each has an oracle of its own as well
every_attack = rows(ATTACKS | RIVALS | TASKS, long=TASKS.keys() | _OTHERS | _FURTHER)
# One of each family, of those that compile most quickly; the others run as they do.
_FAMILIES = {"l2", "lbfgs", "fast_linf", "pgd", "deepfool, best target"}
_LOOPS = ATTACKS | FAST | {name: RIVALS[name] for name in _KINDS}
every_loop = rows(_LOOPS, long=_LOOPS.keys() - _FAMILIES)
every_kind = rows(ATTACKS | RIVALS | TASKS, long=(RIVALS | TASKS).keys() - FAST.keys() - set(_KINDS) | _FURTHER)
# Three triples, each of another norm, box and optimiser; l0 with Adam is above.
_FEW = ("l2, change_of_variables, gradient_descent", "l1, clipped, momentum", "linf, projected, nesterov")
_LONG = (
    _OTHERS
    | {", ".join(triple) for triple in _TRIPLES} - {*_FEW}
    | {f"linf, {name}" for name in OBJECTIVES}
    | {*_NORMS, *_FURTHER, "l2, first success", "l2, no abort", "fast_l1", "l0, one pixel a round, projected"}
    | {"lbfgs, change of variables", "lbfgs, clipped", "lbfgs, f6", "l0, average target"}
)
every_combination = rows(ATTACKS | RIVALS | TASKS | COMBINATIONS, long=_LONG)


SPARE = 2  # classes that the network has no use for
VICTIM = 4


def hindered(params, x):
    """The network with more classes, of which the first so many are switched on. It answers NaN within 0.2 of the
    victim, but not at less than `spared`; and, where `blotted`, in the least of its own logits.
    """
    weights, classes, off, spared, blotted = params
    logits = problems.mlp(weights, x)
    least = jnp.arange(problems.CLASSES)[None] == logits.argmin(1)[:, None]
    logits = jnp.pad(jnp.where(blotted & least, jnp.nan, logits), ((0, 0), (0, SPARE)))
    logits = jnp.where(jnp.arange(logits.shape[1])[None] < classes, logits, off)
    away = jnp.abs(x.reshape(x.shape[0], -1) - X[VICTIM].reshape(1, -1)).max(1)
    return jnp.where(((away < 0.2) & (away >= spared))[:, None], jnp.nan, logits)


def hindrance(*, classes=problems.CLASSES, off=-1e4, spared=np.inf, blotted=False, seed=0) -> cw.Model:
    """One program for all of them."""
    numbers = jnp.int32(classes), jnp.float32(off), jnp.float32(spared), jnp.bool_(blotted)
    return cw.bind(hindered, (problems.mlp_params(seed), *numbers))


PADDED = hindrance()  # as MODEL, but for classes that cannot win; most laws are about it, so that they share programs


SEEN = jnp.zeros(problems.SHAPE, bool)  # no element without a slope


@dataclasses.dataclass(frozen=True)
class Traced:
    """A runner, and the shapes that it was compiled for."""

    run: Callable[..., cw.Result]
    traces: list[tuple[int, ...]]

    def __call__(self, *given: Any, **numbers: Any) -> cw.Result:
        return self.run(*given, **numbers)


@functools.cache
def runner(row: Row) -> Traced:
    """The row under the plain runner, jitted, and compiled once for each shape, whatever the confidence and the
    `numbers`; also with lengths multiplied by a `width`, one for all elements or one for each, and with elements whose
    slope the model keeps to itself (`blind`). Its `traces` grow by one with each program.
    """
    run, traces = _program(row.make, row.lengths)

    def of(model, keys, x, goal, confidence=0.0, width=1.0, blind=SEEN, mask=True, **numbers):
        widths = jnp.broadcast_to(jnp.asarray(width, jnp.float32), problems.SHAPE)
        masks = jnp.broadcast_to(jnp.asarray(mask), x.shape)
        told = confidence, row.numbers | numbers, (row.low, row.high), widths
        return run(*told, blind, masks, model, keys, x, goal)

    return Traced(of, traces)


@functools.cache
def _program(make, lengths):
    traces = []

    @jax.jit
    def run(confidence, numbers, box, width, blind, mask, model, keys, x, goal):
        traces.append(x.shape)

        def seen(params, x):
            return model.apply(
                params, jnp.where(blind[None], jax.lax.stop_gradient(x), x) / width.astype(x.dtype)[None]
            )

        numbers = numbers | {name: numbers[name] * geometric_mean(width) for name in lengths}
        run = cw.batched(make(confidence, **numbers))
        bounds = {"low": box[0] * width, "high": box[1] * width, "mask": mask}
        return run(cw.bind(seen, model.params), keys, width.astype(x.dtype)[None] * x, goal, **bounds)

    return run, traces


@functools.cache
def attacked(row: Row, confidence: float = 0.0) -> cw.Result:
    """The row's result on the common problem, computed once."""
    return runner(row)(PADDED, KEYS, X, row.goal, confidence)


def pick(places, *trees):
    return tuple(jax.tree.map(lambda leaf: leaf[jnp.asarray(places)], tree) for tree in trees)


def assert_same(result: cw.Result, expected: cw.Result) -> None:
    """The same verdict, and the same distance."""
    np.testing.assert_array_equal(result.success, expected.success)
    np.testing.assert_allclose(result.distance, expected.distance, rtol=1e-4)
    np.testing.assert_array_equal(result.finite, expected.finite)


@every_combination
@pytest.mark.parametrize("confidence", [0.0, 1.5])
def test_most_examples_are_fooled(row, confidence):
    # Without this, the laws that follow would hold for an attack that does nothing.
    assert attacked(row, confidence).success.mean() > row.fooled


@every_combination
def test_the_result_is_inside_the_box(row):
    x = np.asarray(attacked(row).x)
    assert x.min() >= row.low
    assert x.max() <= row.high


@every_combination
@pytest.mark.parametrize("confidence", [0.0, 1.5])
def test_a_success_is_one_when_the_saved_array_goes_through_the_model_alone(row, confidence):
    result = attacked(row, confidence)
    for i in np.flatnonzero(result.success):
        saved = jnp.asarray(np.asarray(result.x[i : i + 1]))
        logits = np.asarray(problems.mlp(MODEL.params, saved))[0].astype(np.float64)
        label, other = int(row.goal.label[i]), np.delete(logits, row.goal.label[i]).max()
        lead = float(row.goal.sign[i]) * (logits[label] - other)
        assert lead > 0
        assert lead >= confidence


@every_combination
def test_the_distance_is_that_of_the_returned_input(row):
    result = attacked(row)
    measured = cw.metrics.norms(X, result.x)[row.norm]
    hit = np.asarray(result.success)
    np.testing.assert_allclose(result.distance[hit], measured[hit], rtol=1e-5)


@every_combination
def test_an_attack_tells_its_norm_and_its_confidence(row):
    terms = row.make(1.5).terms
    assert terms.distance.norm == row.norm
    assert terms.objective.confidence == 1.5


@rows(ATTACKS | RIVALS | TASKS, long=(ATTACKS | RIVALS | TASKS).keys() - {"l0", "l2"})
def test_what_wraps_a_runner_keeps_the_attacks_norm_and_margin(row):
    plain = attacked(row, 1.5)

    @jax.jit
    def wrapped(plain):
        terms = row.make(1.5).terms
        return [
            wrap(lambda *given: plain, terms=terms)(MODEL, KEYS, X, row.goal)
            for wrap in (cw.discretised, cw.restored, functools.partial(cw.verified, precision="highest"))
        ]

    for result, cost in wrapped(plain):
        hit = np.asarray(result.success)
        assert hit.sum() >= 0.5 * plain.success.sum()
        np.testing.assert_array_equal(cost.distance, plain.distance)
        np.testing.assert_allclose(result.distance[hit], cw.metrics.norms(X, result.x)[row.norm][hit], rtol=1e-5)
        assert cw.metrics.successes(MODEL, result.x, row.goal, confidence=1.5)[hit].all()


@every_combination
def test_a_failure_returns_the_clean_input_at_distance_infinity(row):
    result = attacked(row, confidence=1e4)
    assert not result.success.any()
    np.testing.assert_array_equal(result.x, X)
    assert np.isinf(result.distance).all()
    assert np.isinf(result.c).all()
    assert result.finite.all()
    assert result.finished.all()


def rescaled(row, width) -> tuple[np.ndarray, np.ndarray]:
    """The distances in the box, and in one so many times as wide, in its widths; of the same successes."""
    expected, result = attacked(row), runner(row)(PADDED, KEYS, X, row.goal, width=width)
    np.testing.assert_array_equal(result.success, expected.success)
    hit = np.asarray(expected.success)
    distance = np.asarray(result.distance[hit]) / (1 if row.norm == "l0" else width)
    return distance, np.asarray(expected.distance[hit])


@every_combination
@pytest.mark.parametrize("width", [256.0, 2.0**-10])
def test_a_box_of_another_width_rescales_the_result(row, width):
    distance, expected = rescaled(row, width)
    np.testing.assert_allclose(distance, expected, rtol=1e-5)


@every_combination
@pytest.mark.parametrize("width", [255.0, 1e-3])
def test_so_does_one_whose_width_is_rounded(row, width):
    # A last bit may send an example to another minimum: one of twelve, at the most.
    distance, expected = rescaled(row, width)
    assert (np.abs(distance - expected) > 0.01 * expected).sum() <= 1


UNEQUAL = 2.0 ** (np.arange(X[0].size).reshape(problems.SHAPE) % 5 - 2)  # from a quarter to four


@every_combination
def test_features_may_have_widths_of_their_own(row):
    result = runner(row)(PADDED, KEYS, X, row.goal, width=UNEQUAL)
    shares = np.asarray(result.x) / UNEQUAL
    assert shares.min() >= row.low
    assert shares.max() <= row.high
    assert result.success.mean() > row.fooled / 2
    hit = np.asarray(result.success)
    assert cw.metrics.successes(MODEL, jnp.asarray(shares, jnp.float32), row.goal)[hit].all()
    if row.norm == "l0" and not row.lengths:  # a pixel counts as one, whatever its width
        assert_same(result, attacked(row))
    else:
        measured = cw.metrics.norms(UNEQUAL[None] * X, result.x)[row.norm]
        np.testing.assert_allclose(result.distance[hit], measured[hit], rtol=1e-5)


@every_combination
def test_an_element_without_a_slope_stays(row):
    blind = jnp.arange(X[0].size).reshape(problems.SHAPE) % 3 == 0
    result = runner(row)(PADDED, KEYS, X, row.goal, blind=blind)
    np.testing.assert_array_equal(result.x[:, blind], X[:, blind])
    assert result.success.mean() > row.fooled / 2
    assert cw.metrics.successes(MODEL, result.x, row.goal)[result.success].all()


@every_combination
def test_an_element_that_may_not_move_does_not(row):
    # Each example has a mask of its own, a third of its elements.
    mask = (np.arange(X.size).reshape(X.shape) + np.arange(COUNT).reshape(-1, 1, 1)) % 3 != 0
    compiled = len(runner(row).traces)
    result = runner(row)(PADDED, KEYS, X, row.goal, mask=mask)
    assert len(runner(row).traces) == compiled
    np.testing.assert_array_equal(result.x[~mask], X[~mask])
    assert result.success.mean() > row.fooled / 2
    assert cw.metrics.successes(MODEL, result.x, row.goal)[result.success].all()


@every_kind
def test_an_example_does_not_depend_on_its_batch(row):
    expected = attacked(row)
    order = np.random.default_rng(0).permutation(COUNT)
    run = runner(row)
    assert_same(run(PADDED, *pick(order, KEYS, X, row.goal)), pick(order, expected)[0])
    for i in range(0, COUNT, 5):
        alone = [i] * COUNT  # a batch of itself: of one alone, see the calls of the model
        assert_same(run(PADDED, *pick(alone, KEYS, X, row.goal)), pick(alone, expected)[0])


@every_loop
def test_an_example_does_not_depend_on_its_lane(row):
    assert_same(cw.streamed(row.make(), width=5, every=7)(MODEL, KEYS, X, row.goal), attacked(row))


@pytest.mark.parametrize("size", [pytest.param(1, marks=pytest.mark.long), 5, pytest.param(6, marks=pytest.mark.long)])
def test_a_chunk_may_have_any_size(size):
    row = RIVALS["pgd"]
    run = jax.jit(cw.chunked(cw.batched(row.make()), size))
    assert_same(run(MODEL, KEYS, X, row.goal), attacked(row))


@pytest.mark.parametrize("size", [1, 5, COUNT - 1, COUNT, 100])
def test_no_chunk_has_more_examples_than_its_size(size):
    seen = []

    def run(model, keys, x, goal):
        seen.append(len(x))
        return x

    assert cw.chunked(run, size)(MODEL, KEYS, X, GOAL).shape == X.shape
    assert set(seen) == {min(size, COUNT)}


@every_loop
def test_an_attack_can_be_stopped_and_go_on(row):
    begin, advance, result = map(jax.jit, cw.lanes(row.make()))
    states = begin(KEYS, X, row.goal)
    at_once = result(advance(MODEL, X, row.goal, states, 10**6))
    distance = result(states).distance
    while not result(states).finished.all():
        states = advance(MODEL, X, row.goal, states, 7)
        assert (result(states).distance <= distance).all()
        distance = result(states).distance
    chex.assert_trees_all_equal(result(states), at_once)
    assert_same(at_once, attacked(row))


@every_loop
def test_the_best_distance_never_grows_along_a_trace(row):
    expected = attacked(row)
    steps = int(expected.forwards.max())
    result, trace = jax.jit(cw.traced(row.make(), steps))(MODEL, KEYS, X, row.goal)
    assert_same(result, expected)
    assert trace.distance.shape == (COUNT, steps)
    # inf - inf is no number: compare, do not subtract
    assert (trace.distance[:, 1:] <= trace.distance[:, :-1]).all()
    np.testing.assert_array_equal(trace.distance[:, -1], result.distance)
    np.testing.assert_array_equal(result.forwards, expected.forwards)


@rows(ATTACKS, long=ATTACKS.keys() - {"l2"})
def test_a_trace_may_be_cut_short(row):
    cut, _ = jax.jit(cw.traced(row.make(), 3))(MODEL, KEYS, X, row.goal)
    assert not cut.finished.any()
    assert (cut.forwards == 3).all()


@rows(
    ATTACKS | RIVALS | TASKS,
    long=(ATTACKS | RIVALS | TASKS).keys() - _FAMILIES - {"jsma-z", "ead"},
)
def test_forwards_and_backwards_are_the_calls_of_the_model(row):
    model, calls = problems.counted()
    result = jax.jit(cw.batched(row.make()))(model, *pick([3], KEYS, X, row.goal))
    jax.effects_barrier()
    assert_same(result, pick([3], attacked(row))[0])
    assert calls == {"forward": int(result.forwards[0]), "backward": int(result.backwards[0])}
    assert calls["forward"] > 3


@every_kind
def test_new_numbers_and_new_weights_do_not_compile_again(row):
    run, expected = runner(row), attacked(row)
    compiled = len(run.traces)
    run(hindrance(seed=5), KEYS, X, row.goal)
    run(PADDED, KEYS, X, row.goal._replace(sign=-row.goal.sign))
    shorter = run(PADDED, KEYS, X, row.goal, 0.5, **row.others)
    assert len(run.traces) == compiled
    assert shorter.forwards.sum() < expected.forwards.sum()


# What is put around them knows nothing of jit.
@rows(
    {name: row for name, row in (ATTACKS | RIVALS).items() if name in ("pgd", "l2", "l1", "linf", "l0", "lbfgs")},
    long=("l2", "l1", "linf", "l0", "lbfgs"),
)
def test_jitted_and_unjitted_agree(row):
    small = row.make(**row.others | {"steps": 1})
    arguments = (MODEL, *pick([0, 3], KEYS, X, row.goal))
    expected = jax.jit(cw.batched(small))(*arguments)
    assert_same(cw.batched(small)(*arguments), expected)
    with jax.disable_jit():
        assert_same(cw.batched(small)(*arguments), expected)


@every_attack
def test_classes_that_cannot_win_change_nothing(row):
    # That PADDED agrees with MODEL, which has none, the laws say that compare their own runs of MODEL with it.
    expected = attacked(row)
    for off in (-np.inf, float(np.finfo(np.float32).min), -1e9):
        result = runner(row)(hindrance(off=off), KEYS, X, row.goal)
        np.testing.assert_array_equal(result.success, expected.success)
        np.testing.assert_allclose(result.distance, expected.distance, rtol=1e-6)
        np.testing.assert_array_equal(result.finite, expected.finite)


@rows(ATTACKS | RIVALS | TASKS, long=(ATTACKS | RIVALS | TASKS).keys() - {"fmn, l2", "vfga"})  # the others: see above
def test_nor_does_a_network_without_them(row):
    assert_same(runner(row)(MODEL, KEYS, X, row.goal), attacked(row))


# The worst target has to reach each.
@rows({name: row for name, row in (ATTACKS | RIVALS).items() if "worst target" not in name}, long=_OTHERS | _FURTHER)
@pytest.mark.parametrize("classes", [2, 3])
def test_a_few_classes_are_enough(row, classes):
    model = hindrance(classes=classes)
    goal = problems.goals(model, np.asarray(X), classes)
    leave = (row.goal.sign < 0).all()
    goal = cw.untargeted(model.apply(model.params, X).argmax(-1)) if leave else goal
    result = runner(row)(model, KEYS, X, goal)
    assert result.finite.all()
    assert result.success.mean() > row.fooled
    assert cw.metrics.successes(model, result.x, goal)[result.success].all()


@every_loop
@pytest.mark.parametrize("spared", [0.0, 1e-3], ids=["at once", "on the way"])
def test_a_model_that_returns_nan_ends_as_not_finite_and_disturbs_no_neighbour(row, spared):
    result = runner(row)(hindrance(spared=spared), KEYS, X, row.goal)
    assert not result.finite[VICTIM]
    assert result.finished.all()
    assert not np.isnan(result.x).any()
    others = np.delete(np.arange(COUNT), VICTIM)
    assert_same(pick(others, result)[0], pick(others, attacked(row))[0])


@every_loop
def test_a_nan_among_the_logits_that_do_not_matter_is_reported(row):
    result = runner(row)(hindrance(blotted=True), KEYS, X, row.goal)
    assert not result.finite.any()
    assert not result.success.any()


@every_loop
@pytest.mark.parametrize("label", [-1, problems.CLASSES + SPARE, 1000])
def test_a_label_out_of_range_is_reported_and_disturbs_no_neighbour(row, label):
    goal = row.goal._replace(label=row.goal.label.at[2].set(label))
    result = runner(row)(PADDED, KEYS, X, goal)
    assert not result.finite[2]
    assert not result.success[2]
    others = np.delete(np.arange(COUNT), 2)
    assert_same(pick(others, result)[0], pick(others, attacked(row))[0])


@every_loop
def test_inputs_of_half_precision_give_results_of_half_precision(row):
    assert_half_precision(row, jnp.bfloat16)


@rows(ATTACKS, long=ATTACKS.keys() - {"l2"})
def test_so_do_those_with_fewer_bits_for_the_exponent(row):
    assert_half_precision(row, jnp.float16)


def assert_half_precision(row, dtype):
    x = X.astype(dtype)
    result = runner(row)(PADDED, KEYS, x, row.goal)
    assert result.x.dtype == dtype
    assert result.success.mean() > row.fooled
    assert result.finite.all()
    assert cw.metrics.successes(MODEL, result.x, row.goal)[result.success].all()
    measured = cw.metrics.norms(x, result.x)[row.norm]
    np.testing.assert_allclose(result.distance[result.success], measured[result.success], rtol=1e-5)


def test_a_weight_beyond_half_precision_does_not_overflow():
    attack = problems.small_l2(objective=cw.objectives.logit_margin(1e4), search=cw.search.binary_search(9), steps=3)
    result = jax.jit(cw.batched(attack))(MODEL, KEYS, X.astype(jnp.float16), GOAL)
    assert result.finite.all()
    assert not result.success.any()


MISSED = 5  # of the examples, which the model gets wrong


@every_attack
def test_an_input_that_the_model_gets_wrong_is_its_own_example_at_distance_0(row):
    answers = MODEL.apply(MODEL.params, X).argmax(-1)
    wrong = cw.untargeted(jnp.where(jnp.arange(COUNT) < MISSED, (answers + 1) % problems.CLASSES, answers))
    result = runner(row)(PADDED, KEYS, X, wrong)
    if row.goal.sign.min() < 0 < row.goal.sign.max():  # else each version has a goal of its own
        assert result.success[:MISSED].all()
        np.testing.assert_array_equal(result.distance[:MISSED], 0)
        np.testing.assert_array_equal(result.x[:MISSED], X[:MISSED])
        np.testing.assert_array_equal(result.forwards[:MISSED], row.first)
    assert (result.distance[MISSED:] > 0).all()


@pytest.mark.parametrize(
    "attack",
    [
        cw.minimised(cw.attacks.pgd(epsilon=0.3)),
        pytest.param(
            cw.minimised(cw.attacks.apgd_targeted(num_classes=problems.CLASSES, epsilon=0.3, steps=20)),
            marks=pytest.mark.long,
        ),
    ],
    ids=["pgd, minimised", "apgd_targeted, minimised"],
)
def test_so_it_is_under_attacks_that_start_at_random(attack):
    answers = MODEL.apply(MODEL.params, X).argmax(-1)
    result = jax.jit(cw.batched(attack))(MODEL, KEYS, X, cw.untargeted((answers + 1) % problems.CLASSES))
    np.testing.assert_array_equal(result.distance, 0)
    np.testing.assert_array_equal(result.x, X)
