"""What each tuned number of the fast attacks is worth: the same attack with that number halved, and doubled.

Claim: few of them are worth more than a percent. Expected numbers: `benchmarks/tuned.md`, which lists them all.

    python -m benchmarks.tuned                       # 100 gradients, an hour on one core
    python -m benchmarks.tuned --steps 300 --only legs

Networks: small ones of the zoo, which the attacks were tuned on; nothing that they are judged by. Images: those that a
network gets right, after the first 200 of mnist5k's test split; each away from its label and towards the next class.

A share above one half, such as 0.9, is changed in what it lacks: to 0.8 and 0.95. All variants share one program, into
which the numbers are traced; only a number of classes is compiled anew.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
import tyro

import cwjax as cw
from cwjax.attacks.fast import aims, attacks, legs, scout, shrink, slide
from cwjax.lab import data, zoo
from cwjax.lab.attacking.selection import first_right
from cwjax.lab.console import tables
from cwjax.parts import proximal, schedules

MODULES = {
    each.__name__.split(".")[-1]: each for each in (attacks, aims, legs, scout, slide, shrink, proximal, schedules)
}
COMPILED = ("aims.CLASSES",)  # the length of an array


class Number(NamedTuple):
    """A tuned number."""

    path: str  # module, name, and place within it: "slide._SEEKING.rate"
    norms: tuple[str, ...]
    lacking: bool = False  # whether it is changed in what it lacks of 1


def _numbers() -> Iterator[Number]:
    deep, near, all_ = ("l2", "l1", "l0"), ("l2", "linf"), ("l2", "linf", "l1", "l0")
    yield Number("attacks._DEEP", ("l2",), lacking=True)
    yield Number("attacks._REMOVING", ("l0",))
    yield Number("attacks.FAMILY.l2.clean", ("l2",))
    for name in ("UNIT", "TRIES"):
        yield Number(f"legs.{name}", all_)
    yield Number("legs._RIVAL", ("linf",))
    yield Number("legs._NEARER", ("linf",), lacking=True)
    yield Number("aims.CLASSES", all_)
    yield Number("scout._CLEARLY", near, lacking=True)
    yield Number("scout._PROBE", near)
    for name in ("_TURN", "_SHORTEST"):
        yield Number(f"slide.{name}", near)
    for pace in ("_SEEKING", "_TOWARDS_LABEL", "_FROM_LABEL"):
        yield Number(f"slide.{pace}.rate", near)
        yield Number(f"slide.{pace}.decay", near, lacking=True)
    yield Number("schedules._GROWTH", near, lacking=True)
    yield Number("schedules.DOUBT", all_)
    yield Number("shrink._DECAY", deep, lacking=True)
    for name in ("_TURN.0", "_TURN.1", *(f"_STEPS.{place}" for place in range(3)), "_DEPTH", "_SOFTNESS"):
        yield Number(f"shrink.{name}", deep)
    yield Number("proximal._ITERATIONS", deep)
    yield Number("proximal._CONVERGED", deep)
    yield Number("proximal._SQUARES", deep, lacking=True)


NUMBERS = {each.path: each for each in _numbers()}
"""All of them, by path. What only keeps float32 from overflow or from a division by 0 is not among them."""


@dataclasses.dataclass(frozen=True)
class Arguments:
    norm: tuple[str, ...] = ("l2", "linf", "l1", "l0")
    networks: tuple[str, ...] = ("mnist_squared", "mnist_certified", "mnist_lenet")
    only: str = ""  # the numbers whose path has this in it
    steps: int = 100
    examples: int = 64
    after: int = 200  # images that the network gets right, before these


def value_of(path: str) -> Any:
    """The number at a path."""
    module, *places = path.split(".")
    return functools.reduce(_part, places, MODULES[module])


def _part(whole: Any, place: str) -> Any:
    if isinstance(whole, Mapping):
        return whole[place]
    return whole[int(place)] if place.isdigit() else getattr(whole, place)


def _with_part(whole: Any, places: list[str], value: Any) -> Any:
    """The same thing with another number at a place in it."""
    if not places:
        return value
    part = _with_part(_part(whole, places[0]), places[1:], value)
    if isinstance(whole, Mapping):
        return {**whole, places[0]: part}
    if places[0].isdigit():
        return (*whole[: int(places[0])], part, *whole[int(places[0]) + 1 :])
    return whole._replace(**{places[0]: part})


@contextlib.contextmanager
def numbers_set(values: Mapping[str, Any]) -> Iterator[None]:
    """The attacks with these numbers, by path, for as long as a program is traced."""
    with contextlib.ExitStack() as stack:
        for path, value in values.items():
            module, name, *places = path.split(".")
            # A public name may have been imported by the other files.
            holders = [MODULES[module]] if name.startswith("_") else [m for m in MODULES.values() if hasattr(m, name)]
            changed = _with_part(getattr(MODULES[module], name), places, value)
            for holder in holders:
                stack.callback(setattr, holder, name, getattr(holder, name))
                setattr(holder, name, changed)
        yield


def changed(number: Number, factor: float) -> Any:
    """The number times a factor; or what it lacks of 1, divided by it. An integer stays one, and is at least 1."""
    now = value_of(number.path)
    if number.lacking:
        return max(1 - (1 - now) / factor, 0.0)
    return max(round(now * factor), 1) if isinstance(now, int) else now * factor


class Trial:
    """The fast attack of a norm on a network's images, as one program of all numbers that it has."""

    def __init__(self, norm: str, network: str, arguments: Arguments):
        self.model, dataset = zoo.load(network).model, data.load("mnist5k", "test")
        places = first_right(self.model, dataset, arguments.after + arguments.examples)[arguments.after :]
        x, label = dataset.images[places], dataset.labels[places].astype(np.int32)
        sign = jnp.repeat(jnp.array([-1.0, 1.0]), len(x))
        self.x, self.goal = np.r_[x, x], cw.LabelGoal(jnp.asarray(np.r_[label, (label + 1) % 10]), sign)
        self.norm, self.steps = norm, arguments.steps
        self.numbers = {each.path: value_of(each.path) for each in NUMBERS.values() if norm in each.norms}
        self.run = self.compiled({})

    def compiled(self, fixed: Mapping[str, Any]):
        """The program with these numbers as they are, and the others traced."""

        @jax.jit
        def run(values, params, keys, x, goal):
            with numbers_set({**values, **fixed}):
                distance = cw.distances.l0(per_pixel=False) if self.norm == "l0" else None
                attack = cw.batched(cw.fast(self.norm, steps=self.steps, distance=distance))
                return attack(dataclasses.replace(self.model, params=params), keys, x, goal).distance

        return run

    def distances(self, path: str = "", value: Any = None) -> np.ndarray:
        """What is reached with that number at that value, float [2B], inf where nothing is found."""
        values = self.numbers | ({path: value} if path else {})
        fixed = {each: values.pop(each) for each in COMPILED if each in values}
        run = self.compiled(fixed) if fixed and path in fixed else self.run
        keys = jax.random.split(jax.random.key(0), len(self.x))
        return np.asarray(run(values, self.model.params, keys, self.x, self.goal))


