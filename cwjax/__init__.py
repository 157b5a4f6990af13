"""Carlini-Wagner attacks, and what it takes to trust a robustness evaluation, as composable JAX transforms.

An attack is a descent and a search, written for one example; a runner makes the batch:

    model  = cw.bind(apply, params)
    attack = cw.l2()
    run    = jax.jit(cw.batched(attack))
    result = run(model, jax.random.split(key, len(x)), x, cw.untargeted(labels))
"""

from cwjax import search
from cwjax.attacks.alma import alma
from cwjax.attacks.apgd import apgd, apgd_targeted
from cwjax.attacks.carlini import l0, l1, l2, linf
from cwjax.attacks.ddn import ddn
from cwjax.attacks.deepfool import deepfool
from cwjax.attacks.ead import ead
from cwjax.attacks.fast.alternating import alternating_l2
from cwjax.attacks.fast.attacks import fast_l2, fast_linf, jittered, mirrored
from cwjax.attacks.fast.scout import aimed
from cwjax.attacks.fast.slide import radius, slid
from cwjax.attacks.fast.sparse import fast_l0, fast_l1
from cwjax.attacks.fgsm import fgsm
from cwjax.attacks.fmn import fmn
from cwjax.attacks.jsma import jsma_f, jsma_z
from cwjax.attacks.lbfgs import lbfgs, quasi_newton
from cwjax.attacks.mifgsm import mifgsm
from cwjax.attacks.pdpgd import pdgd, pdpgd
from cwjax.attacks.pgd import bim, pgd
from cwjax.attacks.sigma_zero import sigma_zero
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
    Terms,
)
from cwjax.descent import descend
from cwjax.evaluation import comparison, metrics
from cwjax.evaluation.diagnosis.checks import Check, Diagnosis
from cwjax.evaluation.diagnosis.diagnose import diagnose
from cwjax.evaluation.validation import Validation, validate
from cwjax.goals import targeted, untargeted
from cwjax.iterated import Rule, Seen, iterated, steered
from cwjax.models import Model, bind, normalised
from cwjax.parts import aborts, boxes, distances, losses, objectives, optimizers
from cwjax.parts.aborts import first_success, never, plateau, within_tau
from cwjax.parts.boxes import BOXES, change_of_variables, clipped, projected
from cwjax.parts.distances import DISTANCES
from cwjax.parts.objectives import (
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
from cwjax.parts.optimizers import OPTIMIZERS
from cwjax.runners.batch import Lanes, Trace, batched, chunked, lanes, sharded, traced
from cwjax.runners.fast_convolutions import canonical
from cwjax.runners.precision import PRECISIONS, Verification, in_precision, verified
from cwjax.runners.queue import Status, streamed
from cwjax.runners.rounding import Rounding, discretised
from cwjax.search.confidence import confident
from cwjax.search.mask import many_pixels, masked, one_pixel, shrink_mask
from cwjax.search.radius import minimised, shrink_tau
from cwjax.search.rounds import searched, tracked
from cwjax.search.versions import average_target, best_of, best_target, restarted, worst_of, worst_target
from cwjax.search.weight import binary_search, grow_c, multiplier

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
    "Check",
    "Decoded",
    "Diagnosis",
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
    "Rule",
    "Search",
    "Seen",
    "Spread",
    "Status",
    "Terms",
    "Trace",
    "Validation",
    "Verification",
    "aborts",
    "aimed",
    "alma",
    "alternating_l2",
    "apgd",
    "apgd_targeted",
    "average_target",
    "batched",
    "best_of",
    "best_target",
    "bim",
    "binary_search",
    "bind",
    "boxes",
    "canonical",
    "change_of_variables",
    "chunked",
    "clipped",
    "comparison",
    "confident",
    "cross_entropy",
    "ddn",
    "deepfool",
    "descend",
    "diagnose",
    "discretised",
    "distances",
    "ead",
    "fast_l0",
    "fast_l1",
    "fast_l2",
    "fast_linf",
    "fgsm",
    "first_success",
    "fmn",
    "grow_c",
    "half_probability",
    "in_precision",
    "iterated",
    "jittered",
    "jsma_f",
    "jsma_z",
    "l0",
    "l1",
    "l2",
    "lanes",
    "lbfgs",
    "linf",
    "log_half_probability",
    "logit_margin",
    "losses",
    "many_pixels",
    "margin",
    "masked",
    "metrics",
    "mifgsm",
    "minimised",
    "mirrored",
    "multiplier",
    "never",
    "normalised",
    "objectives",
    "one_pixel",
    "optimizers",
    "pdgd",
    "pdpgd",
    "pgd",
    "plateau",
    "probability_margin",
    "projected",
    "quasi_newton",
    "radius",
    "restarted",
    "search",
    "searched",
    "sharded",
    "shrink_mask",
    "shrink_tau",
    "sigma_zero",
    "slid",
    "smooth_logit_margin",
    "smooth_probability_margin",
    "steered",
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
