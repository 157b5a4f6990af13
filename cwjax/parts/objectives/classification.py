"""The seven objectives f of the paper (Carlini & Wagner 2017, section V-A), from the logits of one example.

Two classes decide. The *wanted* one, w, is the target; or, away from a label, the class with the largest other logit.
The *other* one, o, is the wanted class's strongest rival; or the label that is to be left. With the logits Z and the
probabilities F = softmax(Z) the printed formulas are, for a target t (w = t, F_o = max_{i≠t} F_i):

    f1 = -loss_{F,t}(x') + 1                  computed: log2((1 + exp L) / 2) = -log2(F_t) - 1
    f2 = max(F_o - F_t, 0)
    f3 = softplus(F_o - F_t) - log 2
    f4 = max(0.5 - F_t, 0)
    f5 = -log(2·F_t - 2)                      computed: max(-log(2·F_t), 0), or without the max
    f6 = max(Z_o - Z_t, 0)
    f7 = softplus(Z_o - Z_t) - log 2

f1 as printed has the wrong sign: minimising it drives the target away. f5 as printed is the logarithm of a number that
is never positive. The paper has each at most zero if *and only if* the goal is met; f1, f4 and f5 are so only if F_t is
at least one half, which is enough, but more than is needed.

Everything is computed from two differences of logits, `lag = Z_o - Z_w` and `L = log Σ_{i≠w} exp(Z_i) - Z_w >= lag`, so
that no probability is ever taken the logarithm of, and a sign is never lost to rounding: `F_w = sigmoid(-L)` and
`F_o - F_w = (F_o + F_w)·tanh(lag/2)`.

A class may be switched off by a logit of -inf, or of any number far below the others: it is never the wanted class nor
the other one, and has no slope.

Every objective takes a confidence kappa, in logits: it is the objective of the logits with the goal made harder by
kappa, which is how the released code tests for confidence. And for all of them `met` is the same: the goal is met with
that margin.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from cwjax.arguments import check_number
from cwjax.base import Goal, Number, Objective, wide

_LOWEST = -1e28  # stands for -inf in sums: ten orders of magnitude, those of a weight c, are left in float32
_OUT_OF_PLAY = 1e3  # a class below the two largest logits by this many times their size cannot win


def margin(logits: Float[Array, "K"], goal: Goal) -> Float[Array, ""]:
    """By how much the goal is met: `Z_t - max_{i≠t} Z_i` towards t, `max_{i≠y} Z_i - Z_y` away from y.

    Positive exactly where the model's only answer is what the goal wants. NaN where `goal.label` is not in 0…K-1: the
    attack then reports the example as not finite.

    Args:
      logits: of one example.
      goal: of labels, of one example.

    Example:
      >>> away = cw.LabelGoal(jnp.int32(0), jnp.float32(-1))
      >>> float(cw.objectives.margin(jnp.array([1.0, 3.0, 2.0]), away))
      2.0

    References:
      Carlini & Wagner 2017, "Towards evaluating the robustness of neural networks", section V-A,
        https://arxiv.org/abs/1608.04644
    """
    logits = comparable(logits)
    own = jnp.arange(logits.shape[-1]) == goal.label
    mine = jnp.where(own.any(), jnp.sum(jnp.where(own, logits, 0)), jnp.nan)
    other = jnp.max(jnp.where(own, -jnp.inf, logits))
    return goal.sign.astype(logits.dtype) * (mine - other)


def comparable(logits: Float[Array, "*B K"]) -> Float[Array, "*B K"]:
    """The logits in at least float32, and a large negative number for -inf, so that differences are finite.

    Args:
      logits: some of them may be -inf.

    Example:
      >>> bool(jnp.isfinite(cw.objectives.comparable(jnp.array([1.0, -jnp.inf]))).all())
      True
    """
    logits = logits.astype(wide(logits))
    return jnp.where(logits < _LOWEST, jnp.asarray(_LOWEST, logits.dtype), logits)  # and not jnp.maximum: NaN stays


def in_play(logits: Float[Array, "K"]) -> Bool[Array, "K"]:
    """Which classes can win.

    Not those switched off: at -inf, or below the two largest logits by more than 1,000 times the size of the larger one
    (or of 1, where both are smaller).

    Args:
      logits: of all classes.

    Example:
      >>> cw.objectives.in_play(jnp.array([1.0, 2.0, -jnp.inf, -1e6])).tolist()
      [True, True, False, False]
    """
    logits = comparable(logits)
    first, second = two_largest(logits)
    return logits >= first - _OUT_OF_PLAY * jnp.maximum(jnp.maximum(jnp.abs(first), jnp.abs(second)), 1)


def two_largest(values: Float[Array, "K"]) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The largest, NaN where there is one, and the largest of the rest. Without a slope, and without the sort of
    `jax.lax.top_k`, which every step would pay for.
    """
    values = jax.lax.stop_gradient(values)
    largest = jnp.arange(values.size) == jnp.argmax(values)
    return jnp.sum(jnp.where(largest, values, 0)), jnp.max(jnp.where(largest, -jnp.inf, values))


