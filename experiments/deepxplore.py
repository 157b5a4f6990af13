"""DeepXplore on digits: what its published differences are worth in the box, and beside an attack of equal cost.

Claim: DeepXplore's released code judges images that leave [0, 1]. Once they are saved as 8-bit images, most of its
differences by occlusion and nearly all by blackout are gone. With the box in the loop and 8 bits in the judgement, what
is reported survives. Attacks on "two models disagree" find more with at most as many gradients, and nearer ones: the
fast one in L2 from every seed, PGD in L-infinity from nearly all.

Command:

    python -m experiments.deepxplore --weights FILE --models "" --data mnist --data-folder FOLDER  # the released LeNets
    python -m experiments.deepxplore                                            # the zoo's networks on mnist5k

Cost: five minutes of processor time for 150 seeds and the three LeNets.

Expect: of 150 digits, with the first LeNet to leave the label and 21 gradients each at the most,

| search | found | after 8 bits | mean L-infinity | mean L2 |
|---|---|---|---|---|
| light, released / in the box | 128 / 136 | 123 / 136 | .87 / .80 | 22.8 / 18.7 |
| occlusion, released / in the box | 115 / 76 | 31 / 76 | 1 / 1 | 6.87 / 6.81 |
| blackout, released / in the box | 150 / 17 | 1 / 17 | 1 / 1 | 2.73 / 4.72 |
| PGD in L-infinity within .3 | 149 | 149 | .10 | 1.92 |
| fast, in L2 | 150 | 150 | .24 | 1.32 |
| DDN, in L2 | 138 | 138 | .23 | 1.13 |
| fast, in L-infinity | 110 | 110 | .08 | 1.70 |
| FMN in L-infinity / in L2 | 103 / 66 | 103 / 66 | .10 / .31 | 1.69 / 1.55 |

Published, without a box: 1,073 of 2,000 with the first network as the target (54 %; ours as released, by light: 85 %).
The paper draws seeds with replacement and does not say how many iterations each has. The attacks have 15 gradients and
at most 5 for 8 bits. In L-infinity 15 are few for an attack that looks for its own radius: the fast one finds fewer
than light, at a tenth of its distance, and PGD, whose radius is given, finds nearly all. FMN finds fewest.

`found` are differences that the search reports, of all seeds, without those on which the models differ already. `after
8 bits` are those that are left when the image is clipped to [0, 1], made 8-bit and given to the models again: by
truncation, as the released code saves it, or as `cw.discretised` rounds. Neuron coverage is that of these images.

Writes OUT/deepxplore.md, .csv and .png.
"""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import tyro
from matplotlib.figure import Figure

import cwjax as cw
from cwjax.base import Attack
from cwjax.coverage import Neurons
from cwjax.generation import deepxplore, differences
from cwjax.lab.console.progress import progress, say
from cwjax.lab.files import store
from experiments import coverage_subjects as subjects
from experiments import shown

PUBLISHED = 1073, 1968, 827  # differences of 2,000 MNIST seeds; table 2 of the paper, one model as the target each


@dataclasses.dataclass(frozen=True)
class Arguments(subjects.Common):
    models: tuple[str, ...] = ("zoo:mnist_lenet", "zoo:mnist_cnn", "zoo:mnist_distilled")
    seeds: int = 150  # the first test images
    steps: int = 20  # iterations for each seed
    step: float = 10.0  # DeepXplore's s
    target: int = 0  # which model is to leave the label
    threshold: float = 0.25  # of neuron coverage
    patch: int = 10  # a side of what occlusion changes; blackout has 6 of 10 of it
    constraints: tuple[str, ...] = ("light", "occlusion", "blackout")
    norms: tuple[str, ...] = ("l2", "linf")  # of the attacks on the disagreement
    repairs: int = 5  # gradients that 8 bits may take of each
    epsilon: float = 0.3  # of PGD in L-infinity on the disagreement
    rounds: int = 3  # parts of the seeds, each of which knows what the ones before it covered
    out: Path = Path("runs/deepxplore")  # where the results go


class Subject(NamedTuple):
    """Models of one data set with their neurons, and seeds."""

    names: tuple[str, ...]
    neurons: tuple[Neurons, ...]
    models: tuple[cw.Model, ...]
    seeds: np.ndarray
    labels: np.ndarray


