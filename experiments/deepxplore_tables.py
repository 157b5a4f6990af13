"""DeepXplore's tables 2, 5, 6 and 7 beside ours, on the networks that it released: digits, and PDF documents.

Claim: light finds differences for most seeds with each network as the target, also where the paper has few; what is
found depends on rules that the paper does not state. With whole counts that may only grow, documents give a fifth to a
half of what the released rules report. Neuron coverage in the objective changes none of the numbers by much.

Command:

    python -m experiments.deepxplore_tables --weights LENETS --data mnist --data-folder FOLDER \
        --features pdf135.npz --networks deepxplore_pdf_models.npz
    python -m experiments.deepxplore_tables                                      # digits alone, the zoo's networks

Cost: eight minutes of one core.

Expect: docs/generation_neurons.md has the table.

The paper draws 2,000 seeds with replacement and names no number of iterations; the released code's comment says 20.
Ours has `seeds` test inputs. Rows of table 2 are the share of seeds from which a difference was found, without those on
which the networks differ already: `as released` without a box and judged before any rounding, `in the box` in [0, 1]
and judged after 8 bits. On documents 33 counts may only grow and 35 other features may change both ways, as in the
released code; `whole counts` lets the 33 alone grow, to at most the 99th percentile of all documents, and judges whole
numbers. experiments.deepxplore_documents has attacks on "two networks disagree" beside that.

Table 5 has `repeats` parts of the test inputs, without and with neuron coverage in the objective: the share of seeds
with a difference, its mean L1 distance from the seed as an 8-bit image in [0, 1], and the mean coverage of the three
networks at .25. Table 6 is the mean over 50 draws of ten test inputs, at .75. Table 7 is over 100 pairs of digits, the
neurons of LeNet-5 at .25; the paper does not say at which threshold.

FILES: as for experiments.deepxplore and experiments.malware_pdf. Coverage describes inputs; it is no measure of their
quality. Writes OUT/deepxplore_tables.md, .csv and .png.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import tyro
from matplotlib.figure import Figure

import cwjax as cw
from cwjax.coverage import Neurons
from cwjax.coverage.criterion import unpacked
from cwjax.generation import deepxplore
from cwjax.lab.console.progress import say
from cwjax.lab.files import store
from experiments import coverage_subjects as subjects
from experiments import deepxplore_documents as documents
from experiments import shown

FAR = 1e15  # a bound that no feature comes to: some are times in seconds
TABLE_2 = {"digits": (1073, 1968, 827), "documents": (1103, 789, 1253)}  # of 2,000
TABLE_5 = (
    "871, 789, 734 differences; L1 237.9, 194.6, 170.8; NC 69.4, 66.7, 68.9 %",
    "776, 680, 658 differences; L1 283.3, 253.2, 182.7; NC 70.6, 67.8, 70.2 %",
)
TABLE_6 = {"digits": "32.7, 33.1, 25.7 %", "documents": "19.8, 17.3, 17.3 %"}
TABLE_7 = {"the same class": "74.2 of 84.1", "different classes": "45.9 of 83.6"}


@dataclasses.dataclass(frozen=True)
class Arguments(subjects.Common):
    models: tuple[str, ...] = ("zoo:mnist_lenet", "zoo:mnist_cnn", "zoo:mnist_distilled")  # without --weights
    features: Path | None = None  # documents
    networks: Path | None = None  # that judge them
    seeds: int = 100  # the first test images
    documents: int = 500  # drawn at random
    steps: int = 20  # iterations for each seed
    repeats: int = 3  # parts of the seeds in table 5
    draws: int = 50  # of ten inputs, in table 6
    pairs: int = 100  # in table 7
    out: Path = Path("runs/deepxplore_tables")  # where the results go


class Family(NamedTuple):
    """Networks of one kind of input."""

    name: str
    models: tuple[cw.Model, ...]
    neurons: tuple[Neurons, ...]
    inputs: np.ndarray  # of the test
    labels: np.ndarray
    seeds: np.ndarray


Note = Callable[[int, str, str, str], None]
"""`(table, what, published, ours)`: one more row."""

Search = Callable[[Family, int], np.ndarray]
"""`(family, target) -> bool [B]`: from which seeds a difference was found, those that differ already too."""


def main(arguments: Arguments) -> list[dict[str, str]]:
    """Runs the experiment; one row for each line of a table."""
    store.make_folder(arguments.out)
    rows: list[dict[str, str]] = []

    def note(table: int, what: str, published: str, ours: str) -> None:
        rows.append({"table": str(table), "what": what, "published": published, "ours": ours})
        say(f"table {table}, {what}: {ours}")

    families = [of_digits(arguments)]
    table_2(families[0], digit_searches(arguments), note)
    if arguments.features and arguments.networks:
        found = documents.read(arguments.features, arguments.networks)
        chosen = np.random.default_rng(arguments.seed).permutation(len(found.x))[: arguments.documents]
        families.append(Family("documents", found.models, found.neurons, found.x, found.labels, found.x[chosen]))
        table_2(families[1], document_searches(arguments, found.rules), note)
    table_5(arguments, families[0], note)
    for family in families:
        table_6(arguments, family, note)
    table_7(arguments, families[0], note)
    told = ["Coverage describes the inputs; it is no measure of their quality."]
    shown.write("deepxplore_tables", "DeepXplore's tables", rows, figure(rows), arguments, told=told)
    return rows


def of_digits(arguments: Arguments) -> Family:
    """The LeNets of the weights' file, or the zoo's networks."""
    models = () if arguments.weights else arguments.models
    found = subjects.networks(dataclasses.replace(arguments, models=models))
    test = found[0].test
    neurons, several = tuple(each.neurons for each in found), tuple(each.model for each in found)
    return Family("digits", several, neurons, test.images, test.labels, test.images[: arguments.seeds])


def digit_searches(arguments: Arguments) -> dict[str, Search]:
    """The ways to search on digits: by light."""
    attack = deepxplore.differential(deepxplore.light(), step=10.0, steps=arguments.steps)
    plain, rounded = jax.jit(cw.batched(attack)), jax.jit(cw.discretised(cw.batched(attack), steps=5))
    return {
        "light, as released": lambda family, target: explored(family, plain, target, low=-1e4, high=1e4).success,
        "light, in the box": lambda family, target: explored(family, rounded, target).success,
    }


def document_searches(arguments: Arguments, rules: documents.Rules) -> dict[str, Search]:
    """The ways to search on documents."""

    def attack(both: np.ndarray | None) -> cw.Attack:
        constraint = documents.in_deviations(deepxplore.increasing(rules.grows, both), rules.unit)
        return deepxplore.differential(constraint, step=documents.STEP, steps=arguments.steps, leaving_weight=2.0)

    def bounds(family: Family) -> dict[str, Any]:
        return {"low": family.seeds, "high": np.maximum(rules.high, family.seeds), "mask": rules.grows}

    whole = cw.runners.snapped(cw.batched(attack(None)), cw.lattices.lattice(steps=1.0), steps=documents.REPAIRS)
    plain, counted = jax.jit(cw.batched(attack(rules.both))), jax.jit(whole)
    return {
        "as released": lambda family, target: explored(family, plain, target, low=-FAR, high=FAR).success,
        "whole counts": lambda family, target: explored(family, counted, target, **bounds(family)).success,
    }


def explored(family: Family, run: Any, target: int, seed: int = 0, **bounds: Any) -> deepxplore.Explored:
    """DeepXplore's search from all seeds, in three rounds; coverage at 0, as in the paper's table 2."""
    keys = jax.random.split(jax.random.key(seed), len(family.seeds))
    return deepxplore.explored(run, family.neurons, keys, family.seeds, target=target, rounds=3, **bounds)


def table_2(family: Family, searches: dict[str, Search], note: Note) -> None:
    """Of the seeds those from which a difference was found, for each network that is to leave its answer."""
    for target, published in enumerate(TABLE_2[family.name]):
        for name, search in searches.items():
            told = f"{published / 2000:.1%} of 2,000" if "released" in name else "–"
            note(2, f"{family.name}, {name}, network {target + 1}", told, f"{search(family, target).mean():.1%}")


def table_5(arguments: Arguments, digits: Family, note: Note) -> None:
    """What neuron coverage in the objective does to number, distance and coverage of differences."""
    parts = np.array_split(np.arange(len(digits.inputs))[: arguments.repeats * arguments.seeds], arguments.repeats)
    for weight, published in zip((0.0, 1.0), TABLE_5, strict=True):
        attack = deepxplore.differential(deepxplore.light(), step=10.0, steps=arguments.steps, coverage_weight=weight)
        run, told = jax.jit(cw.batched(attack)), []
        for number, rows in enumerate(parts):
            part = digits._replace(seeds=digits.inputs[rows])
            found = explored(part, run, 0, number, low=-1e4, high=1e4)
            made = shown.eight_bits(found.result.x[found.success])
            far, covered = float("nan"), 0.0
            if len(made):
                far = float(np.abs(made - part.seeds[found.success]).reshape(len(made), -1).sum(1).mean())
                covered = float(coverage_of(digits, made, 0.25).mean())
            told.append((found.success.mean(), far, covered))
        shares, distances, coverages = zip(*told, strict=True)
        ours = f"{_list(shares)} of the seeds; L1 {_list(distances, 1)}; NC {_list(coverages)}"
        note(5, f"coverage counts {weight:g}", published, ours)


def table_6(arguments: Arguments, family: Family, note: Note) -> None:
    """Coverage of ten inputs at .75, the mean of many draws."""
    rng = np.random.default_rng(arguments.seed)
    drawn = [rng.permutation(len(family.inputs))[:10] for _ in range(arguments.draws)]
    covered = np.mean([coverage_of(family, family.inputs[each], 0.75) for each in drawn], 0)
    note(6, f"{family.name}, ten inputs", TABLE_6[family.name], _list(covered))


def table_7(arguments: Arguments, digits: Family, note: Note) -> None:
    """How many neurons of the last network two digits activate in common."""
    rng, labels = np.random.default_rng(arguments.seed), digits.labels
    for what, published in TABLE_7.items():
        pairs = rng.integers(0, len(labels), (100 * arguments.pairs, 2))
        same = labels[pairs[:, 0]] == labels[pairs[:, 1]]
        pairs = pairs[(same == (what == "the same class")) & (pairs[:, 0] != pairs[:, 1])][: arguments.pairs]
        on = np.stack([active(digits.neurons[-1], digits.inputs[each], 0.25) for each in pairs.ravel()])
        both = (on[::2] & on[1::2]).sum(1).mean()
        note(7, what, published, f"{both:.1f} of {on.sum(1).mean():.1f}")


def coverage_of(family: Family, x: np.ndarray, threshold: float) -> np.ndarray:
    """Neuron coverage of each network."""
    found = []
    for neurons in family.neurons:
        criterion = cw.coverage.neuron_coverage(neurons.convention, threshold=threshold)
        found.append(cw.coverage.measure(neurons, criterion, x).value)
    return np.asarray(found)


def active(neurons: Neurons, x: np.ndarray, threshold: float) -> np.ndarray:
    """Which neurons one input activates, by DeepXplore's scale, bool [N]."""
    criterion = cw.coverage.neuron_coverage(neurons.convention, threshold=threshold)
    state = criterion.update(criterion.init(), _activations(neurons, x[None]))
    return np.asarray(unpacked(state.bits, neurons.convention.neurons))


