"""Checks of the result: does anything simpler beat it, and does what was found survive?"""

import numpy as np

from cwjax.evaluation.diagnosis import asking
from cwjax.evaluation.diagnosis.case import RADII, Case
from cwjax.evaluation.diagnosis.checks import Measured, Skipped, of_examples

_DRAWS, _NOISED = 1000, 4  # draws of noise, and the examples they are drawn around


def weaker_wins(case: Case) -> Measured | Skipped:
    """Where FGSM, PGD or noise fools the model clearly closer than the attack did."""
    rows = np.flatnonzero(case.open)
    if not rows.size:
        return Skipped("every example met its goal before the attack")
    radius, found = RADII[0] * case.reach, {"noise": np.full(len(case.x), np.inf)}
    if case.norm != "l0":
        found["FGSM"] = case.within("fgsm", case.everyone, radius, case.norm).astype(float)
        found["PGD"] = np.full(len(case.x), np.inf)
        found["PGD"][case.few] = case.climbs[0]
    order = np.argsort(case.result.success[case.few], kind="stable")  # failures first: there it counts most
    four = case.few[order[:_NOISED]]
    lead, distance = case.drawn(four, radius[four], _DRAWS)
    found["noise"][four] = np.where(case.meets(lead), distance, np.inf).min(1)
    each = np.stack([reached[rows] for reached in found.values()])
    winner, closest, own = np.array(list(found))[each.argmin(0)], each.min(0), case.result.distance[rows]
    beaten = closest <= radius[rows] * (1 + 1e-4)
    won = list(zip(winner.tolist(), closest.tolist(), own.tolist(), strict=True))
    return of_examples(
        beaten,
        rows,
        closest,
        f"{beaten.sum()} of {len(rows)} by FGSM, PGD or noise",
        details={
            "weaker attack": [name if hit else None for name, hit in zip(winner.tolist(), beaten, strict=True)],
            "attack's distance": own.tolist(),
        },
        told=[f"by {name} at {reached:.3g}, {_against(reached, mine)}" for name, reached, mine in won],
    )


def _against(reached: float, mine: float) -> str:
    """By how much a weaker attack won: its distance against the attack's own, which is inf where it failed."""
    if not np.isfinite(mine):
        return "where the attack failed"
    return f"{reached / mine:.2f} of the attack's {mine:.3g}" if mine else "where the attack found 0"


def not_monotone(case: Case) -> Measured | Skipped:
    """By how much PGD's success falls where its radius grows."""
    if case.norm == "l0":
        return Skipped("PGD has no L0 ball")
    found = np.isfinite(case.result.distance[case.few]) & case.open[case.few]
    if not found.any():
        return Skipped("the attack fooled no example of the subset, so there is no distance to go by")
    hit = np.isfinite(case.climbs[:, found])

    def fall(some: np.ndarray) -> float:
        share = hit[:, some].mean(1)
        return float(np.maximum(share[:-1] - share[1:], 0).max())

    shares = ", ".join(f"{100 * each:.0f} %" for each in hit.mean(1))
    radii = ", ".join(f"{radius:g}" for radius in RADII)
    note = f"PGD fooled {shares} within {radii} × the distance that this attack found for each example"
    return of_examples((hit[:-1] & ~hit[1:]).any(0), case.few[found], case.climbs[-1, found], note, of=fall)


def lost_by_rounding(case: Case) -> Measured | Skipped:
    """Of the adversarial examples, those that are none any more as 8-bit images, repaired."""
    rows = case.few[case.result.success[case.few] & case.open[case.few]]
    if not rows.size:
        return Skipped("there is no adversarial example in the subset")
    after, cost = case.rounded(rows)
    plain = f"{(~cost.rounded).sum()} of {len(rows)} lost by plain rounding, {(~after.success).sum()} after repair"
    return of_examples(~after.success, rows, np.asarray(after.distance), plain)


def second_look(case: Case) -> Measured | Skipped:
    """Of the adversarial examples, those that the model alone does not confirm: at the highest precision, in batches of
    its own.
    """
    rows = np.flatnonzero(case.result.success)
    if not rows.size:
        return Skipped("there is no adversarial example to look at")
    outputs = case.outputs(case.view.model, case.result.x[rows], rows)
    lead = asking.by_blocks(asking.leads_of, case.block, outputs, case.viewed(rows)[2])
    lost = ~case.meets(lead)
    return of_examples(lost, rows, lead, f"{lost.sum()} of {len(rows)}")
