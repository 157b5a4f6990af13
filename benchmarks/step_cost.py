"""What a step of the attack costs over the bare gradient of the model, and what a loop adds to it.

Claim: one L2 step costs at most 1.06 times the bare jitted value_and_grad of the model on the same batch, and the step
inside a compiled loop at most 1.15 times the same step called from Python; on CPU thanks to `cwjax.runners.canonical`.
A step of the attacks on speech and on malware costs at most 1.1 times the bare gradient of the same loss.

    python -m benchmarks.step_cost            # two minutes on 2 cores, batch 100
    python -m benchmarks.step_cost --batch 8 --rounds 2
    python -m benchmarks.step_cost --only speech malware

Networks: the zoo's MNIST CNN, with pooling by reshape ("ours") and with XLA's own max-pool ("lax.reduce_window"); the
recogniser of `experiments.speech` on 32 waves of 3.6 s, and the 2 × 200 network of `experiments.malware_drebin` on 256
rows of 215 features. These two have the weights that they start with, which time does not depend on.
"""

import dataclasses
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jax import lax

import cwjax as cw
from benchmarks.timing import interleaved, machine, ratio
from cwjax.lab.training import nets
from cwjax.problems import ANYWHERE, Allowed, problem
from cwjax.runners.batch import each
from experiments import malware, malware_drebin, recogniser, spoken


