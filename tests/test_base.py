"""The types' own functions, by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cwjax as cw
from cwjax.base import (
    Candidate,
    LabelGoal,
    Progress,
    Result,
    answered,
    check_labels_read,
    closer,
    continued,
    found,
    select,
    settled,
    shapes,
    untouched,
    wide,
)
from cwjax.parts import distances
from cwjax.problems import problem

X = jnp.array([0.25, 0.5, 0.75], jnp.float32)
GOAL = LabelGoal(label=jnp.int32(1), sign=jnp.float32(-1))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_an_attack_that_has_not_begun_has_seen_nothing(dtype):
    progress = untouched(problem(X.astype(dtype), GOAL))
    np.testing.assert_array_equal(progress.best.x, X.astype(dtype))
    assert all(np.isposinf(each) for each in (*progress.best[1:], progress.last.loss, progress.last.distance))
    assert not progress.last.met
    np.testing.assert_array_equal(progress.last.gradient, np.zeros(3, np.float32))
    assert progress.last.gradient.dtype == jnp.float32
    assert (int(progress.forwards), int(progress.backwards)) == (0, 0)
    assert progress.finite
    assert not progress.done


def progress(forwards: int, backwards: int, finite: bool = True) -> Progress:
    start = untouched(problem(X, GOAL))
    spent = {"forwards": jnp.int32(forwards), "backwards": jnp.int32(backwards), "finite": jnp.array(finite)}
    return start._replace(last=start.last._replace(loss=jnp.float32(forwards)), **spent)


@pytest.mark.parametrize("over", [True, False])
@pytest.mark.parametrize("finite", [True, False])
def test_what_an_inner_attack_spent_is_added(over, finite):
    best = candidate(0.5)
    after = continued(progress(100, 50), progress(7, 3), progress(9, 6, finite), best=best, over=jnp.array(over))
    assert (int(after.forwards), int(after.backwards)) == (102, 53)
    assert after.best is best
    assert after.last.loss == 9
    assert bool(after.finite) == finite
    assert bool(after.done) == (over or not finite)


def candidate(distance: float) -> Candidate:
    return Candidate(x=jnp.full(3, distance), distance=jnp.float32(distance), c=jnp.float32(distance + 1))


@pytest.mark.parametrize(
    ("first", "second", "kept"), [(1.0, 2.0, 0), (2.0, 1.0, 1), (np.inf, 1.0, 1), (1.0, np.inf, 0), (1.0, np.nan, 0)]
)
def test_the_closer_candidate_is_kept(first, second, kept):
    pair = candidate(first), candidate(second)
    jax.tree.map(np.testing.assert_array_equal, closer(*pair), pair[kept])


def test_the_first_is_kept_on_a_tie():
    first, second = candidate(1.0), candidate(1.0)._replace(c=jnp.float32(9))
    assert closer(first, second).c == first.c


@pytest.mark.parametrize(("distance", "is_one"), [(0.0, True), (3.0, True), (np.inf, False), (np.nan, False)])
def test_a_candidate_at_a_finite_distance_is_an_example(distance, is_one):
    assert bool(found(candidate(distance))) == is_one


def test_a_flag_selects_leaf_by_leaf():
    yes, no = {"a": jnp.ones(2), "b": jnp.int32(1)}, {"a": jnp.zeros(2), "b": jnp.int32(0)}
    assert select(jnp.array(True), yes, no)["b"] == 1
    np.testing.assert_array_equal(select(jnp.array(False), yes, no)["a"], [0, 0])


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_nothing_is_computed_with_less_than_float32(dtype):
    assert wide(jnp.zeros(2, dtype)) == jnp.float32


@pytest.mark.parametrize("met", [True, False])
def test_another_image_in_the_place_of_what_was_found(met):
    clean, other = X.astype(jnp.bfloat16), (X + 0.125).astype(jnp.bfloat16)
    numbers = {"success": jnp.array(True), "distance": jnp.float32(9.0), "c": jnp.float32(4.0)}
    counts = {"forwards": jnp.int32(7), "backwards": jnp.int32(6), "finite": jnp.array(True)}
    before = Result(x=clean + 0.5, finished=jnp.array(True), **numbers, **counts)
    after = settled(before, clean, other, jnp.array(met), distances.l1())
    np.testing.assert_array_equal(after.x, other if met else clean)
    assert bool(after.success) == met
    assert float(after.distance) == (pytest.approx(0.375) if met else np.inf)
    assert after.distance.dtype == jnp.float32
    assert float(after.c) == (4.0 if met else np.inf)
    assert (int(after.forwards), int(after.backwards)) == (7, 6)


def test_an_attack_is_itself_and_no_other():
    one, other = (cw.l2(box=cw.boxes.projected()) for _ in range(2))
    assert one == one._replace()
    assert hash(one) == hash(one._replace())
    assert one != other
    assert one != one._replace(terms=other.terms)
    assert one != tuple(one)


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        ([1.0, -3e38, 3e38], True),
        ([1.0, -np.inf], True),
        ([1.0, np.inf], False),
        ([1.0, np.nan], False),
        (np.zeros((2, 0)), True),
        (2.0, True),
        (np.nan, False),
    ],
)
def test_outputs_are_an_answer_without_nan_and_infinity_whatever_tree_they_are_in(outputs, expected):
    leaf = jnp.asarray(outputs, jnp.float32)
    other = jnp.ones((2, 3), jnp.bfloat16)
    for tree in (leaf, (leaf, other), [other, leaf], {"one": other, "two": (other, {"three": leaf})}):
        assert answered(tree).shape == ()
        assert bool(answered(tree)) == expected
        assert bool(jax.jit(answered)(tree)) == expected


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        (np.zeros(10, np.float32), "float32 [10]"),
        (jax.ShapeDtypeStruct((2, 3), jnp.bfloat16), "bfloat16 [2, 3]"),
        ((jnp.zeros(10), jnp.zeros((), jnp.int32)), "(float32 [10], int32 [])"),
        ({"seen": jnp.zeros(1, bool)}, "{seen: bool [1]}"),
        ([np.zeros(3), 2.0], "[float64 [3], float []]"),
    ],
)
def test_outputs_are_shown_as_dtypes_and_shapes(tree, expected):
    assert shapes(tree) == expected


ONE = jax.ShapeDtypeStruct((), jnp.float32)


@pytest.mark.parametrize(
    "objective", [cw.objectives.logit_margin(), cw.losses.logits_ratio(), cw.Objective(jnp.sum, jnp.any)]
)
def test_an_objective_of_classes_reads_two_logits_or_more(objective):
    assert objective.check is check_labels_read
    assert objective.check(jax.ShapeDtypeStruct((2,), jnp.float32), GOAL) is None
    assert objective.logits(X) is X
    assert not objective.reaches(GOAL)
    assert objective.reaches(GOAL._replace(sign=jnp.float32(1)))


@pytest.mark.parametrize(
    ("outputs", "came"),
    [
        (ONE, r"float32 \[\]"),
        (jax.ShapeDtypeStruct((1,), jnp.float32), r"float32 \[1\]"),
        (jax.ShapeDtypeStruct((4, 3), jnp.bfloat16), r"bfloat16 \[4, 3\]"),
        ((jax.ShapeDtypeStruct((3,), jnp.float32), ONE), r"\(float32 \[3\], float32 \[\]\)"),
    ],
)
def test_outputs_that_are_not_logits_are_refused(outputs, came):
    words = (
        rf"^this objective reads logits \[K\] with K >= 2 from one input, got {came}: choose an objective of the model"
    )
    with pytest.raises(ValueError, match=words):
        check_labels_read(outputs, GOAL)


@pytest.mark.parametrize(
    ("goal", "came"),
    [
        ((GOAL.label, GOAL.sign), r"\(int32 \[\], float32 \[\]\)"),
        ({"label": ONE}, r"\{label: float32 \[\]\}"),
        (cw.goals.LabelsGoal(X, jnp.int32(1)), r"LabelsGoal\(wanted=float32 \[3\], least=int32 \[\]\)"),
        (ONE, r"float32 \[\]"),
    ],
)
def test_a_goal_that_is_not_of_labels_is_refused(goal, came):
    words = rf"^this objective reads a goal of labels, from cwjax.targeted or cwjax.untargeted, got {came}: choose"
    with pytest.raises(TypeError, match=words):
        check_labels_read(jax.ShapeDtypeStruct((3,), jnp.float32), goal)
