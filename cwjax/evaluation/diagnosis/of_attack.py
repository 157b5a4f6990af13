"""Checks of the attack: did it see the model, did it come to its end, and would more of it have found more?"""

import numpy as np

from cwjax.evaluation.diagnosis.case import Case
from cwjax.evaluation.diagnosis.checks import Measured, Skipped, of_examples

_LAST = 10  # steps in which nothing much should happen any more


def blind_attack(case: Case) -> Measured | Skipped:
    """Where the first gradient of the attack would have been the same without a model."""
    slope = case.first_slopes
    if np.isnan(slope).all():
        return Skipped("every example met its goal at the first step")
    asked = ~np.isnan(slope)  # the others met their goal at the first step
    rows, slope = case.few[asked], slope[asked]
    blind = slope == 0
    return of_examples(blind, rows, slope, f"{blind.sum()} of {len(blind)}")


def incomplete(case: Case) -> Measured:
    """By how much the best distance fell in the last steps, as a share of itself; 1 where it was first found then.
    Where nothing was found: by how much the loss of the last round fell, as a share of how far it fell in all.
    """
    path, last = case.path, case.path.last()
    each = np.zeros(len(last))
    for i, end in enumerate(last):
        begin = max(end - _LAST, 0)
        before, after = path.best[begin, i], path.best[end, i]
        if np.isfinite(after):
            each[i] = 1 - after / before if before > 0 else 0.0
        else:
            rounds = path.rounds[: end + 1, i]
            # The first step of the last round.
            first = int((rounds < rounds[-1] - 1).sum()) + 1 if rounds[-1] > 1 else 0
            loss = np.minimum.accumulate(path.loss[min(first, end) : end + 1, i])
            least = 1e-3 * abs(loss[0])  # less is no fall
            each[i] = (loss[-1 - _LAST :][0] - loss[-1]) / max(loss[0] - loss[-1], least, np.finfo(np.float32).tiny)
    return of_examples(np.nan_to_num(each), case.watched, each)


def silent_success(case: Case) -> Measured:
    """Where a step met the goal closer than what was returned."""
    path, places = case.path, np.arange(len(case.watched))
    closest = np.where(path.met, path.distance, np.inf).min(0)
    returned = path.best[path.last(), places]
    missed = closest < returned * (1 - 1e-4)
    return of_examples(missed, case.watched, closest, f"{missed.sum()} of {len(missed)}")


def unbounded_fails(case: Case) -> Measured | Skipped:
    """Of the examples that were not fooled, those that PGD does not fool either with the whole box to move in."""
    failed = np.flatnonzero(~case.result.success & case.open)[: case.size_of_some]
    if not failed.size:
        return Measured(0.0, failed, np.zeros(0), "the attack fooled every example")
    if not case.free:
        return Skipped("the attack may change only some elements, which may not suffice")
    low, high = case.bounds
    side = float((high - low).max())
    free = case.within("pgd", failed, np.full(len(failed), side), "linf")
    return of_examples(np.isinf(free), failed, free, f"{np.isinf(free).sum()} of {len(failed)}")


def saturated_c(case: Case) -> Measured | Skipped:
    """Where the search over c ended at a bound of what it tried, or with a bracket that is still wide."""
    path, rows = case.path, np.arange(len(case.watched))
    if not np.isnan(path.lower).all():
        end = path.rounds.shape[0] - 1 - path.rounds[::-1].argmax(0)  # the last step that knew the last bracket
        lower, upper = path.lower[end, rows], path.upper[end, rows]
        ratio = np.where(lower > 0, upper / np.where(lower > 0, lower, 1), np.inf)
        wide = (ratio > 10) & case.open[case.watched]
        return of_examples(wide, case.watched, ratio, f"{wide.sum()} of {len(wide)} brackets")
    if case.largest_c is None:
        return Skipped("the attack searches no c, or its largest_c was not given")
    tried, c = np.flatnonzero(case.open), np.where(case.result.success, case.result.c, np.inf)
    above = 2 * c[tried] >= case.largest_c  # c is doubled: it was the last weight before the ceiling
    return of_examples(above, tried, c[tried], f"{above.sum()} of {len(tried)}")


def saturated_tanh(case: Case) -> Measured | Skipped:
    """Which share of the elements the variable of the descent has lost hold of, on average over its steps."""
    path = case.path
    if np.isnan(path.saturated).all():
        return Skipped("the attack descends in no box's variable")
    each = np.array([path.saturated[: end + 1, i].mean() for i, end in enumerate(path.last())])
    return of_examples(each, case.watched)


def too_short(case: Case) -> Measured | Skipped:
    """By how much the longer attack is closer, as a share of the distance; 1 where it alone found anything. Less a
    standard error, because chance finds other minima in some examples, either way.
    """
    if not case.longer:
        return Skipped("no settings were given for a longer attack")
    short = case.result.distance[case.some]
    long = case.longer_path.best[case.longer_path.last(), np.arange(len(case.some))]
    with np.errstate(invalid="ignore"):
        gain = np.where(np.isinf(long) & np.isinf(short), 0.0, (short - long) / np.maximum(short, 1e-30))
    gain = np.where(np.isinf(short) & np.isfinite(long), 1.0, np.where(short == 0, 0.0, np.maximum(gain, -1.0)))

    def error(some: np.ndarray) -> float:
        return float(some.std(ddof=1) / np.sqrt(len(some))) if len(some) > 1 else 0.0

    def number(places: np.ndarray) -> float:
        return max(float(gain[places].mean()) - error(gain[places]), 0.0)

    found = of_examples(gain, case.some, note=f"mean {gain.mean():.3g} ± {error(gain):.2g}", of=number)
    return found._replace(most=float(gain.mean()) + error(gain))
