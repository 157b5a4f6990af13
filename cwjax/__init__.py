"""Carlini-Wagner attacks, and what it takes to trust a robustness evaluation, as composable JAX transforms.

An attack is a descent and a search, written for one example; a runner makes the batch. The examples of the reference go
on from these lines:

Example:
  >>> import jax, jax.numpy as jnp, numpy as np
  >>> import cwjax as cw
  >>> model = cw.bind(lambda weights, x: x @ weights, jnp.eye(3))  # three inputs, and the logits are the same
  >>> x = jnp.array([[0.6, 0.4, 0.1], [0.2, 0.8, 0.5]])
  >>> keys, goal = jax.random.split(jax.random.key(0), 2), cw.untargeted([0, 1])
  >>> result = jax.jit(cw.batched(cw.fast("linf", steps=50)))(model, keys, x, goal)
  >>> print(np.asarray(result.distance).round(2))  # half of the lead that the label has
  [0.1  0.15]
"""

# ruff: noqa: I001 - the imports are grouped by what they are for

# everything else, by where it is: cw.attacks.fmn, cw.objectives.logit_margin, cw.search.binary_search
from cwjax import (
    adapters,
    attacks,
    base,
    coverage,
    defences,
    evaluation,
    generation,
    goals,
    loop,
    problems,
    runners,
    search,
)
from cwjax.evaluation import comparison, metrics
from cwjax.parts import aborts, boxes, distances, lattices, losses, objectives, optimizers

# what one annotates with
from cwjax.base import Abort, Attack, Box, Distance, LabelGoal, Objective, Problem, Result, Search, Spread
from cwjax.models import Model

# models and goals
from cwjax.models import averaged, bind, joined, normalised
from cwjax.tasks import Task
from cwjax.runners.precision import in_precision
from cwjax.goals import targeted, untargeted

# the paper's attacks
from cwjax.attacks.carlini import l0, l1, l2, linf
from cwjax.attacks.lbfgs import lbfgs

# the fast family
from cwjax.attacks.fast.attacks import fast

# an attack out of a descent and a search, or out of other attacks
from cwjax.descent import descend
from cwjax.search.rounds import searched, tracked
from cwjax.search.versions import average_target, best_of, best_target, restarted, worst_of, worst_target
from cwjax.search.radius import minimised
from cwjax.search.confidence import confident

# runners, and what wraps one
from cwjax.runners.batch import batched, chunked, lanes, sharded, traced
from cwjax.runners.queue import streamed
from cwjax.runners.rounding import discretised
from cwjax.runners.restoring import restored
from cwjax.runners.precision import verified

# can the number be believed
from cwjax.evaluation.diagnosis.diagnose import diagnose
from cwjax.evaluation.validation import validate

__version__ = "0.1.0"

__all__ = [
    "Abort",
    "Attack",
    "Box",
    "Distance",
    "LabelGoal",
    "Model",
    "Objective",
    "Problem",
    "Result",
    "Search",
    "Spread",
    "Task",
    "aborts",
    "adapters",
    "attacks",
    "average_target",
    "averaged",
    "base",
    "batched",
    "best_of",
    "best_target",
    "bind",
    "boxes",
    "chunked",
    "comparison",
    "confident",
    "coverage",
    "defences",
    "descend",
    "diagnose",
    "discretised",
    "distances",
    "evaluation",
    "fast",
    "generation",
    "goals",
    "in_precision",
    "joined",
    "l0",
    "l1",
    "l2",
    "lanes",
    "lattices",
    "lbfgs",
    "linf",
    "loop",
    "losses",
    "metrics",
    "minimised",
    "normalised",
    "objectives",
    "optimizers",
    "problems",
    "restarted",
    "restored",
    "runners",
    "search",
    "searched",
    "sharded",
    "streamed",
    "targeted",
    "traced",
    "tracked",
    "untargeted",
    "validate",
    "verified",
    "worst_of",
    "worst_target",
]
