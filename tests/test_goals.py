"""Goals from labels: what they say to an attack, and that labels of the wrong kind are refused in one clear line."""

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

import cwjax as cw
from cwjax import goals

LABELS = np.array([3, 0, 9])


@pytest.fixture(autouse=True)
def as_users_have_it(monkeypatch):
    """Without the checks of annotations that tests add, which would refuse some arguments first."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.mark.parametrize("kind", [list, np.asarray, jnp.asarray, lambda x: np.asarray(x, np.uint8)])
@pytest.mark.parametrize(("make", "sign"), [(cw.targeted, 1.0), (cw.untargeted, -1.0)])
def test_a_goal_is_a_label_and_a_sign_for_each_example(make, sign, kind):
    goal = make(kind(LABELS))
    assert isinstance(goal, cw.LabelGoal)
    assert (goal.label.dtype, goal.sign.dtype) == (jnp.int32, jnp.float32)
    np.testing.assert_array_equal(goal.label, LABELS)
    np.testing.assert_array_equal(goal.sign, [sign] * 3)


def test_a_batch_of_one_is_fine():
    assert cw.untargeted(np.array([7])).label.shape == (1,)
    assert cw.targeted(np.array([7]), labels=np.array([6])).sign.shape == (1,)


def test_goals_may_be_made_under_jit():
    goal = jax.jit(lambda targets, labels: cw.targeted(targets, labels=labels))(LABELS, LABELS)
    np.testing.assert_array_equal(goal.label, LABELS)
    np.testing.assert_array_equal(jax.jit(cw.untargeted)(LABELS).sign, -1)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.array([1.0, 2.0]), "must be integers, got float64: pass class numbers"),
        (jnp.array([1.0, 2.0]), "must be integers, got float32: pass class numbers"),
        (np.array([True, False]), "must be integers, got bool"),
        (np.eye(4, dtype=np.int32), r"shape \[B\], got \[4, 4\].* not one-hot rows: labels.argmax\(-1\)"),
        (jnp.eye(4, dtype=jnp.int32), r"shape \[B\], got \[4, 4\].* not one-hot rows: labels.argmax\(-1\)"),
        (np.int32(3), r"shape \[B\], got \[\]: pass class numbers$"),
        (3, r"shape \[B\], got \[\]: pass class numbers$"),
        (np.zeros((2, 2, 2), int), r"shape \[B\], got \[2, 2, 2\]: pass class numbers$"),
    ],
)
@pytest.mark.parametrize(("make", "name"), [(cw.untargeted, "labels"), (cw.targeted, "targets")])
def test_labels_of_the_wrong_kind_are_refused_in_one_line(make, name, labels, words):
    with pytest.raises(ValueError, match=f"^{name} must .*" + words.removeprefix("must ")) as error:
        make(labels)
    assert "\n" not in str(error.value)


def test_one_hot_rows_of_floats_are_refused():
    with pytest.raises(ValueError, match="labels must be integers, got float32"):
        cw.untargeted(jnp.eye(4))


def test_a_target_that_is_the_label_is_refused():
    with pytest.raises(ValueError, match=r"target equals the label in 2 of 3 examples, first in example 1") as error:
        cw.targeted(np.array([1, 0, 9]), labels=LABELS)
    assert "\n" not in str(error.value)
    assert "untargeted" in str(error.value)
    with pytest.raises(ValueError, match="equals the label in 1 of 1"):
        cw.targeted(jnp.array([4]), labels=jnp.array([4]))


def test_targets_are_compared_with_labels_only_when_asked_to():
    np.testing.assert_array_equal(cw.targeted(LABELS).label, LABELS)
    np.testing.assert_array_equal(cw.targeted(LABELS, labels=(LABELS + 1) % 10).label, LABELS)


def test_targets_and_labels_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match=r"labels \[3\] and targets \[2\] differ in shape"):
        cw.targeted(np.array([1, 2]), labels=LABELS)


def test_labels_that_are_no_class_numbers_are_refused_beside_targets_too():
    with pytest.raises(ValueError, match=r"^labels must be integers, got float64"):
        cw.targeted(np.array([1, 2]), labels=np.array([0.0, 0.0]))
    with pytest.raises(ValueError, match=r"^labels must have shape \[B\], got \[2, 4\].*one-hot"):
        cw.targeted(np.array([1, 2]), labels=np.eye(4, dtype=int)[:2])


# Goals of other tasks.

SAID = np.array([[True, False, True], [False, False, True]])
AMONG = np.array([[True, True, False], [False, True, True]])
CLASSES = np.arange(8).reshape(2, 2, 2) % 3


@pytest.mark.parametrize("kind", [np.asarray, jnp.asarray, lambda x: np.asarray(x).tolist()])
def test_labels_to_reach_are_signs_and_all_of_them_are_asked_for(kind):
    goal = goals.labels_reached(kind(SAID))
    np.testing.assert_array_equal(goal.wanted, [[1, -1, 1], [-1, -1, 1]])
    np.testing.assert_array_equal(goal.least, [3, 3])
    assert (goal.wanted.dtype, goal.least.dtype) == (jnp.float32, jnp.int32)
    some = goals.labels_reached(kind(SAID), among=kind(AMONG))
    np.testing.assert_array_equal(some.wanted, [[1, -1, 0], [0, -1, 1]])
    np.testing.assert_array_equal(some.least, [2, 2])


@pytest.mark.parametrize(("count", "least"), [(1, [1, 1]), (2, [2, 2]), ([2, 1], [2, 1]), (np.int64(2), [2, 2])])
def test_labels_to_flip_are_the_opposite_signs_and_so_many_are_asked_for(count, least):
    goal = goals.labels_flipped(SAID, count, among=AMONG)
    np.testing.assert_array_equal(goal.wanted, [[-1, 1, 0], [0, 1, -1]])
    np.testing.assert_array_equal(goal.least, least)
    assert goal.least.dtype == jnp.int32


@pytest.mark.parametrize(
    ("make", "arguments", "words"),
    [
        ("labels_reached", (SAID.astype(int),), "^wanted must be boolean, got int64$"),
        ("labels_reached", (SAID[0],), r"^wanted must have 2 axes, the first of them the batch, got shape \[3\]$"),
        ("labels_flipped", (SAID * 1.0,), "^labels must be boolean, got float64$"),
        ("labels_flipped", (SAID, 1.0), "^count must be a whole number, or one for each example, got float32$"),
        ("labels_flipped", (SAID, 0), "^count must be from 1 to the number of labels .*, got 0 of 3 in example 0$"),
        ("labels_flipped", (SAID, [3, 4]), "^count must be from 1 to .* that matter, got 4 of 3 in example 1$"),
    ],
)
def test_labels_that_are_no_yes_or_no_and_counts_out_of_range_are_refused(make, arguments, words):
    with pytest.raises(ValueError, match=words):
        getattr(goals, make)(*arguments)


@pytest.mark.parametrize("make", [goals.labels_reached, goals.labels_flipped])
def test_among_which_labels_has_to_be_said_for_each_and_mark_one(make):
    with pytest.raises(ValueError, match=r"^wanted \[2, 3\] and among \[2, 2\] differ in shape$"):
        make(SAID, among=AMONG[:, :2])
    with pytest.raises(ValueError, match=r"^among must be boolean, got int64$"):
        make(SAID, among=AMONG.astype(int))
    with pytest.raises(ValueError, match=r"^among marks no label in 1 of 2 examples, first in example 1$"):
        make(SAID, among=AMONG & [[True], [False]])


def test_no_more_labels_can_be_flipped_than_matter():
    with pytest.raises(ValueError, match=r"got 3 of 2 in example 0$"):
        goals.labels_flipped(SAID, 3, among=AMONG)


@pytest.mark.parametrize(("make", "sign"), [(goals.value_reached, 1.0), (goals.value_left, -1.0)])
@pytest.mark.parametrize("tolerance", [0.5, [[0.5], [1.0]], [1.0, 2.0, 3.0], np.zeros((2, 3))])
def test_values_have_a_tolerance_each(make, sign, tolerance):
    with jax.numpy_rank_promotion("allow"):
        goal = make(np.arange(6).reshape(2, 3), tolerance)
    np.testing.assert_array_equal(goal.value, np.arange(6).reshape(2, 3))
    np.testing.assert_array_equal(goal.tolerance, np.broadcast_to(tolerance, (2, 3)))
    np.testing.assert_array_equal(goal.sign, [sign, sign])
    assert {leaf.dtype for leaf in goal} == {jnp.dtype(jnp.float32)}
    assert make([1.0, 2.0], 0.5).tolerance.shape == (2,)


@pytest.mark.parametrize("make", [goals.value_reached, goals.value_left])
@pytest.mark.parametrize(
    ("value", "tolerance", "words"),
    [
        (3.0, 0.5, "^value must have one entry an example along its first axis, got one number$"),
        ([1.0, 2.0], -0.5, "^a tolerance must be finite and at least 0$"),
        ([1.0, 2.0], [0.5, np.nan], "^a tolerance must be finite and at least 0$"),
        ([1.0, 2.0], np.inf, "^a tolerance must be finite and at least 0$"),
        ([1.0, 2.0], [0.5] * 3, r"^a tolerance of shape \[3\] does not broadcast to values \[2\]$"),
    ],
)
def test_values_and_tolerances_that_are_none_are_refused(make, value, tolerance, words):
    with pytest.raises(ValueError, match=words):
        make(value, tolerance)


@pytest.mark.parametrize(("make", "sign"), [(goals.pixels_reached, 1.0), (goals.pixels_left, -1.0)])
def test_all_pixels_count_and_are_asked_for_if_nothing_else_is_said(make, sign):
    goal = make(CLASSES)
    np.testing.assert_array_equal(goal.label, CLASSES)
    assert np.asarray(goal.counted).all()
    np.testing.assert_array_equal(goal.share, [1, 1])
    np.testing.assert_array_equal(goal.sign, [sign] * 2)
    assert [leaf.dtype for leaf in goal] == [jnp.int32, jnp.bool, jnp.float32, jnp.float32]
    some = make(jnp.asarray(CLASSES), share=[0.25, 0.5], counted=CLASSES > 0)
    np.testing.assert_array_equal(some.counted, CLASSES > 0)
    np.testing.assert_array_equal(some.share, [0.25, 0.5])


@pytest.mark.parametrize("make", [goals.pixels_reached, goals.pixels_left])
@pytest.mark.parametrize(
    ("label", "options", "words"),
    [
        (CLASSES * 1.0, {}, "^label must be integers, got float64: pass class numbers"),
        (CLASSES[0, 0], {}, r"^label must have a class for each pixel, \[B, H, W\], got shape \[2\]$"),
        (CLASSES, {"counted": CLASSES}, "^counted must be boolean, got int64$"),
        (CLASSES, {"counted": CLASSES[0] > 0}, "^counted must have 3 axes, the first of them the batch"),
        (CLASSES, {"counted": CLASSES[:1] > 0}, r"^label \[2, 2, 2\] and counted \[1, 2, 2\] differ in shape$"),
        (CLASSES, {"counted": CLASSES > 9}, "^counted marks no pixel in 2 of 2 examples, first in example 0$"),
        (CLASSES, {"counted": CLASSES > [[[-1]], [[9]]]}, "^counted marks no pixel in 1 of 2 examples, .* 1$"),
        (CLASSES, {"share": 0.0}, "^share must be more than 0 and at most 1, got 0…0$"),
        (CLASSES, {"share": [0.5, 1.5]}, "^share must be more than 0 and at most 1, got 0.5…1.5$"),
        (CLASSES, {"share": np.nan}, "^share must be more than 0 and at most 1, got nan…nan$"),
    ],
)
def test_pixels_that_are_none_are_refused(make, label, options, words):
    with pytest.raises(ValueError, match=words):
        make(label, **options)


def test_a_transcript_is_filled_up_to_the_longest():
    goal = goals.transcript([[1, 2, 1], [3]], frames=4)
    np.testing.assert_array_equal(goal.labels, [[1, 2, 1], [3, 0, 0]])
    np.testing.assert_array_equal(goal.length, [3, 1])
    np.testing.assert_array_equal(goal.frames, [4, 4])
    assert {leaf.dtype for leaf in goal} == {jnp.dtype(jnp.int32)}
    same = goals.transcript(np.array([[1, 2, 1], [3, 9, 9]]), frames=np.array([4, 2]), lengths=np.array([3, 1]))
    np.testing.assert_array_equal(same.labels, [[1, 2, 1], [3, 9, 9]])
    np.testing.assert_array_equal(same.length, [3, 1])
    np.testing.assert_array_equal(same.frames, [4, 2])


def test_silence_is_a_transcript_where_that_is_said():
    goal = goals.transcript([[], [2, 1]], frames=3, silence=True)
    np.testing.assert_array_equal(goal.length, [0, 2])
    np.testing.assert_array_equal(goal.labels, [[0, 0], [2, 1]])
    assert goals.transcript([[], []], frames=3, silence=True).labels.shape == (2, 1)
    with pytest.raises(ValueError, match="needs 3 frames"):
        goals.transcript([[], [2, 2]], frames=2, silence=True)


@pytest.mark.parametrize(
    ("labels", "options", "words"),
    [
        ([[1, 2], []], {"frames": 4}, "^the transcript of example 1 has no symbol$"),
        ([[1], [1, 2, 3]], {"frames": 2}, "^the transcript of example 1 needs 3 frames, .*, and there are 2$"),
        ([[1, -2]], {"frames": 4}, "^symbols are numbered from 0, got -2$"),
        ([[2, 2]], {"frames": 2}, "^the transcript of example 0 needs 3 frames, one for each symbol and one between"),
        ([[1, 1, 1], [1, 1, 1]], {"frames": [5, 4]}, "^the transcript of example 1 needs 5 frames, .* there are 4$"),
        (np.ones((2, 3)), {"frames": 9, "lengths": [1, 2]}, "^labels must be integers, got float64$"),
        (np.ones(3, int), {"frames": 9, "lengths": [1]}, "^labels must have 2 axes"),
        (np.ones((2, 3), int), {"frames": 9, "lengths": [1.0, 2.0]}, "^lengths must be integers, got float64$"),
        (np.ones((2, 3), int), {"frames": 9, "lengths": [1, 4]}, "^lengths go up to 4, and labels have 3 symbols$"),
        (np.ones((2, 3), int), {"frames": 9, "lengths": [1, 0]}, "^the transcript of example 1 has no symbol$"),
    ],
)
def test_transcripts_that_cannot_be_said_are_refused(labels, options, words):
    with pytest.raises(ValueError, match=words):
        goals.transcript(labels, **options)


def test_a_transcript_may_need_all_of_its_frames_and_what_is_behind_its_end_needs_none():
    np.testing.assert_array_equal(goals.transcript([[2, 2], [1, 2]], frames=np.array([3, 2])).frames, [3, 2])
    np.testing.assert_array_equal(
        goals.transcript(np.array([[1, 1, 1], [1, 2, 2]]), frames=2, lengths=np.array([1, 2])).length, [1, 2]
    )


def test_an_alignment_is_a_transcript_a_path_and_a_weight_of_each_frame():
    words = goals.transcript([[1, 2], [3]], frames=4)
    goal = goals.aligned(words, np.array([[1, 1, 0, 2], [3, 0, 0, 0]]))
    assert goal.transcript is words
    assert goal.frames is words.frames
    np.testing.assert_array_equal(goal.path, [[1, 1, 0, 2], [3, 0, 0, 0]])
    assert (goal.path.dtype, goal.weights.dtype) == (jnp.int32, jnp.float32)
    np.testing.assert_array_equal(goal.weights, np.ones((2, 4)))
    with jax.numpy_rank_promotion("allow"):
        weighted = goals.aligned(words, goal.path, weights=np.arange(1.0, 5.0))
    np.testing.assert_array_equal(weighted.weights, [[1, 2, 3, 4]] * 2)


@pytest.mark.parametrize(
    ("path", "weights", "words"),
    [
        ([[1.0, 2.0]], 1.0, "^path must be integers, got float64$"),
        ([1, 2], 1.0, r"^path must have 2 axes, the first of them the batch, got shape \[2\]$"),
        ([[1, 2]], 0.0, "^the weights of frames must be finite and more than 0$"),
        ([[1, 2]], [[1.0, -1.0]], "^the weights of frames must be finite and more than 0$"),
        ([[1, 2]], np.inf, "^the weights of frames must be finite and more than 0$"),
        ([[1, 2]], [[1.0, 2.0, 3.0]], "(?i)broadcast"),
    ],
)
def test_alignments_that_are_none_are_refused(path, weights, words):
    with pytest.raises(ValueError, match=words):
        goals.aligned(goals.transcript([[1]], frames=2), path, weights=weights)


def test_an_alignment_of_another_number_of_transcripts_is_refused():
    with pytest.raises(ValueError, match="path"):
        goals.aligned(goals.transcript([[1]], frames=2), np.ones((2, 2), int))


@pytest.mark.parametrize(
    "make",
    [
        lambda: goals.labels_flipped(SAID, np.ones(3, int)),
        lambda: goals.pixels_left(CLASSES, share=np.full(3, 0.5)),
        lambda: goals.transcript([[1], [2]], frames=np.full(3, 3)),
    ],
)
def test_a_number_for_each_of_other_examples_is_refused(make):
    with pytest.raises(ValueError, match=r"(?i)broadcast"):
        make()


@pytest.mark.parametrize(
    "make",
    [
        lambda said, number: goals.labels_reached(said, among=said),
        lambda said, number: goals.labels_flipped(said, number.astype(jnp.int32), among=~said),
        lambda said, number: goals.value_left(said * number, number),
        lambda said, number: goals.pixels_left(said.astype(jnp.int32), share=number, counted=said),
        lambda said, number: goals.transcript(
            said.astype(jnp.int32), frames=(9 * number).astype(jnp.int32), lengths=said.sum(1)
        ),
        lambda said, number: goals.aligned(
            goals.transcript([[1], [1]], frames=2), said.astype(jnp.int32), weights=number
        ),
    ],
)
def test_goals_of_other_tasks_may_be_made_under_jit(make):
    alone = make(jnp.asarray(SAID), jnp.ones(()))
    for one, other in zip(jax.tree.leaves(alone), jax.tree.leaves(jax.jit(make)(SAID, jnp.ones(()))), strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype
