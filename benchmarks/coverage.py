"""Coverage criteria against plain NumPy, and against the network's own forward pass; and the memory of many sections.

Claim: KMNC is at least twice as fast as NumPy with an index for each image, and 20 times (100 sections) or 200 times
(1,000 sections) as fast as NumPy with a comparison for each section; DSA 15 times as fast as NumPy with a difference
for each pair. NC, NBC and SNAC add less than half of a forward pass to it. 10,000 sections of 50,960 neurons take at
most twice the memory of their bits.

    OMP_NUM_THREADS=1 taskset -c 0 python -m benchmarks.coverage      # some minutes on one core
    python -m benchmarks.coverage --batch 4 --rounds 1 --units channel

The NumPy contestants are written here, plainly, after what the public ports do. They are not the ports, and faster than
those: "each section" follows dnn-tip, "each image" and "each layer" NeuraL-Coverage, "each neuron" DeepXplore. Network:
the zoo's MNIST CNN. Activations are given, so that only the criteria are timed, except beside the forward pass. Inputs
are noise.
"""

import dataclasses
import functools
import itertools
import statistics
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import tyro

import cwjax as cw
from benchmarks.timing import interleaved, machine, ratio
from cwjax.coverage import Activations, Convention, Profile
from cwjax.coverage.surprise import distance_surprise
from cwjax.lab import zoo


@dataclasses.dataclass(frozen=True)
class Arguments:
    batch: int = 50  # images at once
    rounds: int = 5  # timed calls of each contestant
    units: Literal["channel", "element"] = "element"  # 592 or 50,960 neurons
    sections: tuple[int, ...] = (100, 1000)
    reference: int = 2000  # inputs that DSA compares with, by channel
    slow: int = 1  # images of the contestants that compare every section or neuron: they take a second each


def each_section(values: np.ndarray, profile: Profile, sections: int) -> np.ndarray:
    """KMNC by a comparison for each section, and a bit of memory for each pair of them and the images."""
    edges = np.linspace(profile.low, profile.high, sections + 1)
    hit = np.stack([(values >= low[None]) & (values < high[None]) for low, high in itertools.pairwise(edges)])
    return np.asarray(hit.any(1))


def each_image(values: np.ndarray, profile: Profile, sections: int) -> np.ndarray:
    """KMNC by an index for each image, into a table of booleans."""
    low, high = np.asarray(profile.low), np.asarray(profile.high)
    width, neurons = np.where(high > low, high - low, 1), np.arange(len(low))
    covered = np.zeros((len(low), sections), bool)
    for row in values:
        inside = (row >= low) & (row <= high) & (high > low)
        place = np.minimum(((row - low) / width * sections).astype(int), sections - 1)
        covered[neurons[inside], place[inside]] = True
    return covered


def scaled_layers(values: np.ndarray, of: Convention, threshold: float) -> np.ndarray:
    """NC by layers, each of them scaled at once."""
    hits = []
    for part in of.slices:
        low, high = values[:, part].min(1, keepdims=True), values[:, part].max(1, keepdims=True)
        hits.append(((values[:, part] - low) / (high - low) > threshold).any(0))
    return np.concatenate(hits)


def each_neuron(values: np.ndarray, of: Convention, threshold: float) -> dict[tuple[int, int], bool]:
    """NC by a loop over images, layers and neurons, into a dictionary."""
    covered: dict[tuple[int, int], bool] = {}
    for row in values:
        for layer, part in enumerate(of.slices):
            scaled = (row[part] - row[part].min()) / (row[part].max() - row[part].min())
            for neuron in range(part.stop - part.start):
                if np.mean(scaled[neuron]) > threshold:
                    covered[layer, neuron] = True
    return covered


def sorted_layers(values: np.ndarray, of: Convention, k: int) -> np.ndarray:
    """TKNC by sorting each layer, as all ports do."""
    covered = np.zeros(values.shape[1], bool)
    for part in of.slices:
        covered[part.start + np.argsort(values[:, part], axis=1)[:, -k:].reshape(-1)] = True
    return covered