def stock(params, x):
    """The report's CNN as one may find it: the same weights, with XLA's own max-pool."""
    for i, layer in params["convolutions"].items():
        x = lax.conv_general_dilated(x, layer["kernel"], (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        x = jax.nn.relu(x + layer["bias"][None, None, None])
        if i % 2:
            x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    x = x.reshape(x.shape[0], -1)
    for i, layer in params["layers"].items():
        x = x @ layer["kernel"] + layer["bias"][None]
        x = x if i == 2 else jax.nn.relu(x)
    return x


@dataclasses.dataclass(frozen=True)
class Arguments:
    batch: int = 100  # images at once
    waves: int = 32  # utterances at once
    rows: int = 256  # rows of features at once
    steps: int = 10  # in a call of the loop
    rounds: int = 15  # timed calls of each contestant
    only: tuple[str, ...] = ("images", "speech", "malware")  # what is measured


class Subject(NamedTuple):
    """What is attacked, and how."""

    model: cw.Model
    attack: cw.Attack
    x: jax.Array
    goal: Any
    allowed: Allowed = ANYWHERE


def examples(model: cw.Model, batch: int) -> tuple[jax.Array, cw.LabelGoal]:
    """Noise [batch, 28, 28, 1] in [0, 1], and away from what the model says of it."""
    x = jax.random.uniform(jax.random.key(1), (batch, 28, 28, 1))
    return x, cw.untargeted(model.apply(model.params, x).argmax(-1))


def pictures(batch: int) -> dict[str, Subject]:
    """The L2 attack on the zoo's CNN, with either pooling."""
    net = nets.as_model(nets.build("mnist_cnn", shape=(28, 28, 1), classes=10, seed=0))
    models = {"images, our pooling": net, "images, lax.reduce_window": cw.bind(stock, net.params)}
    return {name: Subject(model, cw.l2(), *examples(model, batch)) for name, model in models.items()}


def looped(attack: cw.Attack, x: jax.Array, goal: Any, allowed: Allowed = ANYWHERE):
    """The attack's states before the first step, and the compiled loop of so many steps."""
    begin, advance, _ = cw.lanes(attack)
    return jax.jit(begin)(jax.random.split(jax.random.key(0), len(x)), x, goal, allowed), jax.jit(advance)


def recognised(waves: int) -> dict[str, Subject]:
    """Both phases of the attack on speech: noise of 3.6 s, as other digits."""
    model = recogniser.as_model(recogniser.Recogniser(recogniser.Training()))
    samples = round(spoken.FILLED * spoken.RATE)
    x = 0.1 * jax.random.normal(jax.random.key(1), (waves, samples))
    length = np.full(waves, samples, np.int32)
    frames = recogniser.frames_of(length)
    goal = cw.goals.transcript(np.tile([[3, 1, 4, 2]], (waves, 1)), frames=frames)
    path = model.of_batch(x, length).argmax(-1)
    allowed = Allowed(low=x - 0.05, high=x + 0.05, context=length)
    first = cw.attacks.audio(objective=cw.objectives.ctc(2.0))
    second = cw.attacks.audio_aligned(confidence=2.0)
    return {
        "speech, CTC": Subject(model, first, x, goal, allowed),
        "speech, aligned": Subject(model, second, x, cw.goals.aligned(goal, path, weights=float(samples)), allowed),
    }


def classified(rows: int) -> dict[str, Subject]:
    """Attacks on rows of features that may only rise."""
    model = cw.bind(malware.dense, malware.fresh(0, (215, 200, 200, 2)))
    x = jax.random.bernoulli(jax.random.key(1), 0.15, (rows, 215)).astype(jnp.float32)
    goal = cw.untargeted(model.apply(model.params, x).argmax(-1))
    mask = jnp.arange(215) < 136
    attacks = {"fast L0": cw.fast("l0", distance=malware.COUNTED), "fast L1": cw.fast("l1")}
    attacks |= {"JSMA": malware_drebin.jsma(), "L2": cw.l2()}
    return {
        f"malware, {name}": Subject(model, each, x, goal, Allowed(low=x, mask=mask)) for name, each in attacks.items()
    }


def measure(subject: Subject, arguments: Arguments) -> dict[str, float]:
    """Milliseconds a step, medians, and the two ratios."""
    steps, (model, attack, x, goal, allowed) = arguments.steps, subject
    objective = attack.terms.objective

    @jax.jit
    def gradient(model, x, goal, context):
        def loss(x):
            return jax.vmap(objective.loss)(model.of_batch(x, context), goal).sum()

        return jax.value_and_grad(loss)(x)

    @jax.jit
    def step(model, x, goal, states, allowed):
        def one(x, goal, state, allowed):
            return cw.runners.canonical(attack.step)(model, problem(x, goal, allowed), state)

        return each(one, x, allowed)(x, goal, states)

    states, loop = looped(attack, x, goal, allowed)
    began = time.perf_counter()
    jax.block_until_ready(loop(model, x, goal, states, steps, allowed))
    compiling = time.perf_counter() - began
    seconds = interleaved(
        {
            "gradient": lambda: [gradient(model, x, goal, allowed.context) for _ in range(steps)],
            "step": lambda: [step(model, x, goal, states, allowed) for _ in range(steps)],
            "loop": lambda: loop(model, x, goal, states, steps, allowed),
        },
        arguments.rounds,
    )
    took = {name: 1e3 * statistics.median(values) / steps for name, values in seconds.items()}
    return took | {
        "loop / gradient": ratio(seconds["loop"], seconds["gradient"]),
        "loop / step": ratio(seconds["loop"], seconds["step"]),
        "first call, s": compiling,
    }


def of_the_fast_family(model: cw.Model, arguments: Arguments) -> dict[str, tuple[float, float]]:
    """Milliseconds a step inside a compiled loop, the median, and the ratio to a step of the L2 attack there."""
    steps, (x, goal) = arguments.steps, examples(model, arguments.batch)
    attacks = {"l2": cw.l2(), "fast_l2": cw.fast("l2")}
    attacks |= {"fast_linf": cw.fast("linf"), "fast_l1": cw.fast("l1"), "fast_l0": cw.fast("l0")}

    def call(attack):
        states, loop = looped(attack, x, goal)
        return lambda: loop(model, x, goal, states, steps)

    seconds = interleaved({name: call(attack) for name, attack in attacks.items()}, arguments.rounds)
    return {
        name: (1e3 * statistics.median(values) / steps, ratio(values, seconds["l2"]))
        for name, values in seconds.items()
    }


def in_loop(model: cw.Model, batch: int, *, of: str, cured: bool) -> float:
    """Milliseconds of a bare gradient inside a loop, in the images or in the weights, with `canonical` or as XLA has
    it.
    """
    x = jax.random.uniform(jax.random.key(1), (batch, 28, 28, 1))

    def value(params, x):
        return jnp.square(model.apply(params, x)).sum()

    def move(params, x):
        slopes = jax.grad(value, 0 if of == "weights" else 1)(params, x)
        if of == "images":
            return params, x - slopes
        return jax.tree.map(lambda a, b: a - 1e-6 * b, params, slopes), x

    body = cw.runners.canonical(move) if cured else move
    loop = jax.jit(lambda params, x: lax.fori_loop(0, 2, lambda _, carry: body(*carry), (params, x)))
    return 1e3 * min(interleaved({"loop": lambda: loop(model.params, x)}, 2)["loop"]) / 2


def main(arguments: Arguments) -> None:
    """Prints the tables as Markdown."""
    made: dict[str, Callable[[], dict[str, Subject]]] = {
        "images": lambda: pictures(arguments.batch),
        "speech": lambda: recognised(arguments.waves),
        "malware": lambda: classified(arguments.rows),
    }
    if unknown := set(arguments.only) - made.keys() or not arguments.only:
        sys.exit(f"step_cost: error: --only takes {', '.join(made)}, got {unknown or 'none'}")
    print(f"{machine()}\nmedians of {arguments.rounds} rounds of {arguments.steps} steps\n")
    subjects = {name: subject for kind in arguments.only for name, subject in made[kind]().items()}
    rows = {name: measure(subject, arguments) for name, subject in subjects.items()}
    heading = next(iter(rows.values()))
    print("| ms a step | " + " | ".join(heading) + " |\n" + "|---" * (len(heading) + 1) + "|")
    for name, row in rows.items():
        cells = (f"{value:.3f}" if "/" in key else f"{value:.1f}" for key, value in row.items())
        print(f"| {name} | " + " | ".join(cells) + " |")
    if "images" in arguments.only:
        images(subjects["images, our pooling"].model, arguments)


def images(net: cw.Model, arguments: Arguments) -> None:
    """Prints what a loop costs on images, and the fast attacks."""
    print("\n| a gradient inside a loop, ms | XLA's own | with canonical |\n|---|---|---|")
    for of in ("images", "weights"):
        plain, cured = (in_loop(net, arguments.batch, of=of, cured=cured) for cured in (False, True))
        print(f"| in the {of} | {plain:.1f} | {cured:.1f} |")

    print("\n| a step inside the loop | ms | over that of `l2` |\n|---|---|---|")
    for name, (took, over) in of_the_fast_family(net, arguments).items():
        print(f"| `{name}` | {took:.1f} | {over:.3f} |")


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
