"""The pictures of a report: adversarial examples, success against distance, training curves."""

import base64
import io
import textwrap
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, PercentFormatter

from cwjax.evaluation.metrics import success_curve
from cwjax.lab.reporting.findings import NAME, SAID, Run, cases_of, length, median_of, norm_name, norms_of, number

DPI = 128  # a power of two, so that whole pixels stay whole
SIDE = 96  # pixels of the shorter side of a picture in a grid, at most; of the longer one twice as many
MOST = 10  # rows and columns of a grid
LINE, LINES = 14, 3  # letters and lines above a picture for what a model says, at most
INK, PALE, BLUE, GREEN, ORANGE = "#222222", "#b8b8b8", "#0072b2", "#009e73", "#d55e00"  # the last three: Okabe and Ito
# Their palette without yellow, which is too pale for a line; then the same again in other strokes.
COLORS = (BLUE, ORANGE, GREEN, "#cc79a7", "#56b4e9", "#e69f00", INK)
STROKES = ("-", "--", ":")


# What the grids of source and target digits stand beside.
REPORT = "D.-A. Nguyen's Report on “Evaluation and Design of Robust Neural Network Defenses”"
FIGURES = {"l2": f"Figure 4 of {REPORT}", "l0": f"Figure 5 of {REPORT}"}


class Picture(NamedTuple):
    """One figure of a report."""

    file: str  # its place beside the Markdown
    png: bytes
    alt: str  # for those who do not see it
    caption: str

    @property
    def uri(self) -> str:
        """The picture itself as an address."""
        return f"data:image/png;base64,{base64.b64encode(self.png).decode()}"


class Sheet:
    """A figure measured in pixels from its upper left corner, on which small pictures stay sharp."""

    def __init__(self, images: np.ndarray, corner: tuple[int, int], rows: list[str], columns: list[str]):
        short, long = sorted(images.shape[1:3])
        zoom = SIDE / max(short, long / 2)
        zoom = int(zoom) if zoom >= 1 else zoom
        self.interpolation = "nearest" if zoom >= 1 else "hanning"
        self.high, self.wide = (round(zoom * side) for side in images.shape[1:3])
        longest = max(len(line) for heading in columns for line in heading.split("\n"))
        self.corner, self.step = corner, (self.high + 32, max(self.wide, 64, 9 * longest) + 14)
        width, height = corner[0] + len(columns) * self.step[1] + 6, corner[1] + len(rows) * self.step[0]
        self.figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
        self.axes = self.figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0), autoscale_on=False)
        self.axes.axis("off")
        for i, heading in enumerate(rows):
            self.text(corner[0] - 4, self.place(i, 0)[1] + self.high / 2, heading, ha="right")
        for j, heading in enumerate(columns):
            self.text(self.place(0, j)[0] + self.wide / 2, corner[1] - 8, heading, va="bottom")

    def place(self, row: int, column: int) -> tuple[int, int]:
        """The upper left corner of a cell's picture."""
        margin = (self.step[1] - self.wide) // 2
        return self.corner[0] + column * self.step[1] + margin, self.corner[1] + row * self.step[0]

    def text(self, x: int | float, y: int | float, words: str, **style: Any) -> None:
        style = {"ha": "center", "va": "center", "color": INK, "linespacing": 1.2, "fontsize": 8.5, **style}
        self.axes.text(x, y, words, parse_math=False, **style)

    def box(self, x: int, y: int, margin: int, **style: Any) -> None:
        size = (self.wide + 2 * margin, self.high + 2 * margin)
        self.axes.add_patch(Rectangle((x - margin, y - margin), *size, facecolor="none", **style))

    def image(self, row: int, column: int, image: np.ndarray, below: str = "", *, cmap: str = "gray") -> None:
        """A picture with values in [0, 1]: colour if it has three channels, else the mean of its channels."""
        x, y = self.place(row, column)
        pixels = np.clip(image if image.shape[-1] == 3 else image.mean(-1), 0, 1)
        extent = (x, x + self.wide, y + self.high, y)
        self.axes.imshow(
            pixels, cmap, aspect="auto", interpolation=self.interpolation, vmin=0, vmax=1, extent=extent, zorder=1
        )
        self.text(x + self.wide / 2, y + self.high + 13, below)

    def failed(self, row: int, column: int) -> None:
        x, y = self.place(row, column)
        self.box(x, y, 0, edgecolor=PALE, linewidth=0.8, hatch="///")
        self.text(x + self.wide / 2, y + self.high / 2, "failed", bbox={"facecolor": "white", "linewidth": 0, "pad": 2})


