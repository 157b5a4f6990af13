"""`diagnose`: every check there is, on an attack and what it found."""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from cwjax.arguments import allowed_of, check_batch, check_examples, check_maker, check_part
from cwjax.base import Attack, Goal, Result
from cwjax.evaluation.diagnosis import advice, of_attack, of_model, of_result, programs
from cwjax.evaluation.diagnosis.case import Case
from cwjax.evaluation.diagnosis.checks import Cost, Definition, Diagnosis, run
from cwjax.frameworks import as_array
from cwjax.models import Model
from cwjax.parts.distances import DISTANCES
from cwjax.problems import Allowed
from cwjax.values import known

_INDICATORS = "Pintor et al. 2022, Indicators of Attack Failure"
_AUTOATTACK = "AutoAttack (Croce & Hein 2020), its flags"
_CHECKLIST = "Carlini et al. 2019, On Evaluating Adversarial Robustness"
_OURS = "this library's threshold"

CHECKS = {
    "randomised": Definition(
        of_model.randomised,
        "largest difference of normalised logits among 5 runs",
        warn=1e-4,
        fail=1e-4,
        source=f"{_AUTOATTACK}: 1e-4",
        advice="Switch dropout and other noise off, or attack the expectation over the model's randomness.",
    ),
    "batch_dependent": Definition(
        of_model.batch_dependent,
        "largest difference of normalised logits between an input alone and in a batch",
        warn=1e-4,
        fail=1e-4,
        source=f"as for randomised; {_OURS}",
        advice="Run the model in evaluation mode: batch normalisation has to use its stored averages.",
    ),
    "probabilities": Definition(
        of_model.probabilities,
        "1 where every output is a probability distribution",
        warn=0,
        fail=0,
        source=_AUTOATTACK,
        advice="Return logits, without the softmax: its gradients vanish where the model is sure.",
    ),
    "zero_gradient": Definition(
        of_model.zero_gradient,
        "share of the examples whose margin of logits has no finite gradient other than zero",
        warn=0,
        fail=0.05,
        source=f"{_AUTOATTACK}; {_INDICATORS}, unavailable gradients: any; a failure above 5 %: {_OURS}",
        advice="Replace what has no gradient by something that has on the backward pass (BPDA), or attack without one.",
    ),
    "saturated_softmax": Definition(
        of_model.saturated_softmax,
        "share of the examples whose cross-entropy has no gradient, though their logits have one",
        warn=0,
        fail=math.inf,
        source="Carlini & Wagner 2017, section VIII, on distillation: any",
        advice=advice.saturated_softmax,
    ),
    "unstable_loss": Definition(
        of_model.unstable_loss,
        "mean change of the margin in a box 8/255 wide that its gradient does not foresee, over the margin",
        warn=0.1,
        fail=1.0,
        source=f"{_INDICATORS}, unstable predictions: 100 draws, 10 %; a failure above 1: {_OURS}",
        advice=advice.unstable_loss,
    ),
    "not_finite": Definition(
        of_model.not_finite,
        "larger share of examples given up, and of points of the box, for a NaN or an infinity",
        warn=0,
        fail=0,
        source=f"{_OURS}: any",
        advice="Find where the model divides by zero or overflows: such examples were given up, not found robust.",
    ),
    "blind_attack": Definition(
        of_attack.blind_attack,
        "share of the examples whose first gradient in the attack owes nothing to the model",
        warn=0,
        fail=0.05,
        source=f"{_INDICATORS}, unavailable gradients: any; a failure above 5 %: {_OURS}",
        advice=advice.blind_attack,
    ),
    "incomplete": Definition(
        of_attack.incomplete,
        "mean share by which the best still fell in the last 10 steps",
        warn=0.05,
        fail=0.5,
        source=f"{_INDICATORS}, incomplete optimisation: 10 steps, 0.05; a failure above 0.5: {_OURS}",
        advice="Give the attack more steps.",
    ),
    "silent_success": Definition(
        of_attack.silent_success,
        "share of the examples that met their goal on the way, closer than what was returned",
        warn=0,
        fail=0,
        source=f"{_INDICATORS}, silent success: any",
        advice="Return the best of all steps, not the last.",
    ),
    "unbounded_fails": Definition(
        of_attack.unbounded_fails,
        "share of the examples that defied the attack and that PGD cannot fool in the whole box either",
        warn=0,
        fail=0.05,
        source=f"{_CHECKLIST}; {_INDICATORS}, unconstrained attack failure: any; a failure above 5 %: {_OURS}",
        advice="Nothing resists every change: look for masked gradients, and for targets that no input of the box has.",
    ),
    "saturated_c": Definition(
        of_attack.saturated_c,
        "share of the examples that ended with c or the radius at a bound, or unknown by more than a factor of 10",
        warn=0.05,
        fail=0.5,
        source=_OURS,
        advice=advice.saturated_c,
    ),
    "saturated_tanh": Definition(
        of_attack.saturated_tanh,
        "share of the elements inside the box that the descent had no slope left to move (|dx/dw| < 1e-6)",
        warn=0.1,
        fail=0.5,
        source=_OURS,
        advice=advice.saturated_tanh,
    ),
    "too_short": Definition(
        of_attack.too_short,
        "mean share by which the longer attack comes closer, less a standard error",
        warn=0.01,
        fail=0.25,
        source=f"{_CHECKLIST}: until more steps change nothing; 1 % and 25 %: {_OURS}",
        advice="Give the attack more steps, until twice as many change nothing.",
    ),
    "weaker_wins": Definition(
        of_result.weaker_wins,
        "share of the examples that a weaker attack fooled at 0.9 of the distance or less",
        warn=0,
        fail=0.05,
        source=f"{_CHECKLIST}: any; 0.9, because the paper's L-infinity attack goes in tenths, and 5 %: {_OURS}",
        advice=advice.weaker_wins,
    ),
    "not_monotone": Definition(
        of_result.not_monotone,
        "largest fall of PGD's success where its radius grows",
        warn=0,
        fail=0.25,
        source=f"{_CHECKLIST}: any; a failure above 25 %: {_OURS}",
        advice="A larger radius can only help: look for masked gradients, and for steps that overshoot.",
    ),
    "lost_by_rounding": Definition(
        of_result.lost_by_rounding,
        "share of the adversarial examples that are none as 8-bit images, even after repair",
        warn=0.1,
        fail=math.inf,
        source=f"Carlini & Wagner 2017, section V-D; {_OURS}",
        advice="Report the rounded images (cwjax.discretised, --rounded), or ask for some confidence.",
    ),
    "second_look": Definition(
        of_result.second_look,
        "share of the adversarial examples that are none when their saved arrays go through the model alone",
        warn=0,
        fail=0,
        source="nn_robust_attacks, issues 7 and 22: any",
        advice="Ask for a confidence above the model's own rounding, and see that it is deterministic.",
    ),
}
"""By name, in the order in which they are run and reported. A new check is one function and one row."""


