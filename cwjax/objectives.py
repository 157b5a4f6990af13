"""The objectives f: at most zero where the goal is met (Carlini & Wagner 2017, section IV-A).

Each is a pure function of the logits of one example. `met` is the same inequality as `loss <= 0`.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from cwjax.base import Goal, Objective, wide
from cwjax.checks import check_number


def margin(logits: Float[Array, "K"], goal: Goal) -> Float[Array, ""]:
    """By how much the goal is met: `Z_t - max_{i≠t} Z_i` towards t, `max_{i≠y} Z_i - Z_y` away from y.

    Positive exactly where the model's only answer is what the goal wants. NaN where `goal.label` is not in 0…K-1: the
    attack then reports the example as not finite.
    """
    logits = logits.astype(wide(logits))
    own = jnp.arange(logits.shape[-1]) == goal.label
    wanted = jnp.where(own.any(), jnp.sum(jnp.where(own, logits, 0)), jnp.nan)
    other = jnp.max(jnp.where(own, -jnp.inf, logits))
    return goal.sign.astype(logits.dtype) * (wanted - other)


def rounding_margin(logits: Float[Array, "K"]) -> Float[Array, ""]:
    """The lead that rounding cannot overturn: 64 units in the last place of the largest logit.

    The same image gives logits that differ by a few units in the last place when it goes through the model alone, in
    another batch or in another program. An example that leads by less than this at confidence 0 may be no example at
    all when the saved array is evaluated again (carlini/nn_robust_attacks#7 and #22, foolbox#674).

    Logits of less than float32 precision are taken for float32: for a model that computes in bfloat16, ask for a
    confidence above its own rounding.
    """
    # Any positive lead is an answer for a model whose logits are all zero; hence tiny.
    info = jnp.finfo(logits.dtype)
    return 64 * info.eps * jnp.max(jnp.abs(logits)) + info.tiny


def logit_margin(confidence: float | Float[Array, ""] = 0.0) -> Objective:
    """f6, the paper's choice: `max(0, kappa - margin)`, kappa being the confidence, in logits.

    Printed: `f6(x') = max(max_{i≠t} Z(x')_i - Z(x')_t, -kappa)` (equation after Table III). Computed: that plus kappa,
    which has the same gradient and is the form of the released code; and kappa is raised by `rounding_margin`, so that
    a reported success at confidence kappa is one when the saved array is evaluated again.

    Args:
      confidence: kappa >= 0; may be traced.

    Raises:
      ValueError: a confidence that is negative or not finite.
    """
    check_number("confidence", confidence, least=0)

    def shortfall(logits, goal):
        logits = logits.astype(wide(logits))
        return confidence + rounding_margin(logits) - margin(logits, goal)

    def loss(logits, goal):
        short = shortfall(logits, goal)
        return jnp.where(short <= 0, 0, short)  # and not jnp.maximum, which may drop a NaN on CPU

    return Objective(loss=loss, met=lambda logits, goal: shortfall(logits, goal) <= 0)
