"""Carlini-Wagner attacks, and what it takes to trust a robustness evaluation, as composable JAX transforms.

An attack is a descent and a search, written for one example; a runner makes the batch:

    model  = cw.bind(apply, params)
    attack = cw.l2()
    run    = jax.jit(cw.batched(attack))
    result = run(model, jax.random.split(key, len(x)), x, cw.untargeted(labels))
"""

from cwjax import aborts, boxes, distances, metrics, objectives, searches
from cwjax.aborts import first_success, never, plateau
from cwjax.base import (
    Abort,
    Attack,
    Box,
    Candidate,
    Decoded,
    Distance,
    Goal,
    Objective,
    Problem,
    Progress,
    Result,
    Search,
)
from cwjax.boxes import change_of_variables, clipped, projected
from cwjax.canonical import canonical
from cwjax.carlini import l2
from cwjax.checks import validate
from cwjax.descent import descend
from cwjax.goals import targeted, untargeted
from cwjax.models import Model, bind, normalised
from cwjax.objectives import logit_margin, margin
from cwjax.runners import Lanes, Trace, batched, chunked, lanes, traced
from cwjax.searches import binary_search, searched

__version__ = "0.1.0"

__all__ = [
    "Abort",
    "Attack",
    "Box",
    "Candidate",
    "Decoded",
    "Distance",
    "Goal",
    "Lanes",
    "Model",
    "Objective",
    "Problem",
    "Progress",
    "Result",
    "Search",
    "Trace",
    "aborts",
    "batched",
    "binary_search",
    "bind",
    "boxes",
    "canonical",
    "change_of_variables",
    "chunked",
    "clipped",
    "descend",
    "distances",
    "first_success",
    "l2",
    "lanes",
    "logit_margin",
    "margin",
    "metrics",
    "never",
    "normalised",
    "objectives",
    "plateau",
    "projected",
    "searched",
    "searches",
    "targeted",
    "traced",
    "untargeted",
    "validate",
]
