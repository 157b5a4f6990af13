"""Runners make a batch of an attack on one example; what wraps a runner looks at its results again."""

from cwjax.runners.batch import Lanes, Trace, batched, chunked, lanes, sharded, traced
from cwjax.runners.fast_convolutions import canonical
from cwjax.runners.precision import PRECISIONS, Verification, in_precision, verified
from cwjax.runners.queue import Status, streamed
from cwjax.runners.restoring import Restoration, restored
from cwjax.runners.rounding import Rounding, discretised
from cwjax.runners.snapping import snapped

__all__ = [
    "PRECISIONS",
    "Lanes",
    "Restoration",
    "Rounding",
    "Status",
    "Trace",
    "Verification",
    "batched",
    "canonical",
    "chunked",
    "discretised",
    "in_precision",
    "lanes",
    "restored",
    "sharded",
    "snapped",
    "streamed",
    "traced",
    "verified",
]