@jax.jit
def _activations(neurons: Neurons, x: jax.Array) -> cw.coverage.Activations:
    return neurons(x)[1]


def _list(values: Sequence[float], digits: int | None = None) -> str:
    return ", ".join(f"{value:.1%}" if digits is None else f"{value:.{digits}f}" for value in values)


def figure(rows: list[dict[str, str]]) -> Figure:
    """Table 2: published and ours."""
    some = [row for row in rows if row["table"] == "2"]
    drawn = Figure(figsize=(7, 0.28 * len(some) + 1.2), dpi=110, layout="constrained")
    axes = drawn.subplots()
    places = np.arange(len(some))[::-1]
    for shift, whose, colour in ((0.2, "published", "#9a9a9a"), (-0.2, "ours", shown.BLUE)):
        values = [float(row[whose].split("%")[0]) if "%" in row[whose] else 0 for row in some]
        axes.barh(places + shift, values, 0.38, color=colour, label=whose)
    axes.set_yticks(places, [row["what"] for row in some], fontsize=8)
    axes.set(xlim=(0, 100))
    axes.legend(frameon=False, fontsize=8)
    shown.plain(axes, "% of the seeds with a difference", "")
    return drawn


if __name__ == "__main__":
    given = tyro.cli(Arguments, description=__doc__)
    say(f"{len(main(given))} rows done")
