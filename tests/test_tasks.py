"""Attacks on models that are no classifiers: what they report is so, whatever the task; and a context reaches the model
on every way.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import cwjax as cw
from cwjax import goals

OBJECTIVES = cw.objectives
BATCH = 3
X = np.random.default_rng(0).uniform(0.2, 0.8, size=(BATCH, 6, 6, 1)).astype(np.float32)
WEIGHTS, OTHERS = (np.random.default_rng(seed).normal(size=(36, 4)).astype(np.float32) for seed in (1, 2))
KEYS = jax.random.split(jax.random.key(3), BATCH)


def outputs(params, x):
    return 4 * jnp.tanh(x.reshape(len(x), -1) @ params / 4)


def first(params, x):
    return outputs(params, x)[:, 0]


def classes_of_pixels(params, x):
    ink = x - 0.5 + 0.01 * outputs(params, x)[:, :1, None, None]
    return jnp.concatenate([3 * ink, -ink, 0 * ink], -1)


def brightness(params, x):
    return params * x.mean((1, 2, 3))


def symbols_of_rows(params, x):
    return 4 * jnp.tanh(4 * (x.reshape(len(x), 6, 6) - 0.5) @ params)


MODEL = cw.bind(outputs, WEIGHTS)
LOGITS = np.asarray(MODEL.apply(WEIGHTS, jnp.asarray(X)))
LABELS = cw.untargeted(LOGITS.argmax(-1))
NUMBERS = np.where([True, True, False], LOGITS[:, 0] + 1, 100)  # more than it can say
PIXELS = cw.bind(classes_of_pixels, WEIGHTS)
SEEN = np.asarray(PIXELS.apply(WEIGHTS, jnp.asarray(X))).argmax(-1)
ROWS = cw.bind(symbols_of_rows, np.random.default_rng(4).normal(size=(6, 4)).astype(np.float32))
PATHS = np.asarray(ROWS.apply(ROWS.params, jnp.asarray(X[::-1]))).argmax(-1)  # what it says of another image
WORDS = goals.transcript([[s for s, _ in itertools.groupby(path) if s] for path in PATHS.tolist()], frames=6)

# (model, goal, the objective, with its hinge or without it if it may be left out)
TASKS = {
    "labels flipped": (MODEL, goals.labels_flipped(LOGITS > 0, 2), OBJECTIVES.several_labels),
    "labels reached": (MODEL, goals.labels_reached(LOGITS[::-1] > 0), OBJECTIVES.several_labels),
    "one sigmoid": (
        cw.bind(first, WEIGHTS),
        cw.untargeted((LOGITS[:, 0] > 0).astype(int)),
        lambda hinged: OBJECTIVES.one_output(OBJECTIVES.logit_margin() if hinged else cw.losses.negative_margin()),
    ),
    "a number left": (cw.bind(first, WEIGHTS), goals.value_left(LOGITS[:, 0], 0.5), OBJECTIVES.tolerance),
    "a number reached": (cw.bind(first, WEIGHTS), goals.value_reached(NUMBERS, 0.1), OBJECTIVES.tolerance),
    "pixels left": (PIXELS, goals.pixels_left(SEEN, share=0.5), OBJECTIVES.pixels),
    "two models": (
        cw.joined([MODEL, cw.bind(outputs, OTHERS)]),
        (LABELS, cw.untargeted(np.asarray(outputs(OTHERS, jnp.asarray(X))).argmax(-1))),
        lambda hinged: OBJECTIVES.all_of([OBJECTIVES.logit_margin() if hinged else cw.losses.negative_margin()] * 2),
    ),
    "a detector": (
        cw.joined([MODEL, cw.bind(brightness, jnp.float32(10.0))]),
        LABELS,
        lambda hinged: OBJECTIVES.all_of(
            [OBJECTIVES.logit_margin() if hinged else cw.losses.negative_margin(), OBJECTIVES.below(5.2)]
        ),
    ),
    "a transcript": (ROWS, WORDS, lambda hinged: OBJECTIVES.ctc()),
    "an alignment": (
        ROWS,
        goals.aligned(WORDS, PATHS),
        lambda hinged: OBJECTIVES.aligned_margin(),
    ),
}

ATTACKS = {
    "l2": lambda make: cw.l2(
        objective=make(hinged=True),
        optimizer=optax.adam(5e-2),
        steps=60,
        search=cw.search.binary_search(3, initial_c=3.0),
    ),
    "fast_linf": lambda make: cw.fast("linf", objective=make(hinged=False), steps=60),
    "fmn": lambda make: cw.attacks.fmn(objective=make(hinged=False), steps=60),
}


def length(attack: str, change: np.ndarray) -> np.ndarray:
    rows = change.reshape(len(change), -1)
    return np.abs(rows).max(1) if attack == "fast_linf" else np.sqrt((rows**2).sum(1))


# Each task under the attack that compiles most quickly, two of them under another; `make test-all` has the others.
OTHER = {"labels flipped": "l2", "one sigmoid": "fast_linf"}
PAIRS = [
    pytest.param(task, name, id=f"{task}, {name}", marks=[pytest.mark.long] * (name != OTHER.get(task, "fmn")))
    for task in TASKS
    for name in ATTACKS
]


@pytest.mark.parametrize(("task", "name"), PAIRS)
def test_what_an_attack_reports_of_a_task_is_so(task, name):
    model, goal, make = TASKS[task]
    attack = ATTACKS[name](make)
    result = jax.tree.map(np.asarray, jax.jit(cw.batched(attack))(model, KEYS, X, goal))
    met = jax.jit(jax.vmap(lambda x, goal: attack.terms.objective.met(model(x), goal)))
    np.testing.assert_array_equal(met(result.x, goal), result.success)
    change = result.x.astype(np.float64) - X
    found = result.success
    np.testing.assert_allclose(result.distance[found], length(name, change)[found], rtol=1e-5, atol=1e-6)
    assert np.isposinf(result.distance[~found]).all()
    np.testing.assert_array_equal(result.x[~found], X[~found])
    assert ((result.x >= 0) & (result.x <= 1)).all()
    assert result.finite.all()
    assert result.finished.all()
    assert found.sum() >= 2
    assert (result.distance[found] > 0).any()
    assert task != "a number reached" or not found[2]


def test_a_goal_or_a_model_of_another_task_is_refused_when_the_program_is_made():
    with pytest.raises(
        TypeError, match=r"^this objective reads a goal of labels, .*, got LabelsGoal(.*): choose an objective"
    ):
        jax.jit(cw.batched(cw.l2()))(MODEL, KEYS, X, goals.labels_flipped(LOGITS > 0))
    run = jax.jit(cw.batched(cw.l2(objective=OBJECTIVES.several_labels())))
    with pytest.raises(TypeError, match=r"^several_labels reads a goal of .*, got ValueGoal"):
        run(MODEL, KEYS, X, goals.value_left(LOGITS, 0.5))
    with pytest.raises(ValueError, match=r"^several_labels reads an output for each label .* got float32 \[\]"):
        run(cw.bind(first, WEIGHTS), KEYS, X, goals.labels_flipped(LOGITS > 0))
    with pytest.raises(ValueError, match=r"^goal.wanted must have one entry an example, 3 of them, got shape \[2\]"):
        run(MODEL, KEYS, X, goals.labels_flipped(LOGITS[:2] > 0))


# A context.

CONTEXT = {"factor": np.array([0.5, 1.0, 2.0], np.float32), "kind": np.array([0, 1, 2], np.int32)}
ATTACK = cw.attacks.fgsm(epsilon=0.3, objective=OBJECTIVES.several_labels(hinged=False))  # compiles most quickly
FLIPPED = goals.labels_flipped(LOGITS > 0)


def in_context(params, x, context):
    kind = jax.nn.one_hot(context["kind"], 4) - 0.25
    return context["factor"][:, None] * outputs(params, x) + 0.1 * kind


def baked(params, x):
    weights, context = params
    return in_context(weights, x, jax.tree.map(lambda leaf: leaf[None], context))


TOLD = cw.bind(in_context, WEIGHTS)
WAYS = {
    "batched": lambda: jax.jit(cw.batched(ATTACK)),
    "chunked": lambda: jax.jit(cw.chunked(cw.batched(ATTACK), 2)),
    "streamed": lambda: cw.streamed(ATTACK, width=2, every=8),
    "traced": lambda: jax.jit(cw.traced(ATTACK, 2)),
    "discretised": lambda: jax.jit(cw.discretised(cw.batched(ATTACK))),
    "restored": lambda: jax.jit(cw.restored(cw.batched(ATTACK))),
    "verified": lambda: jax.jit(cw.verified(cw.batched(ATTACK), precision="highest")),
}


@functools.cache
def one_by_one(way: str) -> list:
    """The same of a model with the context among its weights, for each example."""
    run = WAYS[way]()
    several = []
    for row in range(BATCH):
        here = slice(row, row + 1)
        context = jax.tree.map(lambda leaf, row=row: jnp.asarray(leaf[row]), CONTEXT)
        model = cw.bind(baked, (WEIGHTS, context))
        several.append(run(model, KEYS[here], X[here], jax.tree.map(lambda leaf, here=here: leaf[here], FLIPPED)))
    return jax.tree.leaves(jax.tree.map(lambda *rows: np.concatenate(rows), *several))


@pytest.mark.parametrize(
    "way", [pytest.param(way, marks=[pytest.mark.long] * (way in ("restored", "verified"))) for way in WAYS]
)
def test_a_context_reaches_the_model_on_every_way(way):
    found = WAYS[way]()(TOLD, KEYS, X, FLIPPED, context=CONTEXT)
    alone = one_by_one("batched" if way in ("chunked", "streamed") else way)
    for one, other in zip(jax.tree.leaves(found), alone, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    result = found if isinstance(found, cw.Result) else found[0]
    assert np.asarray(result.success).all()


def test_another_context_is_another_result_and_compiles_nothing():
    run = jax.jit(cw.batched(ATTACK))
    one = run(TOLD, KEYS, X, FLIPPED, context=CONTEXT)
    other = run(TOLD, KEYS, X, FLIPPED, context=CONTEXT | {"kind": CONTEXT["kind"][::-1].copy()})
    assert run._cache_size() == 1  # type: ignore
    assert not np.allclose(one.x, other.x)


def test_clean_inputs_are_validated_in_their_context():
    saturated, everything = (
        CONTEXT | {"factor": np.zeros(BATCH, np.float32)},
        goals.labels_reached(np.ones((BATCH, 4), bool)),
    )
    objective = OBJECTIVES.several_labels()
    said = np.asarray(in_context(WEIGHTS, jnp.asarray(X), CONTEXT)) > 0
    met = np.sum((said != (LOGITS > 0)).any(1))
    assert cw.validate(TOLD, X, FLIPPED, objective=objective, context=CONTEXT)[:3] == (BATCH, met, 0)
    assert met == 1
    with pytest.warns(UserWarning, match="the model has no slope at any of the 3 examples"):
        assert cw.validate(TOLD, X, everything, objective=objective, context=saturated).flat == BATCH


@pytest.mark.parametrize("runner", [cw.batched, lambda attack: cw.chunked(cw.batched(attack), 2), cw.streamed])
def test_a_context_of_other_examples_or_none_at_all_is_refused(runner):
    short = CONTEXT | {"kind": CONTEXT["kind"][:2]}
    with pytest.raises(
        ValueError, match=r"^context\['kind'\] must have one entry an example, 3 of them, got shape \[2\]"
    ):
        runner(ATTACK)(TOLD, KEYS, X, FLIPPED, context=short)
    with pytest.raises(ValueError, match=r"^the model refused an input of shape \[6, 6, 1\] .* 'context'"):
        runner(ATTACK)(TOLD, KEYS, X, FLIPPED)


def task(**change):
    given = {
        "name": "a mean",
        "model": cw.bind(lambda params, x: x.mean((1, 2, 3))),
        "x": X,
        "goal": goals.value_left(X.mean((1, 2, 3)), 0.1),
        "objective": OBJECTIVES.tolerance,
    }
    return cw.Task(**given | change)


@pytest.mark.parametrize(
    ("change", "error", "what"),
    [
        ({"model": brightness}, TypeError, "a task's model must be what cwjax.bind returns, got a function"),
        ({"objective": 3}, TypeError, "a task's objective must be a cwjax.Objective or make one, got 3"),
        ({"x": X[0, :, :, 0, None, None, None] * 1.0}, ValueError, r"pictures \[N, H, W, C\] or vectors \[N, F\]"),
        ({"x": (X > 0.5).astype(int)}, ValueError, "a task's x must be floats"),
        ({"x": X[:0]}, ValueError, "a task's x must be floats"),
        ({"x": np.repeat(X, 5, -1)}, ValueError, "have at most 4 channels, got"),
        ({"goal": ()}, ValueError, "a task of 3 inputs needs a goal for each"),
        ({"x": X * 255}, ValueError, r"a task's x must lie in \[0, 1\], got values from"),
        ({"x": np.where(X > 0.7, np.nan, X)}, ValueError, r"a task's x must lie in \[0, 1\]"),
        ({"goal": goals.value_left(np.zeros(2), 0.1)}, ValueError, "a task of 3 inputs needs a goal for each, got"),
        ({"context": np.zeros(4)}, ValueError, "a task of 3 inputs needs a context for each, got float64"),
    ],
)
def test_what_is_no_task_is_refused(change, error, what):
    with pytest.raises(error, match=what):
        task(**change)


def test_a_task_makes_its_objective_with_a_confidence_and_with_or_without_a_hinge():
    outputs, goal = jnp.float32(0.9), jax.tree.map(lambda leaf: leaf[0], task().goal)
    assert task().objective_of().loss(outputs, goal) == 0
    assert task().objective_of(hinged=False).loss(outputs, goal) < 0
    assert task().objective_of(5.0).confidence == 5.0
    assert not task().objective_of(5.0).met(outputs, goal)


def test_a_fixed_objective_is_taken_as_it_is_and_has_no_other_confidence():
    fixed = OBJECTIVES.tolerance(0.2)
    assert task(objective=fixed).objective_of(hinged=False) is fixed
    assert task(objective=fixed).objective_of(1.0) is fixed
    assert task(objective=fixed).fixed_confidence == np.float32(0.2) or task(objective=fixed).fixed_confidence == 0.2
    assert task().fixed_confidence is None


def test_arrays_are_told_in_short():
    from cwjax.tasks import in_short

    assert in_short(np.float32(0.12345)) == "0.123"
    assert in_short((np.array([True, False]), np.arange(9))) == "true, false; 0, 1, 2, 3, 4, 5, …"


def test_a_vector_is_drawn_as_bars_and_a_picture_as_it_is():
    first = X[0]
    assert task().picture(first, 0.0) is first
    bars = task().picture(X[0].ravel(), 0.0)
    assert bars.shape == (6, 36, 1)
    np.testing.assert_array_equal(bars[3, :, 0], X[0].ravel())
    assert task().picture(np.linspace(0, 1, 16_000, dtype=np.float32), 0.0).shape == (40, 240, 1)  # means of a long one
    assert task(draw=lambda x, outputs: 0 * x).picture(X[0], 0.0).max() == 0