def rounding_margin(logits: Float[Array, "K"]) -> Float[Array, ""]:
    """The lead that rounding cannot overturn.

    64 units in the last place of the larger in size of the two largest logits, which are those that decide.

    The same image gives logits that differ by a few units in the last place when it goes through the model alone, in
    another batch or in another program. An example that leads by less than this at confidence 0 may be no example at
    all when the saved array is evaluated again (carlini/nn_robust_attacks#7 and #22, foolbox#674). The other logits do
    not count: a class that is switched off by a logit of -1e9 would drown every lead.

    Logits of less than float32 precision are taken for float32: for a model that computes in bfloat16, ask for a
    confidence above its own rounding.

    It has no slope: what rounding may do does not pull an attack anywhere.

    Args:
      logits: of one example.

    Example:
      >>> float(cw.objectives.rounding_margin(jnp.array([1.0, 1024.0]))) / 2**-23 / 1024
      64.0
    """
    # Any positive lead is an answer for a model whose logits are all zero, so the least lead is small; but it stays so
    # far above the smallest number that no f of it underflows to zero.
    info = jnp.finfo(logits.dtype)
    first, second = two_largest(comparable(logits))
    return 64 * info.eps * jnp.maximum(jnp.abs(first), jnp.abs(second)) + info.tiny / info.eps


def cross_entropy(confidence: Number = 0.0) -> Objective:
    """f1: `-log2(F_w) - 1`, at most zero where F_w >= 1/2. Cross-entropy in bits, less the one that is free.

    Printed: `-loss_{F,t}(x') + 1`, with the wrong sign. Up to its constant and unit this is the loss of Szegedy et al.

    Args:
      confidence: kappa >= 0, by how many logits the goal has to be met; may be traced.

    Example:
      >>> f1, target = cw.objectives.cross_entropy(), cw.LabelGoal(jnp.int32(0), jnp.float32(1))
      >>> round(float(f1.loss(jnp.zeros(4), target)), 3)  # F = 1/4: two bits, less one
      1.0

    References:
      Carlini & Wagner 2017, "Towards evaluating the robustness of neural networks", section V-A, f1,
        https://arxiv.org/abs/1608.04644
    """
    return _objective(confidence, lambda z: _half_softplus(z.log_odds_against) / math.log(2))


def probability_margin(confidence: Number = 0.0, *, hinged: bool = True) -> Objective:
    """f2: `max(F_o - F_w, 0)`. Its gradient vanishes where the softmax saturates, and so the attack may fail there.

    Without the max it is the loss of the probability margin attack (`cwjax.attacks.pma`).

    Args:
      confidence: kappa >= 0, in probability; may be traced.
      hinged: whether the loss stays at 0 where the goal is met.

    Example:
      >>> f2, target = cw.objectives.probability_margin(), cw.LabelGoal(jnp.int32(0), jnp.float32(1))
      >>> round(float(f2.loss(jnp.log(jnp.array([0.2, 0.5, 0.3])), target)), 3)
      0.3

    References:
      Carlini & Wagner 2017, "Towards evaluating the robustness of neural networks", section V-A, f2,
        https://arxiv.org/abs/1608.04644
    """
    return _objective(confidence, lambda z: positive(z.probability_lag) if hinged else z.probability_lag)


