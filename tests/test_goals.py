"""Goals from labels: what they say to an attack, and that labels of the wrong kind are refused in one clear line."""

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

import cwjax as cw

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
