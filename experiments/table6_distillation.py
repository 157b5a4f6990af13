"""The paper's Table VI and Figure 8: what defensive distillation changes, by its temperature and by the attack.

Claim: the temperature does not make a network harder to fool (Figure 8; the paper finds a correlation of -0.05). It
makes the logits large, so that in float32 the softmax has no slope; attacks that follow this slope stop, and they work
again on logits over T (section IX).

Command:

    python -m experiments.table6_distillation

Table VI's distances of the three attacks are `python -m experiments.table4_attacks --table VI`.

Cost: three minutes of processor time.

Expect: the temperature costs little. On 40 images the mean L2 distance is 2.21, 2.32 and 2.55 at T = 1, 10 and 100
(the paper's 1.91, 2.55, 2.38), and the correlation .14 (.09 to .21; the paper's -.05). The mean size of a logit is 5.7,
52 and 605 (the paper's 5.8 without distillation and 482 at T = 100, which it calls an L1 norm). The softmax slope is
exactly zero on none, 56 % and 98 % of the images. Over the paper's 21 temperatures (12 minutes more) the mean
distance has a correlation of .19 with T (-.26 to .57).

FGSM, JSMA-F, APGD-CE and DDN never succeed on the distilled network, where their loss has no slope on any image. On its
logits over T they succeed on 58, 100, 100 and 92 %, and on the plain network on 67, 100, 100 and 92 %. `diagnose` calls
these four blind on all examples, and no other. DeepFool and FMN do not notice T. L-BFGS succeeds always, and comes half
as near without the division by T (3.08 against 1.64).

The first table has a student for each temperature, by the paper's procedure (see `distilling`): the accuracy, the size
of a logit, the share of test images whose softmax slope and cross-entropy slope are exactly zero, and the mean L2
distance of the fast attack towards one wrong class drawn for each image. Its correlation with T is over pairs of an
image and a temperature; the intervals are bootstraps over images, and over networks and images.

The second table has seven attacks on a plain network, on a distilled one, and on the distilled one's logits over T.
FGSM and APGD have a radius of 0.3 in L-infinity, and JSMA-F may change 14.5 % of the pixels (Papernot et al.); the
others look for the least distance. All go away from the label. With `--diagnose 8` the second table also says which
checks of `cw.diagnose` warn or fail, of each attack on the distilled network.

Writes OUT/table6.md, table6_attacks.md, a .csv and .png beside each, and what each attack found in OUT/units. Networks
are kept in MODELS by the hash of their images and recipe. `--net mnist_cnn --data mnist --epochs 50 --examples 1000
--temperatures 1 5 10 15 … 100` is the paper's size.
"""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro
from matplotlib.figure import Figure

import cwjax as cw
from cwjax.attacks.deepfool import class_differences
from cwjax.attacks.jsma import label_probability
from cwjax.base import Attack
from cwjax.lab import data
from cwjax.lab.attacking.rows import rows_of
from cwjax.lab.console.progress import progress
from cwjax.lab.files import store
from cwjax.lab.subjects import model_of
from cwjax.lab.sweeps.vault import Vault
from cwjax.lab.training import training
from experiments import defences, distilling, kept, shown

# T -> mean L2. Its correlation with T is -.056, so the paper's -.05 is that of the means of 21 networks.
_FIGURE_8 = (1.91, 2.39, 2.55, 2.29, 2.58, 2.6, 2.65, 2.66, 2.67, 2.19, 2.51)  # at 1, 5, 10, 15 … 50,
_FIGURE_8 += (2.47, 2.54, 1.77, 2.69, 2.3, 2.74, 2.66, 1.89, 2.3, 2.38)  # 55 … 100
FIGURE_8 = dict(zip((1, *range(5, 101, 5)), _FIGURE_8, strict=True))
ATTACKS = ("fgsm", "deepfool", "jsma_f", "lbfgs", "apgd", "fmn", "ddn")


@dataclasses.dataclass(frozen=True)
class Arguments:
    data: str = "mnist5k"  # see cwjax.lab.data
    net: str = "mnist_lenet"  # of the students; the paper's is mnist_cnn
    temperatures: tuple[float, ...] = (1, 10, 100)
    epochs: int = 12  # of teacher and student each
    examples: int = 40  # the first test images, each towards one class
    fast_steps: int = 60  # gradients of the fast attack
    plain: str = "zoo:mnist_cnn"  # the networks of the second table, see cwjax.lab.subjects
    distilled: str = "zoo:mnist_distilled"
    temperature: float = 100.0  # at which that one was distilled
    attacks: tuple[str, ...] = ATTACKS  # of the second table; with none there is no such table
    attacked: int = 12  # the first test images that both networks get right
    steps: int = 30  # gradients of an attack; of a round of L-BFGS
    diagnose: int = 0  # images that `cw.diagnose` is asked about for each attack on the distilled network; 0: none
    out: Path = Path("runs/table6")  # where the results go
    models: Path = Path("runs/models")  # where trained networks are kept


