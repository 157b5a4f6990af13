"""Cases of which everything that a check asks for is given, so that nothing is compiled and the number is known."""

import dataclasses
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import cwjax as cw
from cwjax.base import Terms
from cwjax.evaluation.diagnosis.case import Case
from cwjax.evaluation.diagnosis.programs import Followed
from cwjax.parts.distances import DISTANCES
from cwjax.problems import Allowed
from tests import problems

FIELDS = {field.name for field in dataclasses.fields(Case)}


def known(count: int, *, model: cw.Model | None = None, **facts: Any) -> Case:
    """A case of so many examples in the order of their places. Facts are fields of a Case, or what it would compute; or
    `norm` and `confidence`, which are of the attack's terms, and the bounds `low` and `high`.
    """
    objective = cw.objectives.logit_margin(facts.pop("confidence", 0.0))
    distance = DISTANCES[facts.pop("norm", "l2")]
    none, zero, yes = np.full(count, np.inf, np.float32), np.zeros(count, np.int32), np.ones(count, bool)
    x = jnp.asarray(problems.inputs(count))
    result: dict[str, Any] = {"x": np.asarray(x), "success": ~yes, "distance": none, "c": none, "finished": yes}
    result |= {"forwards": zero, "backwards": zero, "finite": yes}
    fields: dict[str, Any] = {
        "model": model or cw.bind(problems.mlp, problems.mlp_params()),
        "attack": cw.attacks.fmn(steps=4),
        "numbers": {},
        "longer": {},
        "x": x,
        "goal": cw.untargeted(np.zeros(count, int)),
        "allowed": between(facts.pop("low", 0.0), facts.pop("high", 1.0), facts.get("x", x)),
        "result": cw.Result(**result),
        "key": jax.random.key(3),
        "largest_c": None,
    }
    given = Case(**fields | {name: fact for name, fact in facts.items() if name in FIELDS})
    computed = {"open": yes, "shuffled": np.arange(count), "terms": Terms(objective, distance, cw.boxes.projected())}
    given.__dict__.update(computed | {name: fact for name, fact in facts.items() if name not in FIELDS})
    return given


def between(low: Any, high: Any, x: Any) -> Allowed:
    """The bounds, for each input of a batch like x."""
    return Allowed(*(jnp.broadcast_to(jnp.asarray(bound, jnp.float32), x.shape) for bound in (low, high)))


def found(case: Case, **changes: Any) -> Case:
    """The case with another result."""
    changes = {name: np.asarray(value) for name, value in changes.items()}
    kept = {name: fact for name, fact in case.__dict__.items() if name not in FIELDS}
    other = dataclasses.replace(case, result=case.result._replace(**changes))
    other.__dict__.update(kept)
    return other


_NOTHING = MappingProxyType(
    {"loss": 1.0, "distance": 1.0, "met": False, "best": np.inf, "saturated": np.nan, "lower": np.nan, "upper": np.nan}
)


def seen(steps: int, examples: int, ends: Any = None, **fields: Any) -> Followed:
    """A path of so many steps; each field is broadcast to [steps, examples]. `ends`: the last step of each example."""
    done = np.arange(steps)[:, None] >= np.broadcast_to(steps - 1 if ends is None else ends, examples)[None]
    given: dict[str, Any] = {**_NOTHING, "rounds": 1, "done": done} | fields
    return Followed(**{name: np.broadcast_to(np.asarray(value), (steps, examples)) for name, value in given.items()})


def columns(*each: Any) -> np.ndarray:
    """[steps, examples] of what each example does."""
    return np.stack([np.asarray(one, float) for one in each], 1)
