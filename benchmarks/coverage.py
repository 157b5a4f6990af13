"""Coverage criteria against other people's and against the forward pass, and the memory of many sections.

Claim: KMNC is at least 10 times as fast as NeuraL-Coverage's loop in PyTorch and 250 times as fast as dnn-tip. NC is 20
times as fast as PyTorch's loop, TKNC at least as fast, and DSA 100 times as fast as dnn-tip. The forward pass, the
capture and an update are one program, in which NC, NBC and SNAC cost less than the forward pass. 10,000 sections of
50,960 neurons take at most one and a half times the memory of their bits.

    pip install torch dnn-tip
    OMP_NUM_THREADS=1 taskset -c 0 python -m benchmarks.coverage --rivals numpy dnn-tip torch deepxplore
    python -m benchmarks.coverage --batch 4 --rounds 1 --units channel      # against plain NumPy, which is there

Cost: two minutes on one core. Network: the zoo's MNIST CNN. Activations are given, so that only the criteria are timed,
except beside the forward pass. Inputs are noise. What the rivals are: `benchmarks/coverage_rivals.py`.
"""

import dataclasses
import functools
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import tyro

import cwjax as cw
from benchmarks import coverage_rivals as rivals
from benchmarks.timing import interleaved, machine, ratio
from cwjax.coverage import Activations, Profile
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
    rivals: tuple[Literal["numpy", "dnn-tip", "torch", "deepxplore"], ...] = ("numpy",)  # see coverage_rivals.py
    out: Path | None = None  # a Markdown file for the table


PROFILED = 50  # inputs of the profile
GOALS = {  # of the claim: how many times ours a rival takes at least
    ("KMNC", "torch"): 10,
    ("KMNC", "dnn-tip"): 250,
    ("NC", "torch"): 20,
    ("TKNC", "torch"): 1,
    ("DSA", "dnn-tip"): 100,
}


def main(arguments: Arguments) -> list[dict[str, Any]]:
    """Prints and returns a row for each contestant: milliseconds an image, and how many times the criterion's."""
    model = zoo.load("mnist_cnn").model
    x = np.random.default_rng(0).random((PROFILED + arguments.batch, 28, 28, 1)).astype(np.float32)
    unit = "channel mean" if arguments.units == "channel" else "element"
    neurons = cw.coverage.neurons(model, x, unit=unit)
    profile, batch = cw.coverage.profiled(neurons, x[:PROFILED]), x[PROFILED:]
    activations = jax.jit(lambda neurons, x: neurons(x)[1])(neurons, batch)
    values, of = np.asarray(activations.values), neurons.convention
    title = f"{of}; batches of {len(batch)}; {machine()}"
    print(title)

    def race(criterion, make, known=("numpy", "dnn-tip", "torch")) -> None:
        chosen = {who: make(who) for who in arguments.rivals if who in known}
        rows.extend(raced(criterion.name, lambda: advance(criterion, activations), chosen, len(values), arguments))

    rows: list[dict[str, Any]] = []
    for k in arguments.sections:
        race(
            cw.coverage.section_coverage(profile, sections=k),
            lambda who, k=k: rivals.sections(who, values, profile, k, arguments.slow),
        )
    race(
        cw.coverage.neuron_coverage(of, threshold=0.5),
        lambda who: rivals.activated(who, values, of, 0.5, arguments.slow),
        ("numpy", "dnn-tip", "torch", "deepxplore"),
    )
    race(cw.coverage.boundary_coverage(profile), lambda who: rivals.beyond(who, values, profile))
    race(cw.coverage.top_neuron_coverage(of, k=3), lambda who: rivals.leading(who, values, of, 3))
    rows += surprises(arguments)
    rows += passes(neurons, profile, batch, arguments.rounds)
    rows += memory(neurons, profile, len(batch))
    lines = table(rows)
    print(lines)
    if arguments.out is not None:
        arguments.out.write_text(f"# Speed of coverage criteria\n\n{title}.\n\n{lines}\n")
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """In Markdown."""
    shown = ["| what | contestant | ms an image | times ours | goal |", "|---|---|---|---|---|"]
    for row in rows:
        numbers = (f"{row[key]:,.3g}" if key in row else "" for key in ("ms an image", "times ours"))
        shown.append(f"| {row['what']} | {row['contestant']} | {' | '.join(numbers)} | {row.get('goal', '')} |")
    return "\n".join(shown)