def each_pair(reference: np.ndarray, classes: np.ndarray, values: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """DSA by the differences of each input to all others."""
    scores = []
    for value, label in zip(values, predicted, strict=True):
        same, other = reference[classes == label], reference[classes != label]
        apart = np.linalg.norm(same - value, axis=1)
        nearest = same[apart.argmin()]
        scores.append(apart.min() / np.linalg.norm(other - nearest, axis=1).min())
    return np.asarray(scores)


def main(arguments: Arguments) -> list[dict[str, Any]]:
    """Prints and returns a row for each contestant: milliseconds an image, and how many times the criterion's."""
    model = zoo.load("mnist_cnn").model
    x = np.random.default_rng(0).random((2 * arguments.batch, 28, 28, 1)).astype(np.float32)
    unit = "channel mean" if arguments.units == "channel" else "element"
    neurons = cw.coverage.neurons(model, x, unit=unit)
    profile, batch = cw.coverage.profiled(neurons, x[: arguments.batch]), x[arguments.batch :]
    activations = jax.jit(lambda neurons, x: neurons(x)[1])(neurons, batch)
    values, of = np.asarray(activations.values), neurons.convention
    few = values[: arguments.slow]
    print(f"{of}; batches of {len(batch)}; {machine()}")

    rows = []
    for k in arguments.sections:
        rivals = {"each image": (lambda k=k: each_image(values, profile, k), len(values))}
        rivals["each section"] = (lambda k=k: each_section(few, profile, k), len(few))
        rows += raced(cw.coverage.section_coverage(profile, sections=k), activations, rivals, arguments.rounds)
    rivals = {
        "each layer": (lambda: scaled_layers(values, of, 0.5), len(values)),
        "each neuron": (lambda: each_neuron(few, of, 0.5), len(few)),
    }
    rows += raced(cw.coverage.neuron_coverage(of, threshold=0.5), activations, rivals, arguments.rounds)
    rivals = {"sorting": (lambda: sorted_layers(values, of, 3), len(values))}
    rows += raced(cw.coverage.top_neuron_coverage(of, k=3), activations, rivals, arguments.rounds)
    rows += distances(arguments)
    rows += passes(neurons, profile, batch, arguments.rounds)
    rows += memory(neurons, profile, len(batch))
    for row in rows:
        print("  ".join(f"{value:.3g}" if isinstance(value, float) else str(value) for value in row.values()))
    return rows


def raced(criterion, activations: Activations, rivals, rounds: int) -> list[dict[str, Any]]:
    """A criterion on given activations against others, which may be given fewer images."""
    update, count = jax.jit(criterion.update, donate_argnums=0), len(activations.values)
    kept = {"state": criterion.init()}

    def ours():
        kept["state"] = update(kept["state"], activations)
        return kept["state"]

    seconds = interleaved({"ours": ours} | {name: call for name, (call, _) in rivals.items()}, rounds)
    images = {"ours": count} | {name: count for name, (_, count) in rivals.items()}
    each = {name: [second / images[name] for second in some] for name, some in seconds.items()}
    return [
        {
            "what": criterion.name,
            "contestant": name,
            "ms an image": 1e3 * statistics.median(some),
            "times ours": ratio(some, each["ours"]),
        }
        for name, some in each.items()
    ]


def distances(arguments: Arguments) -> list[dict[str, Any]]:
    """DSA among so many inputs of 592 neurons."""
    rng = np.random.default_rng(1)
    reference = rng.random((arguments.reference, 592)).astype(np.float32)
    values, few = rng.random((256, 592)).astype(np.float32), 8
    classes, predicted = rng.integers(0, 10, len(reference)), rng.integers(0, 10, len(values))
    seconds = interleaved(
        {
            "ours": lambda: distance_surprise(reference, classes, values, predicted),
            "each pair": lambda: each_pair(reference, classes, values[:few], predicted[:few]),
        },
        arguments.rounds,
    )
    each = {"ours": [second / len(values) for second in seconds["ours"]]}
    each["each pair"] = [second / few for second in seconds["each pair"]]
    name = f"DSA ({len(reference)} × 592)"
    return [
        {
            "what": name,
            "contestant": who,
            "ms an image": 1e3 * statistics.median(some),
            "times ours": ratio(some, each["ours"]),
        }
        for who, some in each.items()
    ]


def passes(neurons, profile: Profile, x: np.ndarray, rounds: int) -> list[dict[str, Any]]:
    """What coverage adds to a forward pass: both in one program, over the forward pass alone."""
    criteria = {
        "NC": cw.coverage.neuron_coverage(neurons.convention),
        "NBC": cw.coverage.boundary_coverage(profile),
        "SNAC": cw.coverage.strong_activation_coverage(profile),
        "KMNC (k = 100)": cw.coverage.section_coverage(profile, sections=100),
    }

    @jax.jit
    def forward(neurons, x):
        return neurons(x)[0]

    @jax.jit
    def covered(neurons, update, state, x):
        outputs, activations = neurons(x)
        return outputs, update(state, activations)

    image = jnp.asarray(x)
    calls = {"forward": lambda: forward(neurons, image)}
    for name, it in criteria.items():
        calls[name] = functools.partial(covered, neurons, it.update, it.init(), image)
    seconds = interleaved(calls, rounds)
    return [
        {
            "what": "forward pass, capture and update in one program",
            "contestant": name,
            "ms an image": 1e3 * statistics.median(some) / len(x),
            "times the forward pass": ratio(some, seconds["forward"]),
        }
        for name, some in seconds.items()
    ]


def memory(neurons, profile: Profile, batch: int) -> list[dict[str, Any]]:
    """Bytes of KMNC with 10,000 sections, as the compiler plans them: nothing is run."""
    it, of = cw.coverage.section_coverage(profile, sections=10_000), neurons.convention
    layers = jnp.zeros((batch, len(of.layers)))
    seen, state = Activations(jnp.zeros((batch, of.neurons)), layers, layers), jax.eval_shape(it.init)
    planned = jax.jit(it.update, donate_argnums=0).lower(state, seen).compile().memory_analysis()
    assert planned is not None, "this device does not say what its programs take"
    bits = state.bits.size * 4
    return [
        {
            "what": f"memory of 10,000 sections of {of.neurons:,} neurons, MB",
            "bits": bits / 1e6,
            "all while updating": (planned.argument_size_in_bytes + planned.temp_size_in_bytes) / 1e6,
        }
    ]


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
