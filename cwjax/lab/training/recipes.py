"""Recipes of training: those of the technical report and the paper, and quicker ones, which made the zoo's networks."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import optax

from cwjax.lab.training.label_losses import Loss, cross_entropy, squared_error

Schedule = Callable[[Any, int, int], Any]  # (updates made, updates an epoch, epochs in all) to a value


class Adversary(NamedTuple):
    """Training images are replaced by what projected gradient ascent makes of them."""

    epsilon: float  # the largest change of a pixel, or with "l2" the greatest length of an image's change
    steps: int  # of 2.5·epsilon/steps, by the gradient's sign or along it, from a random place within epsilon
    ramp: float  # the share of all updates over which epsilon grows from 0
    norm: str = "linf"  # or "l2"


class Certified(NamedTuple):
    """Part of the loss is what interval bounds say of the worst image in a ball; see `epochs.certified_loss`."""

    epsilon: float  # of the ball in L-infinity
    wait: float  # the share of all updates before it grows from 0
    ramp: float  # the share over which it grows
    weight: float  # of the worst image in the loss, to which it grows together with epsilon


class Recipe(NamedTuple):
    """Stochastic gradient descent with momentum, on images as they are unless it says otherwise."""

    learning_rate: Schedule
    momentum: Schedule
    nesterov: bool
    batch: int
    epochs: int
    source: str  # all of the recipe in words: a network is found again by it
    weight_decay: float = 0.0  # added to the gradient, as in L2 regularisation
    dropout: bool = True
    shift: int = 0  # each image is moved by up to this number of pixels, a new draw each epoch
    flip: bool = False  # and mirrored, half of the time
    temperature: float = 1.0  # the loss sees logits over it
    distilled: Schedule | None = (
        None  # from a teacher: rates of the epoch before both, at temperature 1; see `training`
    )
    adversary: Adversary | None = None
    certified: Certified | None = None
    loss: Loss = cross_entropy


def constant(value: float) -> Schedule:
    """The same value at every update."""
    return lambda update, per_epoch, epochs: value


def halved(value: float, every: int) -> Schedule:
    """Half the value after `every` epochs, a quarter after twice as many, and so on."""
    return lambda update, per_epoch, epochs: value * 0.5 ** (update // (every * per_epoch))


def one_cycle(peak: float, rise: float = 0.15) -> Schedule:
    """From a twentieth of the peak up to it along a line, over a share of all updates, then along a cosine to 0."""

    def rate(update, per_epoch, epochs):
        share = update / (per_epoch * epochs)
        up = 0.05 + 0.95 * share / rise
        down = 0.5 + 0.5 * jnp.cos(math.pi * jnp.clip((share - rise) / (1 - rise), 0, 1))
        return peak * jnp.minimum(up, down)

    return rate


def optimizer_of(recipe: Recipe, *, per_epoch: int, epochs: int) -> optax.GradientTransformation:
    """The recipe's gradient descent, where an epoch has `per_epoch` updates."""

    def descent(learning_rate: Any, momentum: Any) -> optax.GradientTransformation:
        steps = optax.sgd(learning_rate, momentum, nesterov=recipe.nesterov)
        return optax.chain(optax.add_decayed_weights(recipe.weight_decay), steps) if recipe.weight_decay else steps

    return optax.inject_hyperparams(descent)(
        learning_rate=lambda update: recipe.learning_rate(update, per_epoch, epochs),
        momentum=lambda update: recipe.momentum(update, per_epoch, epochs),
    )


_QUICK = Recipe(
    learning_rate=one_cycle(0.1),
    momentum=constant(0.9),
    nesterov=True,
    batch=128,
    epochs=12,
    source="",
)
_SMALL = _QUICK._replace(learning_rate=one_cycle(0.05), dropout=False)  # for networks without dropout

RECIPES = {
    "report": Recipe(
        learning_rate=lambda update, per_epoch, epochs: 0.01 / (1 + 1e-6 * update),
        momentum=constant(0.9),
        nesterov=True,
        batch=128,
        epochs=50,
        source="the technical report and the released code: rate 0.01, decay 1e-6 an update, momentum 0.9, Nesterov",
    ),
    "paper_mnist": Recipe(
        learning_rate=constant(0.1),
        momentum=constant(0.9),
        nesterov=False,
        batch=128,
        epochs=50,
        source="the paper's Table II, MNIST: rate 0.1, momentum 0.9",
    ),
    "paper_cifar": Recipe(
        learning_rate=halved(0.01, every=10),
        momentum=halved(0.9, every=10),
        nesterov=False,
        batch=128,
        epochs=50,
        source="the paper's Table II, CIFAR-10: rate 0.01 and momentum 0.9, both halved every 10 epochs",
    ),
    "zoo_mnist": _QUICK._replace(
        shift=2,
        source="one cycle up to rate 0.1, momentum 0.9, Nesterov; images moved by up to 2 pixels",
    ),
    "zoo_cifar": _QUICK._replace(
        learning_rate=one_cycle(0.05),
        weight_decay=5e-4,
        shift=4,
        flip=True,
        source="one cycle up to rate 0.05, momentum 0.9, Nesterov, weight decay 5e-4; images mirrored, and moved by up "
        "to 4 pixels",
    ),
    "distilled": _QUICK._replace(
        learning_rate=one_cycle(0.3),
        epochs=7,
        temperature=100.0,
        distilled=one_cycle(0.1),
        source="the paper's defensive distillation at T = 100: an epoch at T = 1; from there a teacher, and then a "
        "student of its soft labels; each one cycle up to rate 0.3, momentum 0.9, Nesterov",
    ),
    "adversarial": _QUICK._replace(
        epochs=6,
        dropout=False,
        adversary=Adversary(epsilon=0.3, steps=3, ramp=0.4),
        source="one cycle up to rate 0.1, momentum 0.9, Nesterov; on images changed by 3 steps of projected gradient "
        "ascent in L-infinity, epsilon 0.3 after 40 % of the updates; no dropout",
    ),
    "squared": _SMALL._replace(
        loss=squared_error,
        source="squared loss towards one-hot outputs (Hui and Belkin 2021, arXiv 2006.07322); one cycle up to rate "
        "0.05, momentum 0.9, Nesterov",
    ),
    "certified": _SMALL._replace(
        epochs=8,
        certified=Certified(epsilon=0.1, wait=0.03, ramp=0.4, weight=0.5),
        source="interval bound propagation (Gowal et al. 2018, arXiv 1810.12715): half of the loss is the "
        "cross-entropy of the worst logits in L-infinity, epsilon 0.1; both grow from 0 over 40 % of the updates, "
        "after the first 3 %; one cycle up to rate 0.05, momentum 0.9, Nesterov",
    ),
    "winners": _SMALL._replace(
        epochs=3,
        source="k winners take all (Xiao et al. 2020, arXiv 1905.10510), a matter of the network: mnist_winners; one "
        "cycle up to rate 0.05, momentum 0.9, Nesterov",
    ),
    "adversarial_l2": _SMALL._replace(
        epochs=3,
        adversary=Adversary(epsilon=2.0, steps=3, ramp=0.3, norm="l2"),
        source="one cycle up to rate 0.05, momentum 0.9, Nesterov; on images changed by 3 steps of projected gradient "
        "ascent in L2 (Madry et al. 2018, arXiv 1706.06083), epsilon 2 after 30 % of the updates; no dropout",
    ),
}
