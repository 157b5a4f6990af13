"""A network that says by how many degrees a digit leans, and how little makes it say another number.

Claim: an attack works as well on a number as on a class (`objectives.tolerance`): it makes the answer leave a tolerance
around what it was, or come within one of another value; and the farther the number has to go, the larger the change.

Command:

    python -m experiments.regression

Cost: a minute and a quarter on 2 cores, half of it to train the network; one program for all goals.

Expect: the network is off the true lean by 1.25 degrees in the mean. Every goal is reached for all 20 images. The mean
L2 norm grows nearly in proportion: 0.17 for 2 degrees, 0.39 for 5, 0.64 for 10 and 1.17 for 20; the nearer of both
sides is at 0.15, 0.33, 0.60 and 1.16, so that for small tolerances the way the attack finds first is often the longer
one. Were the network straight it would be 0.16, 0.40, 0.80 and 1.60: the attack gains where it is not. To lean 20
degrees the other way takes 2.35. That goal is a narrow one, and more steps come nearer (2.77 with 150 of them).

The true lean comes of the moments of the image: the angle of the line along which its rows' centres shift. Positive
leans to the right, as / does. The network learns it from images. Goals start from the network's own answer to the clean
image, so that none of them is met before the attack. They are to leave it by more than 2, 5, 10 and 20 degrees, and to
say within a degree that the digit leans 20 degrees the other way.

An attack that may leave either side goes the way it finds first ("mean L2"); "nearer of both sides" attacks above and
below by themselves (`side`) and keeps the nearer of the two for each image. "If it were straight" is the tolerance over
the length of the network's slope at the clean image: what the change would be, were the network linear and pixels
unbounded.

The same network under any attack of the command line:

    cwjax attack --model experiments.regression:task --examples 10 --out runs/regression

Every success is looked at again with NumPy. Writes OUT/regression.md, regression.csv and regression.png.
"""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from matplotlib.axes import Axes

import cwjax as cw
from cwjax import goals
from cwjax.lab import data
from cwjax.lab.console.progress import progress, say
from cwjax.lab.files import store
from experiments import shown, small_nets

UNIT = 20.0  # degrees in one unit of the network's last layer


@dataclasses.dataclass(frozen=True)
class Arguments:
    data: str = "mnist5k"  # see cwjax.lab.data
    updates: int = 1500  # of the network's training, 64 images each
    tolerances: tuple[float, ...] = (2.0, 5.0, 10.0, 20.0)  # degrees by which the answer is to be off
    other: float = 20.0  # degrees it is to lean the other way
    within: float = 1.0  # degrees, of that
    examples: int = 20  # the first test images
    steps: int = 300  # gradients for each image and goal
    seed: int = 0  # of the network
    out: Path = Path("runs/regression")  # where the results go


def main(arguments: Arguments) -> list[dict[str, Any]]:
    """Runs the experiment; one row for each tolerance, and one for the value."""
    store.make_folder(arguments.out)
    model, error, test = subject(arguments)
    x, answer = test.images, shown.outputs_of(model, test.images)
    keys = jax.random.split(jax.random.key(0), len(x))
    slope = jax.jit(jax.vmap(jax.grad(lambda x: model(x))))(jnp.asarray(x))
    slope = np.linalg.norm(np.asarray(slope, np.float64).reshape(len(x), -1), axis=1)
    other = np.where(answer >= 0, -arguments.other, arguments.other).astype(np.float32)

    attack = cw.fast("l2", objective=cw.objectives.tolerance(hinged=False), steps=arguments.steps)
    run = jax.jit(cw.batched(attack))  # one program for all goals: they are data
    results, rows = {}, []
    with progress("goals", len(arguments.tolerances) + 1, first="compiling") as advance:
        for tolerance in arguments.tolerances:
            name = f"off by {tolerance:g} degrees"
            sides = {
                side: run(model, keys, x, goals.value_left(answer, tolerance, side=side))
                for side in ("either", "above", "below")
            }
            found = {side: again(model, result, x, answer, tolerance, side) for side, result in sides.items()}
            nearer = np.minimum(*(np.asarray(sides[side].distance) for side in ("above", "below")))
            results[name] = sides["either"]
            rows.append(
                {"goal": name}
                | found["either"]
                | {
                    "nearer of both sides": float(nearer[np.isfinite(nearer)].mean()),
                    "success above": found["above"]["verified"],
                    "success below": found["below"]["verified"],
                    "if it were straight": float(np.mean(tolerance / slope)),
                }
            )
            advance(1, f"{name}: {rows[-1]['success']:.0%}", now=True)
        name = f"lean {arguments.other:g} degrees\nthe other way"
        results[name] = run(model, keys, x, goals.value_reached(other, arguments.within))
        met = shown.off(shown.outputs_of(model, np.asarray(results[name].x)), other) <= arguments.within
        nan = float("nan")
        rows.append(
            {"goal": name.replace("\n", " ")}
            | shown.checked(results[name], x, met)
            | {
                "nearer of both sides": nan,
                "success above": nan,
                "success below": nan,
                "if it were straight": float(np.mean((shown.off(answer, other) - arguments.within) / slope)),
            }
        )
        advance(1, f"{rows[-1]['goal']}: {rows[-1]['success']:.0%}")
    told = [f"Network: off the true lean by {error:.3g} degrees in the mean over the test images."]
    write(rows, arguments, told, model, test, answer, results)
    return rows


