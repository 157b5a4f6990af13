"""Training by the recipes of the report and the paper: one jitted epoch, resumable, its result kept until something
changes.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

import cwjax
from cwjax.canonical import canonical
from cwjax.checks import check_number
from cwjax.lab import data, environment, nets, store
from cwjax.lab.progress import progress, say
from cwjax.models import Model

Schedule = Callable[[Any], Any]  # from the number of updates made to a value


class Recipe(NamedTuple):
    """Stochastic gradient descent with momentum; learning rate and momentum as functions of (update, updates an
    epoch).
    """

    learning_rate: Callable[[Any, int], Any]
    momentum: Callable[[Any, int], Any]
    nesterov: bool
    batch: int
    epochs: int
    source: str


RECIPES = {
    "report": Recipe(
        learning_rate=lambda update, per_epoch: 0.01 / (1 + 1e-6 * update),
        momentum=lambda update, per_epoch: 0.9,
        nesterov=True,
        batch=128,
        epochs=50,
        source="the report and the released code: rate 0.01, decay 1e-6 an update, momentum 0.9, Nesterov",
    ),
    "paper_mnist": Recipe(
        learning_rate=lambda update, per_epoch: 0.1,
        momentum=lambda update, per_epoch: 0.9,
        nesterov=False,
        batch=128,
        epochs=50,
        source="the paper's Table II, MNIST: rate 0.1, momentum 0.9",
    ),
    "paper_cifar": Recipe(
        learning_rate=lambda update, per_epoch: 0.01 * 0.5 ** (update // (10 * per_epoch)),
        momentum=lambda update, per_epoch: 0.9 * 0.5 ** (update // (10 * per_epoch)),
        nesterov=False,
        batch=128,
        epochs=50,
        source="the paper's Table II, CIFAR-10: rate 0.01 and momentum 0.9, both halved every 10 epochs",
    ),
}


@dataclasses.dataclass(frozen=True)
class Training:
    """What decides which weights come out: on one machine and with the same versions, equal settings, equal weights."""

    data: str = "mnist5k"  # mnist5k, mnist, fashion_mnist or cifar10
    net: str = "mnist_cnn"  # mnist_cnn (the report's) or cifar_cnn
    recipe: str = "report"  # report (the report's and the released code's), paper_mnist or paper_cifar
    epochs: int | None = None  # instead of the recipe's own number
    seed: int = 0  # of the initial weights, the order of images and dropout


class Trained(NamedTuple):
    """A trained network."""

    model: Model
    card: dict[str, Any]  # the settings, accuracies, curves by epoch, versions and the weights' SHA-256
    folder: Path


def train(settings: Training, folder: Path, *, data_folder: Path | None = None) -> Trained:
    """Trains the network, or reads its weights if the same settings on the same data were trained before.

    Writes `folder/NAME/weights.safetensors` and `card.json`, where NAME ends in a hash of the settings and the data.
    After every epoch a checkpoint is written, and a run that was killed goes on from it.

    Args:
      settings: what to train.
      folder: where trained networks are kept.
      data_folder: see `data.load`.

    Raises:
      ValueError: an unknown name, or settings out of range.
      data.MissingData, data.CorruptData: see `data.load`.
      store.CorruptFile: the weights or the checkpoint are not what was written.
      OSError: the folder cannot be written to.
    """
    if settings.recipe not in RECIPES:
        raise ValueError(f"unknown recipe {settings.recipe!r}: choose one of {', '.join(RECIPES)}")
    recipe = RECIPES[settings.recipe]
    epochs = recipe.epochs if settings.epochs is None else settings.epochs
    check_number("--epochs", epochs, least=1)
    check_number("--seed", settings.seed, least=0, most=2**32 - 1)
    train_set, validation_set, test_set = (data.load(settings.data, split, data_folder) for split in data.SPLITS)
    net = nets.build(settings.net, shape=train_set.images.shape[1:], classes=len(train_set.classes), seed=settings.seed)
    identity = dataclasses.asdict(settings) | {
        "epochs": epochs,
        "source": recipe.source,
        "version": cwjax.__version__,
        "images": store.fingerprint(train_set.images),
        "labels": store.fingerprint(train_set.labels),
    }
    place = folder / f"{settings.data}-{settings.net}-{store.fingerprint(identity)[:12]}"
    if (place / "card.json").exists():
        say(f"Trained before: {place}")
        return load(place)
    store.make_folder(place)
    evaluate = _evaluator(net)
    net, history = _fit(net, recipe, epochs, settings.seed, train_set, validation_set, evaluate, place)

    accuracy, loss = evaluate(nnx.state(net), test_set)
    model = nets.as_model(net)
    store.write_arrays(place / "weights.safetensors", model.params)
    card = identity | {
        "shape": list(train_set.images.shape[1:]),
        "classes": list(train_set.classes),
        "test_accuracy": accuracy,
        "test_loss": loss,
        "history": history,
        "environment": environment.describe(),
        "sha256": store.fingerprint(place / "weights.safetensors"),
    }
    store.write_json(place / "card.json", card)
    (place / "checkpoint.safetensors").unlink(missing_ok=True)
    return Trained(model=model, card=card, folder=place)


def load(folder: Path) -> Trained:
    """Reads a trained network. Raises FileNotFoundError where there is none, store.CorruptFile where its files are
    damaged.
    """
    weights, card_file = folder / "weights.safetensors", folder / "card.json"
    for file in (card_file, weights):
        if not file.is_file():
            raise FileNotFoundError(f"no trained network in {folder} ({file.name} is missing): run `cwjax train` first")
    card = store.read_json(card_file)
    try:
        height, width, channels = card["shape"]
        like = nets.as_model(
            nets.build(card["net"], shape=(height, width, channels), classes=len(card["classes"]), seed=0)
        )
        expected, _ = str(card["sha256"]), float(card["test_accuracy"])
        history = {name: [float(value) for value in card["history"][name]] for name in CURVES}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise store.CorruptFile(f"{card_file} is no network's card ({error!r}): delete {folder}") from error
    if store.fingerprint(weights) != expected:
        raise store.CorruptFile(
            f"{weights} is corrupted (its SHA-256 is not its card's): delete {folder} and train again"
        )
    model = dataclasses.replace(like, params=store.read_arrays(weights, like.params))
    return Trained(model=model, card=card | {"history": history}, folder=folder)


def optimizer_of(recipe: Recipe, *, per_epoch: int) -> optax.GradientTransformation:
    """The recipe's gradient descent, where an epoch has `per_epoch` updates."""
    return optax.inject_hyperparams(optax.sgd, static_args=("nesterov",))(
        learning_rate=lambda update: recipe.learning_rate(update, per_epoch),
        momentum=lambda update: recipe.momentum(update, per_epoch),
        nesterov=recipe.nesterov,
    )


