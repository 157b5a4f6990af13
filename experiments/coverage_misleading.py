"""Could coverage be misleading? Five experiments on what it has to do with errors.

Claim (Li, Ma, Xu and Cao 2019, "Structural coverage criteria for neural networks could be misleading"): coverage and
errors have little to do with each other. E1 and E3 say so here, and E4 in dense layers. E5 differs between networks. E2
says otherwise: suites that are grown greedily for sections have more errors than random suites.

Command:

    python -m experiments.coverage_misleading --weights FILE --models --data mnist --data-folder FOLDER
    python -m experiments.coverage_misleading                                     # the zoo's networks on mnist5k

Cost: four and a half minutes of one core for three networks.

Expect, on DeepXplore's LeNet-1, LeNet-4 and LeNet-5: E1 rho between -0.08 and 0.12, of 17 numbers three with p < 0.05
(0.03 at least). E2 KMNC: 16.8, 6.8 and 3.4 errors in 100 images, random suites 2.1, 1.5 and 1.2 (p = 0.003); with other
criteria a suite is at most 62 images, and few numbers differ from chance. E3 50 C&W examples add about as much as 50
natural images, in most criteria less: KMNC 11 to 12 points, and 11 to 13. E4 in cells of a dense layer there is an
adversarial example in 80 to 95 %, and none was found in a cell of a convolution. E5 errors in 100 mutants 5.7, 0 and
0.6, by chance 0.6, 0.2 and 1.5: more on LeNet-1, fewer on LeNet-5.

- E1: do natural suites with more coverage have more errors? Spearman's rho over random suites of one size, and its p.
- E2: do suites grown for coverage have more errors? Errors in 100 of a CAM suite, beside random ones as large.
- E3: do adversarial examples raise coverage more? The points of coverage that n C&W examples add to n natural images,
  beside those that n other natural images add.
- E4: is there an adversarial example in the cell of a natural image? The share of images for which one was found that
  keeps the sign of every neuron of a layer.
- E5: does fuzzing for coverage alone find errors? Errors in 100 mutants where those of new coverage are kept, beside
  fuzzing that keeps as many by chance.

E4 is a lower bound: where the attack fails, there may still be one. In E5 a mutant is noise within 0.3 of its original
in L∞, and an error is another label than the original's.

Writes OUT/coverage_misleading.md, .csv and .png.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from matplotlib.figure import Figure
from scipy.stats import mannwhitneyu, spearmanr

import cwjax as cw
from cwjax.coverage import Criterion, priority
from cwjax.lab.console.progress import say
from cwjax.lab.files import store
from experiments import coverage_subjects as subjects
from experiments import shown

Bits = dict[str, np.ndarray]  # of each criterion: what each image covers, packed


@dataclasses.dataclass(frozen=True)
class Arguments(subjects.Common):
    suites: int = 300  # of E1, and random ones of E2
    size: int = 500  # of a suite; at most an eighth of the test images
    examples: int = 50  # of E3
    cells: int = 20  # images of E4
    steps: int = 150  # gradients for each image of E3 and E4
    rounds: int = 30  # of E5, of 64 mutants each
    seeds: int = 64  # images of E5
    epsilon: float = 0.3  # of E5, the largest change of a pixel
    out: Path = Path("runs/coverage_misleading")  # where the results go


def main(arguments: Arguments) -> list[dict[str, Any]]:
    """Runs the experiments; one row for each number."""
    store.make_folder(arguments.out)
    rows, clouds = [], {}
    for network in subjects.networks(arguments):
        rng = np.random.default_rng(arguments.seed)
        profile = cw.coverage.profiled(network.neurons, network.train.images, batch=250)
        criteria = criteria_of(profile)
        seen = subjects.activations(network.neurons, network.test.images)
        bits = {name: priority.covered_by_each(each, seen) for name, each in criteria.items()}
        drawn, clouds[network.name] = correlation(network, bits, arguments, rng)
        found = [*drawn, *grown(network, bits, arguments, rng), *added(network, criteria, arguments)]
        found += [*shared_cells(network, arguments), *fuzzed(network, profile, arguments)]
        rows += [{"network": network.name} | row for row in found]
        told = ["Coverage describes inputs. It is no measure of quality; these numbers are a reason why."]
        title = "What coverage has to do with errors"
        shown.write("coverage_misleading", title, rows, figure(clouds), arguments, told=told)  # what is done is kept
    return rows


def criteria_of(profile: cw.coverage.Profile) -> dict[str, Criterion]:
    """Those whose states are bits."""
    of = profile.convention
    found = [cw.coverage.neuron_coverage(of, threshold=t) for t in (0.25, 0.75)]
    found += [cw.coverage.section_coverage(profile, sections=100)]
    found += [cw.coverage.boundary_coverage(profile), cw.coverage.strong_activation_coverage(profile)]
    found += [cw.coverage.top_neuron_coverage(of, k=3)]
    return {criterion.name: criterion for criterion in found}


def row(experiment: str, what: str, number: str, value: float, beside: float = np.nan, p: float = np.nan):
    """A line of the table. `beside` is what the value is to be compared with."""
    say(f"{experiment}, {what}: {value:.3g}")
    return {"experiment": experiment, "of": what, "number": number, "value": value, "beside": beside, "p": p}


def correlation(network, bits: Bits, arguments, rng) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """E1."""
    count = len(network.wrong)
    size = min(arguments.size, count // 8)
    suites = [rng.choice(count, size, replace=False) for _ in range(arguments.suites)]
    errors, rows, cloud = [int(network.wrong[suite].sum()) for suite in suites], [], {}
    for name, each in bits.items():
        covered = [int(np.bitwise_count(np.bitwise_or.reduce(each[suite])).sum()) for suite in suites]
        constant = len(set(covered)) == 1 or len(set(errors)) == 1
        rho, p = (np.nan, np.nan) if constant else np.asarray(spearmanr(covered, errors))
        rows.append(row("E1", name, f"rho over {len(suites)} suites of {size}", float(rho), p=float(p)))
        cloud[name] = (covered, errors)
    return rows, cloud


def grown(network, bits: Bits, arguments, rng) -> Iterator[dict[str, Any]]:
    """E2: as many images as CAM needs to cover all that there is, at most a suite's size."""
    count = len(network.wrong)
    for name, each in bits.items():
        order = priority.by_additional_coverage(each)
        gained, done = 0, np.zeros(each.shape[1], each.dtype)
        for place in order[: min(arguments.size, count // 8)]:
            if not np.bitwise_count(each[place] & ~done).any():
                break
            done |= each[place]
            gained += 1
        mine = 100 * network.wrong[order[:gained]].mean()
        others = [100 * network.wrong[rng.choice(count, gained, replace=False)].mean() for _ in range(arguments.suites)]
        p = (1 + sum(other >= mine for other in others)) / (1 + len(others))
        yield row("E2", name, f"errors in 100 of {gained} images", float(mine), float(np.mean(others)), float(p))


def added(network, criteria, arguments) -> Iterator[dict[str, Any]]:
    """E3."""
    images = subjects.right(network, arguments.examples)
    attack = subjects.l2(arguments.steps)
    made = subjects.attacked(network, attack, images, seed=arguments.seed)
    good = network.test.images[~network.wrong]
    base, others = good[: len(made)], good[arguments.examples : arguments.examples + len(made)]
    parts = [base, np.concatenate([base, made]), np.concatenate([base, others])]
    first, adversarial, natural = (cw.coverage.measure(network.neurons, criteria, part, batch=100) for part in parts)
    for name, said in first.items():
        gains = [100 * (more[name].value - said.value) for more in (adversarial, natural)]
        yield row("E3", name, f"points that {len(made)} C&W examples add", *gains)


def shared_cells(network, arguments) -> Iterator[dict[str, Any]]:
    """E4, for each layer of activation functions."""
    images = subjects.right(network, arguments.cells)
    names = [layer.name for layer in cw.coverage.neurons(network.model, images.images).convention.layers]
    keys = jax.random.split(jax.random.key(arguments.seed), len(images.labels))
    for name in names:
        before = cw.coverage.neurons(network.model, images.images, layers=name, value="before", unit="element")
        both = cw.bind(values_too, before)
        signs = np.where(np.asarray(values_too(before, images.images)[1]) > 0, 1, -1).astype(np.float32)
        objective = cw.objectives.all_of([cw.losses.negative_margin(), kept()])
        attack = cw.fast("l2", steps=arguments.steps, objective=objective)
        goal = (cw.untargeted(images.labels), signs)
        result = jax.jit(cw.batched(attack))(both, keys, images.images, goal)
        logits, values = map(np.asarray, values_too(before, np.asarray(result.x)))
        held = (logits.argmax(-1) != images.labels) & (np.where(values > 0, 1, -1) == signs).all(1)
        found = float((held & np.asarray(result.success)).mean())
        size = signs.shape[1]
        yield row("E4", f"{name} ({size} neurons)", f"share of {len(images.labels)} cells with one", found)


def values_too(neurons: cw.coverage.Neurons, x):
    """The logits and the values of the neurons."""
    outputs, activations = neurons(x)
    return outputs, activations.values


def kept() -> cw.Objective:
    """The sign of every neuron stays as it was; the goal is those signs."""

    def loss(values, signs):
        return jnp.maximum(-signs * values, 0).sum()

    def met(values, signs):
        return ((values > 0) == (signs > 0)).all()

    def check(values, signs) -> None:
        if values.shape != signs.shape:
            raise ValueError(f"signs of {values.shape} neurons are wanted, got {signs.shape}")

    return cw.Objective(loss=loss, met=met, check=check, reaches=lambda goal: jnp.asarray(True), logits=None)


def fuzzed(network, profile, arguments) -> Iterator[dict[str, Any]]:
    """E5: fuzzing with new coverage kept, and with as many kept by chance."""
    criterion = cw.coverage.section_coverage(profile, sections=100)
    guided = _fuzzed(network, criterion, arguments, None)
    chance = _fuzzed(network, criterion, arguments, guided[1])
    test = mannwhitneyu(guided[0], chance[0]).pvalue if set(guided[0]) | set(chance[0]) != {0} else np.nan
    mutants = 64 * arguments.rounds
    value, beside = (100 * sum(errors) / mutants for errors in (guided[0], chance[0]))
    yield row("E5", criterion.name, f"errors in 100 of {mutants} mutants", value, beside, float(test))


def _fuzzed(network, criterion, arguments, keep: list[int] | None) -> tuple[list[int], list[int]]:
    """The errors of each round, and how many mutants it kept; where `keep` says so, that many by chance."""
    rng = np.random.default_rng(arguments.seed)
    start = subjects.right(network, arguments.seeds)
    queue, origin = list(start.images), list(range(len(start.images)))
    covered = np.bitwise_or.reduce(
        priority.covered_by_each(criterion, subjects.activations(network.neurons, start.images))
    )
    errors, counts = [], []
    for number in range(arguments.rounds):
        chosen = rng.integers(0, len(queue), 64)
        roots = np.asarray([origin[place] for place in chosen])
        first = start.images[roots]
        moved = np.stack([queue[place] for place in chosen]) + rng.normal(0, 0.1, first.shape)
        made = np.clip(np.clip(moved, first - arguments.epsilon, first + arguments.epsilon), 0, 1).astype(np.float32)
        said = shown.outputs_of(network.model, made).argmax(-1)
        errors.append(int((said != start.labels[roots]).sum()))
        alone = priority.covered_by_each(criterion, subjects.activations(network.neurons, made))
        new = []
        for place, bits in enumerate(alone):
            if np.bitwise_count(bits & ~covered).any():
                covered |= bits
                new.append(place)
        if keep is not None:
            new = rng.choice(64, keep[number], replace=False).tolist()
        counts.append(len(new))
        queue += [made[place] for place in new]
        origin += [int(roots[place]) for place in new]
    return errors, counts


def figure(clouds: dict[str, dict[str, Any]]) -> Figure:
    """E1: a dot for each suite."""
    names = list(next(iter(clouds.values())))
    drawn = Figure(figsize=(2.3 * len(names), 2.2 * len(clouds) + 0.6), dpi=110, layout="constrained")
    panels = drawn.subplots(len(clouds), len(names), squeeze=False)
    for line, (network, cloud) in zip(panels, clouds.items(), strict=True):
        for axes, name in zip(line, names, strict=True):
            covered, errors = cloud[name]
            axes.plot(covered, errors, ".", color=shown.BLUE, alpha=0.4, markersize=4)
            if network == next(iter(clouds)):
                axes.set_title(name, fontsize=9, parse_math=False)
            shown.plain(axes, "bits covered", f"{network}: errors" if name == names[0] else "")
    drawn.suptitle("A dot for each natural suite of one size: coverage has little to do with errors")
    return drawn


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
