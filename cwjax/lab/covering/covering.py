"""What `cwjax cover` measures: suites of inputs, criteria, and the coverage of both at equal numbers of inputs."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cwjax import coverage
from cwjax.coverage import Coverage, Criterion, Neurons, Profile
from cwjax.lab.attacking import runs
from cwjax.lab.files import store
from cwjax.lab.generating import generated
from cwjax.lab.sweeps import outcomes, results, working
from cwjax.lab.sweeps.vault import Vault

NATURAL = "test images"

COLUMNS = {
    "NC": "share of the neurons whose value, scaled within its layer, is above t for some input",
    "KMNC": "share of the k sections of every neuron's range on training images that are reached",
    "NBC": "share of the two sides beyond that range that are reached",
    "SNAC": "the same of the upper side alone",
    "TKNC": "share of the neurons that are among the k strongest of their layer for some input",
    "TKNP": "how many different sets of these strongest neurons there are",
}
"""How the names of the criteria of `criteria_of` begin, and what they measure."""


_EXAMPLES = "adversarial.npz"


class Suite(NamedTuple):
    """Inputs whose coverage is measured together."""

    name: str
    images: np.ndarray  # float32 [M, *S]


class Measured(NamedTuple):
    """The coverage of a suite's first inputs."""

    suite: str
    inputs: int
    coverages: dict[str, Coverage]


def criteria_of(profile: Profile, sections: int) -> dict[str, Criterion]:
    """The criteria of the report, by name: those whose state stays small whatever the network."""
    of = profile.convention
    several = [
        *(coverage.neuron_coverage(of, threshold=threshold) for threshold in (0.25, 0.75)),
        coverage.section_coverage(profile, sections=sections),
        coverage.boundary_coverage(profile),
        coverage.strong_activation_coverage(profile),
        coverage.top_neuron_coverage(of, k=2),
        coverage.top_pattern_count(of, k=2),
    ]
    return {criterion.name: criterion for criterion in several}


def check_suites(folders: Sequence[Path]) -> None:
    """Raises ValueError where a folder is not there, or holds nothing that can be covered. Nothing is read."""
    wrote = "--suite takes folders that `cwjax attack`, `cwjax sweep` or `cwjax generate` wrote"
    for folder in folders:
        if not folder.is_dir():
            raise ValueError(f"--suite {folder}: there is no such folder; {wrote}")
        if not any((folder / file).is_file() for file in (generated.FILE, results.PLAN, _EXAMPLES)):
            raise ValueError(f"--suite {folder} holds no run; {wrote}")


def suites_of(folders: Sequence[Path], shape: tuple[int, ...], model: str) -> Iterator[Suite]:
    """The adversarial examples of each folder, of each attack of a run or configuration of a sweep by itself: only
    those that succeeded. Of `cwjax generate` the tests that are no seeds.

    Args:
      folders: of `cwjax attack`, `cwjax sweep` or `cwjax generate`.
      shape: of one image.
      model: whose coverage is measured: a sweep's configurations of other models are left out.

    Raises:
      ValueError: a folder of something else, images of another shape, a suite without a success, or a sweep of other
        models.
    """
    check_suites(folders)
    for folder in folders:
        if generated.is_one(folder):
            several = _of_tests(folder)
        else:
            several = _of_sweep(folder, model) if (folder / results.PLAN).exists() else _of_run(folder)
        for name, images, success in several:
            if images.shape[1:] != shape:
                raise ValueError(f"{folder} has images {list(images.shape[1:])}, and the data has {list(shape)}")
            if not success.any():
                raise ValueError(f"{name}, of {folder}, has no success: there is nothing to cover")
            yield Suite(f"{folder.name}, {name}", images[success])


def moved(folders: Sequence[Path], model: str) -> list[str]:
    """In a sentence each: the suites that were found on other models than the one whose coverage is measured."""
    found = []
    for folder in folders:
        if generated.is_one(folder):
            models = generated.read(folder).about["models"]
        elif (folder / runs.FILE).is_file():
            about = store.read_json(folder / runs.FILE).get("about", {})
            models = [about.get("configuration", {}).get("model", model)]
        else:  # a sweep, of which other models are left out
            continue
        if model not in models:
            found.append(f"{folder} was found on {' and '.join(models)}; here its inputs go to {model}.")
    return found