class _Fitting(NamedTuple):
    """What an epoch changes, and a checkpoint holds."""

    params: PyTree
    optimizer: PyTree
    epoch: Int[Array, ""]  # int32: epochs done
    history: Float[Array, "epochs 4"]  # loss, accuracy, validation loss, validation accuracy


CURVES = ("loss", "accuracy", "validation_loss", "validation_accuracy")


def _fit(net, recipe, epochs, seed, train_set, validation_set, evaluate, place):
    per_epoch = len(train_set.images) // recipe.batch
    if not per_epoch:
        raise ValueError(f"{len(train_set.images)} training images do not fill one batch of {recipe.batch}")
    optimizer = optimizer_of(recipe, per_epoch=per_epoch)
    params = nnx.state(net)
    fitting = _Fitting(
        params=params,
        optimizer=optimizer.init(params),
        epoch=jnp.zeros((), jnp.int32),
        history=jnp.zeros((epochs, len(CURVES))),
    )
    checkpoint = place / "checkpoint.safetensors"
    if checkpoint.exists():
        fitting = store.read_arrays(checkpoint, fitting)
    run_epoch = _epoch(net, optimizer, recipe.batch)
    key = jax.random.key(seed)
    with progress(f"training {place.name}", epochs, done=int(fitting.epoch)) as advance:
        for epoch in range(int(fitting.epoch), epochs):
            params, state, loss, accuracy = run_epoch(
                fitting.params, fitting.optimizer, jax.random.fold_in(key, epoch), train_set.images, train_set.labels
            )
            validation_accuracy, validation_loss = evaluate(params, validation_set)
            curves = jnp.array([loss, accuracy, validation_loss, validation_accuracy])
            fitting = _Fitting(params, state, jnp.int32(epoch + 1), fitting.history.at[epoch].set(curves))
            store.write_arrays(checkpoint, fitting)
            advance(1, f"loss {loss:.3f}  accuracy {accuracy:.1%}  validation {validation_accuracy:.1%}")
    nnx.update(net, fitting.params)
    return net, {name: np.asarray(fitting.history[:, i]).tolist() for i, name in enumerate(CURVES)}


def _epoch(net: nnx.Module, optimizer: optax.GradientTransformation, batch: int) -> Callable[..., Any]:
    """One pass over the images in random order as one compiled program; a last batch that is not full is left out."""
    graph = nnx.graphdef(net)

    def update(params, state, key, images, labels):
        def objective(params):
            logits = nnx.merge(graph, params)(images, rngs=nnx.Rngs(dropout=key))
            loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
            return loss, (logits.argmax(-1) == labels).mean()

        (loss, accuracy), slope = jax.value_and_grad(objective, has_aux=True)(params)
        change, state = optimizer.update(slope, state, params)
        return optax.apply_updates(params, change), state, loss, accuracy

    @jax.jit
    def run(params, state, key: PRNGKeyArray, images, labels):
        shuffle, drop = jax.random.split(key)
        order = jax.random.permutation(shuffle, len(images))
        batches = order[: len(order) // batch * batch].reshape(-1, batch)

        def step(carry, inputs):
            chosen, key = inputs
            params, state = carry
            params, state, loss, accuracy = canonical(update)(params, state, key, images[chosen], labels[chosen])
            return (params, state), (loss, accuracy)

        keys = jax.random.split(drop, len(batches))
        (params, state), (losses, accuracies) = jax.lax.scan(step, (params, state), (batches, keys))
        return params, state, losses.mean(), accuracies.mean()

    return run


def _evaluator(net: nnx.Module) -> Callable[[PyTree, data.Dataset], tuple[float, float]]:
    """Accuracy and mean cross-entropy of weights on a data set."""
    graph = nnx.graphdef(net)

    @jax.jit
    def evaluate(params, images, labels):
        logits = nnx.merge(graph, params)(images)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return (logits.argmax(-1) == labels).sum(), losses.sum()

    def run(params, dataset):
        count = len(dataset.labels)
        parts = [
            evaluate(params, dataset.images[i : i + 500], dataset.labels[i : i + 500]) for i in range(0, count, 500)
        ]
        right, loss = (float(sum(part[k] for part in parts)) for k in range(2))
        return right / count, loss / count

    return run