def cell(before: np.ndarray, after: np.ndarray) -> str:
    """The mean ratio of distances where both found an example, with a star where it is not chance, and how many more or
    fewer were found.
    """
    both = np.isfinite(before) & np.isfinite(after) & (before > 0)
    logs = np.log(after[both] / before[both])
    tested: Any = scipy.stats.wilcoxon(logs) if (np.abs(logs) > 1e-6).any() else None
    more = int(np.isfinite(after).sum() - np.isfinite(before).sum())
    return f"{np.exp(logs.mean()):.3f}{'*' if tested and tested.pvalue < 0.05 else ''}" + (
        f" ({more:+d})" if more else ""
    )


def main(arguments: Arguments) -> None:
    """Prints a table for each norm: distance with the number halved, and doubled, over the one as it is."""
    for norm in arguments.norm:
        wanted = [each for each in NUMBERS.values() if norm in each.norms and arguments.only in each.path]
        trials = [Trial(norm, network, arguments) for network in arguments.networks]
        before = [trial.distances() for trial in trials]
        found, asked = (
            sum(np.sum(each) for each in counts)
            for counts in zip(*((np.isfinite(b), b == b) for b in before), strict=True)
        )
        print(f"\n{norm}, {arguments.steps} gradients: {found} of {asked} found\n", flush=True)
        lines = []
        for number in wanted:
            cells = []
            for factor in (0.5, 2.0):
                value = changed(number, factor)
                after = [trial.distances(number.path, value) for trial in trials]
                cells.append(f"{value:.4g}: {cell(np.concatenate(before), np.concatenate(after))}")
            lines.append([number.path, f"{value_of(number.path):.4g}", *cells])
            print("; ".join(lines[-1]), flush=True)
        print("\n".join(["", *tables.markdown(["number", "now", "halved", "doubled"], lines)]), flush=True)


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
