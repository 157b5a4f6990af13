"""The pictures of a sweep: objective against box, success against distance, distance against gradients."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from cwjax.evaluation.comparison import robust_area
from cwjax.evaluation.metrics import success_curve
from cwjax.lab.reporting.findings import length, norm_name, norms_of, percent
from cwjax.lab.reporting.pictures import BLUE, COLORS, DPI, INK, ORANGE, PALE, STROKES, Picture, plain, png
from cwjax.lab.sweeps.outcomes import VARIED, GridPoint, ablations

MOST_PANELS, MOST_CURVES, MOST_NAMES = 6, 8, 30
_ALIKE = 5.0  # per cent of success: configurations that fool as many but for that are compared by distance and cost


def ablation(norm: str, outcomes: Sequence[GridPoint]) -> Picture | None:
    """The mean distance and success of every objective with every box; None where they do not both vary.

    Args:
      norm: that all of the configurations minimise.
      outcomes: the configurations.
    """
    groups = ablations(outcomes)
    if not groups:
        return None
    shown = groups[:MOST_PANELS]
    grids = [_grid(some) for some in shown]
    means = np.concatenate([mean[np.isfinite(mean)] for _, mean, _ in grids])
    least, most = (float(means.min()), float(means.max())) if len(means) else (0.0, 1.0)
    rows, columns = (max(len(names[axis]) for names, *_ in grids) for axis in (0, 1))
    across = min(len(shown), 2 if columns > 2 else 3)
    down = -(-len(shown) // across)
    size = (min(across * (0.6 + 1.1 * columns), 7.5), down * (0.75 + 0.42 * rows))
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    for place, (some, (names, mean, share)) in enumerate(zip(shown, grids, strict=True)):
        axes = figure.add_subplot(down, across, place + 1)
        _cells(axes, norm, mean, share, least, most)
        axes.set_yticks(range(len(names[0])), names[0])
        axes.set_xticks(range(len(names[1])), [name.replace("_", "\n", 1) for name in names[1]])
        if len(groups) > 1:
            axes.set_title(some[0].label(*VARIED), fontsize=9, color=INK, parse_math=False)
    caption = (
        f"The mean {norm_name(norm)} norm of the successful perturbations, darker where it is larger, and the share of "
        "attacks that succeeded, for every objective (rows) with every box (columns): the form of Table III of Carlini "
        "and Wagner (2017)."
    )
    if len(groups) > len(shown):
        caption += f" The first {len(shown)} of {len(groups)} grids are shown."
    alt = f"{norm_name(norm)} norm and success by objective and box"
    return Picture(f"figures/{norm}-ablation.png", png(figure), alt, caption)


def curves(norm: str, outcomes: Sequence[GridPoint], elements: str = "pixels") -> Picture | None:
    """The share fooled within each distance, a line for each configuration; None where nothing succeeded.

    Args:
      norm: that all of the configurations minimise.
      outcomes: the configurations; the strongest are drawn.
      elements: what their inputs consist of.
    """
    distances = {each.place: np.where(_hit(each), each.columns["distance"], np.inf) for each in outcomes}
    farthest = max((float(some[np.isfinite(some)].max(initial=0.0)) for some in distances.values()), default=0.0)
    if not any(_hit(each).any() for each in outcomes):
        return None
    strongest = sorted(outcomes, key=lambda each: robust_area(distances[each.place], farthest))[:MOST_CURVES]
    drawn = np.concatenate([distances[each.place] for each in strongest])
    thresholds = np.linspace(0, 1.05 * float(drawn[np.isfinite(drawn)].max(initial=0.0)) or 1.0, 601)
    figure = Figure(figsize=(7.5, 4 + 0.22 * len(strongest)), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    for place, each in enumerate(sorted(strongest, key=lambda each: each.place)):
        share = success_curve(jnp.asarray(distances[each.place], jnp.float32), jnp.asarray(thresholds, jnp.float32))
        color, stroke = COLORS[place % len(COLORS)], STROKES[place // len(COLORS) % len(STROKES)]
        name = f"{each.place}: {each.label()}"
        axes.plot(thresholds, np.asarray(share), stroke, color=color, linewidth=1.8, label=name, drawstyle="steps-post")
    axes.set(xlim=(0, thresholds[-1]), ylim=(0, 1.01))
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    plain(axes, f"{norm_name(norm)} norm of the perturbation", "fooled within that norm")
    for text in figure.legend(loc="outside lower center", frameon=False, fontsize=8.5).get_texts():
        text.set_parse_math(False)
    caption = (
        f"The share that a perturbation of at most the given {norm_name(norm)} norm fools ({norm_name(norm)}: "
        f"{norms_of(elements)[norm][1]}), by the numbers of the table. Each curve ends at its success rate."
    )
    if len(strongest) < len(outcomes):
        caption += f" Drawn are {len(strongest)} of {len(outcomes)} configurations: those with the most area below."
    alt = f"Success against the {norm_name(norm)} norm"
    return Picture(f"figures/{norm}-success.png", png(figure), alt, caption)


def costs(norm: str, outcomes: Sequence[GridPoint]) -> Picture | None:
    """The mean distance against the gradients spent, a point for each configuration, and those that none surpasses in
    both; None where there are not at least two with a success.

    Args:
      norm: that all of the configurations minimise.
      outcomes: the configurations.
    """
    found = [each for each in outcomes if _hit(each).any()]
    if len(found) < 2:
        return None
    spent = np.array([each.columns["backwards"].mean() for each in found])
    mean = np.array([each.columns["distance"][_hit(each)].mean(dtype=float) for each in found])
    share = np.array([100 * _hit(each).mean() for each in found])
    tasks: dict[Any, list[int]] = {}
    for point, each in enumerate(found):
        tasks.setdefault((each.axes["model"], each.task()), []).append(point)
    alike, edges = np.zeros(len(found), bool), []
    for some in map(np.array, tasks.values()):
        alike[some] = share[some] >= share[some].max() - _ALIKE
        edges.append(some[front(spent[some], mean[some], alike[some])])
    edge = np.concatenate(edges)
    figure = Figure(figsize=(7.5, 4), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    for line in edges:
        axes.step(spent[line], mean[line], where="post", color=ORANGE, linewidth=1.5, zorder=1)
    axes.scatter(spent[~alike], mean[~alike], 28, facecolor="white", edgecolor=BLUE, zorder=2)
    axes.scatter(spent[alike], mean[alike], 28, color=BLUE, zorder=3)
    named = range(len(found)) if len(found) <= MOST_NAMES else edge.tolist()
    for (x, y), places in _together({found[point].place: (spent[point], mean[point]) for point in named}).items():
        axes.annotate(", ".join(map(str, places)), (x, y), (5, 4), textcoords="offset points", fontsize=8)
    if spent.max() > 8 * spent.min():
        axes.set_xscale("log")
    axes.margins(0.07)
    axes.set_ylim(bottom=0)
    plain(axes, "gradients an attack, on average", f"mean {norm_name(norm)} norm of the successes")
    caption = (
        "Each point is a configuration, by its number in the table. The line: those that no other surpasses in both. "
        f"Open circles, which it leaves out, fool over {_ALIKE:g} % less than the best: a mean over the successes "
        "flatters those that fail on the hard ones."
    )
    if len(edges) > 1:
        caption += " There is a line for each model, data set, kind of targets and confidence: others do not compare."
    if len(named) < len(found):
        caption += " Only points on the line have their numbers."
    alt = f"Mean {norm_name(norm)} norm against gradients"
    return Picture(f"figures/{norm}-gradients.png", png(figure), alt, caption)


def front(cost: np.ndarray, distance: np.ndarray, able: np.ndarray) -> np.ndarray:
    """The places of the points that no other has at most the cost and the distance of, by rising cost.

    Args:
      cost: of each point [P].
      distance: of each point.
      able: whether it counts at all.
    """
    best, places = np.inf, []
    for place in np.lexsort((distance, cost)):
        if able[place] and distance[place] < best:
            best = distance[place]
            places.append(place)
    return np.array(places, int)


def _together(points: dict[int, tuple[float, float]]) -> dict[tuple[float, float], list[int]]:
    """The numbers that are written at each of some points, for points so near that they would cover each other."""
    wide, high = np.ptp(list(points.values()), axis=0) if points else (0.0, 0.0)
    found: dict[tuple[float, float], list[int]] = {}
    for place, (x, y) in points.items():
        near = [at for at in found if abs(at[0] - x) <= 0.03 * wide and abs(at[1] - y) <= 0.045 * high]
        found.setdefault(near[0] if near else (x, y), []).append(place)
    return found


def _grid(some: Sequence[GridPoint]) -> tuple[tuple[list[str], list[str]], np.ndarray, np.ndarray]:
    """The names of the rows and columns, and the mean distance and success of each cell; nan where there is none."""
    objectives, boxes = (list(dict.fromkeys(str(each.axes[name]) for each in some)) for name in VARIED)
    mean, share = np.full((2, len(objectives), len(boxes)), np.nan)
    for each in some:
        hit = _hit(each)
        cell = tuple(names.index(str(each.axes[name])) for names, name in zip((objectives, boxes), VARIED, strict=True))
        share[cell] = 100 * hit.mean()
        mean[cell] = each.columns["distance"][hit].mean() if hit.any() else np.nan
    return (objectives, boxes), mean, share


def _cells(axes: Axes, norm: str, mean: np.ndarray, share: np.ndarray, least: float, most: float) -> None:
    """A heat map with its numbers written in it."""
    axes.imshow(
        np.ma.masked_invalid(mean), "Blues", vmin=least - 0.15 * (most - least) - 1e-9, vmax=most + 1e-9, aspect="auto"
    )
    axes.set_facecolor("#f2f2f2")
    for (i, j), value in np.ndenumerate(mean):
        dark = value > least + 0.55 * (most - least) and most > least
        told = [] if np.isnan(value) else [length(norm, float(f"{value:.4g}"))]
        told += ["–" if np.isnan(share[i, j]) else f"{percent(float(share[i, j]))} %"]
        axes.text(j, i, "\n".join(told), ha="center", va="center", color="white" if dark else INK, fontsize=8.5)
    axes.tick_params(length=0, labelsize=8.5, labelcolor=INK)
    axes.spines[:].set_color(PALE)


def _hit(each: GridPoint) -> np.ndarray:
    return each.columns["success"]
