"""The fast attacks on features of unequal width, such as age, income and a rate, against the exact minimum.

Claim: where the widest feature is a hundred times as wide as the narrowest, the mean distance is within 2 % of the
minimum, except in L1 away from a label with 300 gradients (6 %); and in L0, where a norm does not see widths, distances
are the same as for equal ones. Expected numbers: the table on unequal widths in `benchmarks/exact.md`.

    python -m benchmarks.unequal      # two minutes on one core that nothing else uses

Models: affine, of five classes and sixteen features between 0 and their widths, which rise in equal ratios; the logits
depend on each feature's share of its width. Towards one class the minimum is known: the steepest features first (L1),
all by the same (L-infinity) or in proportion to their slopes (L2), each as far as its bound allows. A goal is any other
class (U), the one that is nearest (T), or each other class in turn (E), with as many gradients for each.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import tyro

import cwjax as cw
from cwjax.lab.console import tables

FEATURES, CLASSES = 16, 5


@dataclasses.dataclass(frozen=True)
class Arguments:
    norm: tuple[str, ...] = ("l1", "l2", "linf", "l0")
    spreads: tuple[float, ...] = (1.0, 4.0, 16.0, 100.0, 1e4)  # the largest width over the smallest
    budgets: tuple[int, ...] = (100, 300, 1000)  # gradients
    examples: int = 64
    seed: int = 32


def shares(params, x):
    """Logits of a batch [B, N], by the share of its width that each feature has."""
    weights, width = params
    return (x / width[None] - 0.5) @ weights


def least_change(norm: str, slopes: np.ndarray, room: np.ndarray, lead: float) -> float:
    """The least norm of a change within `room` [N] that takes `lead` away where a feature takes |slopes| [N] a unit."""
    steep = np.abs(slopes)
    if steep @ room < lead:
        return np.inf
    if norm == "l1":
        order = np.argsort(-steep)
        gained = np.cumsum(steep[order] * room[order])
        last = int(np.searchsorted(gained, lead))
        before = gained[last - 1] if last else 0.0
        return float(room[order[:last]].sum() + (lead - before) / steep[order[last]])

    def change(size: float) -> np.ndarray:
        return np.minimum(size * (steep if norm == "l2" else 1), room)

    low, high = 0.0, float(np.max(room / (steep if norm == "l2" else 1)))
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (low, middle) if steep @ change(middle) >= lead else (middle, high)
    return float(np.linalg.norm(change(high), 2 if norm == "l2" else np.inf))


def minima(norm: str, weights: np.ndarray, width: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The labels [B], and the least distance to each class [B, K]: inf to the label itself."""
    slopes = weights.astype(np.float64) / width[:, None]
    logits = shares((weights.astype(np.float64), width.astype(np.float64)), x.astype(np.float64))
    label, least = logits.argmax(1), np.full(logits.shape, np.inf)
    for i, k in np.ndindex(least.shape):
        if k != label[i]:
            down = slopes[:, label[i]] - slopes[:, k]
            room = np.where(down > 0, x[i], width - x[i]).astype(np.float64)
            least[i, k] = least_change(norm, down, room, float(logits[i, label[i]] - logits[i, k]))
    return label, least


@functools.cache
def attack(norm: str, every: bool):
    """The fast attack of a norm as one program for all widths and budgets; towards `every` class, if asked to."""

    @jax.jit
    def run(params, x, goal, steps):
        distance = cw.distances.l0(per_pixel=False) if norm == "l0" else None
        fast = cw.fast(norm, steps=steps, distance=distance)
        keys = jax.random.split(jax.random.key(0), len(x))
        several = cw.best_target(fast, CLASSES) if every else fast
        return cw.batched(several)(cw.bind(shares, params), keys, x, goal, high=params[1])

    return run


def rows(norm: str, arguments: Arguments) -> list[list[str]]:
    """The rows of a norm's table."""
    rng = np.random.default_rng(arguments.seed)
    weights = rng.normal(size=(FEATURES, CLASSES)).astype(np.float32)
    share = rng.uniform(size=(arguments.examples, FEATURES)).astype(np.float32)
    flat = norm == "l0"  # then there is no minimum to compare with, and the classes are those of equal widths
    found, equal = [], {}
    for spread in arguments.spreads:
        # In L0 these are powers of two, so that a share is the same number whatever the width.
        power = np.linspace(-0.5, 0.5, FEATURES) * np.log2(spread)
        width = np.exp2(np.round(power) if flat else power).astype(np.float32)
        x = np.minimum(width * share, width)
        label, least = minima("l1", weights, np.ones(FEATURES), share) if flat else minima(norm, weights, width, x)
        away, nearest = cw.untargeted(label), cw.targeted(least.argmin(1))
        for goal, told in (("U", away), ("T", nearest), ("E", away)):
            cells = []
            for steps in arguments.budgets:
                result = attack(norm, goal == "E")((weights, width), x, told, jnp.int32(steps))
                distance = np.where(result.success, cw.metrics.norms(x, result.x, per_pixel=False)[norm], np.inf)
                if flat:
                    same = distance == equal.setdefault((goal, steps), distance)
                    cells.append(f"{int(same.sum())} of {len(same)} as with equal widths")
                else:
                    ratio = distance / least.min(1)
                    cells.append(f"{np.median(ratio):.4f}, {ratio.mean():.4f}, {ratio.max():.3f}")
            found.append([f"1:{spread:g}", goal, *cells])
    return found


def main(arguments: Arguments) -> None:
    """Prints a table for each norm: median, mean and worst of distance over minimum."""
    headings = ["widths", "goal", *(f"{steps} gradients" for steps in arguments.budgets)]
    for norm in arguments.norm:
        print("\n".join([f"\n{norm}\n", *tables.markdown(headings, rows(norm, arguments))]), flush=True)


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