class Suite(NamedTuple):
    """What one way to search came to."""

    x: np.ndarray  # as the search left it
    found: np.ndarray  # where it reports a difference that the seed has not
    saved: np.ndarray  # the same as 8-bit images
    gradients: float  # a seed, in the mean


def main(arguments: Arguments, subject: Subject | None = None) -> list[dict[str, Any]]:
    """Runs the experiment; one row for each way to search."""
    store.make_folder(arguments.out)
    some = subject or subject_of(arguments)
    joined = cw.joined(some.models)
    clean = deepxplore.answers(joined, some.seeds)
    already = (clean != clean[0]).any(0)
    misread = ~already & (clean[0] != some.labels)
    told = [
        f"Networks: {', '.join(some.names)}; {len(some.seeds)} seeds. They disagree on {already.sum()} of them "
        f"already, which are left out, and are wrong together on {misread.sum()}.",
        f"Published: {', '.join(map(str, PUBLISHED))} differences of 2,000 seeds (Pei et al. 2017, table 2), judged "
        "without a box.",
        "Neuron coverage describes the images; it is no measure of quality.",
    ]
    rows, suites = [], {}
    ways = searches(arguments, some)
    with progress("searches", len(ways), first="compiling") as advance:
        for name, search in ways.items():
            suite = search(~already)
            answers = deepxplore.answers(joined, suite.saved)
            kept = suite.found & (answers != answers[0]).any(0)
            rows.append({"search": name} | numbers(arguments, some, suite, answers, kept))
            suites[name] = (suite, answers, kept)
            advance(1, f"{name}: {suite.found.sum()} found, {kept.sum()} after 8 bits", now=True)
    shown.write("deepxplore", "Inputs on which models disagree", rows, figure(some, suites), arguments, told=told)
    return rows


def subject_of(arguments: Arguments) -> Subject:
    """The networks of the weights' file, or those named, and the first test images."""
    asked = dataclasses.replace(arguments, models=tuple(filter(None, arguments.models)))
    found = subjects.networks(asked)
    test = found[0].test
    names, neurons, models = zip(*((each.name, each.neurons, each.model) for each in found), strict=True)
    return Subject(names, neurons, models, test.images[: arguments.seeds], test.labels[: arguments.seeds])


def searches(arguments: Arguments, some: Subject) -> dict[str, Callable[[np.ndarray], Suite]]:
    """The ways to search by name; each is told which seeds count."""
    small = math.ceil(0.6 * arguments.patch)
    constraints = {
        "light": deepxplore.light(),
        "occlusion": deepxplore.occlusion(arguments.patch, arguments.patch),
        "blackout": deepxplore.blackout(small),
    }
    ways: dict[str, Callable[[np.ndarray], Suite]] = {}
    for name in arguments.constraints:
        constraint = constraints[name]
        attack = deepxplore.differential(constraint, step=arguments.step, steps=arguments.steps)
        plain, rounded = jax.jit(cw.batched(attack)), in_eight_bits(arguments, attack)
        ways[f"{name}, released"] = lambda counts, run=plain: released(arguments, some, run, counts)
        ways[f"{name}, in the box"] = lambda counts, run=rounded: inside(arguments, some, run, counts)
    objective, points = differences.models_disagree(hinged=False), max(arguments.steps - arguments.repairs, 1)
    attacks = {f"FMN {norm}": cw.attacks.fmn(norm=norm, objective=objective, steps=points) for norm in arguments.norms}
    attacks |= {f"fast {norm}": cw.fast(norm, objective=objective, steps=points) for norm in arguments.norms}
    if "l2" in arguments.norms:
        attacks["DDN l2"] = cw.attacks.ddn(objective=objective, steps=points)
    attacks[f"PGD linf {arguments.epsilon:g}"] = cw.attacks.pgd(
        epsilon=arguments.epsilon, relative_step=0.1, steps=points, random_start=False, objective=objective
    )
    for name, attack in attacks.items():
        run = in_eight_bits(arguments, attack)
        ways[f"{name} on the disagreement"] = lambda counts, run=run: attacked(arguments, some, run, counts)
    return ways


def in_eight_bits(arguments: Arguments, attack: Attack) -> Any:
    """The attack in the box, judged after 8 bits. Looks at rounded images are gradients too."""
    return jax.jit(cw.discretised(cw.batched(attack), steps=arguments.repairs))


