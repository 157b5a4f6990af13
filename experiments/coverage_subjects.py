"""What the experiments on coverage look at: networks with their neurons, natural images, and suites of attacks.

DeepXplore released three LeNets (Pei et al. 2017, https://github.com/peikexin9/deepxplore, MNIST/Model1 to 3). As
arrays in one NPZ file they are read with `--weights FILE`: `lenet1.block1_conv1.kernel`, …, kernels [H, W, C, D] and
[in, out]. Without that file the zoo's networks stand for them.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import cwjax as cw
from cwjax.coverage import Neurons
from cwjax.lab import data
from cwjax.lab.data import Dataset
from cwjax.lab.subjects import model_of
from cwjax.lab.training.layered import max_pool
from experiments import shown

# All 24 of 24 digits succeed on lenet1 with these, in 30 steps at each c for L0 and L∞; with the rates of the paper's
# code, 0.005 and 0.01, it was 11.
RATE, FIRST = 0.05, 1.0
LENETS = ("lenet1", "lenet4", "lenet5")


@dataclasses.dataclass(frozen=True)
class Common:
    """What all these experiments are told."""

    data: str = "mnist5k"  # see cwjax.lab.data; `mnist` is all of it
    data_folder: Path | None = None  # where data is kept
    weights: Path | None = None  # DeepXplore's LeNets as arrays
    models: tuple[str, ...] = ("zoo:mnist_lenet", "zoo:mnist_cnn")  # see cwjax.lab.subjects; beside the weights'
    seed: int = 0


class Network(NamedTuple):
    """A network and what it says of the images."""

    name: str
    model: cw.Model  # returns logits
    neurons: Neurons  # channel means
    train: Dataset
    test: Dataset
    logits: np.ndarray  # of the test images

    @property
    def wrong(self) -> np.ndarray:
        """Which test images it gets wrong."""
        return self.logits.argmax(-1) != self.test.labels


def networks(told: Common, *, layers: str | Sequence[str] = "activation") -> list[Network]:
    """The networks of the weights' file and those named, with the data.

    Args:
      told: what the experiment is told.
      layers: of the named networks: those whose channels are neurons. The LeNets have DeepXplore's: all of them, the
        pools, the logits and the softmax too.
    """
    train, test = (data.load(told.data, split, told.data_folder) for split in ("train", "test"))
    found = []
    for name, params in (lenets(told.weights) if told.weights else {}).items():
        model = cw.bind(logits_of, params)
        found.append((name, model, cw.coverage.from_function(activations_of, params, test.images)))
    for name in told.models:
        model, _ = model_of(name)
        neurons = cw.coverage.neurons(model, test.images, layers=layers)
        found.append((name.removeprefix("zoo:"), model, neurons))
    return [
        Network(name, model, neurons, train, test, shown.outputs_of(model, test.images))
        for name, model, neurons in found
    ]


def lenets(path: Path) -> dict[str, dict[str, dict[str, jax.Array]]]:
    """The weights of each LeNet by layer.

    Raises:
      ValueError: a file without them.
    """
    with np.load(path) as file:
        arrays = dict(file)
    found: dict[str, Any] = {}
    for key, array in arrays.items():
        network, layer, kind = key.split(".")
        found.setdefault(network, {}).setdefault(layer, {})[kind] = jnp.asarray(array)
    if missing := [name for name in LENETS if name not in found]:
        raise ValueError(f"{path} has no {missing[0]}: it should hold DeepXplore's {', '.join(LENETS)}")
    return {name: found[name] for name in LENETS}


def activations_of(params, x) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The logits, and what DeepXplore counts: the value of every layer, numbered as they run."""
    kept = {}

    def note(name: str, value: jax.Array) -> jax.Array:
        kept[f"{len(kept):02d} {name}"] = value
        return value

    for block in ("block1", "block2"):
        conv = params[f"{block}_conv1"]
        dimensions = ("NHWC", "HWIO", "NHWC")
        x = jax.lax.conv_general_dilated(x, conv["kernel"], (1, 1), "SAME", dimension_numbers=dimensions)
        x = note(f"{block}_conv1", jax.nn.relu(x + conv["bias"].reshape(1, 1, 1, -1)))
        x = note(f"{block}_pool1", max_pool(x))
    x = x.reshape(len(x), -1)
    for dense in ("fc1", "fc2"):
        if dense in params:
            x = note(dense, jax.nn.relu(x @ params[dense]["kernel"] + params[dense]["bias"][None]))
    last = params["before_softmax"]
    logits = note("before_softmax", x @ last["kernel"] + last["bias"][None])
    note("predictions", jax.nn.softmax(logits))
    return logits, kept


def logits_of(params, x) -> jax.Array:
    """The network as attacks want it."""
    return activations_of(params, x)[0]


def right(network: Network, count: int) -> Dataset:
    """The first test images that the network gets right."""
    return network.test.take(shown.first_of(~network.wrong, count))


def attacked(network: Network, attack: Any, images: Dataset, *, seed: int = 0) -> np.ndarray:
    """The examples of an attack that succeed when they are looked at again, [M, H, W, C]."""
    keys = jax.random.split(jax.random.key(seed), len(images.labels))
    result = jax.jit(cw.batched(attack))(network.model, keys, images.images, cw.untargeted(images.labels))
    made = np.asarray(result.x)
    hit = shown.outputs_of(network.model, made).argmax(-1) != images.labels
    return made[hit & np.asarray(result.success)]


def short(attack: Callable[..., Any], search: Callable[..., Any], steps: int, **options: Any) -> Any:
    """An attack of the paper with a larger rate and a larger first c than its code has, so that fewer steps do."""
    return attack(steps=steps, optimizer=cw.optimizers.adam(RATE), search=search(initial_c=FIRST), **options)


def l2(steps: int) -> Any:
    """The L2 attack in three rounds."""
    return short(cw.l2, functools.partial(cw.search.binary_search, 3), steps)


def activations(neurons: Neurons, images: np.ndarray, *, at_once: int = 500) -> cw.coverage.Activations:
    """Of all the images, in NumPy."""
    see = jax.jit(lambda neurons, x: neurons(x)[1])
    parts = [see(neurons, images[first : first + at_once]) for first in range(0, len(images), at_once)]
    return jax.tree.map(lambda *leaves: np.concatenate([np.asarray(leaf) for leaf in leaves]), *parts)


def hidden_layers(network: Network) -> list[str]:
    """The names of the activation functions of dense layers, as they run."""
    found = cw.coverage.neurons(network.model, network.test.images).convention.layers
    return [layer.name for layer in found if len(layer.shape) == 1]
