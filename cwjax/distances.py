"""The four norms of the report: what a descent penalises and what is reported."""

import jax.numpy as jnp

from cwjax.base import Distance


def l0(*, per_pixel: bool = True) -> Distance:
    """The number of pixels that change at all. The penalty is the squared L2 norm (section VI-B uses the L2 attack
    within).

    Args:
      per_pixel: of an input of shape [H, W, C], count each of the H·W pixels once, whichever of its channels change
        (the paper's count); otherwise, and for inputs of any other rank, count elements.
    """

    def measure(delta):
        changed = delta != 0
        if per_pixel and delta.ndim == 3:
            changed = changed.any(axis=-1)
        return jnp.sum(changed).astype(delta.dtype)

    return Distance(penalty=lambda delta, tau: jnp.sum(delta**2), measure=measure, norm="l0")


def l1() -> Distance:
    """The sum of the absolute changes."""
    return Distance(
        penalty=lambda delta, tau: jnp.sum(_absolute(delta)), measure=lambda delta: jnp.sum(jnp.abs(delta)), norm="l1"
    )


def l2() -> Distance:
    """The Euclidean norm; its square is the penalty, as in the paper's L2 attack (section VI-A)."""
    return Distance(
        penalty=lambda delta, tau: jnp.sum(delta**2), measure=lambda delta: jnp.sqrt(jnp.sum(delta**2)), norm="l2"
    )


def linf() -> Distance:
    """The largest absolute change. The penalty is `Σ_i max(|delta_i| - tau, 0)` (section VI-C, with the absolute value
    that the printed formula lacks and the released code has).
    """
    return Distance(
        penalty=lambda delta, tau: jnp.sum(jnp.where(_absolute(delta) > tau, _absolute(delta) - tau, 0)),
        measure=lambda delta: jnp.max(jnp.abs(delta)),
        norm="linf",
    )


def _absolute(delta):
    """The absolute value with slope 0 at 0: `jnp.abs` has slope 1 there, which would push every clean pixel down."""
    return delta * jnp.sign(delta)


DISTANCES = {"l0": l0(), "l1": l1(), "l2": l2(), "linf": linf()}
