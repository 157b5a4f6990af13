"""Defences as functions from a model to a defended one.

Every attack works on a defended model; an adaptive attack is the same attack with another objective. The examples go on
from these lines:

Example:
  >>> labels = np.arange(40) % 2
  >>> x = np.random.default_rng(0).uniform(0, 0.3, (40, 4, 4, 1)).astype(np.float32)
  >>> x[labels == 0, :2] += 0.5  # class 0 is bright above
  >>> x[labels == 1, 2:] += 0.5  # and class 1 below
  >>> def classify(weights, x):
  ...     halves = x.reshape(len(x), 2, -1).mean(2)
  ...     return jax.nn.relu(halves @ weights["first"]) @ weights["second"]
  >>> weights = {"first": jnp.array([[1.0, -1.0], [-1.0, 1.0]]), "second": 10 * jnp.eye(2)}
  >>> model = cw.bind(classify, weights)
  >>> defended = cw.defences.feature_squeezing(model, x, labels, jax.random.key(0))
  >>> int(cw.defences.refused(defended, x[-8:]).sum())  # of the pictures that the threshold was set on
  0
  >>> objective = cw.defences.undetected(defended)  # an attack with it knows of the defence
"""

from collections.abc import Callable

from cwjax.defences.bounded_relu import bounded_relu
from cwjax.defences.defended import Defended, calibrated, parted, refused, undetected, whole
from cwjax.defences.distillation import distilled
from cwjax.defences.dropout_uncertainty import dropout_uncertainty, with_fresh_masks
from cwjax.defences.extra_class import extra_class
from cwjax.defences.feature_squeezing import feature_squeezing
from cwjax.defences.kernel_density import kernel_density
from cwjax.defences.learnt_detectors import inner_layer, second_network
from cwjax.defences.magnet import magnet
from cwjax.defences.mean_discrepancy import TwoSampleTest, mean_discrepancy
from cwjax.defences.mean_filter import mean_filter
from cwjax.defences.principal_components import first_components, last_components

DEFENCES: dict[str, Callable[..., Defended]] = {
    "distilled": distilled,
    "kernel_density": kernel_density,
    "dropout_uncertainty": dropout_uncertainty,
    "extra_class": extra_class,
    "second_network": second_network,
    "inner_layer": inner_layer,
    "first_components": first_components,
    "last_components": last_components,
    "mean_filter": mean_filter,
    "magnet": magnet,
    "feature_squeezing": feature_squeezing,
    "bounded_relu": bounded_relu,
}
"""By name: `(model, x, labels, key, *, keep) -> Defended`."""

__all__ = [
    "DEFENCES",
    "Defended",
    "TwoSampleTest",
    "bounded_relu",
    "calibrated",
    "distilled",
    "dropout_uncertainty",
    "extra_class",
    "feature_squeezing",
    "first_components",
    "inner_layer",
    "kernel_density",
    "last_components",
    "magnet",
    "mean_discrepancy",
    "mean_filter",
    "parted",
    "refused",
    "second_network",
    "undetected",
    "whole",
    "with_fresh_masks",
]
