"""What generating tests costs beside the way of the public code: ratios in one run, one thread.

Claim: all seeds in one program take a twentieth of the time that the same search takes seed by seed as DeepXplore's
code does it: a call of the gradient, NumPy, and a call of each model in every iteration. It holds if those calls are
not compiled, and is missed by far if they are: one core computes as much in either way, and one seed by itself already
computes at a fifth of the rate of a matrix product, so no program could be much more than five times as fast.
DeepFault's spectrum by matrix products and DeepConcolic's linear program with rows added when violated are faster than
loops and all rows.

    XLA_FLAGS=--xla_cpu_multi_thread_eigen=false python -m benchmarks.generation
    python -m benchmarks.generation --seeds 100 --alone 4        # as the table in benchmarks/README.md

The public code needs TensorFlow 1, so its loops are written here after it, on JAX. `compiled` calls compiled functions,
`uncompiled` has JAX run one operation after the other. Keras 2 builds its graph anew for every seed, which is not done
here. All searches start from the same seeds with the same neurons to raise, light as the constraint and no box. The
released code updates a table of coverage with a loop over neurons for every difference; `without coverage` leaves that
out. The linear program is about the second layer of the zoo's mnist_lenet.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

import cwjax as cw
from benchmarks.coverage_rivals import each_neuron
from benchmarks.timing import interleaved, machine, ratio
from cwjax.coverage.convention import Neurons
from cwjax.coverage.suspicion import spectrum
from cwjax.generation import deepxplore, differences, linear_program, requirements
from cwjax.lab import data, zoo


@dataclasses.dataclass(frozen=True)
class Arguments:
    seeds: int = 100  # in one program
    alone: int = 5  # of them, one after the other
    uncompiled: int = 1  # of them, without compiling
    rounds: int = 3
    inputs: int = 300  # of DeepFault's spectrum
    programs: int = 1  # linear programs


def main(arguments: Arguments) -> dict[str, float]:
    """Prints the ratios. Returns them by name."""
    print(machine())
    test = data.load("mnist5k", "test")
    models = [zoo.load(name).model for name in ("mnist_lenet", "mnist_cnn")]
    parts = [
        lambda: of_spectrum(arguments, models[0], test),
        lambda: of_programs(arguments, models[0], test.images[0]),
        lambda: of_room(arguments, models, test.images[: arguments.seeds]),
        lambda: of_seeds(arguments, models, test.images[: arguments.seeds]),
    ]
    found: dict[str, float] = {}
    for part in parts:
        ratios = part()
        found |= ratios
        for name, value in ratios.items():
            print(f"{name}: {value:.2f} times", flush=True)
    return found


def of_seeds(arguments: Arguments, models: list[cw.Model], x: np.ndarray) -> dict[str, float]:
    """DeepXplore's search: seconds for a seed, over those of all seeds in one program."""
    neurons = [cw.coverage.neurons(model, x) for model in models]
    joined = cw.joined([requirements.observed(each) for each in neurons])
    attack = deepxplore.differential(deepxplore.light(), step=10.0, steps=20)
    labels = deepxplore.answers(joined, x)[0]
    free = [np.ones(each.convention.neurons, bool) for each in neurons]
    goal = deepxplore.goals_of(jax.random.key(0), labels, free)
    keys, wide = jax.random.split(jax.random.key(0), len(x)), {"low": -1e4, "high": 1e4}
    queue, batched = cw.streamed(attack), jax.jit(cw.batched(attack))
    slow = Released(models, neurons, goal)

    def single(place: int) -> Any:
        rows = slice(place, place + 1)
        own = jax.tree.map(lambda leaf: leaf[rows], goal)
        return batched(joined, keys[rows], x[rows], own, **wide)

    ways: dict[str, tuple[Callable[[], Any], int]] = {
        "one program": (lambda: queue(joined, keys, jnp.asarray(x), goal, **wide), len(x)),
        "one seed at a time, the same program": (lambda: [single(i) for i in range(arguments.alone)], arguments.alone),
        "as released, without coverage": (
            lambda: [slow(i, x[i], covers=False) for i in range(arguments.alone)],
            arguments.alone,
        ),
        "as released": (lambda: [slow(i, x[i]) for i in range(arguments.alone)], arguments.alone),
        "as released, uncompiled": (
            lambda: [uncompiled(slow, i, x[i]) for i in range(arguments.uncompiled)],
            arguments.uncompiled,
        ),
    }
    seconds = interleaved({name: call for name, (call, _) in ways.items()}, arguments.rounds)
    each = {name: [spent / ways[name][1] for spent in seconds[name]] for name in ways}
    return {f"DeepXplore, {name}": ratio(each[name], each["one program"]) for name in list(ways)[1:]}