def diagnose(
    model: Model,
    attack: Attack | Callable[..., Attack],
    x: Array | np.ndarray,
    goal: Goal,
    result: Result,
    key: Array,
    *,
    numbers: Mapping[str, Any] | None = None,
    longer: Mapping[str, Any] | None = None,
    largest_c: float | None = None,
    settings: Mapping[str, Any] | None = None,
    name: str = "",
    index: np.ndarray | None = None,
    watch: Callable[[str, int, int], Any] = lambda name, place, of: None,
    **bounds: Any,
) -> Diagnosis:
    """Whether the result of an attack can be believed: every check of CHECKS, each with its number and advice.

    It looks at the model; follows the attack again on up to eight examples, and a longer one on a twentieth of all and
    up to eight (of a small batch: an eighth); and lets weaker attacks try. Driven from the host: do not put it under
    `jax.jit`. For instance:

        diagnosis = cw.diagnose(
            model, cw.l2, x, goal, result, key, numbers={"steps": 100}, longer={"steps": 200}
        )
        print(diagnosis)

    Args:
      model: from `bind`.
      attack: an attack; or a function that makes one from numbers, as for `streamed`.
      x: clean inputs, floating-point [B, *S].
      goal: from `targeted` or `untargeted`, fields [B], or what else the attack's objective reads. Of a model that is
        no classifier two checks are skipped; the others go by the attack's loss and by whether the goal is met.
      result: what the attack came to, from any runner.
      key: of the subset, the noise and the attack's own randomness.
      numbers: keyword arguments of `attack` where it is a function; traced.
      longer: the same with more steps; without it one check is skipped.
      largest_c: of `cwjax.linf` and `cwjax.l0`; a `binary_search` is seen without it.
      settings: all that the attack can be told, by name, so that advice names nothing else; by default `numbers`.
      name: of the attack, which advice does not recommend; by default the function's.
      index: int [B]: the place of every example in its source, by which messages call it; by default that in x.
      watch: is told the name of each check before it is run, its place from 0, and how many there are.
      **bounds: `low`, `high`, `mask`, `start` and `context`, as the runner was given them.

    Raises:
      TypeError, ValueError: arguments that do not fit together; an attack whose distance is none of the four norms, or
        is L0 where `distances.channels` raises.

    Example:
      >>> attack = cw.attacks.ddn(steps=20)
      >>> result = jax.jit(cw.batched(attack))(model, keys, x, goal)
      >>> diagnosis = cw.diagnose(model, attack, x, goal, result, jax.random.key(0))
      >>> diagnosis.verdict, len(diagnosis.checks)
      ('fail', 18)
    """
    check_part("result", result, Result)
    if not isinstance(key, np.ndarray | jax.Array):
        raise TypeError(f"key must come from jax.random.key, got {type(key).__name__}")
    given = (model, x, goal, result, key)
    if not known(given):
        raise ValueError("diagnose is driven from the host: call it outside jax.jit, jax.vmap and the like")
    x, goal = jnp.asarray(as_array(x)), jax.tree.map(jnp.asarray, goal)
    allowed = allowed_of(bounds)
    check_batch(model, jax.random.split(key, len(x)), x, goal, allowed)
    if np.shape(result.x) != x.shape:
        raise ValueError(f"result.x must have the shape of x, {list(x.shape)}, got {list(np.shape(result.x))}")
    check_maker(attack)
    if isinstance(attack, Attack):
        if numbers or longer:
            raise ValueError("numbers and longer take an attack given as a function of them, such as cwjax.l2")
    else:
        for which, some in (("numbers", numbers), ("longer", longer or numbers)):
            _check_makes(attack, which, some or {})
    check_examples(model, x, goal, allowed.context, programs.made(attack, numbers or {}).terms.objective)
    if index is not None and np.shape(index) != (len(x),):
        raise ValueError(f"index must have one entry an example, {len(x)} of them, got shape {list(np.shape(index))}")
    began = time.monotonic()
    case = Case(
        model=model,
        attack=attack,
        numbers=numbers or {},
        longer=longer or {},
        x=x,
        goal=goal,
        allowed=_spread(allowed, x),
        result=jax.tree.map(np.asarray, result),
        key=key,
        largest_c=largest_c,
        settings=numbers or {} if settings is None else settings,
        name=name or getattr(attack, "__name__", ""),
        index=None if index is None else np.asarray(index),
    )
    if case.norm not in DISTANCES:
        raise ValueError(
            f"diagnose knows the norms {', '.join(DISTANCES)}, and the attack's distance is {case.norm!r}: name its "
            "norm in Distance(…, norm=…) if it is one of them"
        )
    case.terms.distance.measure(x[0])  # raises where it is not clear which elements make a pixel
    checks = run(CHECKS, case, index=case.index, names=case.names, watch=watch)
    return Diagnosis(checks, Cost(**case.spent, seconds=time.monotonic() - began), len(x))


def _spread(allowed: Allowed, x: Array) -> Allowed:
    """What is allowed, with the axis of the batch in front everywhere."""
    fields = allowed._asdict()
    bounds = {name: value for name, value in fields.items() if name != "context" and value is not None}
    spread = {name: jnp.broadcast_to(jnp.asarray(value), x.shape) for name, value in bounds.items()}
    return Allowed(**spread, context=jax.tree.map(jnp.asarray, allowed.context))


def _check_makes(attack: Callable[..., Attack], name: str, numbers: Mapping[str, Any]) -> None:
    """Raises TypeError unless the function makes an attack of these numbers."""
    try:
        made = attack(**numbers)
    except TypeError as error:
        raise TypeError(f"{name} {dict(numbers)} do not make the attack: {error}") from error
    check_part(f"what the attack makes of {name}", made, Attack)
