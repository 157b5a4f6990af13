"""Linear classifiers and multi-layer perceptrons of scikit-learn as cwjax models."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from cwjax.adapters.checking import NotConvertible, confirmed, kind_of
from cwjax.adapters.heads import two_logits
from cwjax.adapters.inputs import Inputs, inputs_of
from cwjax.adapters.slopes import check_slopes
from cwjax.models import Model, bind

_ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "identity": lambda x: x,
    "logistic": jax.nn.sigmoid,
    "relu": jax.nn.relu,
    "tanh": jnp.tanh,
}


def from_sklearn(classifier: Any, *, low: float = 0.0, high: float = 1.0) -> Model:
    """A fitted linear classifier or `MLPClassifier` of scikit-learn, alone or at the end of a `Pipeline` of scalers.

    Args:
      classifier: fitted, with `coef_` and `intercept_` (LogisticRegression, LinearSVC, RidgeClassifier, SGDClassifier,
        Perceptron and others), or an `MLPClassifier`. Scalers may be StandardScaler, MinMaxScaler and MaxAbsScaler.
      low: the lower end of the box of inputs.
      high: the upper end.

    Returns:
      What `cwjax.bind` returns, of rows [B, F] to logits [B, K]: the decision function of a linear classifier, what
      goes into the softmax of an MLP; two classes have the logits -s/2 and s/2. Logit i is of `classes_[i]`. Images
      [B, H, W, C] of F values are flattened, as x.reshape(len(x), -1) does it.

    Raises:
      NotConvertible: another estimator (trees and kernels among them), or one that is not fitted.

    Example:
      >>> from sklearn.linear_model import LogisticRegression
      >>> rows = np.array([[0.1, 0.2, 0.3], [0.2, 0.3, 0.1], [0.9, 0.8, 0.7], [0.8, 0.9, 0.9]])
      >>> model = cw.adapters.from_sklearn(LogisticRegression().fit(rows, [0, 0, 1, 1]))
      >>> model.of_batch(jnp.asarray(rows, jnp.float32)).argmax(1).tolist()
      [0, 0, 1, 1]
    """
    steps = [step for _, step in classifier.steps] if hasattr(classifier, "steps") else [classifier]
    *before, last = steps
    scalers = [_scaler(step) for step in before if step not in (None, "passthrough")]
    activation, layers = _layers(last)
    params = ([(np.float32(shift), np.float32(scale)) for shift, scale in scalers], layers)
    model = bind(_Perceptron(activation), jax.tree.map(jnp.asarray, params))
    inputs = inputs_of((layers[0][0].shape[0] if not scalers else len(scalers[0][0]),), low=low, high=high)
    name = f"the scikit-learn {kind_of(last)}"
    return _confirmed(model, classifier, last, inputs, name)


def _confirmed(model: Model, classifier: Any, last: Any, inputs: Inputs, name: str) -> Model:
    x, width = inputs.drawn(), inputs.high - inputs.low
    if hasattr(last, "coef_"):
        original = lambda x: _scores(np.asarray(classifier.decision_function(x), np.float32))  # noqa: E731
        confirmed(model, original, x, name=name)
        check_slopes(model, original, x, width=width, name=name)
        return model
    probable = bind(_Probabilities(model.apply), model.params)
    original = lambda x: np.asarray(classifier.predict_proba(x), np.float32)  # noqa: E731
    confirmed(probable, original, x, name=name)
    check_slopes(probable, original, x, width=width, name=name)
    return model


def _scores(values: np.ndarray) -> np.ndarray:
    return two_logits(values[:, None] if values.ndim == 1 else values)


def _scaler(step: Any) -> tuple[np.ndarray, np.ndarray]:
    """(x - shift) * scale, as the scaler does it."""
    kind = kind_of(step)
    if kind == "StandardScaler" and hasattr(step, "n_features_in_"):
        size = step.n_features_in_
        mean = step.mean_ if step.with_mean else np.zeros(size)
        return mean, 1 / step.scale_ if step.with_std else np.ones(size)
    if kind == "MinMaxScaler" and hasattr(step, "scale_") and not step.clip:
        return -step.min_ / step.scale_, step.scale_
    if kind == "MaxAbsScaler" and hasattr(step, "scale_"):
        return np.zeros(len(step.scale_)), 1 / step.scale_
    raise NotConvertible(
        f"the step {kind} before the classifier is not covered, or is not fitted: StandardScaler, MinMaxScaler without "
        "clip and MaxAbsScaler are"
    )


def _layers(classifier: Any) -> tuple[str, list[tuple[np.ndarray, np.ndarray]]]:
    """The name of the activation, and (kernel [I, O], bias [O]) of each layer."""
    kind = kind_of(classifier)
    if not hasattr(classifier, "classes_"):
        raise NotConvertible(
            f"{kind} is no fitted classifier: fit it first. Regressors have no classes: cw.bind takes their function"
        )
    if np.ndim(classifier.classes_[0]) or getattr(classifier, "multilabel_", False):
        raise NotConvertible(
            f"this {kind} has several labels for each input: bind its function and use a goal of labels"
        )
    if hasattr(classifier, "coef_") and hasattr(classifier, "intercept_") and hasattr(classifier, "decision_function"):
        kernel = np.atleast_2d(np.asarray(classifier.coef_, np.float32)).T
        bias = np.broadcast_to(np.asarray(classifier.intercept_, np.float32).reshape(-1), kernel.shape[1:])
        return "identity", [(kernel, np.array(bias))]
    if kind == "MLPClassifier":
        pairs = zip(classifier.coefs_, classifier.intercepts_, strict=True)
        return classifier.activation, [(np.asarray(w, np.float32), np.asarray(b, np.float32)) for w, b in pairs]
    raise NotConvertible(f"{kind} has no gradients that are covered: linear classifiers and MLPClassifier have")


@dataclasses.dataclass(frozen=True)
class _Perceptron:
    activation: str

    def __call__(self, params: PyTree, x: Array) -> Array:
        scalers, layers = params
        columns = len(scalers[0][0]) if scalers else len(layers[0][0])
        if math.prod(x.shape[1:]) != columns:
            raise ValueError(f"the classifier was fitted on rows of {columns} values, got shape {list(x.shape[1:])}")
        x = x.reshape(len(x), -1)
        for shift, scale in scalers:
            x = (x - shift.reshape(1, -1)) * scale.reshape(1, -1)
        for place, (kernel, bias) in enumerate(layers):
            x = x @ kernel + bias.reshape(1, -1)
            x = _ACTIVATIONS[self.activation](x) if place < len(layers) - 1 else x
        return two_logits(x)


@dataclasses.dataclass(frozen=True)
class _Probabilities:
    logits: Callable[..., Array]

    def __call__(self, params: PyTree, x: Array) -> Array:
        return jax.nn.softmax(self.logits(params, x))
