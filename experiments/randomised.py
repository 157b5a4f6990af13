"""A network that draws a dropout mask anew for every answer, attacked on one mask and on twenty.

Claim: an example made for one mask is found at the least distance and is of little use on the next mask. The mean over
fixed masks (`cw.averaged`, expectation over transformation) is a function that the attack can descend, and its examples
hold on more masks that it has not seen; those that are to fool every single one of the fixed masks
(`objectives.all_of` over `cw.joined`) hold on most, and are the farthest.

Command:

    python -m experiments.randomised

Cost: two minutes on 2 cores, one of them for the twenty masks at once, which compiles twenty networks.

Expect: every attack succeeds on all 20 images, at a mean L2 norm of 0.89 for one mask, 1.13 for the mean of twenty and
1.47 for every one of them. Of a hundred fresh masks, 23 misread what was made for one mask in the mean, 22 when it is
stretched, 50 what was made for the mean, 85 what was made for every one, and 5 the clean images. So the mean is
no more than half the way: its examples end just behind the boundary of the mean, on which half of the masks lie on
either side (40 % of the images are misread under most masks). Those made for every mask are all misread under most, and
20 % of them under at least 95.

The network is small; dropout halves its hidden units, in training and in use. Images are those that it reads rightly
under the first mask and in the mean of the fixed ones.

An attack on one mask goes less far. So its examples are also tried when stretched to the length that the mean asks for:
what the direction alone is worth.

Every success is looked at again with NumPy. Writes OUT/randomised.md, randomised.csv and randomised.png.
"""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from matplotlib.axes import Axes

import cwjax as cw
from cwjax.lab import data
from cwjax.lab.console.progress import progress, say
from cwjax.lab.files import store
from experiments import shown, small_nets

UNITS = 64
ONE, MEAN, EVERY = "one mask", "the mean of the masks", "every one of the masks"
LONGER = "one mask, stretched"


@dataclasses.dataclass(frozen=True)
class Arguments:
    data: str = "mnist5k"  # see cwjax.lab.data
    updates: int = 1000  # of the network's training, 64 images each
    masks: int = 20  # that are fixed, and attacked
    fresh: int = 100  # masks that examples are tried on afterwards
    examples: int = 20  # the first test images that the network gets right
    steps: int = 150  # gradients for each image and attack; one for all masks costs one for each
    seed: int = 0  # of the network and the masks
    out: Path = Path("runs/randomised")  # where the results go


def main(arguments: Arguments) -> list[dict[str, Any]]:
    """Runs the experiment; one row for each attack."""
    store.make_folder(arguments.out)
    params = trained(arguments)
    fixed_key, fresh_key = jax.random.split(jax.random.key(arguments.seed + 1))
    fixed, fresh = masks(fixed_key, arguments.masks), masks(fresh_key, arguments.fresh)
    each = [cw.bind(_masked, (params, mask)) for mask in fixed]
    mean = cw.averaged(small_nets.answered, params, fixed)

    test = data.load(arguments.data, "test")
    right = [~shown.wrong(model, test.images, test.labels) for model in (each[0], mean)]
    accuracy = float(np.mean([1 - _misread(params, mask, test).mean() for mask in fresh[:10]]))
    said = f"{accuracy:.1%} with a mask drawn anew, {right[1].mean():.1%} in the mean of {arguments.masks}"
    say(f"Accuracy on the test images: {said}.")
    test = test.take(shown.first_of(np.all(right, 0), arguments.examples))

    goal, keys = cw.untargeted(test.labels), jax.random.split(jax.random.key(0), len(test.labels))
    attack = cw.batched(cw.fast("l2", steps=arguments.steps))
    every = cw.objectives.all_of([cw.losses.negative_margin()] * len(each))
    runs = {
        ONE: (attack, each[0]),
        MEAN: (attack, mean),
        EVERY: (cw.batched(cw.fast("l2", objective=every, steps=arguments.steps)), cw.joined(each)),
    }
    results = {}
    with progress("attacks", len(runs), first="compiling") as advance:
        for name, (run, model) in runs.items():
            results[name] = jax.jit(run)(model, keys, test.images, goal)
            advance(1, f"{name}: {results[name].success.mean():.0%}", now=True)

    def tried(images):
        """On which of the fresh masks each image is misread, [B, masks]."""
        return np.stack([_misread(params, mask, test._replace(images=images)) for mask in fresh], 1)

    rows, hit_rates = [], {"not attacked": tried(test.images)}
    for name, result in results.items():
        outputs = shown.outputs_of(runs[name][1], np.asarray(result.x))
        several = outputs if name == EVERY else [outputs]
        met = np.all([shown.misread(each, test.labels) for each in several], 0)
        row = {"attacked": name} | shown.checked(result, test.images, met)
        hit_rates[name] = tried(np.asarray(result.x))
        rows.append(row | _on_fresh(hit_rates[name]))
    length = {name: shown.lengths(test.images, np.asarray(result.x)) for name, result in results.items()}
    longer = shown.stretched(test.images, np.asarray(results[ONE].x), length[MEAN])
    hit_rates[LONGER] = tried(longer)
    told = [
        f"Clean images are misread under {hit_rates['not attacked'].mean():.1%} of the {arguments.fresh} fresh masks.",
        f"Those made for one mask, stretched to the length that the mean asks for: under {hit_rates[LONGER].mean():.1%}"
        f"; {(hit_rates[LONGER].mean(1) > 0.5).mean():.0%} of them under most masks.",
        f"Network: accuracy {accuracy:.2%} with a mask drawn anew.",
    ]
    write(rows, arguments, told, test, results, hit_rates)
    return rows