def of_room(arguments: Arguments, models: list[cw.Model], x: np.ndarray) -> dict[str, float]:
    """How far a gradient of one seed by itself is from what this core could do: its seconds over those of a matrix
    product with as many multiplications. No program for many seeds can be faster than that product by more.
    """
    joined, objective, labels = cw.joined(models), differences.models_disagree(hinged=False), cw.untargeted([0])
    goal = jax.tree.map(lambda leaf: leaf[0], labels)

    def gradient(x: jax.Array) -> jax.Array:
        return jax.grad(lambda x: objective.loss(joined(x), goal))(x)

    alone = jax.jit(gradient).lower(x[0]).compile()
    batch = jax.jit(jax.vmap(gradient)).lower(x).compile()
    square = jnp.asarray(np.random.default_rng(0).random((512, 512), np.float32))
    product = jax.jit(lambda square: square @ square).lower(square).compile()
    ways: dict[str, tuple[Callable[[], Any], Any, int]] = {
        "alone": (lambda: [alone(each) for each in x[: arguments.alone]], alone, arguments.alone),
        "batch": (lambda: batch(x), batch, 1),
        "product": (lambda: [product(square) for _ in range(4)], product, 4),
    }
    seconds = interleaved({name: call for name, (call, _, _) in ways.items()}, arguments.rounds)
    each = {
        name: [spent / count / compiled.cost_analysis()["flops"] for spent in seconds[name]]
        for name, (_, compiled, count) in ways.items()
    }
    return {f"a gradient, {name}, over a matrix product": ratio(each[name], each["product"]) for name in list(ways)[:2]}


class Released:
    """The loop of `MNIST/gen_diff.py`, seed by seed."""

    def __init__(self, models: list[cw.Model], neurons: list[Neurons], goal: deepxplore.DifferentialGoal) -> None:
        joined = cw.joined([requirements.observed(each) for each in neurons])
        objective = deepxplore.disagreement()
        self.goal = jax.tree.map(np.asarray, goal)
        self.neurons = neurons
        self.plain: list[Callable[..., Any]] = [lambda x, model=model: model(x) for model in models]
        self.plain_slope: Callable[..., Any] = jax.grad(lambda x, goal: -objective.loss(joined(x), goal))
        self.answer: list[Callable[..., Any]] = [jax.jit(each) for each in self.plain]
        self.slope: Callable[..., Any] = jax.jit(self.plain_slope)
        self.values = [jax.jit(lambda x, each=each: each(x)[1].values) for each in neurons]

    def __call__(self, place: int, x: np.ndarray, *, covers: bool = True) -> int:
        goal = jax.tree.map(lambda leaf: leaf[place], self.goal)
        if self.differ(x):
            return 0
        for number in range(20):
            slope = np.asarray(self.slope(x, goal))
            slope = slope / (np.sqrt(np.mean(slope**2)) + 1e-5)
            x = (x + 10.0 * np.full_like(slope, slope.mean())).astype(np.float32)
            if self.differ(x):
                for values, each in zip(self.values, self.neurons, strict=True):
                    if covers:
                        each_neuron(np.asarray(values(x[None])), each.convention, 0.25)
                return number + 1
        return 20

    def differ(self, x: np.ndarray) -> bool:
        """Whether the models answer differently, each asked by itself."""
        return len({int(np.asarray(each(x)).argmax()) for each in self.answer}) > 1


