"""Which neurons are suspected of a network's faults: spectrum-based localisation."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from cwjax.arguments import check_count, check_labels, check_number
from cwjax.base import AnyArray


class Spectrum(NamedTuple):
    """Counts of inputs, for each class and each neuron."""

    active_failed: Float[Array, "K N"]
    inactive_failed: Float[Array, "K N"]
    active_passed: Float[Array, "K N"]
    inactive_passed: Float[Array, "K N"]


def spectrum(
    active: Bool[AnyArray, "B N"],
    failed: Bool[AnyArray, "B"],
    labels: Int[AnyArray, "B"] | None = None,
    *,
    classes: int | None = None,
) -> Spectrum:
    """How often each neuron was active, and how often not, on inputs that failed and on those that passed.

    Two matrix products.

    What is not active is inactive. DeepFault's code asks for a value below 0 instead, so that after ReLU its inactive
    neurons count as failed on every input.

    Args:
      active: of each input and neuron, such as `activations.values > 0`.
      failed: of each input, such as `outputs.argmax(-1) != labels`.
      labels: of each input: DeepFault takes each class by itself. None: all inputs are one class.
      classes: K, the number of classes; needed with `labels`.

    Raises:
      ValueError: more inputs than float32 counts exactly, 2^24; labels outside of the classes.

    Example:
      >>> active = np.array([[True, False], [True, True], [False, True]])  # three inputs, two neurons
      >>> counts = cw.coverage.suspicion.spectrum(active, np.array([True, False, False]))
      >>> counts.active_failed.tolist(), counts.active_passed.tolist()
      ([[1.0, 0.0]], [[1.0, 2.0]])

    References:
      Eniser et al. 2019, "DeepFault: fault localization for deep neural networks", section 3.1,
        https://arxiv.org/abs/1902.05974
    """
    active, failed = jnp.asarray(active, bool), jnp.asarray(failed, bool)
    if active.ndim != 2 or failed.shape != active.shape[:1] or len(active) > 2**24:
        raise ValueError(
            f"a spectrum is of active [B, N] and failed [B], B at most 2^24; got {list(active.shape)} and "
            f"{list(failed.shape)}"
        )
    if (labels is None) != (classes is None):
        raise ValueError("a spectrum by class takes both labels and the number of classes")
    if labels is None or classes is None:
        member = jnp.ones((len(active), 1), jnp.float32)
    else:
        check_count("classes", classes)
        given = np.asarray(check_labels("labels", labels))
        if given.size and not 0 <= given.min() <= given.max() < classes:
            raise ValueError(f"labels must be from 0 to {classes - 1}, got {given.min()} to {given.max()}")
        member = jnp.asarray(given[:, None] == np.arange(classes)[None], jnp.float32)
    lit = active.astype(jnp.float32)
    counts = []
    for some in (member * failed[:, None], member * ~failed[:, None]):
        on = jnp.einsum("bk,bn->kn", some, lit, precision="highest")
        counts += [on, some.sum(0)[:, None] - on]
    return Spectrum(*counts)


def tarantula(counts: Spectrum) -> Float[Array, "K N"]:
    """Tarantula's suspiciousness `(af/(af + nf)) / (af/(af + nf) + as/(as + ns))`, in [0, 1].

    Without inputs that failed, or where the neuron was never active on one, it is 0. Without inputs that passed, it is
    1 for a neuron that was active.

    Args:
      counts: from `spectrum`.

    Example:
      >>> active = np.array([[True, False], [True, True], [False, True]])
      >>> counts = cw.coverage.suspicion.spectrum(active, np.array([True, False, False]))
      >>> print(np.asarray(cw.coverage.suspicion.tarantula(counts)).round(2))  # 1 / (1 + 1/2), and 0
      [[0.67 0.  ]]

    References:
      Jones and Harrold 2005, "Empirical evaluation of the Tarantula automatic fault-localization technique", ASE.
    """
    failed = _share(counts.active_failed, counts.active_failed + counts.inactive_failed)
    passed = _share(counts.active_passed, counts.active_passed + counts.inactive_passed)
    return _share(failed, failed + passed)


def ochiai(counts: Spectrum) -> Float[Array, "K N"]:
    """Ochiai's suspiciousness `af / √((af + nf)(af + as))`, in [0, 1].

    It is 0 where it would be 0/0: without inputs that failed, and for a neuron that was never active.

    Args:
      counts: from `spectrum`.

    Example:
      >>> active = np.array([[True, False], [True, True], [False, True]])
      >>> counts = cw.coverage.suspicion.spectrum(active, np.array([True, False, False]))
      >>> print(np.asarray(cw.coverage.suspicion.ochiai(counts)).round(2))  # 1 / √2, and 0
      [[0.71 0.  ]]

    References:
      Ochiai 1957, "Zoogeographical studies on the soleoid fishes found in Japan and its neighbouring regions", Bulletin
        of the Japanese Society of Scientific Fisheries 22(9).
    """
    failed = counts.active_failed + counts.inactive_failed
    return _share(counts.active_failed, jnp.sqrt(failed) * jnp.sqrt(counts.active_failed + counts.active_passed))


def d_star(counts: Spectrum, *, power: float | int = 3.0) -> Float[Array, "K N"]:
    """D*: `af^s / (as + nf)` (Wong et al. 2014).

    It is inf for a neuron that was active on all inputs that failed and on no other, and 0 for one that was active on
    none that failed.

    Args:
      counts: from `spectrum`.
      power: s, > 0; DeepFault has 3.

    Example:
      >>> active = np.array([[True, False], [True, True], [False, True]])
      >>> counts = cw.coverage.suspicion.spectrum(active, np.array([True, False, False]))
      >>> print(cw.coverage.suspicion.d_star(counts))
      [[1. 0.]]

    References:
      Wong et al. 2014, "The DStar method for effective software fault localization", IEEE Transactions on Reliability
        63(1).
    """
    check_number("power", power, least=0, above=True)
    raised = jnp.power(counts.active_failed, power)
    others = counts.active_passed + counts.inactive_failed
    return jnp.where(counts.active_failed == 0, 0, raised / others)


def most_suspicious(scores: Float[AnyArray, "K N"], k: int) -> list[Int[np.ndarray, "k"]]:
    """The k neurons of the highest score for each class, the highest first; of equal ones the first in order.

    Neurons of score 0 are not suspected, so there may be fewer.

    Args:
      scores: of one of the measures.
      k: >= 1.

    Example:
      >>> scores = np.array([[0.2, 0.9, 0.0]])  # of one class
      >>> [each.tolist() for each in cw.coverage.suspicion.most_suspicious(scores, k=3)]
      [[1, 0]]
    """
    check_count("k", k)
    orders = [(row, np.argsort(-row, kind="stable")[:k]) for row in np.asarray(scores)]
    return [order[row[order] > 0] for row, order in orders]


def _share(part: Array, whole: Array) -> Array:
    """part/whole, and 0 where there is nothing."""
    return jnp.where(whole == 0, 0, part / jnp.where(whole == 0, 1, whole))
