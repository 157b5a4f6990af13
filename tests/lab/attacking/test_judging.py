"""What a model says of saved inputs, in classes and in the words of a task."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

import cwjax as cw
from cwjax.lab import data, subjects
from cwjax.lab.attacking import judging

CALLED = "tests.lab.called"


def dataset(name: str) -> data.Dataset:
    return subjects.dataset_of(f"task:{CALLED}:{name}")


def task_of(some: data.Dataset) -> cw.Task:
    assert some.task is not None
    return some.task


def model(name: str) -> cw.Model:
    return subjects.model_of(f"{CALLED}:{name}")[0]


def test_many_images_are_asked_about_in_parts_and_what_they_are_told_is_float32_at_the_least():
    weights = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3)), jnp.bfloat16)
    asked = []

    def apply(weights, x):
        asked.append(len(x))
        return x.astype(jnp.bfloat16) @ weights

    x = np.random.default_rng(1).random((1003, 2), np.float32)
    some = data.Dataset("", "test", x, np.zeros(1003, np.int32), ("a", "b", "c"), np.arange(1003))
    logits = judging.said(cw.bind(apply, weights), some, np.arange(1003), x)
    assert (logits.shape, logits.dtype) == ((1003, 3), np.float32)
    assert asked == [500, 3]  # each once, as the program for 500 serves twice
    np.testing.assert_allclose(logits, x @ np.asarray(weights, np.float32), atol=0.05)


def test_of_classes_the_answer_is_the_class_and_the_margin_that_of_the_logits():
    logits = np.array([[3.0, 1.0], [0.0, 2.0]], np.float32)
    some = data.Dataset("", "test", np.zeros((2, 3)), np.zeros(2, np.int32), ("a", "b"), np.arange(2))
    judged = judging.judged(some, logits, cw.untargeted([0, 0]))
    assert judged.answer.tolist() == [0, 1]
    assert judged.margin.tolist() == [-2, 2]
    assert judged.met.tolist() == [False, True]


def test_of_a_task_the_answer_is_whether_the_goal_is_met_and_the_margin_how_far_the_loss_is_below_0():
    some = dataset("corners").take(np.array([3, 5]))
    before = task_of(some).model.of_batch(jnp.asarray(some.images))
    goal = judging.goals_of(some, np.arange(2))
    np.testing.assert_array_equal(goal.wanted, task_of(some).goal.wanted[[3, 5]])  # by the index of the examples
    assert judging.judged(some, before, goal).answer.tolist() == [0, 0]
    after = judging.judged(some, -before, goal)
    assert after.answer.tolist() == [1, 1]
    assert after.met.all()
    assert (after.margin > 0).all()


def test_a_context_goes_with_its_example():
    some = dataset("weighed").take(np.array([4, 1]))
    outputs = judging.said(model("weighed"), some, np.array([1, 0]), some.images[::-1])
    weights = task_of(some).context["weights"][[1, 4]]
    np.testing.assert_allclose(outputs, 2 * (some.images[::-1] * weights).sum(1) / weights.sum(1), rtol=1e-5)


def test_the_words_of_a_task_are_its_own():
    some = dataset("spoken")
    places = np.arange(len(some.labels))
    outputs, goal = judging.said(model("spoken"), some, places, some.images), judging.goals_of(some, places)
    clean = judging.judged(some, outputs, goal)
    words = judging.words_of(task_of(some), goal, clean, clean)
    assert list(words) == ["wanted", "clean_says", "says"]
    assert words["clean_says"] == words["says"]
    assert words["wanted"] == words["says"][-1:] + words["says"][:-1]


def test_the_first_inputs_of_a_task_are_drawn_as_it_says():
    some = dataset("weighed")
    places = np.arange(6)
    clean, adversarial = judging.drawn(model("weighed"), some, places, some.images, some.images / 2)
    assert clean.shape == adversarial.shape == (6, 4, 9, 1)
    np.testing.assert_allclose(adversarial, clean / 4, rtol=1e-5)  # half the input, and half of what the model says


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("mute", "its read must return text, got array"),
        ("strange", "its wanted: AttributeError: .*no_such_field"),
        ("flat", r"its draw must return a picture \[H, W, 1\] or \[H, W, 3\], got \[16, 16\]"),
    ],
)
def test_a_function_of_a_task_that_fails_is_found_before_any_attack(name, what, as_users_have_it):
    with pytest.raises(ValueError, match=f"the task 'bright corners': {what}"):
        judging.validate(model(name), dataset(name))


def test_what_validate_refuses_of_a_task_is_refused():
    some = dataset("corners")
    with pytest.raises(ValueError, match="several_labels reads"):
        judging.validate(cw.bind(lambda params, x: x.mean((1, 2))), some)


def test_what_a_task_says_may_fail_without_the_rows():
    def read(outputs):
        return 1 / 0 if outputs[0] < 0 else "fine"

    some = dataset("corners")
    some = some._replace(task=dataclasses.replace(task_of(some), read=read))
    goal = judging.goals_of(some, np.arange(2))
    good, bad = (judging.judged(some, np.full((2, 3), value, np.float32), goal) for value in (1, -1))
    assert judging.words_of(task_of(some), goal, good, bad)["says"] == ["(ZeroDivisionError: division by zero)"] * 2


def test_where_a_draw_fails_the_inputs_are_drawn(capsys):
    some = dataset("corners")
    some = some._replace(
        task=dataclasses.replace(task_of(some), draw=lambda x, outputs: x[:: 0 if x.max() > 0.9 else 1])
    )
    places = np.arange(2)
    pictures = judging.drawn(model("corners"), some, places, some.images[:2], np.ones_like(some.images[:2]))
    np.testing.assert_array_equal(pictures[1], np.ones_like(some.images[:2]))
    assert "The draw of the task 'bright corners' failed" in capsys.readouterr().out


def test_a_mask_allows_no_more_than_the_task_does():
    own = task_of(dataset("weighed")).mask
    np.testing.assert_array_equal(judging.mask_of(dataset("weighed"), None, np.arange(2)), own)
    both = judging.mask_of(dataset("weighed"), np.arange(9) < 3, np.arange(2))
    np.testing.assert_array_equal(both, [0, 1, 1, 0, 0, 0, 0, 0, 0])
    assert judging.mask_of(dataset("corners"), None, np.arange(2)) is None


def test_an_answer_with_a_nan_meets_nothing_and_has_no_margin():
    some = dataset("corners")
    outputs = np.full((1, 3), np.nan, np.float32)
    found = judging.judged(some, outputs, judging.goals_of(some, np.arange(1)))
    assert not found.met[0]
    assert np.isnan(found.margin[0])
