"""Documents for DeepXplore's tables: the released networks with their neurons, and which features may change."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import cwjax as cw
from cwjax.coverage import Neurons
from cwjax.generation import deepxplore
from experiments import malware_pdf

BOTH_WAYS = ("createdate_ts", "createdate_tz", "moddate_ts", "moddate_tz", "version")
AUTHORED = ("author", "creator", "keywords", "producer", "subject", "title")


class Rules(NamedTuple):
    """What may change of documents."""

    grows: np.ndarray  # bool [F]
    both: np.ndarray  # bool [F]
    high: np.ndarray  # float32 [F]
    unit: np.ndarray  # float32 [F]: the standard deviation


class Documents(NamedTuple):
    """Documents of the test, and who judges them."""

    models: tuple[cw.Model, ...]
    neurons: tuple[Neurons, ...]
    x: np.ndarray  # float32 [N, F]
    labels: np.ndarray
    rules: Rules


def read(features: Path, networks: Path) -> Documents:
    """The released networks, all documents, and what may change of them."""
    with np.load(features) as arrays:
        names, parts = arrays["names"].tolist(), [arrays[name] for name in ("google_ben", "virustotal_mal")]
    every, labels = np.concatenate(parts), np.repeat([0, 1], [len(each) for each in parts])
    models = tuple(malware_pdf.released(networks, every).values())
    neurons = tuple(cw.coverage.from_function(activations_of, model.params, every[:3]) for model in models)
    rules = Rules(
        grows=np.array([malware_pdf.may_grow(name) for name in names]),
        both=np.array([name in BOTH_WAYS or _is_authored(name) for name in names]),
        high=np.floor(np.percentile(every, 99, axis=0)).astype(np.float32),
        unit=np.where(every.std(0) > 0, every.std(0), 1).astype(np.float32),
    )
    return Documents(models, neurons, every, labels, rules)


def _is_authored(name: str) -> bool:
    first, _, last = name.partition("_")
    return first in AUTHORED and last in ("dot", "lc", "num", "oth", "uc")


def activations_of(params: dict[str, Any], x: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The logits, and the value of every layer, the softmax too: what DeepXplore counts."""
    kept, last = {}, len(params["layers"]) - 1
    x = (x - jnp.asarray(params["mean"])[None]) / jnp.asarray(params["std"])[None]
    for place, layer in enumerate(params["layers"]):
        x = x @ layer["weights"] + layer["bias"][None]
        x = x if place == last else jax.nn.relu(x)
        kept[f"{place} dense"] = x
    return x, kept | {f"{last + 1} softmax": jax.nn.softmax(x)}


def in_deviations(constraint: deepxplore.Constraint, unit: np.ndarray) -> deepxplore.Constraint:
    """The constraint for networks that are given features in their own units: the step that they would make if they
    were given standardised ones.
    """

    def step(key: Any, direction: Any) -> jax.Array:
        scaled = direction * unit
        return jnp.asarray(unit * constraint(key, scaled / (jnp.sqrt(jnp.mean(scaled**2)) + 1e-5)))

    return step
