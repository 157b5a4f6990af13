"""Carlini-Wagner attacks, and what it takes to trust a robustness evaluation, as composable JAX transforms.

An attack is a descent and a search, written for one example; a runner makes the batch:

    model  = cw.bind(apply, params)
    attack = cw.l2()
    run    = jax.jit(cw.batched(attack))
    result = run(model, jax.random.split(key, len(x)), x, cw.untargeted(labels))
"""

from cwjax import aborts, boxes, distances, metrics, objectives, optimizers, searches
from cwjax.aborts import first_success, never, plateau, within_tau
from cwjax.attacks.lbfgs import lbfgs, quasi_newton
from cwjax.base import (
    Abort,
    Attack,
    Box,
    Candidate,
    Decoded,
    Distance,
    Evaluation,
    Goal,
    Objective,
    Problem,
    Progress,
    Result,
    Search,
    Spread,
)
from cwjax.boxes import BOXES, change_of_variables, clipped, projected
from cwjax.canonical import canonical
from cwjax.carlini import l0, l1, l2, linf
from cwjax.checks import validate
from cwjax.descent import descend
from cwjax.distances import DISTANCES
from cwjax.goals import targeted, untargeted
from cwjax.lattice import Rounding, discretised
from cwjax.models import Model, bind, normalised
from cwjax.objectives import (
    OBJECTIVES,
    cross_entropy,
    half_probability,
    log_half_probability,
    logit_margin,
    margin,
    probability_margin,
    smooth_logit_margin,
    smooth_probability_margin,
)
from cwjax.optimizers import OPTIMIZERS
from cwjax.precision import PRECISIONS, Verification, in_precision, verified
from cwjax.runners import Lanes, Trace, batched, chunked, lanes, sharded, traced
from cwjax.searches import binary_search, grow_c, searched, tracked
from cwjax.shrinking import many_pixels, one_pixel, shrink_mask, shrink_tau
from cwjax.spreads import average_target, best_of, best_target, restarted, worst_of, worst_target
from cwjax.streaming import Status, streamed

__version__ = "0.1.0"

__all__ = [
    "BOXES",
    "DISTANCES",
    "OBJECTIVES",
    "OPTIMIZERS",
    "PRECISIONS",
    "Abort",
    "Attack",
    "Box",
    "Candidate",
    "Decoded",
    "Distance",
    "Evaluation",
    "Goal",
    "Lanes",
    "Model",
    "Objective",
    "Problem",
    "Progress",
    "Result",
    "Rounding",
    "Search",
    "Spread",
    "Status",
    "Trace",
    "Verification",
    "aborts",
    "average_target",
    "batched",
    "best_of",
    "best_target",
    "binary_search",
    "bind",
    "boxes",
    "canonical",
    "change_of_variables",
    "chunked",
    "clipped",
    "cross_entropy",
    "descend",
    "discretised",
    "distances",
    "first_success",
    "grow_c",
    "half_probability",
    "in_precision",
    "l0",
    "l1",
    "l2",
    "lanes",
    "lbfgs",
    "linf",
    "log_half_probability",
    "logit_margin",
    "many_pixels",
    "margin",
    "metrics",
    "never",
    "normalised",
    "objectives",
    "one_pixel",
    "optimizers",
    "plateau",
    "probability_margin",
    "projected",
    "quasi_newton",
    "restarted",
    "searched",
    "searches",
    "sharded",
    "shrink_mask",
    "shrink_tau",
    "smooth_logit_margin",
    "smooth_probability_margin",
    "streamed",
    "targeted",
    "traced",
    "tracked",
    "untargeted",
    "validate",
    "verified",
    "within_tau",
    "worst_of",
    "worst_target",
]