def main(
    arguments: Arguments, models: tuple[cw.Model, cw.Model] | None = None
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Runs the experiment; a row for each temperature, and one for each attack and network.

    Args:
      arguments: what to do.
      models: the plain and the distilled network of the second table, instead of those that the arguments name.
    """
    store.make_folder(arguments.out)
    return by_temperature(arguments), by_attack(arguments, models) if arguments.attacks else []


def by_temperature(arguments: Arguments) -> list[dict[str, Any]]:
    """The first table."""
    sets = training.Sets(*(data.load(arguments.data, split) for split in data.SPLITS))
    some = sets.test.take(slice(arguments.examples))
    goal = rows_of(some, "average", seed=0).goal()
    rows, distances = [], []
    with progress("temperatures", len(arguments.temperatures)) as advance:
        for temperature in arguments.temperatures:
            trained = distilling.student(sets, temperature, arguments.net, arguments.epochs, arguments.models)
            settings = {"steps": arguments.fast_steps}
            found = kept.attacked(Vault(arguments.out), fast, settings, trained.model, some.images, goal)
            distances.append(found.distance)
            rows.append(_row(temperature, trained, sets.test, found))
            advance(1, f"T = {temperature:g}: L2 {rows[-1]['mean L2']:.2f}", now=True)
    told = []
    if len(rows) > 1:
        pairs = np.asarray(arguments.temperatures, float), np.stack(distances)
        rho, low, high = correlation(*pairs)
        _, lower, higher = correlation(*pairs, networks=True)
        told = [
            f"Correlation of temperature and distance: {rho:.2f} (95 %: {low:.2f} to {high:.2f} over images, "
            f"{lower:.2f} to {higher:.2f} over networks and images)."
        ]
        if len(rows) > 3:
            means = correlation_of_means(pairs[0], np.array([row["mean L2"] for row in rows]))
            paper = correlation_of_means(*map(np.array, zip(*FIGURE_8.items(), strict=True)))
            told += [
                f"Of temperature and the networks' mean distances, as the paper's: {_with_interval(means)}; the "
                f"paper's {_with_interval(paper)} by its curve."
            ]
    shown.write("table6", "Distillation by temperature", rows, drawn(rows), arguments, told=told)
    return rows


def _row(temperature: float, trained: training.Trained, test: data.Dataset, found: kept.Found) -> dict[str, Any]:
    """The numbers of one student, on its first 200 test images, and of the attack on it."""
    few = test.take(slice(200))
    mean, spread = distilling.size(shown.outputs_of(trained.model, few.images))
    softmax, entropy = (
        distilling.without_slope(trained.model, objective, few.images, few.labels)
        for objective in (label_probability(), cw.losses.label_cross_entropy())
    )
    return {
        "T": float(temperature),
        "accuracy": float(trained.card["test_accuracy"]),
        "logit size": mean,
        "its deviation": spread,
        "no softmax slope": softmax,
        "no cross-entropy slope": entropy,
        "success": float(found.success.mean()),
        "mean L2": kept.mean(found.distance),
        "paper L2": FIGURE_8.get(int(temperature), float("nan")),
    }


def fast(*, steps: int) -> Attack:
    """The attack of the first table."""
    return cw.fast("l2", steps=steps)


def correlation(
    temperatures: np.ndarray, distances: np.ndarray, draws: int = 2000, *, networks: bool = False
) -> tuple[float, float, float]:
    """Pearson's, over all pairs of a temperature [T] and an image of distances [T, B], and the ends of the interval
    that holds 95 % of it over images drawn with replacement. Failures (inf) are left out.

    Args:
      temperatures: at least two.
      distances: of the images on the network of each temperature.
      draws: how often.
      networks: whether networks are drawn too, since another training of one would have another distance. Draws of a
        single temperature say nothing, and are left out.
    """

    def of(rows: np.ndarray, columns: np.ndarray) -> float:
        chosen = distances[np.ix_(rows, columns)]
        several = np.broadcast_to(temperatures[rows, None], chosen.shape)
        hit = np.isfinite(chosen)
        return float(np.corrcoef(several[hit], chosen[hit])[0, 1])

    rng = np.random.default_rng(0)
    every, images = map(np.arange, distances.shape)
    drawn = []
    for _ in range(draws):
        rows = rng.choice(every, len(every)) if networks else every
        if len(np.unique(rows)) > 1:
            drawn.append(of(rows, rng.choice(images, len(images))))
    low, high = np.percentile(drawn, (2.5, 97.5))
    return of(every, images), float(low), float(high)


def correlation_of_means(temperatures: np.ndarray, means: np.ndarray) -> tuple[float, float, float]:
    """Pearson's, of temperatures and mean distances [T], and the ends of its 95 % interval by Fisher's transform. It
    has one number for each network, so that chance in training is in the interval.

    Args:
      temperatures: at least four.
      means: of the network of each temperature.
    """
    rho = float(np.corrcoef(temperatures, means)[0, 1])
    low, high = np.tanh(np.arctanh(rho) + np.array([-1.96, 1.96]) / np.sqrt(len(means) - 3))
    return rho, float(low), float(high)


def _with_interval(correlation: tuple[float, float, float]) -> str:
    return "{:.2f} (95 %: {:.2f} to {:.2f})".format(*correlation)


def by_attack(arguments: Arguments, models: tuple[cw.Model, cw.Model] | None = None) -> list[dict[str, Any]]:
    """The second table."""
    plain, distilled = models or (model_of(arguments.plain)[0], model_of(arguments.distilled)[0])
    test = data.load(arguments.data, "test")
    right = np.all([~shown.wrong(m, test.images, test.labels) for m in (plain, distilled)], 0)
    some = test.take(shown.first_of(right, arguments.attacked))
    subjects = {
        "plain": distilling.over(plain, 1),
        "distilled": distilling.over(distilled, 1),
        "distilled, logits / T": distilling.over(distilled, arguments.temperature),
    }
    rows = []
    with progress("attacks", len(arguments.attacks), first="compiling") as advance:
        for name in arguments.attacks:
            settings = {"name": name, "steps": arguments.steps, "classes": len(some.classes)}
            objective = attack(**settings).terms.objective
            for subject, model in subjects.items():
                goal = cw.untargeted(some.labels)
                found = kept.attacked(Vault(arguments.out), attack, settings, model, some.images, goal)
                rows.append(
                    {
                        "attack": name,
                        "network": subject,
                        "success": float(found.success.mean()),
                        "mean distance": kept.mean(found.distance),
                        "no slope": distilling.without_slope(model, objective, some.images, some.labels),
                    }
                )
                if arguments.diagnose:
                    rows[-1]["checks that speak"] = (
                        checks_of(name, settings, model, some, arguments) if subject == "distilled" else "not asked"
                    )
            advance(1, name, now=True)
    shown.write("table6_attacks", "Attacks on a distilled network", rows, bars(rows), arguments)
    return rows


def checks_of(name: str, settings: dict[str, Any], model: cw.Model, some: data.Dataset, arguments: Arguments) -> str:
    """The names of the checks of `diagnose` that warn or fail, of the attack on the first images."""
    few = some.take(slice(arguments.diagnose))

    def asked():
        made, keys, goal = attack(**settings), defences.keys_of(few), cw.untargeted(few.labels)
        result = jax.jit(cw.batched(made))(model, keys, few.images, goal)
        return defences.told(cw.diagnose(model, made, few.images, goal, result, jax.random.key(0), name=name))

    return defences.spoke(defences.kept(arguments, f"{name} checks", model, few, asked, diagnose=arguments.diagnose))


def attack(*, name: str, steps: int, classes: int) -> Attack:
    """The attack by its name in the second table."""
    makers = {
        "fgsm": lambda: cw.attacks.fgsm(epsilon=0.3),
        "deepfool": lambda: cw.attacks.deepfool(objective=class_differences(classes=classes), steps=steps),
        "jsma_f": lambda: cw.attacks.jsma_f(gamma=0.145, distance=cw.distances.l0(channel_axis=-1)),
        "lbfgs": lambda: cw.lbfgs(search=cw.search.binary_search(5, initial_c=1.0), steps=steps),
        "apgd": lambda: cw.attacks.apgd(epsilon=0.3, steps=steps),
        "fmn": lambda: cw.attacks.fmn(steps=steps),
        "ddn": lambda: cw.attacks.ddn(steps=steps),
    }
    return makers[name]()


def drawn(rows: list[dict[str, Any]]) -> Figure:
    """Figure 8: the mean distance by temperature, ours and the paper's, and the share of images without a slope."""
    figure = Figure(figsize=(8, 3.4), dpi=110, layout="constrained")
    left, right = figure.subplots(1, 2)
    temperatures = [row["T"] for row in rows]
    left.plot(temperatures, [row["mean L2"] for row in rows], "o-", color=shown.BLUE, label="ours")
    left.plot(list(FIGURE_8), list(FIGURE_8.values()), "o", color=shown.INK, fillstyle="none", label="the paper's")
    left.set_ylim(bottom=0)
    left.legend(frameon=False)
    shown.plain(left, "temperature T", "mean L2 distance")
    for name, color in (("no softmax slope", shown.ORANGE), ("no cross-entropy slope", shown.GREEN)):
        right.plot(temperatures, [row[name] for row in rows], "o-", color=color, label=name)
    right.set_ylim(-0.03, 1.03)
    right.legend(frameon=False)
    shown.plain(right, "temperature T", "share of the test images")
    return figure


def bars(rows: list[dict[str, Any]]) -> Figure:
    """The success of each attack on each network."""
    figure = Figure(figsize=(8, 3.4), dpi=110, layout="constrained")
    axes = figure.subplots()
    names, networks = (list(dict.fromkeys(row[key] for row in rows)) for key in ("attack", "network"))
    for place, (network, color) in enumerate(zip(networks, (shown.BLUE, shown.ORANGE, shown.GREEN), strict=True)):
        heights = [row["success"] for row in rows if row["network"] == network]
        axes.bar(np.arange(len(names)) + 0.27 * (place - 1), heights, 0.25, color=color, label=network)
    axes.set_xticks(range(len(names)), names)
    shown.plain(axes, "", "success")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    return figure


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
