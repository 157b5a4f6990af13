"""What a step of the attack costs over the bare gradient of the model, and what a loop adds to it.

Claim: one L2 step costs at most 1.06 times the bare jitted value_and_grad of the model on the same batch, and the step
inside a compiled loop at most 1.15 times the same step called from Python; on CPU thanks to `cwjax.runners.canonical`.

    python -m benchmarks.step_cost            # two minutes on 2 cores, batch 100
    python -m benchmarks.step_cost --batch 8 --rounds 2

Network: the zoo's MNIST CNN, with pooling by reshape ("ours") and with XLA's own max-pool ("lax.reduce_window").
"""

import dataclasses
import statistics
import time

import jax
import jax.numpy as jnp
import tyro
from jax import lax

import cwjax as cw
from benchmarks.timing import interleaved, machine, ratio
from cwjax.lab.training import nets
from cwjax.problems import problem


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
    batch: int = 100  # examples at once
    steps: int = 10  # in a call of the loop
    rounds: int = 15  # timed calls of each contestant


def examples(model: cw.Model, batch: int) -> tuple[jax.Array, cw.LabelGoal]:
    """Noise [batch, 28, 28, 1] in [0, 1], and away from what the model says of it."""
    x = jax.random.uniform(jax.random.key(1), (batch, 28, 28, 1))
    return x, cw.untargeted(model.apply(model.params, x).argmax(-1))


def looped(attack: cw.Attack, x: jax.Array, goal: cw.LabelGoal):
    """The attack's states before the first step, and the compiled loop of so many steps."""
    begin, advance, _ = cw.lanes(attack)
    return jax.jit(begin)(jax.random.split(jax.random.key(0), len(x)), x, goal), jax.jit(advance)


def measure(model: cw.Model, arguments: Arguments) -> dict[str, float]:
    """Milliseconds a step, medians, and the two ratios."""
    steps, (x, goal) = arguments.steps, examples(model, arguments.batch)
    objective, attack = cw.objectives.logit_margin(), cw.l2()

    @jax.jit
    def gradient(model, x, goal):
        def loss(x):
            return jax.vmap(objective.loss)(model.apply(model.params, x), goal).sum()

        return jax.value_and_grad(loss)(x)

    @jax.jit
    def step(model, x, goal, states):
        def one(x, goal, state):
            return cw.runners.canonical(attack.step)(model, problem(x, goal), state)

        return jax.vmap(one)(x, goal, states)

    states, loop = looped(attack, x, goal)
    began = time.perf_counter()
    jax.block_until_ready(loop(model, x, goal, states, steps))
    compiling = time.perf_counter() - began
    seconds = interleaved(
        {
            "gradient": lambda: [gradient(model, x, goal) for _ in range(steps)],
            "step": lambda: [step(model, x, goal, states) for _ in range(steps)],
            "loop": lambda: loop(model, x, goal, states, steps),
        },
        arguments.rounds,
    )
    each = {name: 1e3 * statistics.median(values) / steps for name, values in seconds.items()}
    return each | {
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
    """Prints the table as Markdown."""
    net = nets.as_model(nets.build("mnist_cnn", shape=(28, 28, 1), classes=10, seed=0))
    models = {"ours": net, "lax.reduce_window": cw.bind(stock, net.params)}
    print(f"{machine()}\nbatch {arguments.batch}, medians of {arguments.rounds} rounds of {arguments.steps} steps\n")
    rows = {name: measure(model, arguments) for name, model in models.items()}
    print("| pooling | " + " | ".join(rows["ours"]) + " |\n" + "|---" * (len(rows["ours"]) + 1) + "|")
    for name, row in rows.items():
        cells = (f"{value:.3f}" if "/" in key else f"{value:.1f}" for key, value in row.items())
        print(f"| {name} | " + " | ".join(cells) + " |")

    print("\n| a gradient inside a loop, ms | XLA's own | with canonical |\n|---|---|---|")
    for of in ("images", "weights"):
        plain, cured = (in_loop(net, arguments.batch, of=of, cured=cured) for cured in (False, True))
        print(f"| in the {of} | {plain:.1f} | {cured:.1f} |")

    print("\n| a step inside the loop | ms | over that of `l2` |\n|---|---|---|")
    for name, (each, over) in of_the_fast_family(net, arguments).items():
        print(f"| `{name}` | {each:.1f} | {over:.3f} |")


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
