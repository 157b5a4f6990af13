"""What holds of every defence."""

import inspect

import jax
import numpy as np
import pytest

import cwjax as cw
from cwjax.defences import DEFENCES
from cwjax.defences.defended import answers, parted
from tests.defences.made import CLASSES, SMALL, classifier, defended, detector, few, pictures
from tests.test_programs import ROOT, blocks

DETECTORS = [name for name in DEFENCES if name not in ("distilled", "first_components", "mean_filter", "bounded_relu")]


def test_the_classifier_is_one():
    x, labels = pictures(1)
    assert (answers(classifier(), x).argmax(1) == labels).mean() > 0.95


@pytest.mark.parametrize("name", few(DEFENCES))
def test_it_stays_a_classifier_of_the_same_inputs(name):
    x, labels = pictures(1)
    logits = answers(defended(name).model, x)
    assert logits.shape == (len(x), CLASSES)
    assert np.isfinite(logits).all()
    if name != "magnet":  # whose autoencoders would have to learn for longer
        assert (logits.argmax(1) == labels).mean() > 0.8
    np.testing.assert_allclose(answers(defended(name).model, x[:1])[0], logits[0], rtol=1e-4, atol=1e-4)
    assert (name in DETECTORS) == (defended(name).detector is not None)


@pytest.mark.parametrize("name", few(DETECTORS))
def test_a_score_is_finite_and_of_its_input_alone(name):
    found = detector(name)
    x = np.concatenate([pictures(1)[0][:5], np.zeros((1, 8, 8, 1), np.float32), np.ones((1, 8, 8, 1), np.float32)])
    scores = answers(found, x)
    assert scores.shape == (7,)
    assert np.isfinite(scores).all()
    np.testing.assert_allclose(answers(found, x[::-1].copy())[::-1], scores, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(jax.jit(lambda model, x: model(x))(found, x[2]), scores[2], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", few(DETECTORS))
def test_a_threshold_has_the_false_positives_that_were_asked_for(name):
    x, labels = pictures(0)
    held_out = parted(x, labels)[2]
    share = cw.defences.refused(defended(name), held_out).mean()
    assert 0.05 - 1 / len(held_out) < share <= 0.05


@pytest.mark.parametrize(
    "name", [each if each == "last_components" else pytest.param(each, marks=pytest.mark.long) for each in DEFENCES]
)
def test_an_attack_that_knows_of_it_gets_past_it(name):
    it = defended(name)
    x, labels = pictures(1)
    usable = (answers(it.model, x).argmax(1) == labels) & ~cw.defences.refused(it, x)
    x, labels = x[usable][:6], labels[usable][:6]
    attack = cw.attacks.ddn(steps=80, objective=cw.defences.undetected(it))
    keys = jax.random.split(jax.random.key(0), len(x))
    result = jax.jit(cw.batched(attack))(cw.defences.whole(it), keys, x, cw.untargeted(labels))
    found = np.asarray(result.x)
    wrong = (answers(it.model, found).argmax(1) != labels) & ~cw.defences.refused(it, found)
    assert np.asarray(result.success).mean() >= 0.5
    assert wrong[np.asarray(result.success)].all()


def test_what_is_public_says_what_it_does_and_where_it_is_from():
    for name in cw.defences.__all__:
        assert inspect.getdoc(getattr(cw.defences, name)), name
    for name, defence in DEFENCES.items():
        text = str(inspect.getdoc(defence))
        assert "References:" in text, name
        assert "https://" in text, name
        assert "Example:" in text, name


@pytest.mark.long
@pytest.mark.optimized
def test_the_code_of_the_document_runs_as_it_stands():
    namespace: dict = {}
    for block in blocks(ROOT / "docs" / "defences.md"):
        exec(block, namespace)
    assert namespace["result"].success.all()


@pytest.mark.parametrize("name", DEFENCES)
def test_too_few_inputs_or_no_model_are_refused(name, as_users_have_it):
    x, labels = pictures(0)
    with pytest.raises(TypeError, match="bind"):
        DEFENCES[name](lambda x: x, x, labels, jax.random.key(0))
    if name != "mean_filter":  # which learns nothing
        with pytest.raises(ValueError, match="at least 10 inputs"):
            DEFENCES[name](classifier(), x[:5], labels[:5], jax.random.key(0))


@pytest.mark.parametrize("name", [name for name in DEFENCES if name != "mean_filter"])  # which learns nothing
def test_inputs_and_labels_that_are_none_are_refused(name, as_users_have_it):
    x, labels = pictures(0)
    spoilt = np.where(np.arange(len(x))[:, None, None, None] == 3, np.nan, x)
    for some, of_them, said in (
        (x, labels + CLASSES, r"labels span 3…5, but the model has classes 0…2"),
        (x, labels - 1, r"labels span -1…1, but the model has classes 0…2"),
        (x, labels.astype(np.float32), "labels must be integers, got float32"),
        (x, np.eye(CLASSES)[labels], r"must be integers, got float64.*not one-hot rows"),
        ((255 * x).astype(np.uint8), labels, "must be floating-point, got uint8: for 8-bit images pass x / 255"),
        (spoilt, labels, "64 of 7680 elements of x are NaN or infinite"),
    ):
        with pytest.raises(ValueError, match=said):
            DEFENCES[name](classifier(), some, of_them, jax.random.key(0))
    pair = cw.joined([classifier(), classifier()])
    with pytest.raises(ValueError, match=r"the model must map .* to floating-point logits"):
        DEFENCES[name](pair, x, labels, jax.random.key(0))


@pytest.mark.parametrize(
    "name", ["extra_class", "second_network", "inner_layer", "magnet", "feature_squeezing", "bounded_relu"]
)
def test_a_defence_of_inputs_between_0_and_1_refuses_others(name, as_users_have_it):
    x, labels = pictures(0)
    with pytest.raises(ValueError, match="8-bit images must be divided by 255"):
        DEFENCES[name](classifier(), 255 * x, labels, jax.random.key(0))
    with pytest.raises(ValueError, match=r"this defence is for inputs in \[0, 1\]: rescale x"):
        DEFENCES[name](classifier(), x - 0.5, labels, jax.random.key(0))


@pytest.mark.parametrize("name", ["distilled", "first_components", "kernel_density", "feature_squeezing"])
def test_a_model_that_answers_nan_is_not_defended(name, as_users_have_it):
    good = classifier()
    spoilt = cw.bind(lambda params, x: good.apply(params, x) * np.nan, good.params)
    with pytest.raises(ValueError, match="finite"):
        DEFENCES[name](spoilt, *pictures(0), jax.random.key(0), **(SMALL.get(name, {})))


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("mean_filter", "size"),
        ("feature_squeezing", "median"),
        ("last_components", "components"),
        ("dropout_uncertainty", "draws"),
    ],
)
def test_a_whole_number_may_be_a_float(name, size):
    x, labels = pictures(0)
    one, other = (DEFENCES[name](classifier(), x, labels, jax.random.key(0), **{size: each}) for each in (3, 3.0))
    np.testing.assert_array_equal(one.threshold, other.threshold)
