"""The picture of a race: success against distance, optimality against budget, and how each attack came there."""

import re
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from cwjax.evaluation.comparison import anytime
from cwjax.evaluation.metrics import success_curve
from cwjax.lab.reporting.findings import number
from cwjax.lab.reporting.pictures import COLORS, DPI, STROKES, Picture, plain, png

MOST_LINES = 12


class Racer(NamedTuple):
    """One attack in the picture of a race."""

    distance: np.ndarray  # float64 [B], at the largest budget; inf where it failed
    optimality: dict[int, float]  # by budget
    curve: np.ndarray | None  # float [B, T]: its best distance after each step, at the largest budget; None: not known
    propagations: float  # of a step


def race(name: str, norm: str, called: str, racers: dict[str, Racer], *, farthest: float) -> Picture:
    """Success against distance, optimality against budget, and how each attack came there.

    Args:
      name: of the model.
      norm: that was to be small.
      called: the norm, to read.
      racers: the attacks by name, the first `MOST_LINES` of which are drawn.
      farthest: where the axis of distances ends.
    """
    figure = Figure(figsize=(15, 4.6), dpi=DPI, layout="constrained")
    within, budgets, way = figure.subplots(1, 3)
    farthest = farthest or 1.0
    thresholds = np.linspace(0, 1.05 * farthest, 601)
    for place, (attack, racer) in enumerate(list(racers.items())[:MOST_LINES]):
        style: dict[str, Any] = {"color": COLORS[place % len(COLORS)], "linewidth": 1.8}
        style["linestyle"] = STROKES[place // len(COLORS) % len(STROKES)]
        share = success_curve(jnp.asarray(racer.distance, jnp.float32), jnp.asarray(thresholds, jnp.float32))
        within.plot(thresholds, np.asarray(share), label=attack, drawstyle="steps-post", **style)
        budgets.plot(list(racer.optimality), list(racer.optimality.values()), marker="o", markersize=4, **style)
        if racer.curve is not None:
            mean = anytime(racer.curve, most=farthest).mean
            way.plot(racer.propagations * np.arange(1, len(mean) + 1), mean, **style)
    within.set(xlim=(0, thresholds[-1]), ylim=(0, 1.01))
    within.yaxis.set_major_formatter(PercentFormatter(1))
    plain(within, f"{called} norm of the perturbation", "fooled within that norm")
    budgets.set_xscale("log")
    run = sorted({budget for racer in racers.values() for budget in racer.optimality})
    budgets.set_xticks(run, [number(budget) for budget in run])
    budgets.minorticks_off()
    plain(budgets, "propagations an image: budget", "local optimality")
    way.set_xscale("log")
    way.set_ylim(bottom=0)
    plain(way, "propagations an image: so far", f"mean {called} norm, failures as {number(farthest, 3)}")
    figure.legend(loc="outside right upper", frameon=False)
    caption = (
        f"Left: the share that a perturbation of at most the given {called} norm fools, at the largest budget. "
        "Middle: local optimality at each budget. Right: the mean distance as the run at the largest budget went on, "
        "for the attacks that tell it."
    )
    if len(racers) > MOST_LINES:
        caption += f" Drawn are the {MOST_LINES} attacks nearest to the envelope, of {len(racers)}."
    alt = f"{called} attacks on {name}: success against distance, optimality, distance against propagations"
    file = re.sub(r"[^\w.-]+", "_", f"race-{name}-{norm}")
    return Picture(f"figures/{file}.png", png(figure), alt, caption)