def smooth_probability_margin(confidence: Number = 0.0) -> Objective:
    """f3: `softplus(F_o - F_w) - log 2`. As f2, but with a slope past the boundary too.

    Args:
      confidence: kappa >= 0, in probability; may be traced.

    Example:
      >>> f3, target = cw.objectives.smooth_probability_margin(), cw.LabelGoal(jnp.int32(0), jnp.float32(1))
      >>> round(float(f3.loss(jnp.zeros(2), target)), 3)  # 0 on the boundary
      0.0

    References:
      Carlini & Wagner 2017, "Towards evaluating the robustness of neural networks", section V-A, f3,
        https://arxiv.org/abs/1608.04644
    """
    return _objective(confidence, lambda z: _half_softplus(z.probability_lag))


def half_probability(confidence: Number = 0.0) -> Objective:
    """f4: `max(1/2 - F_w, 0)`. Zero is enough for the goal, not necessary.

    Args:
      confidence: kappa >= 0, by how many logits the goal has to be met; may be traced.

    Example:
      >>> f4, target = cw.objectives.half_probability(), cw.LabelGoal(jnp.int32(0), jnp.float32(1))
      >>> round(float(f4.loss(jnp.zeros(4), target)), 3)  # 1/2 - 1/4
      0.25

    References:
      Carlini & Wagner 2017, "Towards evaluating the robustness of neural networks", section V-A, f4,
        https://arxiv.org/abs/1608.04644
    """
    return _objective(confidence, lambda z: positive(jnp.tanh(z.log_odds_against / 2) / 2))


def log_half_probability(confidence: Number = 0.0, *, hinged: bool = True) -> Objective:
    """f5: `max(-log(2·F_w), 0)`, or without the max. Zero is enough for the goal, not necessary.

    Printed: `-log(2·F_t - 2)`, which no F_t satisfies. The paper's table has f5 ahead of f1, whose gradient is the same
    but for a factor unless one of them is hinged; so f5 is hinged here, and f1 is not.

    Args:
      confidence: kappa >= 0, by how many logits the goal has to be met; may be traced.
      hinged: whether the loss stays at 0 from F_w = 1/2 on.

    Example:
      >>> f5, target = cw.objectives.log_half_probability(), cw.LabelGoal(jnp.int32(0), jnp.float32(1))
      >>> round(float(f5.loss(jnp.zeros(4), target)), 3)  # -log(2/4)
      0.693

    References:
      Carlini & Wagner 2017, "Towards evaluating the robustness of neural networks", section V-A, f5,
        https://arxiv.org/abs/1608.04644
    """

    def loss(z):
        value = _half_softplus(z.log_odds_against)
        return positive(value) if hinged else value

    return _objective(confidence, loss)


def logit_margin(confidence: Number = 0.0) -> Objective:
    """f6, the paper's choice: `max(0, kappa - margin)`, kappa being the confidence, in logits.

    Printed: `f6(x') = max(max_{i≠t} Z(x')_i - Z(x')_t, -kappa)` (section VI-A). Computed: that plus kappa,
    which has the same gradient and is the form of the released code; and kappa is raised by `rounding_margin`, so that
    a reported success at confidence kappa is one when the saved array is evaluated again.

    Args:
      confidence: kappa >= 0; may be traced.

    Raises:
      ValueError: a confidence that is negative or not finite.

    Example:
      >>> f6, target = cw.objectives.logit_margin(confidence=1.0), cw.LabelGoal(jnp.int32(0), jnp.float32(1))
      >>> round(float(f6.loss(jnp.array([1.0, 3.0]), target)), 3)  # the other class leads by 2, and 1 more is asked for
      3.0

    References:
      Carlini & Wagner 2017, "Towards evaluating the robustness of neural networks", sections V-A (f6) and VI-A,
        https://arxiv.org/abs/1608.04644
    """
    return _objective(confidence, lambda z: positive(z.lag))


