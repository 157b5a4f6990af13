"""Training by a recipe: one jitted epoch after the other, resumable, its result kept until something changes."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float, Int, PyTree

import cwjax
from cwjax.arguments import check_count
from cwjax.lab import data
from cwjax.lab.console.parsing import optional
from cwjax.lab.console.progress import progress, say
from cwjax.lab.files import environment, store
from cwjax.lab.training import nets
from cwjax.lab.training.epochs import epoch
from cwjax.lab.training.intervals import certified_accuracy
from cwjax.lab.training.label_losses import Labels
from cwjax.lab.training.recipes import RECIPES, Recipe, Schedule, optimizer_of
from cwjax.models import Model


@dataclasses.dataclass(frozen=True)
class Training:
    """What decides which weights come out: on one machine and with the same versions, equal settings, equal weights."""

    data: str = "mnist5k"  # mnist5k, mnist, mnist_rest (mnist less mnist5k), fashion_mnist or cifar10
    # mnist_cnn (the technical report's), cifar_cnn (the paper's), cifar_resnet, mnist_dense, mnist_small, mnist_lenet
    # or mnist_winners
    net: str = "mnist_cnn"
    # report (the technical report's and the released code's), paper_mnist, paper_cifar; those of the zoo's networks:
    # zoo_mnist, distilled, adversarial, zoo_cifar, squared, certified, winners, adversarial_l2
    recipe: str = "report"
    epochs: Annotated[int | None, optional("INT", "the recipe's own number")] = None  # how often over the images
    seed: int = 0  # of the initial weights, the order of images and dropout


class Sets(NamedTuple):
    """The images of one training."""

    train: data.Dataset
    validation: data.Dataset
    test: data.Dataset


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
    sets = Sets(*(data.load(settings.data, split, data_folder) for split in data.SPLITS))
    return train_on(sets, RECIPES[settings.recipe], settings, folder)


def train_on(sets: Sets, recipe: Recipe, settings: Training, folder: Path) -> Trained:
    """Trains the network on images and by a recipe that have no name, such as a half of a data set; else as `train`.

    The network is found again by the images and labels, the recipe's `source`, and the settings.

    Args:
      sets: what to train, validate and test on.
      recipe: how to train; its `source` tells it from every other recipe.
      settings: as for `train`, but its `data` and `recipe` are only told.
      folder: where trained networks are kept.

    Raises:
      ValueError: settings out of range.
      store.CorruptFile, OSError: see `train`.
    """
    epochs = recipe.epochs if settings.epochs is None else settings.epochs
    check_count("--epochs", epochs)
    check_count("--seed", settings.seed, least=0, most=2**32 - 1)
    train_set, validation_set, test_set = sets
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
    fit = _Fit(net, epochs, settings.seed, train_set, validation_set, evaluate, place)
    if recipe.distilled:
        params, history = _distilled(fit, recipe, recipe.distilled)
    else:
        params, history = _fit(fit, recipe, nnx.state(net), train_set.labels)
    nnx.update(net, params)
    accuracy, loss = evaluate(params, test_set)
    model = nets.as_model(net)
    store.write_arrays(place / "weights.safetensors", model.params)
    card = identity | {
        "shape": list(train_set.images.shape[1:]),
        "classes": list(train_set.classes),
        "test_accuracy": accuracy,
        "test_loss": loss,
        "history": history,
        **_certificate(nets.as_net(model), recipe, test_set),
        "environment": environment.describe(),
        "sha256": store.fingerprint(place / "weights.safetensors"),
    }
    store.write_json(place / "card.json", card)
    for checkpoint in place.glob("checkpoint*.safetensors"):
        checkpoint.unlink()
    return Trained(model=model, card=card, folder=place)


def _certificate(net: nets.Net, recipe: Recipe, test_set: data.Dataset) -> dict[str, Any]:
    """What the card of a certified network has more."""
    if not recipe.certified:
        return {}
    epsilon = recipe.certified.epsilon
    return {"certified_accuracy": {str(epsilon): certified_accuracy(net, test_set, epsilon=epsilon)}}


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
        shape, dtype = tuple(map(int, card["shape"])), np.dtype(card.get("dtype", "float32"))
        classes = len(card["classes"])
        # Shapes alone: initial weights would take longer to draw than the weights take to read.
        like = nets.as_model(nnx.eval_shape(lambda: nets.build(card["net"], shape=shape, classes=classes, seed=0)))
        stored = jax.tree.map(lambda weight: jax.ShapeDtypeStruct(weight.shape, dtype), like.params)
        expected, _ = str(card["sha256"]), float(card["test_accuracy"])
        history = {name: [float(value) for value in card["history"][name]] for name in CURVES}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise store.CorruptFile(f"{card_file} is no network's card ({error!r}): delete {folder}") from error
    if store.fingerprint(weights) != expected:
        raise store.CorruptFile(
            f"{weights} is corrupted (its SHA-256 is not its card's): delete {folder} and train again"
        )
    params = jax.tree.map(lambda weight: weight.astype(jnp.float32), store.read_arrays(weights, stored))
    model = dataclasses.replace(like, params=params)
    return Trained(model=model, card=card | {"history": history}, folder=folder)


class _Fitting(NamedTuple):
    """What an epoch changes, and a checkpoint holds."""

    params: PyTree
    optimizer: PyTree
    epoch: Int[Array, ""]  # int32: epochs done
    history: Float[Array, "epochs 4"]  # loss, accuracy, validation loss, validation accuracy


CURVES = ("loss", "accuracy", "validation_loss", "validation_accuracy")


class _Fit(NamedTuple):
    """What every stage of a training shares."""

    net: nnx.Module
    epochs: int
    seed: int
    train_set: data.Dataset
    validation_set: data.Dataset
    evaluate: Callable[[PyTree, data.Dataset], tuple[float, float]]
    place: Path


def _distilled(fit: _Fit, recipe: Recipe, start: Schedule) -> tuple[PyTree, dict[str, list[float]]]:
    """The paper's defensive distillation: teacher and student start from the same weights, those of one epoch at T = 1,
    and the student learns what the teacher, without dropout, says at T of every training image.
    """
    images, labels = fit.train_set.images, fit.train_set.labels
    first = recipe._replace(temperature=1.0, learning_rate=start)
    warm, _ = _fit(fit._replace(epochs=1), first, nnx.state(fit.net), labels, "start")
    teacher, _ = _fit(fit, recipe, warm, labels, "teacher")
    graph = nnx.graphdef(fit.net)
    soften = jax.jit(lambda teacher, images: jax.nn.softmax(nnx.merge(graph, teacher)(images) / recipe.temperature))
    soft = np.concatenate([soften(teacher, images[i : i + 500]) for i in range(0, len(images), 500)])
    return _fit(fit, recipe, warm, soft, "student")


def _fit(
    fit: _Fit, recipe: Recipe, params: PyTree, labels: Labels, stage: str = ""
) -> tuple[PyTree, dict[str, list[float]]]:
    """The weights after all epochs, from `params` on, and the curves. Goes on from a checkpoint if there is one."""
    per_epoch = len(labels) // recipe.batch
    if not per_epoch:
        raise ValueError(f"{len(labels)} training images do not fill one batch of {recipe.batch}")
    optimizer = optimizer_of(recipe, per_epoch=per_epoch, epochs=fit.epochs)
    fitting = _Fitting(
        params=params,
        optimizer=optimizer.init(params),
        epoch=jnp.zeros((), jnp.int32),
        history=jnp.zeros((fit.epochs, len(CURVES))),
    )
    checkpoint = fit.place / f"checkpoint{stage and '-'}{stage}.safetensors"
    if checkpoint.exists():
        fitting = store.read_arrays(checkpoint, fitting)
    run_epoch = epoch(fit.net, recipe, optimizer, updates=per_epoch * fit.epochs)
    key = jax.random.key(fit.seed)
    with progress(f"training {fit.place.name} {stage}".strip(), fit.epochs, done=int(fitting.epoch)) as advance:
        for done in range(int(fitting.epoch), fit.epochs):
            params, state, loss, accuracy = run_epoch(
                fitting.params, fitting.optimizer, jax.random.fold_in(key, done), fit.train_set.images, labels
            )
            validation_accuracy, validation_loss = fit.evaluate(params, fit.validation_set)
            curves = jnp.array([loss, accuracy, validation_loss, validation_accuracy])
            fitting = _Fitting(params, state, jnp.int32(done + 1), fitting.history.at[done].set(curves))
            store.write_arrays(checkpoint, fitting)
            advance(1, f"loss {loss:.3f}  accuracy {accuracy:.1%}  validation {validation_accuracy:.1%}")
    return fitting.params, {name: np.asarray(fitting.history[:, i]).tolist() for i, name in enumerate(CURVES)}


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