def _of_tests(folder: Path) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """The same of a system that generated tests."""
    tests = generated.read(folder)
    yield tests.about["system"], tests.x, tests.met & ~tests.already


def _of_run(folder: Path) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Of each attack: its name, its images, and which of them succeeded."""
    path = folder / _EXAMPLES
    try:
        with np.load(path) as file:
            images, success, attacks = (file[name] for name in ("adversarial", "success", "attack"))
    except (ValueError, KeyError, OSError) as error:
        raise store.CorruptFile(f"{path} is damaged: {error}") from error
    for attack in dict.fromkeys(attacks.tolist()):
        chosen = attacks == attack
        yield attack, images[chosen], success[chosen]


def _of_sweep(folder: Path, model: str) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """The same of each configuration of the model, by its label. Units that are not done are left out."""
    vault, found = Vault(folder), outcomes.read(folder)[0]
    mine = [each for each in found if each.axes["model"] == model]
    if not mine:
        others = ", ".join(dict.fromkeys(each.axes["model"] for each in found))
        raise ValueError(f"the sweep in {folder} has nothing of --model {model}: it is of {others}")
    for each in mine:
        files = [kept for unit in each.units if (kept := vault.get(unit)) is not None]
        images = np.concatenate([working.arrays(kept)["adversarial"] for kept in files])
        success = np.concatenate([working.table(kept)["success"].to_numpy() for kept in files])
        yield f"{each.place}: {each.label('model', 'data')}", images, success


def counts_of(inputs: int) -> tuple[int, ...]:
    """Where a curve is read: at powers of two, and at its end."""
    return (*(2**power for power in range(inputs.bit_length()) if 2**power < inputs), inputs)


def measured(
    neurons: Neurons,
    criteria: Mapping[str, Criterion],
    suites: Sequence[Suite],
    counts: Sequence[int] = (),
    advance: Callable[[], Any] = lambda: None,
) -> list[Measured]:
    """The curves of all suites: each at the counts of its own, and at these as far as it has inputs. `advance` is
    called after each suite.
    """
    found = []
    for suite in suites:
        own = set(counts_of(len(suite.images))) | {count for count in counts if count <= len(suite.images)}
        at = sorted(own)
        curve = coverage.curve(neurons, criteria, suite.images, at)
        found += [Measured(suite.name, count, each) for count, each in zip(at, curve, strict=True)]
        advance()
    return found


def table(points: Sequence[Measured], criterion_names: Sequence[str]) -> list[dict[str, str]]:
    """A row for the whole of each suite, and below the first of each size one for equally many test images."""
    whole = {point.suite: point for point in points}  # the last of each is its end
    natural = {point.inputs: point for point in points if point.suite == NATURAL}
    rows, told = [], set()
    for suite, point in whole.items():
        rows.append(_row(suite, point, criterion_names))
        if suite != NATURAL and point.inputs in natural and point.inputs not in told:
            rows.append(_row(f"{NATURAL}, as many", natural[point.inputs], criterion_names))
            told.add(point.inputs)
    return rows


def _row(name: str, point: Measured, criterion_names: Sequence[str]) -> dict[str, str]:
    shown = {criterion: shown_as(point.coverages[criterion]) for criterion in criterion_names}
    return {"suite": name, "inputs": f"{point.inputs:,}"} | shown


def shown_as(said: Coverage) -> str:
    """A share as per cent, a count as it is."""
    return f"{100 * said.value:.2f} %" if said.total else f"{said.value:,.0f}"


def layers_table(point: Measured, criterion_names: Sequence[str]) -> list[dict[str, str]]:
    """A row for each layer: its neurons, and the share that is covered by each criterion that is of layers."""
    of = next(iter(point.coverages.values())).convention
    return [
        {
            "layer": layer.name,
            "kind": layer.kind,
            "shape": "×".join(map(str, layer.shape)),
            "neurons": f"{layer.neurons:,}",
        }
        | {
            name: f"{100 * point.coverages[name].covered[layer.name] / point.coverages[name].total[layer.name]:.2f} %"
            for name in criterion_names
            if point.coverages[name].total
        }
        for layer in of.layers
    ]
