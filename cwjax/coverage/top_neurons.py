"""Top-k coverage: which neurons of a layer are among its largest, and in which patterns."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, UInt32

from cwjax.arguments import check_count
from cwjax.base import AnyArray
from cwjax.coverage.convention import Activations, Convention
from cwjax.coverage.criterion import Coverage, Criterion, counted, made, no_bits, packed, unpacked


class Leaders(NamedTuple):
    bits: UInt32[Array, "W"]  # a bit for each neuron that was among its layer's largest


class Patterns(NamedTuple):
    rows: Int[AnyArray, "P Q"]  # int32, in NumPy: the distinct patterns seen, sorted


def top_neuron_coverage(convention: Convention, *, k: int = 2) -> Criterion:
    """TKNC, top-k neuron coverage: the neurons that were, for some input, among the k largest of their layer.

    Of equal values the first count.

    Args:
      convention: of the neurons; its layers are what "layer" means here.
      k: >= 1; a layer of fewer neurons is covered at once. DeepGauge has 1, 2 and 3.

    Example:
      >>> top = cw.coverage.top_neuron_coverage(units.convention, k=1)
      >>> cw.coverage.measure(units, top, x[:1]).value, cw.coverage.measure(units, top, x).value
      (0.5, 1.0)

    References:
      Ma et al. 2018, "DeepGauge: multi-granularity testing criteria for deep learning systems", section 3.4,
        https://arxiv.org/abs/1803.07519
    """
    check_count("k", k)
    name = f"TKNC (k = {k})"
    return made(
        name,
        convention,
        init=lambda: Leaders(no_bits(convention.neurons)),
        update=_lead,
        options={"convention": convention, "k": k},
        value=lambda state: counted(name, convention, unpacked(state.bits, convention.neurons)),
    )


def top_pattern_count(convention: Convention, *, k: int = 2) -> Criterion:
    """TKNP, top-k neuron patterns: how many distinct patterns of the largest neurons there were.

    A pattern is the set of the k largest neurons of every layer; their order does not matter.

    The count is exact: the state holds each pattern seen, `4·k` bytes for each layer. It runs in NumPy, since its
    state grows.

    Args:
      convention: of the neurons.
      k: >= 1.

    Example:
      >>> patterns = cw.coverage.top_pattern_count(units.convention, k=1)
      >>> cw.coverage.measure(units, patterns, x).value
      2.0

    References:
      Ma et al. 2018, "DeepGauge: multi-granularity testing criteria for deep learning systems", section 3.4,
        https://arxiv.org/abs/1803.07519
    """
    check_count("k", k)
    name, width = f"TKNP (k = {k})", sum(min(k, layer.neurons) for layer in convention.layers)

    def value(state: Patterns) -> Coverage:
        return Coverage(name, float(len(state.rows)), {"all layers": len(state.rows)}, {}, convention)

    return made(
        name,
        convention,
        init=lambda: Patterns(np.empty((0, width), np.int32)),
        update=_note,
        options={"convention": convention, "k": k},
        value=value,
        merge=lambda first, second: Patterns(distinct(first.rows, second.rows)),
        on_host=True,
    )


def distinct(first: Any, second: Any) -> np.ndarray:
    """The distinct rows of both, sorted: the same bits whatever the order."""
    return np.unique(np.concatenate([np.asarray(first), np.asarray(second)]), axis=0)


def _largest(values: Array, convention: Convention, k: int) -> list[Array]:
    """Of each layer, the places of its k largest [B, k]."""
    return [jax.lax.top_k(values[:, part], min(k, part.stop - part.start))[1] for part in convention.slices]


def _lead(state: Leaders, activations: Activations, *, convention: Convention, k: int) -> Leaders:
    bits = jnp.zeros(convention.neurons, bool)
    for part, places in zip(convention.slices, _largest(activations.values, convention, k), strict=True):
        bits = bits.at[part.start + places.reshape(-1)].set(True)
    return Leaders(state.bits | packed(bits))


_largest_at_once = jax.jit(_largest, static_argnums=(1, 2))  # `_note` runs on the host, and owns this program


def _note(state: Patterns, activations: Activations, *, convention: Convention, k: int) -> Patterns:
    places = _largest_at_once(jnp.asarray(activations.values), convention, k)
    rows = np.concatenate([np.sort(np.asarray(each, np.int32), axis=1) for each in places], axis=1)
    return Patterns(distinct(state.rows, rows))
