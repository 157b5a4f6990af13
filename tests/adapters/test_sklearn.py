from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import cwjax as cw
from cwjax.adapters import NotConvertible

pytest.importorskip("sklearn", reason="needs the extra sklearn")

from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, PolynomialFeatures, StandardScaler
from sklearn.svm import SVC, LinearSVC

RNG = np.random.default_rng(4)
X: Any = RNG.uniform(size=(90, 4))
THREE = (X[:, 0] > 0.5).astype(int) + (X[:, 1] > 0.5)
TWO = np.where(X[:, 0] > 0.5, "yes", "no")


@pytest.mark.parametrize("labels", [TWO, THREE], ids=["two", "three"])
@pytest.mark.parametrize("classifier", [LogisticRegression(), RidgeClassifier(), LinearSVC()], ids=str)
def test_linear(classifier, labels):
    classifier = classifier.fit(X, labels)
    model = cw.adapters.from_sklearn(classifier)
    logits = np.asarray(model.of_batch(jnp.asarray(X, jnp.float32)))
    assert logits.shape == (90, len(classifier.classes_))
    np.testing.assert_array_equal(classifier.classes_[logits.argmax(1)], classifier.predict(X))


@pytest.mark.parametrize("activation", ["relu", "tanh", "logistic", "identity"])
def test_perceptrons(activation):
    labels = TWO if activation == "tanh" else THREE
    net = MLPClassifier((5, 3), activation=activation, max_iter=400, tol=1, n_iter_no_change=1, random_state=0)
    net.fit(X, labels)
    logits = np.asarray(cw.adapters.from_sklearn(net).of_batch(jnp.asarray(X, jnp.float32)), np.float64)
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(shares, np.asarray(net.predict_proba(X)), atol=1e-5)


@pytest.mark.parametrize("scaler", [StandardScaler(), MinMaxScaler((-1, 1)), MaxAbsScaler()], ids=str)
def test_scalers_before(scaler):
    classifier = make_pipeline(scaler, LogisticRegression()).fit(X, THREE)
    logits = cw.adapters.from_sklearn(classifier).of_batch(jnp.asarray(X, jnp.float32))
    np.testing.assert_allclose(logits, classifier.decision_function(X), rtol=1e-3, atol=1e-3)


def test_images_are_flattened_to_the_rows_that_the_classifier_was_fitted_on():
    classifier = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, THREE)
    model = cw.adapters.from_sklearn(classifier)
    rows = jnp.asarray(X, jnp.float32)
    np.testing.assert_array_equal(model.of_batch(rows.reshape(-1, 2, 2, 1)), model.of_batch(rows))
    with pytest.raises(ValueError, match=r"was fitted on rows of 4 values, got shape \[2, 3, 1\]"):
        model.of_batch(jnp.zeros((1, 2, 3, 1)))


@pytest.mark.parametrize(
    ("estimator", "words"),
    [
        (RandomForestClassifier(2).fit(X, TWO), "RandomForestClassifier has no gradients"),
        (SVC().fit(X, TWO), "SVC has no gradients"),
        (LogisticRegression(), "LogisticRegression is no fitted classifier: fit it first"),
        (make_pipeline(PolynomialFeatures(), LogisticRegression()).fit(X, TWO), "the step PolynomialFeatures"),
    ],
    ids=["forest", "kernel", "unfitted", "features"],
)
def test_what_has_no_gradients_is_named(estimator, words):
    with pytest.raises(NotConvertible, match=words):
        cw.adapters.from_sklearn(estimator)
