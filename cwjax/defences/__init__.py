"""Defences as functions from a model to a defended one.

    defended = cw.defences.magnet(model, x_train, labels, key)
    attack   = cw.fast("l2", objective=cw.defences.undetected(defended))       # it knows of the defence
    result   = jax.jit(cw.batched(attack))(cw.defences.whole(defended), keys, x, cw.untargeted(labels))

Every attack works on a defended model; an adaptive attack is the same attack with another objective.
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
