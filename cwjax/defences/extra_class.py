"""One more class for adversarial inputs (Grosse et al. 2017)."""

from typing import NamedTuple

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from cwjax.base import AnyArray, Attack
from cwjax.coverage.convention import Neurons
from cwjax.defences.defended import Defended, Keep, calibrated, fresh
from cwjax.defences.inner_layers import inside
from cwjax.defences.learnt_weights import as_many, fitted, lesson
from cwjax.defences.networks import Weights, dense, layer
from cwjax.models import Model


class Outlier(NamedTuple):
    """The weights of both the classifier and the detector."""

    units: Neurons  # the network, with its last hidden layer
    head: Weights  # of the output that the extra class has


def extra_class(
    model: Model,
    x: Float[AnyArray, "N *S"],
    labels: Int[AnyArray, "N"],
    key: Array,
    *,
    count: int = 300,
    updates: int = 150,
    attack: Attack | None = None,
    false_positives: float = 0.05,
    keep: Keep = fresh,
) -> Defended:
    """A network with an output more, which learns to put adversarial inputs there.

    The score is by how much the extra output leads the largest of the others; at a threshold of 0 an input is refused
    where the extra class is the answer. The network goes on learning from its own weights, clean inputs and adversarial
    ones alike; the extra output reads the last hidden layer.

    Args:
      model: where training begins.
      x: inputs in [0, 1]; the threshold is set on the last fifth.
      labels: of the inputs.
      key: of the attack, the fresh output and the batches.
      count: training inputs that are attacked.
      updates: steps of Adam, 64 clean and 64 adversarial inputs each.
      attack: that the network learns from, see `adversarial`.
      false_positives: share of the clean inputs to refuse.
      keep: see `Keep`.

    Returns:
      The network without its extra output, and the detector.

    Example:
      >>> attack = cw.attacks.ddn(steps=20)
      >>> small = {"count": 10, "updates": 20, "attack": attack}
      >>> defended = cw.defences.extra_class(model, x, labels, jax.random.key(0), **small)
      >>> int(cw.defences.refused(defended, x[-8:]).sum())
      0

    References:
      Grosse et al. 2017, "On the (statistical) detection of adversarial examples", https://arxiv.org/abs/1702.06280
      Broken by Carlini & Wagner 2017, "Adversarial examples are not easily detected", https://arxiv.org/abs/1705.07263
    """
    clean, known, wrong, held_out, begin, learn = lesson(model, x, labels, key, count=count, attack=attack, keep=keep)
    units, read = inside(model, clean, -1)
    start = Outlier(units, layer(begin, (read(clean[:1]).size, 1)))

    def loss(params, key, x, labels, wrong):
        del key
        outputs = _all(params, jnp.concatenate([x, wrong]))
        wanted = jnp.concatenate([labels, jnp.full(len(wrong), outputs.shape[1] - 1, labels.dtype)])
        return optax.softmax_cross_entropy_with_integer_labels(outputs, wanted).mean()

    arrays = (clean, known, as_many(wrong, clean))
    trained = keep("network", lambda: fitted(loss, start, arrays, learn, updates=updates, batch=64))
    network, detector = (Model(apply=apply, params=trained) for apply in (_classes, _lead))
    return calibrated(network, detector, held_out, false_positives)


def _all(params: Outlier, x: Float[Array, "B *S"]) -> Float[Array, "B L"]:
    logits, [values] = params.units.read(x, None)
    return jnp.concatenate([logits, dense(params.head, values.reshape(len(values), -1))], 1)


def _classes(params: Outlier, x: Float[Array, "B *S"]) -> Float[Array, "B K"]:
    return _all(params, x)[:, :-1]


def _lead(params: Outlier, x: Float[Array, "B *S"]) -> Float[Array, "B"]:
    outputs = _all(params, x)
    return outputs[:, -1] - outputs[:, :-1].max(1)
