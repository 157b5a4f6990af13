"""What only values tell is refused where they are known, and ends as a failure where they are not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cwjax as cw
from cwjax.parts.objectives import aligned_margin, all_of, any_of, ctc, logit_margin, one_output, pixels
from cwjax.values import check_goals

FRAMES, SYMBOLS = 4, 3
X, KEYS = np.full((2, FRAMES * SYMBOLS), 0.5, np.float32), jax.random.split(jax.random.key(0), 2)
SPEECH = cw.bind(lambda scale, x: scale * x.reshape(len(x), FRAMES, SYMBOLS), jnp.float32(4))
CLASSES = cw.bind(lambda scale, x: scale * x[:, :SYMBOLS], jnp.float32(4))
ONE = cw.bind(lambda scale, x: scale * x[:, 0], jnp.float32(4))
TWICE = cw.joined([CLASSES, CLASSES])
SAID = cw.goals.transcript([[1, 2], [2, 1]], frames=FRAMES)
PLANE = np.array([[0, 1, 2, 0], [2, 1, SYMBOLS, -1]])  # classes of four pixels in a row

UNKNOWN = {
    "a symbol above the last": (
        SPEECH,
        ctc(),
        cw.goals.transcript([[1], [1, SYMBOLS]], frames=FRAMES),
        f"the transcript of example 1 has the symbol {SYMBOLS}, and the outputs have symbols 0…{SYMBOLS - 1}",
    ),
    "the blank": (
        SPEECH,
        ctc(blank=2),
        cw.goals.transcript([[1, 2], [1]], frames=FRAMES),
        "the transcript of example 0 has the symbol 2, which is the blank: leave it out",
    ),
    "more frames": (
        SPEECH,
        ctc(),
        cw.goals.transcript([[1], [2]], frames=np.array([FRAMES, FRAMES + 1])),
        f"example 1 has {FRAMES + 1} frames, and the outputs have {FRAMES}",
    ),
    "a path above": (
        SPEECH,
        aligned_margin(),
        cw.goals.aligned(SAID, np.array([[1, 2, 0, 0], [2, 0, SYMBOLS, 1]])),
        f"the alignment of example 1 has the symbol {SYMBOLS}",
    ),
    "a path below": (
        SPEECH,
        aligned_margin(),
        cw.goals.aligned(SAID, np.array([[-1, 2, 0, 0], [2, 0, 0, 1]])),
        "the alignment of example 0 has the symbol -1",
    ),
    "a path along a symbol above": (
        SPEECH,
        aligned_margin(),
        cw.goals.aligned(cw.goals.transcript([[SYMBOLS], [1]], frames=FRAMES), np.ones((2, FRAMES), int)),
        f"the transcript of example 0 has the symbol {SYMBOLS}",
    ),
    "a pixel's class": (
        SPEECH,
        pixels(),
        cw.goals.pixels_left(np.array([[0, 1, 2, 0], [2, 1, SYMBOLS, 0]])),
        "labels of pixels that count span 0…3, but the model has classes 0…2",
    ),
    "a class": (CLASSES, logit_margin(), cw.untargeted([0, SYMBOLS]), "labels span 0…3, but the model has classes 0…2"),
    "neither yes nor no": (ONE, one_output(), cw.targeted([0, 2]), "labels span 0…2, but the model has classes 0…1"),
    "one of all": (
        TWICE,
        all_of([logit_margin(), logit_margin()]),
        (cw.targeted([0, 2]), cw.targeted([0, -1])),
        "labels span -1…0, but the model has classes 0…2",
    ),
    "one for any": (
        TWICE,
        any_of([logit_margin(), logit_margin()]),
        cw.targeted([0, SYMBOLS]),
        "labels span 0…3, but the model has classes 0…2",
    ),
}


@pytest.mark.parametrize(("model", "objective", "goal", "words"), UNKNOWN.values(), ids=UNKNOWN)
def test_a_goal_that_names_what_the_model_does_not_say_is_refused(model, objective, goal, words):
    attack = cw.attacks.pgd(epsilon=0.1, objective=objective, steps=2)
    for run in (cw.batched(attack), cw.chunked(cw.batched(attack), 1), cw.streamed(attack, width=2)):
        with pytest.raises(ValueError, match=words):
            run(model, KEYS, X, goal)
    with pytest.raises(ValueError, match=words):
        cw.validate(model, X, goal, objective=objective)


@pytest.mark.parametrize(
    ("objective", "goal"),
    [
        (ctc(), cw.goals.transcript(np.array([[1, SYMBOLS], [2, 1]]), lengths=np.array([1, 2]), frames=3)),
        (aligned_margin(), cw.goals.aligned(SAID._replace(frames=jnp.full(2, 2)), np.array([[1, 2, SYMBOLS, -1]] * 2))),
        (pixels(), cw.goals.pixels_left(PLANE, counted=(PLANE >= 0) & (PLANE < SYMBOLS))),
    ],
)
def test_what_does_not_count_may_be_anything(objective, goal):
    check_goals(objective, jax.ShapeDtypeStruct((FRAMES, SYMBOLS), jnp.float32), goal)


def test_under_jit_it_ends_as_a_failure_and_disturbs_no_neighbour():
    run = jax.jit(cw.batched(cw.attacks.pgd(epsilon=0.1, objective=ctc(), steps=1)))
    for x, goal in (
        (X, cw.goals.transcript([[1, SYMBOLS], [1, 2]], frames=FRAMES)),
        (np.where(np.arange(2)[:, None] == 0, np.nan, X).astype(np.float32), SAID),
    ):
        assert np.asarray(run(SPEECH, KEYS, x, goal).finite).tolist() == [False, True]


def test_an_example_that_may_not_change_is_a_failure_with_a_warning():
    x = np.linspace(1, 0.5, 3 * SYMBOLS, dtype=np.float32).reshape(3, SYMBOLS)
    goal, keys = cw.untargeted([0, 0, 1]), jax.random.split(jax.random.key(0), 3)  # the last is met as it is
    free = np.array([[False], [True], [False]])
    run = cw.streamed(cw.attacks.fgsm(epsilon=1.0), width=3)
    with pytest.warns(UserWarning, match="leave 2 of 3 examples no element that may change, first example 0: they"):
        result = run(CLASSES, keys, x, goal, mask=free)
    assert result.success.tolist() == [False, True, True]
    assert result.distance[2] == 0
    np.testing.assert_array_equal(result.x[0], x[0])