def png(figure: Figure) -> bytes:
    """The figure as a file."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DPI, facecolor="white")
    return file.getvalue()


def _class(run: Run, label: int) -> str:
    """Its name, short and on one line."""
    name = " ".join(run.classes[label].split()) if label < len(run.classes) else str(label)
    return name if len(name) <= 11 else f"{name[:10]}…"


def examples(run: Run, columns: dict[str, np.ndarray]) -> Picture:
    """A matrix of source and target classes if the run has one, else some examples side by side."""
    pairs = {(int(label), int(target)) for label, target in zip(columns["label"], columns["target"], strict=True)}
    targeted = [pair for pair in pairs if pair[1] >= 0]
    sources = {label for label, _ in pairs}
    return _matrix(run, columns) if len(targeted) >= 2 * len(sources) else strip(run, columns)


def _matrix(run: Run, columns: dict[str, np.ndarray]) -> Picture:
    labels, targets = columns["label"], columns["target"]
    sources = np.unique(labels)[:MOST]
    known = np.unique(np.concatenate([labels, targets[targets >= 0]]))
    goals = np.sort(np.concatenate([sources, np.setdiff1d(known, sources)])[:MOST])
    names, headings = [_class(run, int(source)) for source in sources], [_class(run, int(goal)) for goal in goals]
    sheet = Sheet(run.clean, (44 + 10 * max(map(len, names)), 64), names, headings)
    sheet.text(sheet.corner[0] + len(goals) * sheet.step[1] / 2, 18, "target class", fontsize=10)
    sheet.text(16, sheet.corner[1] + len(sources) * sheet.step[0] / 2, "source class", fontsize=10, rotation=90)
    for i, source in enumerate(sources):
        for j, goal in enumerate(goals):
            here = np.flatnonzero((labels == source) & ((targets == goal) | (source == goal)))
            if source == goal:
                sheet.image(i, j, run.clean[np.argmax(labels == source)], "clean")
                sheet.box(*sheet.place(i, j), 3, edgecolor=ORANGE, linewidth=2)
            elif here.size and columns["success"][here[0]]:
                sheet.image(i, j, run.adversarial[here[0]], length(run.norm, float(columns["distance"][here[0]])))
            elif here.size:
                sheet.failed(i, j)
    caption = (
        "The first attack of each source and target class. Framed: the clean image of the first example of the "
        f"class. Below each picture: the {norm_name(run.norm)} norm of its perturbation. Nothing is drawn "
        "where nothing was attacked."
    )
    if len(known) > MOST:
        caption += f" {len(sources)} × {len(goals)} of {len(known)} classes are shown."
    if run.attack in FIGURES:
        caption += f" The counterpart of {FIGURES[run.attack]}."
    alt = f"{run.name} attack: adversarial images by source and target class"
    return Picture(f"figures/{run.attack}-examples.png", png(sheet.figure), alt, caption)


def strip(run: Run, columns: dict[str, np.ndarray], most: int = MOST) -> Picture:
    """Some examples side by side, of as many classes as may be: clean, adversarial, and the difference."""
    if run.task:
        return _told(run, columns, most)
    first = np.unique(columns["label"], return_index=True)[1]
    rest = np.setdiff1d(np.arange(len(columns["label"])), first)
    picked = np.concatenate([first, rest])[:most]
    headings = []
    for i in picked:
        source, answer = (_class(run, int(columns[name][i])) for name in ("label", "prediction"))
        arrow = "\n→ " if len(source + answer) > 6 else " → "
        own = f"{_ending(str(columns[NAME][i]))}\n" if NAME in columns else ""
        headings.append(own + (source + arrow + answer if columns["success"][i] else source))
    said = "The right class of some examples and what the model answers for the adversarial image"
    return _strip(run, columns, picked, (run.clean[picked], run.adversarial[picked]), headings, said)


def _ending(name: str) -> str:
    """The end of a name, which tells files apart."""
    return name if len(name) <= LINE else f"…{name[1 - LINE :]}"


def _told(run: Run, columns: dict[str, np.ndarray], most: int) -> Picture:
    """The first examples of a task, each with what the model says before and after."""
    drawn = run.drawn or (run.clean, run.adversarial)
    high, wide = drawn[0].shape[1:3]
    most = most // 2 if 2 * wide > 3 * high else most  # else the page makes them too small to read
    picked = np.arange(min(most, len(drawn[0]), len(columns["index"])))
    headings = []
    for i in picked:
        before, after = ("\n".join(textwrap.wrap(str(columns[name][i]), LINE)[:LINES]) for name in SAID[1:])
        headings.append(f"{before}\n→ {after}" if columns["success"][i] else before)
    said = f"What the model says of some examples, and after the arrow of the adversarial one (task: {run.task})"
    return _strip(run, columns, picked, (drawn[0][picked], drawn[1][picked]), headings, said)


def _strip(
    run: Run,
    columns: dict[str, np.ndarray],
    picked: np.ndarray,
    pair: tuple[np.ndarray, np.ndarray],
    headings: list[str],
    said: str,
) -> Picture:
    """The picked examples side by side, with a pair of pictures [P, H, W, C] of each."""
    clean, adversarial = pair
    delta = adversarial - clean
    reach = float(np.abs(delta).max()) or 1.0
    lines = max(heading.count("\n") for heading in headings)
    sheet = Sheet(clean, (108, 54 + 18 * max(lines - 1, 0)), ["clean", "adversarial", "difference"], headings)
    for j, i in enumerate(picked):
        sheet.image(0, j, clean[j])
        if columns["success"][i]:
            sheet.image(1, j, adversarial[j], length(run.norm, float(columns["distance"][i])))
            sheet.image(2, j, 0.5 + delta[j] / (2 * reach), cmap="RdBu_r")
            sheet.box(*sheet.place(2, j), 0, edgecolor=PALE, linewidth=0.8)
        else:
            sheet.failed(1, j)
            sheet.failed(2, j)
    middle, ends = ("grey", "darker and brighter") if clean.shape[-1] == 3 else ("white", "blue and red")
    caption = (
        f"{said}, with the {norm_name(run.norm)} norm of the perturbation below. In the differences {middle} is no "
        f"change; {ends} reach −{number(reach, 2)} and +{number(reach, 2)}."
    )
    alt = f"{run.name} attack: clean images, adversarial images, differences"
    return Picture(f"figures/{run.attack}-examples.png", png(sheet.figure), alt, caption)


def plain(axes: Axes, x: str, y: str) -> None:
    """Axes with their names, a pale grid, and nothing else."""
    axes.set_xlabel(x, color=INK)
    axes.set_ylabel(y, color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)


def curve(run: Run, columns: dict[str, np.ndarray]) -> Picture | None:
    """The share of examples fooled within each distance, a line for each case."""
    hit, distance, norm = columns["success"], columns["distance"], norm_name(run.norm)
    if not hit.any():
        return None
    thresholds = np.linspace(0, 1.05 * float(distance[hit].max()) or 1.0, 601)
    figure = Figure(figsize=(7.5, 4), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    styles = {"best": (GREEN, "--"), "worst": (ORANGE, "-.")}
    cases = cases_of(columns)
    for case, picked in cases.items():
        color, line = styles.get(case.split()[0], (BLUE, "-"))
        share = success_curve(
            jnp.asarray(distance[picked], jnp.float32),
            jnp.asarray(thresholds, jnp.float32),
            success=jnp.asarray(hit[picked]),
        )
        axes.plot(thresholds, np.asarray(share), line, color=color, linewidth=2, label=case, drawstyle="steps-post")
    median = median_of(columns, "distance")
    axes.axvline(median, color=INK, linewidth=1, linestyle=":")
    side = "left" if median < 0.3 * thresholds[-1] else "right" if median > 0.7 * thresholds[-1] else "center"
    axes.text(median, 1.02, f"median of the successes: {length(run.norm, median)}", color=INK, ha=side, va="bottom")
    axes.set(xlim=(0, thresholds[-1]), ylim=(0, 1.01))
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    plain(axes, f"{norm} norm of the perturbation", "fooled within that norm")
    if len(cases) > 1:
        axes.legend(frameon=False)
    caption = (
        f"The share that a perturbation of at most the given {norm} norm fools ({norm}: "
        f"{norms_of(run.elements)[run.norm][1]}). Each curve ends at its success rate."
    )
    alt = f"{run.name} attack: success against the {norm} norm"
    return Picture(f"figures/{run.attack}-success.png", png(figure), alt, caption)


def training(history: dict[str, list[float]] | None) -> Picture | None:
    """Accuracy and loss by epoch, for what the history has of them."""
    history = {name: values for name, values in (history or {}).items() if len(values)}
    panels = [name for name in ("accuracy", "loss") if {name, f"validation_{name}"} & history.keys()]
    if not panels:
        return None
    figure = Figure(figsize=(7.5, 3.2), dpi=DPI, layout="constrained")
    for place, panel in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), place + 1)
        for name, label, color, line in (
            (panel, "training", BLUE, "-"),
            (f"validation_{panel}", "validation", ORANGE, "--"),
        ):
            if values := history.get(name):
                marker = "o" if len(values) <= 20 else ""
                epochs = range(1, len(values) + 1)
                axes.plot(epochs, values, line, marker=marker, markersize=4, color=color, linewidth=2, label=label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        plain(axes, "epoch", panel)
        axes.legend(frameon=False)
    return Picture("figures/training.png", png(figure), "Accuracy and loss by epoch", "How the model was trained.")