def advance(criterion, activations: Activations):
    """A call that updates a state of its own, which is donated."""
    update, kept = jax.jit(criterion.update, donate_argnums=0), {"state": criterion.init()}

    def call():
        kept["state"] = update(kept["state"], activations)
        return kept["state"]

    return call


def raced(name: str, make, chosen: Mapping[str, rivals.Rival], images: int, arguments) -> list[dict[str, Any]]:
    """A criterion against others, which may be given fewer images."""
    calls = {"cwjax": make()} | {who: call for who, (call, _) in chosen.items()}
    seconds = interleaved(calls, arguments.rounds, warmed=True)
    given = {"cwjax": images} | {who: count for who, (_, count) in chosen.items()}
    each = {who: [second / given[who] for second in some] for who, some in seconds.items()}
    rows = []
    for who, some in each.items():
        times = ratio(some, each["cwjax"])
        row = {"what": name, "contestant": who, "ms an image": 1e3 * statistics.median(some), "times ours": times}
        goal = GOALS.get((name.split(" ")[0], who))
        rows.append(row | ({"goal": f"≥ {goal}: {'held' if times >= goal else 'missed'}"} if goal else {}))
    return rows


def surprises(arguments: Arguments) -> list[dict[str, Any]]:
    """DSA among so many inputs of 592 neurons."""
    rng = np.random.default_rng(1)
    reference = rng.random((arguments.reference, 592)).astype(np.float32)
    values, few = rng.random((256, 592)).astype(np.float32), 8
    classes, predicted = rng.integers(0, 10, len(reference)), rng.integers(0, 10, len(values))
    chosen = {
        who: rivals.distances(who, reference, classes, values, predicted, few)
        for who in arguments.rivals
        if who in ("numpy", "dnn-tip")
    }
    name = f"DSA ({len(reference)} × 592)"
    return raced(name, lambda: lambda: distance_surprise(reference, classes, values, predicted), chosen, 256, arguments)


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
    calls = {"forward pass alone": lambda: forward(neurons, image)}
    for name, it in criteria.items():
        calls[name] = functools.partial(covered, neurons, it.update, it.init(), image)
    seconds = interleaved(calls, rounds, warmed=True)
    return [
        {
            "what": "forward pass, capture and update in one program",
            "contestant": name,
            "ms an image": 1e3 * statistics.median(some) / len(x),
            "times ours": (times := ratio(some, seconds["forward pass alone"])),
        }
        | ({"goal": f"< 2: {'held' if times < 2 else 'missed'}"} if name in ("NC", "NBC", "SNAC") else {})
        for name, some in seconds.items()
    ]


def memory(neurons, profile: Profile, batch: int) -> list[dict[str, Any]]:
    """Bytes of KMNC with 10,000 sections, as the compiler plans them: nothing is run."""
    it, of = cw.coverage.section_coverage(profile, sections=10_000), neurons.convention
    layers = jnp.zeros((batch, len(of.layers)))
    seen, state = Activations(jnp.zeros((batch, of.neurons)), layers, layers), jax.eval_shape(it.init)
    planned = jax.jit(it.update, donate_argnums=0).lower(state, seen).compile().memory_analysis()
    assert planned is not None, "this device does not say what its programs take"
    bits, whole = state.bits.size * 4, planned.argument_size_in_bytes + planned.temp_size_in_bytes
    said = f"{bits / 1e6:.1f} MB of bits, {whole / 1e6:.1f} MB while updating"
    goal = f"≤ 1.5: {'held' if whole <= 1.5 * bits else 'missed'}"
    return [{"what": f"memory of 10,000 sections of {of.neurons:,} neurons", "contestant": said, "goal": goal}]


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
