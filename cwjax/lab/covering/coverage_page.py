"""The page of `cwjax cover`: tables and curves, as HTML and as Markdown."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from cwjax.lab.covering.covering import COLUMNS, NATURAL, Measured, layers_table, table
from cwjax.lab.reporting import rendering
from cwjax.lab.reporting.pictures import COLORS, DPI, INK, Picture, plain, png

WARNING = (
    "Coverage describes inputs. It is no measure of quality: among suites of natural inputs of one size it had nothing "
    "to do with the errors that they find, and adversarial examples raise some criteria because an attack leaves the "
    "usual range, not because it tests more (Li et al. 2019, “Structural coverage criteria for neural networks could "
    "be misleading”). Coverage grows with the number of inputs, so compare suites of equal size only."
)

LEGEND = f"{'; '.join(f'{name}: {words}' for name, words in COLUMNS.items())}."


def curves(points: Sequence[Measured], criterion_names: Sequence[str]) -> Picture:
    """A panel for each criterion, and in it a line for each suite against the number of inputs."""
    across, down = min(len(criterion_names), 3), math.ceil(len(criterion_names) / 3)
    figure = Figure(figsize=(3.4 * across, 2.6 * down + 0.5), dpi=DPI, layout="constrained")
    suites = list(dict.fromkeys(point.suite for point in points))
    for place, name in enumerate(criterion_names):
        axes = figure.add_subplot(down, across, place + 1)
        for number, suite in enumerate(suites):
            own = [point for point in points if point.suite == suite]
            color, line = (INK, "--") if suite == NATURAL else (COLORS[number % len(COLORS)], "-")
            at, values = [point.inputs for point in own], [point.coverages[name].value for point in own]
            label = suite.replace("$", r"\$")
            axes.plot(at, values, label=label, linewidth=1.6, marker=".", color=color, linestyle=line)
        axes.set_xscale("log")
        axes.set_title(name, fontsize=9, color=INK, parse_math=False)
        plain(axes, "inputs", "")
        if points[0].coverages[name].total:
            axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    caption = (
        "Coverage against the number of inputs, on a logarithmic axis. The dashed line is the test images in their "
        "order: compare a suite with it at the same number of inputs."
    )
    return Picture("figures/coverage.png", png(figure), "Coverage of each suite against the number of inputs", caption)


def write(
    out: Path,
    points: Sequence[Measured],
    criterion_names: Sequence[str],
    about: Mapping[str, object],
    title: str,
    notes: Sequence[str] = (),
) -> Path:
    """Writes report.html, report.md and the figure. Returns the path of report.html."""
    picture = curves(points, criterion_names)
    natural = [point for point in points if point.suite == NATURAL][-1]
    content = {
        "title": title,
        "warning": WARNING,
        "notes": notes,
        "convention": str(natural.coverages[criterion_names[0]].convention),
        "columns": LEGEND,
        "rows": table(points, criterion_names),
        "layers": layers_table(natural, criterion_names),
        "inputs": f"{natural.inputs:,}",
        "picture": picture,
        "settings": rendering.flat(about),
    }
    return rendering.put(rendering.pages("coverage", content) | {picture.file: picture.png}, out)
