"""Attacks against each other: on the same examples, by the distance that each came to on every one of them.

Throughout, a distance is inf where the attack failed, and 0 where the example was misclassified before any attack.

The optimality of an attack is that of Cinà et al., AttackBench (2024): how near its curve of robust accuracy against
distance comes to the *envelope*, which has for every example the smallest distance that anybody found.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from cwjax.base import AnyArray

Distances = Mapping[str, Float[AnyArray, "B"]]
"""Attack -> its distance on each of B examples, the same ones for all."""


class Anytime(NamedTuple):
    """What an attack had after each of its steps; none of it ever gets worse."""

    success_rate: Float[np.ndarray, "T"]  # in [0, 1]
    mean: Float[np.ndarray, "T"]  # the mean distance, those above `most`, and failures, counting as `most`
    median: Float[np.ndarray, "T"]  # the median distance over all examples; inf while half of them are failures


def anytime(distance: Float[AnyArray, "B T"], *, most: float) -> Anytime:
    """How an attack went, over all examples.

    A mean over the successes alone would rise with every example that is late to be fooled: so failures count, as
    `most`.

    Args:
      distance: the best distance of each example after each step, such as `Trace.distance` from `traced`.
      most: the distance that a failure counts as, and anything farther.

    Example:
      >>> so_far = np.array([[np.inf, 0.5, 0.5], [np.inf, np.inf, 0.1]])  # two examples after each of three steps
      >>> cw.comparison.anytime(so_far, most=1.0).mean.tolist()
      [1.0, 0.75, 0.3]
    """
    best = _checked(distance, axes=2)
    return Anytime(
        success_rate=np.isfinite(best).mean(0),
        mean=np.minimum(best, most).mean(0),
        median=np.sort(best, 0)[[(len(best) - 1) // 2, len(best) // 2]].mean(0),
    )


def anytime_area(distance: Float[AnyArray, "B T"], *, most: float) -> float:
    """The area under `Anytime.mean` against the steps, as a share of the whole `most · T`.

    0 for an attack that is at distance 0 at once, 1 for one that never finds anything. Small is good, and sooner is
    better.

    Args:
      distance: as for `anytime`.
      most: likewise.

    Example:
      >>> cw.comparison.anytime_area(np.array([[np.inf, 0.5, 0.5, 0.5]]), most=1.0)
      0.625
    """
    return float(anytime(distance, most=most).mean.mean() / most)


def robust_area(distance: Float[AnyArray, "B"], most: float) -> float:
    """The area under robust accuracy against distance, from 0 to `most`.

    Robust accuracy at e is the share of examples with a distance above e: a step function, whose integral is exactly
    `Σ_i min(d_i, most) / B`.

    Args:
      distance: of each example; inf where the attack failed.
      most: where the area ends.

    Example:
      >>> cw.comparison.robust_area(np.array([0.25, 0.75, np.inf]), 1.0)
      0.6666666666666666
    """
    return float(np.minimum(_checked(distance), most).mean())


def envelope(distances: Distances) -> Float[np.ndarray, "B"]:
    """The smallest distance of each example under any of the attacks; inf where all failed.

    Args:
      distances: of each attack by name: of each example; inf where it failed.

    Example:
      >>> cw.comparison.envelope({"first": np.array([1.0, 4.0]), "second": np.array([2.0, 3.0])}).tolist()
      [1.0, 3.0]
    """
    return np.min([_checked(distance) for distance in _same(distances).values()], 0)


def local_optimality(distance: Float[AnyArray, "B"], best: Float[AnyArray, "B"]) -> float:
    """How near an attack comes to the envelope, on one model: from 0, which is bad, to 1.

    1 if it reaches the envelope on every example, 0 if it finds nothing within the largest distance of the envelope.

    With A and A* the areas under robust accuracy of the attack and of the envelope, both up to the envelope's largest
    finite distance d_max, and a the share of examples that were right before the attack:

        1 - (A - A*) / (a·d_max - A*)

    It is nan where that says nothing: no attack fooled any example, or all needed d_max exactly.

    Args:
      distance: of the attack.
      best: the `envelope` of all attacks, this one included.

    Example:
      >>> best = np.array([1.0, 2.0])
      >>> cw.comparison.local_optimality(best, best), cw.comparison.local_optimality(np.array([1.5, 2.0]), best)
      (1.0, 0.5)

    References:
      Cinà et al. 2024, "AttackBench: evaluating gradient-based attacks for adversarial examples",
        https://arxiv.org/abs/2404.19460
    """
    distance, best = _checked(distance), _checked(best)
    if distance.shape != best.shape:
        raise ValueError(f"an attack on {len(distance)} examples and an envelope of {len(best)} do not fit together")
    if (distance < best).any():
        raise ValueError("the attack is below the envelope: take the envelope over all attacks, this one included")
    farthest = float(best[np.isfinite(best)].max(initial=0.0))
    least, worst = robust_area(best, farthest), float((best > 0).mean()) * farthest
    if worst <= least:
        return float("nan")
    return 1 - (robust_area(distance, farthest) - least) / (worst - least)


def local_optimalities(distances: Distances) -> dict[str, float]:
    """The local optimality of each attack, by the envelope of them all.

    Args:
      distances: as for `envelope`.

    Returns:
      By the name of the attack.

    Example:
      >>> cw.comparison.local_optimalities({"first": np.array([1.0, 2.0]), "second": np.array([1.5, 2.0])})
      {'first': 1.0, 'second': 0.5}

    References:
      Cinà et al. 2024, "AttackBench: evaluating gradient-based attacks for adversarial examples",
        https://arxiv.org/abs/2404.19460
    """
    best = envelope(distances)
    return {name: local_optimality(distance, best) for name, distance in distances.items()}


def global_optimalities(models: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each attack's local optimality over several models; nan where it has none on one of them.

    Args:
      models: of each model, what `local_optimalities` says.

    Returns:
      By the name of the attack.

    Example:
      >>> cw.comparison.global_optimalities([{"first": 1.0, "second": 0.5}, {"first": 0.5, "second": 0.5}])
      {'first': 0.75, 'second': 0.5}

    References:
      Cinà et al. 2024, "AttackBench: evaluating gradient-based attacks for adversarial examples",
        https://arxiv.org/abs/2404.19460
    """
    each = list(models)
    names = dict.fromkeys(name for model in each for name in model)
    return {name: float(np.mean([model.get(name, np.nan) for model in each])) for name in names}


def common_successes(distances: Distances) -> Bool[np.ndarray, "B"]:
    """The examples that every one of the attacks fooled.

    Args:
      distances: as for `envelope`.

    Example:
      >>> cw.comparison.common_successes({"first": np.array([1.0, np.inf]), "second": np.array([2.0, 3.0])}).tolist()
      [True, False]
    """
    return np.all([np.isfinite(_checked(distance)) for distance in _same(distances).values()], axis=0)


def common_means(distances: Distances) -> dict[str, float]:
    """Each attack's mean distance over the examples that all of them fooled.

    The one mean that compares like with like; nan if there is no such example.

    Args:
      distances: as for `envelope`.

    Returns:
      By the name of the attack.

    Example:
      >>> cw.comparison.common_means({"first": np.array([1.0, np.inf]), "second": np.array([2.0, 3.0])})
      {'first': 1.0, 'second': 2.0}
    """
    common = common_successes(distances)
    values = {name: np.asarray(distance, np.float64)[common] for name, distance in distances.items()}
    return {name: float(value.mean()) if common.any() else float("nan") for name, value in values.items()}


def wilcoxon(first: Float[AnyArray, "B"], second: Float[AnyArray, "B"]) -> float:
    """The p-value of the paired signed-rank test (Wilcoxon 1945), two-sided.

    It says how likely distances that differ so much one way are if neither attack is better.

    A failure is farther than any success; examples on which the two are equal, both failures included, say nothing
    and are dropped. 1 if none is left.

    Args:
      first: distances of the same examples by one attack; inf where it failed.
      second: by another.

    Example:
      >>> distance = np.arange(1.0, 11.0)
      >>> round(cw.comparison.wilcoxon(distance, 1.1 * distance), 3)  # farther on all ten
      0.002

    References:
      Wilcoxon 1945, "Individual comparisons by ranking methods", Biometrics Bulletin 1(6).
    """
    from scipy import stats  # it comes with jax, and takes its time to import

    pair = _same({"first": first, "second": second})
    first, second = (_checked(distance) for distance in pair.values())
    finite = np.concatenate([first, second])
    beyond = 2 * float(finite[np.isfinite(finite)].max(initial=0.0)) + 1  # so that a failure's difference ranks highest
    difference = np.where(np.isfinite(first), first, beyond) - np.where(np.isfinite(second), second, beyond)
    difference = difference[difference != 0]
    if not difference.size:
        return 1.0
    result: Any = stats.wilcoxon(difference)
    return float(result.pvalue)


def cases(index: Int[AnyArray, "R"], distance: Float[AnyArray, "R"]) -> dict[str, Int[np.ndarray, "_"]]:
    """The paper's three cases of an attack towards several targets, each as the rows that it is made of.

    Its Table IV has "best", of every example the target that was easiest; "average", all of them; "worst", the hardest,
    which is a failure if any failed.

    Args:
      index: which example each of R rows belongs to.
      distance: of each row.

    Returns:
      By the name of the case.

    Example:
      >>> cases = cw.comparison.cases(np.array([0, 0, 1, 1]), np.array([3.0, 1.0, 2.0, 5.0]))
      >>> {case: rows.tolist() for case, rows in cases.items()}
      {'best': [1, 2], 'average': [0, 1, 2, 3], 'worst': [0, 3]}

    References:
      Carlini & Wagner 2017, "Towards evaluating the robustness of neural networks", Table IV,
        https://arxiv.org/abs/1608.04644
    """
    index = np.asarray(index)
    easiest_first = np.lexsort((np.asarray(distance), index))
    last = np.cumsum(np.unique(index, return_counts=True)[1]) - 1  # of each example
    first = np.concatenate([[0], last[:-1] + 1]) if len(last) else last
    return {"best": easiest_first[first], "average": np.arange(len(index)), "worst": easiest_first[last]}


def _checked(distance: AnyArray, *, axes: int = 1) -> np.ndarray:
    """As float64, once it is known to be distances of at least one example."""
    values = np.asarray(distance, np.float64)
    if values.ndim != axes or not values.size or np.isnan(values).any() or (values < 0).any():
        raise ValueError(
            f"distances must be an array of {'shape [B]' if axes == 1 else 'shape [B, T]'} with at least one example, "
            f"none of them negative or nan; got shape {list(values.shape)}: a failure is inf"
        )
    return values


def _same(distances: Distances) -> Distances:
    shapes = {name: np.shape(distance) for name, distance in distances.items()}
    if len(set(shapes.values())) != 1:
        raise ValueError(f"attacks can be compared on the same examples only, at least one attack; got {shapes}")
    return distances