def smooth_logit_margin(confidence: Number = 0.0) -> Objective:
    """f7: `softplus(Z_o - Z_w) - log 2`. As f6, but with a slope past the boundary too.

    Args:
      confidence: kappa >= 0, in logits; may be traced.

    Example:
      >>> f7, target = cw.objectives.smooth_logit_margin(), cw.LabelGoal(jnp.int32(0), jnp.float32(1))
      >>> round(float(f7.loss(jnp.zeros(2), target)), 3)  # 0 on the boundary
      0.0

    References:
      Carlini & Wagner 2017, "Towards evaluating the robustness of neural networks", section V-A, f7,
        https://arxiv.org/abs/1608.04644
    """
    return _objective(confidence, lambda z: _half_softplus(z.lag))


OBJECTIVES: dict[str, Callable[..., Objective]] = {
    "f1": cross_entropy,
    "f2": probability_margin,
    "f3": smooth_probability_margin,
    "f4": half_probability,
    "f5": log_half_probability,
    "f6": logit_margin,
    "f7": smooth_logit_margin,
}
"""The paper's names. Each takes a confidence."""


class _Standing(NamedTuple):
    """How the wanted class stands, with the goal made harder by the confidence."""

    lag: Float[Array, ""]  # Z_o - Z_w: at most 0 where the goal is met
    log_odds_against: Float[Array, ""]  # L = log((1 - F_w) / F_w), never below lag
    probability_lag: Float[Array, ""]  # F_o - F_w, of the sign of lag


def _objective(confidence: Number, formula: Callable[[_Standing], Float[Array, ""]]) -> Objective:
    """The objective of a formula."""
    check_number("confidence", confidence, least=0)

    def lag(logits, goal):
        return confidence + rounding_margin(logits) - margin(logits, goal)

    def loss(logits, goal):
        logits = comparable(logits)
        return formula(_standing(logits, goal, lag(logits, goal)))

    def met(logits, goal) -> Bool[Array, ""]:
        return lag(comparable(logits), goal) <= 0

    return Objective(loss=loss, met=met, confidence=confidence)


def _standing(logits, goal, lag) -> _Standing:
    """From the logits, and the lag with the confidence in it."""
    label = jnp.arange(logits.shape[-1]) == goal.label
    strongest = jnp.arange(logits.shape[-1]) == jnp.argmax(jnp.where(label, -jnp.inf, logits))
    towards = goal.sign > 0
    wanted, other = jnp.where(towards, label, strongest), jnp.where(towards, strongest, label)
    # The rest of the classes stay where they are; only the difference between the two that decide grows.
    ahead = jnp.sum(jnp.where(wanted, logits, 0))
    against = jnp.where(label.any(), jnp.where(other, lag, logits - ahead), jnp.nan)
    log_odds = jax.nn.logsumexp(jnp.where(wanted, -jnp.inf, against))
    rarity = jnp.logaddexp(log_odds, 0)  # -log F_w
    both = jnp.exp(-rarity) + jnp.exp(lag - rarity)
    return _Standing(lag=lag, log_odds_against=log_odds, probability_lag=both * jnp.tanh(lag / 2))


def positive(value: Float[Array, "..."]) -> Float[Array, "..."]:
    """The hinge: what is above 0, and NaN."""
    return jnp.where(value <= 0, 0, value)  # and not jnp.maximum, which may drop a NaN on CPU


def _half_softplus(value):
    """`log((1 + exp(value)) / 2)`, softplus less log 2, which is zero at zero and keeps the sign of small values."""
    above, below = jnp.where(value > 0, value, 0), jnp.where(value > 0, 0, value)
    return jnp.where(
        value > 0,
        above + jnp.log1p(jnp.expm1(-above) / 2),
        jnp.log1p(jnp.expm1(below) / 2),
    )