def trained(arguments: Arguments) -> small_nets.Params:
    """The network's weights, learnt with dropout."""
    train = data.load(arguments.data, "train")

    def loss(params, key, x, labels):
        drop = 2 * jax.random.bernoulli(key, 0.5, (len(x), UNITS)).astype(x.dtype)
        logits = small_nets.answered(params, x, drop)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    fresh = small_nets.convolutional(
        arguments.seed, train.images.shape[1:], len(train.classes), channels=(12, 24), units=UNITS
    )
    return small_nets.train(
        "a network with dropout", loss, fresh, (train.images, train.labels), updates=arguments.updates
    )


def masks(key: jax.Array, count: int) -> jax.Array:
    """Draws of dropout, [count, units]: half of the units at twice their size, the others at nothing."""
    return 2 * jax.random.bernoulli(key, 0.5, (count, UNITS)).astype(jnp.float32)


def _masked(params: tuple[small_nets.Params, jax.Array], x: jax.Array) -> jax.Array:
    return small_nets.answered(params[0], x, params[1])


_answers = jax.jit(small_nets.answered)


def _misread(params: small_nets.Params, mask: jax.Array, some: data.Dataset) -> np.ndarray:
    return shown.misread(np.asarray(_answers(params, some.images, mask)), some.labels)


def _on_fresh(hit: np.ndarray) -> dict[str, float]:
    share = hit.mean(1)
    return {
        "misread under fresh masks": float(share.mean()),
        "under most of them": float((share > 0.5).mean()),
        "under at least 95 %": float((share >= 0.95).mean()),
    }


def write(rows, arguments, told, test, results, hit_rates) -> None:
    """The table, and the picture: one digit, and how many fresh masks each attack's image fools."""
    place = int(np.argsort(shown.lengths(test.images, np.asarray(results[MEAN].x)))[len(test.labels) // 2])

    def words(name):
        return f"misread under {hit_rates[name][place].sum()} of\n{arguments.fresh} masks drawn anew"

    lines = [
        shown.compared(
            f"made to fool\n{name}",
            test.images[place],
            np.asarray(result.x[place]),
            f"a {test.classes[test.labels[place]]}, {words('not attacked')}",
            words(name),
        )
        for name, result in results.items()
    ]
    order = ("not attacked", ONE, LONGER, MEAN, EVERY)

    def chart(axes: Axes) -> None:
        for line, name in enumerate(order):
            shares = np.sort(hit_rates[name].mean(1))
            spread = line + np.linspace(-0.3, 0.3, len(shares))
            axes.plot(shares, spread, "o", color=shown.BLUE, alpha=0.5, markersize=4)
            axes.plot(shares.mean(), line, "|", color=shown.ORANGE, markersize=32, markeredgewidth=2.5)
        axes.set(xlim=(-0.03, 1.03), title="How often an image is misread\nwhen the network draws its mask anew")
        axes.set_yticks(
            range(len(order)), [name.replace(", ", ",\n").replace(" the masks", "\nthe masks") for name in order]
        )
        axes.invert_yaxis()
        shown.plain(axes, "share of fresh masks\n(a dot for each image, a line at their mean)", "")

    figure = shown.picture("A network that flips coins, fooled on one toss and on many", shown.COMPARED, lines, chart)
    shown.write("randomised", "Attacks on a network with dropout", rows, figure, arguments, told=told)


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
