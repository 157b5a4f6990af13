"""Checks of the result: does anything simpler beat it, and does what was found survive?"""

import jax
import jax.numpy as jnp
import numpy as np

from cwjax.objectives import margin
from cwjax.validity.case import RADII, Case
from cwjax.validity.checking import Measured, Skipped

_DRAWS, _NOISED = 1000, 4  # so much noise around so many examples


def weaker_wins(case: Case) -> Measured | Skipped:
    """Where FGSM, PGD or noise fools the model clearly closer than the attack did."""
    rows = np.flatnonzero(case.open)
    if not rows.size:
        return Skipped("every example met its goal before the attack")
    radius, closest = RADII[0] * case.reach, np.full(len(case.x), np.inf)
    if case.norm != "l0":
        closest = case.within("fgsm", case.everyone, radius, case.norm, len(case.x)).astype(float)
        closest[case.few] = np.minimum(closest[case.few], case.climbs[0])
    order = np.argsort(case.result.success[case.few], kind="stable")  # failures first: there it counts most
    four = case.few[order[:_NOISED]]
    lead, distance = case.drawn(four, radius[four], _DRAWS, min(_NOISED, len(case.x)))
    closest[four] = np.minimum(closest[four], np.where(case.meets(lead), distance, np.inf).min(1))
    beaten = case.open & (closest <= radius * (1 + 1e-4))
    note = f"{beaten.sum()} of {len(rows)} by FGSM, PGD or noise"
    return Measured(float(beaten[rows].mean()), rows, closest[rows], note)


def not_monotone(case: Case) -> Measured | Skipped:
    """By how much PGD's success falls where its radius grows."""
    if case.norm == "l0":
        return Skipped("PGD has no L0 ball")
    found = np.isfinite(case.result.distance[case.few]) & case.open[case.few]
    if not found.any():
        return Skipped("the attack fooled no example of the subset, so there is no distance to go by")
    share = np.isfinite(case.climbs[:, found]).mean(1)
    fall = np.maximum(share[:-1] - share[1:], 0)
    shares = ", ".join(f"{100 * each:.0f} %" for each in share)
    radii = ", ".join(f"{radius:g}" for radius in RADII)
    return Measured(float(fall.max()), case.few[found], case.climbs[-1, found], f"{shares} at {radii} × the distance")


def lost_by_rounding(case: Case) -> Measured | Skipped:
    """Of the adversarial examples, those that are none any more as 8-bit images, repaired."""
    rows = case.few[case.result.success[case.few] & case.open[case.few]]
    if not rows.size:
        return Skipped("there is no adversarial example in the subset")
    after, cost = case.rounded(rows)
    plain = f"{(~cost.rounded).sum()} of {len(rows)} lost by plain rounding, {(~after.success).sum()} after repair"
    return Measured(float((~after.success).mean()), rows, np.asarray(after.distance), plain)


def second_look(case: Case) -> Measured | Skipped:
    """Of the adversarial examples, those that the model alone does not confirm: not compiled, at the highest
    precision, in batches of its own.
    """
    rows = np.flatnonzero(case.result.success)
    if not rows.size:
        return Skipped("there is no adversarial example to look at")
    images = jnp.asarray(case.result.x[np.resize(rows, len(case.x))])
    with jax.default_matmul_precision("highest"):
        parts = [case.model.apply(case.model.params, images[i : i + 256]) for i in range(0, len(images), 256)]
    case.spend(len(images))
    lead = np.asarray(jax.vmap(margin)(jnp.concatenate(parts)[: len(rows)], case.rows(rows)[2]))
    lost = ~case.meets(lead)
    return Measured(float(lost.mean()), rows, lead, f"{lost.sum()} of {len(rows)}")