def uncompiled(slow: Released, place: int, x: np.ndarray) -> int:
    """The same with JAX running one operation after the other."""
    answer, slope = slow.answer, slow.slope
    slow.answer, slow.slope = slow.plain, slow.plain_slope
    try:
        return slow(place, x)
    finally:
        slow.answer, slow.slope = answer, slope


def of_spectrum(arguments: Arguments, model: cw.Model, test: data.Dataset) -> dict[str, float]:
    """DeepFault's spectrum of all classes: its loops over inputs, layers and neurons, over matrix products."""
    x, labels = test.images[: arguments.inputs], test.labels[: arguments.inputs]
    outputs, activations = jax.jit(cw.coverage.neurons(model, x))(x)
    active, failed = np.asarray(activations.values > 0), np.asarray(outputs).argmax(-1) != labels

    def loops() -> np.ndarray:
        counts = np.zeros((10, active.shape[1], 2, 2))
        for row, wrong, label in zip(active, failed, labels, strict=True):
            for neuron, on in enumerate(row):
                counts[label, neuron, int(on), int(wrong)] += 1
        return counts

    ways = {"loops": loops, "products": lambda: spectrum(active, failed, labels, classes=10)}
    seconds = interleaved(ways, arguments.rounds)
    return {"DeepFault, loops over matrix products": ratio(seconds["loops"], seconds["products"])}


def of_programs(arguments: Arguments, model: cw.Model, x: np.ndarray) -> dict[str, float]:
    """DeepConcolic's linear program: all rows of signs at once, over rows that are added when they are violated."""
    layers = [layer.name for layer in cw.coverage.neurons(model, x[None], value="before").convention.layers[:2]]
    units = cw.coverage.neurons(model, x[None], layers=layers, value="before", unit="element")
    values = np.asarray(jax.jit(units)(x[None])[1].values)[0]
    second = units.convention.slices[1]
    behind = np.where(values[second] <= 0, -values[second], np.inf)
    places = second.start + np.argsort(behind)[: arguments.programs]
    goals = requirements.neurons_activated(units.convention, places)
    own = [jax.tree.map(lambda leaf, row=row: leaf[row], goals) for row in range(len(places))]
    ways = {
        "all": lambda: [every_row(units, x, place) for place in places],
        "added": lambda: [linear_program.nearest_in_region(units, x, each) for each in own],
    }
    seconds = interleaved(ways, 1)
    return {"DeepConcolic, all rows over rows that are added": ratio(seconds["all"], seconds["added"])}


def every_row(units: Neurons, x: np.ndarray, target: int) -> float:
    """The distance by one program with a row for each earlier neuron, as DeepConcolic writes it."""
    from scipy import optimize, sparse

    first = units.convention.slices[1].start
    places = jnp.asarray([*range(first), target])
    values, slopes = (np.asarray(each, np.float64) for each in _slopes(requirements.observed(units), x, places))
    sign = np.append(np.where(values[:-1] > 0, -1.0, 1.0), -1.0)  # sign·value <= -slack, or as near as it is
    limit = np.append(np.maximum(-sign[:-1] * values[:-1] - linear_program.SLACK, 0), values[-1] - linear_program.SLACK)
    start, size = x.ravel().astype(np.float64), x.size
    signs = sparse.csr_matrix(np.hstack([sign[:, None] * slopes.reshape(len(places), -1), np.zeros((len(places), 1))]))
    within = [sparse.hstack([side * sparse.eye(size), -np.ones((size, 1))]) for side in (1, -1)]
    answer = optimize.linprog(
        np.append(np.zeros(size), 1.0),
        A_ub=sparse.vstack([signs, *within], format="csr"),
        b_ub=np.concatenate([limit, np.zeros(2 * size)]),
        bounds=[*zip(-start, 1 - start, strict=True), (0, None)],
        method="highs",
    )
    return float(answer.x[-1]) if answer.status == 0 else np.inf


@jax.jit
def _slopes(model: cw.Model, x: jax.Array, places: jax.Array) -> tuple[jax.Array, jax.Array]:
    values, pull = jax.vjp(lambda x: model(x).values, x)
    return values[places], jax.lax.map(lambda place: pull(jnp.zeros_like(values).at[place].set(1))[0], places)


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