def task(arguments: Arguments | None = None) -> cw.Task:
    """For `cwjax attack --model experiments.regression:task`: the answer is to be off by 10 degrees."""
    model, _, test = subject(arguments or Arguments())
    return cw.Task(
        name="how far a digit leans",
        model=model,
        x=test.images,
        goal=goals.value_left(shown.outputs_of(model, test.images), 10.0),
        objective=cw.objectives.tolerance,
        read=_leaning,
        wanted=lambda goal: f"off by {goal.tolerance:g}°",
    )


def again(model, result, x, answer, tolerance, side) -> dict[str, float]:
    """The numbers of an attack that was to leave the tolerance on a side."""
    after = shown.outputs_of(model, np.asarray(result.x))
    met = shown.off(after, answer) >= tolerance
    if side != "either":
        met &= (after > answer) if side == "above" else (after < answer)
    return shown.checked(result, x, met)


def subject(arguments: Arguments) -> tuple[cw.Model, float, data.Dataset]:
    """The network, its mean error in degrees, and the first test images."""
    train, test = (data.load(arguments.data, split) for split in ("train", "test"))

    def loss(params, key, x, lean):
        return (((degrees(params, x) - lean) / UNIT) ** 2).mean()

    fresh = small_nets.convolutional(arguments.seed, train.images.shape[1:], 1)
    params = small_nets.train(
        "a network of a number", loss, fresh, (train.images, lean_of(train.images)), updates=arguments.updates
    )
    model = cw.bind(degrees, params)
    error = float(shown.off(shown.outputs_of(model, test.images), lean_of(test.images)).mean())
    say(f"The network is off the true lean by {error:.2f} degrees in the mean.")
    return model, error, test.take(slice(arguments.examples))


def degrees(params: small_nets.Params, x: jax.Array) -> jax.Array:
    """The network's answer, [B]."""
    return UNIT * small_nets.answered(params, x)[:, 0]


def lean_of(images: np.ndarray) -> np.ndarray:
    """By how many degrees digits lean to the right, [B], by their moments."""
    mass = images[..., 0].astype(np.float64)
    mass /= mass.sum((1, 2), keepdims=True)
    down, across = (axis.astype(np.float64)[None] for axis in np.mgrid[: mass.shape[1], : mass.shape[2]])
    down = down - (mass * down).sum((1, 2), keepdims=True)
    across = across - (mass * across).sum((1, 2), keepdims=True)
    return np.degrees(np.arctan2(-(mass * down * across).sum((1, 2)), (mass * down**2).sum((1, 2)))).astype(np.float32)


def _leaning(value: float) -> str:
    return f"“leans {abs(value):.1f}° to the {'right' if value >= 0 else 'left'}”"


def write(rows, arguments, told, model, test, answer, results) -> None:
    """The table, and the picture: one digit, and what each goal makes of it."""
    last = shown.lengths(test.images, np.asarray(list(results.values())[-1].x))
    place = int(np.argsort(last)[len(last) // 2])
    lines = []
    for name, result in results.items():
        image = np.asarray(result.x[place])
        after = float(shown.outputs_of(model, image[None])[0])
        words = (_leaning(float(answer[place])), _leaning(after))
        lines.append(shown.compared(f"asked for:\n{name}", test.images[place], image, *words))

    def chart(axes: Axes) -> None:
        left, tolerances = rows[:-1], arguments.tolerances
        for name, style, color, label in (
            ("if it were straight", ":", shown.INK, "if the network were straight"),
            ("mean L2", "o-", shown.BLUE, "attack, either side"),
            ("nearer of both sides", "s--", shown.ORANGE, "nearer of both sides"),
        ):
            axes.plot(tolerances, [row[name] for row in left], style, color=color, label=label)
        axes.set(xlim=(0, None), ylim=(0, None), title="How much change it takes to be so far off")
        shown.plain(axes, "degrees by which the answer is off", "mean length of the change")
        axes.legend(frameon=False)

    title = "A network that says by how many degrees a digit leans"
    figure = shown.picture(title, shown.COMPARED, lines, chart)
    shown.write("regression", "Attacks on a number", rows, figure, arguments, told=told)


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
