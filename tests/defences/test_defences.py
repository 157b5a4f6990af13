"""What each defence computes, against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cwjax as cw
from cwjax.defences.defended import answers
from cwjax.defences.dropout_uncertainty import Thinned
from cwjax.defences.extra_class import _all
from cwjax.defences.feature_squeezing import in_bits, local_median
from cwjax.defences.learnt_weights import adversarial, as_many, fitted, redrawn
from cwjax.defences.magnet import _divergence, rebuilt
from cwjax.defences.principal_components import components_of
from tests.defences.made import ATTACK, classifier, defended, detector, few, pictures

X, LABELS = pictures(1, 12)
KEY = jax.random.key(3)


def hidden(x):
    params = classifier().params
    return np.maximum(x.reshape(len(x), -1) @ np.asarray(params["first"]) + np.asarray(params["bias"]), 0)


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@pytest.mark.long
def test_distillation_makes_logits_large():
    plain, hot = answers(classifier(), X), answers(defended("distilled").model, X)
    assert np.abs(hot).mean() > 20 * np.abs(plain).mean()


def test_the_density_is_that_of_the_answered_class():
    density, scores = detector("kernel_density").params, answers(detector("kernel_density"), X)
    fit, known = pictures(0)
    fit, known, said = fit[:96], known[:96], answers(classifier(), X).argmax(1)
    for score, h, label in zip(scores, hidden(X), said, strict=True):
        centres = hidden(fit[np.flatnonzero(known == label)[:10]])
        kernel = np.exp(-np.square(centres - h).sum(1) / float(density.bandwidth) ** 2)
        np.testing.assert_allclose(score, -np.log(kernel.mean()), rtol=1e-3, atol=1e-3)


def test_a_class_with_one_input_has_no_density():
    x, labels = pictures(0)
    of_the_last = np.flatnonzero(labels == 2)
    for count in (1, 0):
        lacking = labels.copy()
        lacking[of_the_last[count:]] = 0
        with pytest.raises(ValueError, match=rf"two training inputs of each class, got .* {count}\]"):
            cw.defences.kernel_density(classifier(), x, lacking, KEY)


def test_the_uncertainty_is_that_of_the_thinned_networks():
    it = defended("dropout_uncertainty")
    thinned = detector("dropout_uncertainty").params
    assert isinstance(thinned, Thinned)
    assert set(np.unique(thinned.masks)) == {0, 2}
    shares = softmax(
        np.stack([hidden(X) * mask @ np.asarray(classifier().params["second"]) for mask in np.asarray(thinned.masks)])
    )
    uncertainty = np.square(shares).sum(2).mean(0) - np.square(shares.mean(0)).sum(1)
    np.testing.assert_allclose(np.exp(answers(detector("dropout_uncertainty"), X)), uncertainty, rtol=1e-2, atol=1e-6)
    again = cw.defences.with_fresh_masks(it, jax.random.key(9))
    assert again.threshold == it.threshold
    assert again.detector is not None
    assert (again.detector.params.masks != thinned.masks).any()
    assert set(np.unique(again.detector.params.masks)) == {0, 2}
    with pytest.raises(ValueError, match="with_fresh_masks takes what dropout_uncertainty returned"):
        cw.defences.with_fresh_masks(defended("mean_filter"), KEY)
    with pytest.raises(ValueError, match="no activation function 'relu_9'"):
        cw.defences.dropout_uncertainty(classifier(), *pictures(0), KEY, layer="relu_9")


@pytest.mark.long
def test_the_extra_class_is_beside_the_others():
    it = defended("extra_class")
    outputs = np.asarray(_all(detector("extra_class").params, jnp.asarray(X)))
    assert outputs.shape == (12, 4)
    np.testing.assert_allclose(answers(it.model, X), outputs[:, :3], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        answers(detector("extra_class"), X), outputs[:, 3] - outputs[:, :3].max(1), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("name", few(["extra_class", "second_network", "inner_layer"]))
def test_a_detector_that_learns_from_an_attack_sees_it(name):
    x, labels = pictures(2, 40)
    wrong = adversarial(classifier(), x, labels, KEY, attack=ATTACK)
    found = detector(name)
    assert answers(found, wrong).mean() > answers(found, x).mean()


def test_principal_components_are_those_of_numpy():
    fit = pictures(0)[0][:96]
    flat = fit.reshape(96, -1).astype(np.float64)
    mean, rows = components_of(fit)
    _, _, vectors = np.linalg.svd(flat - flat.mean(0), full_matrices=False)
    np.testing.assert_allclose(np.abs(np.sum(np.asarray(rows[:5]) * vectors[:5], 1)), 1, rtol=1e-4)
    x = X.reshape(12, -1) - np.asarray(mean)
    left = np.square(x - x @ vectors[:20].T @ vectors[:20]).sum(1)
    np.testing.assert_allclose(np.exp(answers(detector("last_components"), X)), left, rtol=1e-3)
    first = defended("first_components").model
    shown = (x @ vectors[:20].T @ vectors[:20] + np.asarray(mean)).reshape(X.shape).astype(np.float32)
    np.testing.assert_allclose(answers(first, X), answers(first, shown), rtol=1e-3, atol=1e-3)


def test_the_mean_filter_is_a_mean_with_nothing_outside():
    padded = np.pad(X, ((0, 0), (1, 1), (1, 1), (0, 0)))
    mean = np.mean([padded[:, i : i + 8, j : j + 8] for i in range(3) for j in range(3)], 0)
    np.testing.assert_allclose(answers(defended("mean_filter").model, X), answers(classifier(), mean), atol=1e-5)
    with pytest.raises(ValueError, match="size must be odd"):
        cw.defences.mean_filter(classifier(), X, LABELS, KEY, size=2)
    with pytest.raises(ValueError, match=r"for pictures \[N, H, W, C\]"):
        cw.defences.mean_filter(classifier(), X[..., 0], LABELS, KEY)


def test_the_discrepancy_is_the_unbiased_one_and_finds_other_sets(as_users_have_it):
    rng = np.random.default_rng(0)
    first, second, third = rng.normal(size=(15, 4)), rng.normal(size=(10, 4)) + 1.5, rng.normal(size=(15, 4))
    found = cw.defences.mean_discrepancy(first, second, KEY, bandwidth=2.0, partitions=200)

    def kernel(a, b):
        return np.exp(-np.square(a[:, None] - b[None]).sum(2) / 8)

    own, other = kernel(first, first), kernel(second, second)
    within = (own.sum() - 15) / (15 * 14) + (other.sum() - 10) / (10 * 9)
    np.testing.assert_allclose(found.discrepancy, within - 2 * kernel(first, second).mean(), rtol=1e-4)
    assert found.p_value < 0.02
    assert cw.defences.mean_discrepancy(first, third, KEY, partitions=200).p_value > 0.1
    with pytest.raises(ValueError, match="two sets of at least two inputs of one shape"):
        cw.defences.mean_discrepancy(first, second[:, :2], KEY)


@pytest.mark.long
def test_magnet_classifies_what_it_rebuilt():
    it = defended("magnet")
    nets = detector("magnet").params
    halved = np.asarray(rebuilt(nets.halved, jnp.asarray(X)))
    full = np.asarray(rebuilt(nets.full, jnp.asarray(X)))
    assert np.square(halved - X).mean() < 0.8 * X.var(0).mean()  # one picture for all would have 1
    np.testing.assert_allclose(answers(it.model, X), answers(classifier(), halved), rtol=1e-4, atol=1e-4)
    scores = np.stack([np.square(X - halved).mean((1, 2, 3)), np.abs(X - full).mean((1, 2, 3))], 1)
    largest = (np.log(scores) - np.asarray(nets.usual)).max(1)
    np.testing.assert_allclose(answers(detector("magnet"), X), largest, rtol=1e-3, atol=1e-3)
    one, other = softmax(answers(classifier(), X)), softmax(answers(classifier(), halved))
    middle = (one + other) / 2
    wanted = 0.5 * (one * np.log(one / middle) + other * np.log(other / middle)).sum(1)
    logits = [jnp.asarray(answers(classifier(), each)) for each in (X, halved)]
    np.testing.assert_allclose(_divergence(*logits), wanted, rtol=1e-2, atol=1e-6)
    with pytest.raises(ValueError, match="even height and width"):
        cw.defences.magnet(classifier(), X[:, :7], LABELS, KEY)


def test_squeezing_is_that_of_scipy_and_has_the_slope_of_its_input():
    from scipy import ndimage

    for size in (2, 3):
        wanted = np.stack([ndimage.median_filter(each[..., 0], size=size, mode="reflect") for each in X])
        np.testing.assert_array_equal(local_median(jnp.asarray(X), size)[..., 0], wanted)
    x = jnp.array([0.1, 0.4, 0.6, 1.0])
    np.testing.assert_allclose(in_bits(x, 1), [0, 0, 1, 1])
    np.testing.assert_allclose(in_bits(x, 2), [0, 1 / 3, 2 / 3, 1], rtol=1e-6)
    through, own = (jax.grad(lambda x, way=way: in_bits(x, 1, straight_through=way).sum())(x) for way in (True, False))
    np.testing.assert_array_equal(through, 1)
    np.testing.assert_array_equal(own, 0)


def test_the_score_of_squeezing_is_the_larger_distance():
    found = detector("feature_squeezing")
    squeezed = [np.round(X), np.asarray(local_median(jnp.asarray(X), 2))]
    answer, *others = (softmax(answers(classifier(), each)) for each in (X, *squeezed))
    wanted = np.max([np.abs(answer - other).sum(1) for other in others], 0)
    np.testing.assert_allclose(np.exp(answers(found, X)), wanted, rtol=1e-3, atol=1e-5)
    plain = cw.defences.feature_squeezing(classifier(), *pictures(0), KEY, straight_through=False).detector
    assert plain is not None
    np.testing.assert_allclose(answers(plain, X), answers(found, X), rtol=1e-5)


def test_the_bound_is_one_and_stays_it():
    model, bound = defended("bounded_relu").model.params
    assert bound == 1
    params = model.params
    h = np.clip(X.reshape(12, -1) @ np.asarray(params["first"]) + np.asarray(params["bias"]), 0, 1)
    wanted = h @ np.asarray(params["second"])
    np.testing.assert_allclose(answers(defended("bounded_relu").model, X), wanted, rtol=1e-4, atol=1e-4)


def test_learning_goes_down():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 3)).astype(np.float32)
    y = x @ np.array([1.0, -2.0, 0.5], np.float32)

    def loss(params, key, x, y):
        return jnp.square(x @ params - y).mean()

    params = fitted(loss, np.zeros(3, np.float32), (x, y), KEY, updates=400, rate=0.05)
    np.testing.assert_allclose(params, [1, -2, 0.5], atol=0.02)


def test_fresh_weights_are_others_of_the_same_size():
    other = redrawn(classifier(), KEY).params
    own = classifier().params
    assert (other["bias"] == own["bias"]).all()
    assert not (other["first"] == own["first"]).any()
    np.testing.assert_allclose(jnp.std(other["first"]), jnp.std(own["first"]), rtol=0.15)
    assert as_many(np.arange(3.0), np.zeros(7)).tolist() == [0, 1, 2, 0, 1, 2, 0]


def test_an_attack_that_finds_nothing_teaches_nothing():
    with pytest.raises(ValueError, match="fools the model on none of 12 inputs"):
        adversarial(classifier(), X, LABELS, KEY, attack=cw.attacks.ddn(steps=1))


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ({"channels": 0}, "channels must be at least 1, got 0"),
        ({"temperatures": 10}, r"temperatures must be several numbers, such as \(10, 40\), got 10"),
        ({"temperatures": (0,)}, "each temperature must be more than 0, got 0"),
        ({"false_positives": 2.0}, "false_positives must be at most 0.999, got 2.0"),
    ],
)
def test_numbers_of_magnet_are_looked_at_before_it_learns(numbers, said, as_users_have_it):
    with pytest.raises((TypeError, ValueError), match=said):
        cw.defences.magnet(classifier(), *pictures(0), jax.random.key(0), **numbers)


def test_a_layer_of_one_value_has_no_bandwidth(as_users_have_it):
    params = classifier().params
    dead = cw.bind(classifier().apply, params | {"bias": params["bias"] - 100})
    with pytest.raises(ValueError, match="choose another layer, or give a bandwidth"):
        cw.defences.kernel_density(dead, *pictures(0), jax.random.key(0), centres=10)