def released(arguments: Arguments, some: Subject, run: Any, counts: np.ndarray) -> Suite:
    """As the released code: no box in the loop, and images clipped and truncated to 8 bits when they are saved."""
    found = explored(arguments, some, run, low=-1e4, high=1e4)
    saved = np.floor(255 * np.clip(found.result.x, 0, 1)).astype(np.float32) / 255
    return Suite(np.asarray(found.result.x), found.success & counts, saved, float(found.result.forwards[counts].mean()))


def inside(arguments: Arguments, some: Subject, run: Any, counts: np.ndarray) -> Suite:
    """Within the box, and judged after 8 bits."""
    found = explored(arguments, some, run)
    x = np.asarray(found.result.x)
    return Suite(x, found.success & counts, x, float(found.result.forwards[counts].mean()))


def explored(arguments: Arguments, some: Subject, run: Any, **bounds: Any) -> deepxplore.Explored:
    """DeepXplore's search from all seeds."""
    return deepxplore.explored(
        run,
        some.neurons,
        keys_of(arguments, some),
        some.seeds,
        target=arguments.target,
        rounds=arguments.rounds,
        threshold=arguments.threshold,
        **bounds,
    )


def attacked(arguments: Arguments, some: Subject, run: Any, counts: np.ndarray) -> Suite:
    """An attack on the disagreement itself."""
    goal = cw.untargeted(some.labels)
    result, _ = run(cw.joined(some.models), keys_of(arguments, some), some.seeds, goal)
    x = np.asarray(result.x)
    return Suite(x, np.asarray(result.success) & counts, x, float(np.asarray(result.forwards)[counts].mean()))


def keys_of(arguments: Arguments, some: Subject) -> jax.Array:
    """One for each seed."""
    return jax.random.split(jax.random.key(arguments.seed), len(some.seeds))


def numbers(arguments: Arguments, some: Subject, suite: Suite, answers: np.ndarray, kept: np.ndarray) -> dict[str, Any]:
    """A row of the table."""
    change = (suite.saved.astype(np.float64) - some.seeds).reshape(len(some.seeds), -1)[kept]
    made, raw = suite.saved[kept], suite.x[suite.found]
    row: dict[str, Any] = {
        "seeds": len(some.seeds),
        "found": int(suite.found.sum()),
        "after 8 bits": int(kept.sum()),
        "pixels out of [0, 1]": float(((raw < 0) | (raw > 1)).mean()) if len(raw) else float("nan"),
        "pairs of seed and answers": len({(place, *answers[:, place]) for place in np.flatnonzero(kept)}),
        "mean L2": float(np.linalg.norm(change, axis=1).mean()) if len(change) else float("nan"),
        "mean Linf": float(np.abs(change).max(1).mean()) if len(change) else float("nan"),
        "gradients a seed": suite.gradients,
    }
    for name, neurons in zip(some.names, some.neurons, strict=True):
        criterion = cw.coverage.neuron_coverage(neurons.convention, threshold=arguments.threshold)
        covered = cw.coverage.measure(neurons, criterion, made).value if len(made) else 0.0
        row[f"NC {name}"] = covered
    return row


def figure(some: Subject, suites: dict[str, tuple[Suite, np.ndarray, np.ndarray]]) -> Figure:
    """For each search: a seed, what the search left, what a file can hold of it, and what the models say."""
    drawn = Figure(figsize=(6.4, 1.75 * len(suites)), dpi=100, layout="constrained")
    grid = drawn.subplots(len(suites), 3, squeeze=False)
    for line, (name, (suite, answers, kept)) in zip(grid, suites.items(), strict=True):
        chosen = np.flatnonzero(kept if kept.any() else suite.found)
        place = int(chosen[len(chosen) // 2]) if len(chosen) else 0
        images = some.seeds[place], suite.x[place], suite.saved[place]
        said = ", ".join(map(str, answers[:, place]))
        titles = f"the seed ({some.labels[place]})", f"{name}", f"as 8 bits: {said}"
        for axes, image, title in zip(line, images, titles, strict=True):
            axes.imshow(np.clip(image, 0, 1).squeeze(), cmap="gray", vmin=0, vmax=1)
            axes.set_title(title, fontsize=8)
            axes.axis("off")
    drawn.suptitle(f"Answers of {', '.join(some.names)}", fontsize=9)
    return drawn


if __name__ == "__main__":
    given = tyro.cli(Arguments, description=__doc__)
    say(f"{len(main(given))} searches done")
