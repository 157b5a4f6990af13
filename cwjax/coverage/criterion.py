"""The one type of coverage: a criterion is four functions of a state, a pytree of packed bits and sums."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PyTree, UInt32

from cwjax.arguments import check_count, check_part
from cwjax.base import AnyArray
from cwjax.coverage.convention import Activations, Convention, Neurons
from cwjax.values import known

State: TypeAlias = Any


class Coverage(NamedTuple):
    """What a criterion says of some inputs.

    It describes them: that more coverage finds more faults is not known (Li et al. 2019).

    References:
      Li et al. 2019, "Structural coverage criteria for neural networks could be misleading", ICSE, New Ideas and
        Emerging Results.
    """

    criterion: str
    value: float  # the share that is covered, in [0, 1]; a count or a spread where `total` is empty
    covered: Mapping[str, float]  # of each layer: neurons, sections, combinations
    total: Mapping[str, float]  # of each layer, how many there are
    convention: Convention  # what a neuron was

    def __str__(self) -> str:
        shown = f"{self.value:.4g}"
        if self.total:
            shown = f"{100 * self.value:.2f} % ({sum(self.covered.values()):,} of {sum(self.total.values()):,})"
        return f"{self.criterion}: {shown}; {self.convention}"


class Criterion(NamedTuple):
    """A coverage criterion: four functions of a state.

    `merge` is associative and commutative, and `update` with a batch is `merge` with the state of that batch alone: so
    order, batches and shards change nothing.

    The four functions are pure, and none is compiled: wrap `update` in `jax.jit` before you call it often. `measure`,
    `curve`, `priority.covered_by_each` and `surprise.distance_surprise` loop on the host over programs of their own.

    Example:
      >>> criterion = cw.coverage.neuron_coverage(units.convention, threshold=0.5)
      >>> first, second = (criterion.update(criterion.init(), units(one)[1]) for one in (x[:1], x[1:]))
      >>> criterion.value(first).value, criterion.value(criterion.merge(first, second)).value
      (0.5, 1.0)
    """

    init: Callable[[], State]
    update: Callable[[State, Activations], State]  # with a batch; traceable, unless `on_host`
    merge: Callable[[State, State], State]
    value: Callable[[State], Any]  # a `Coverage`, from NumPy on the host
    name: str
    convention: Convention
    network: str | None = None  # the hash of the weights that its profile is of; None: any
    on_host: bool = False  # whether `update` runs in NumPy, because its state grows


def made(
    name: str,
    convention: Convention,
    *,
    init: Callable[[], State],
    update: Callable[..., State],
    value: Callable[[State], Any],
    merge: Callable[[State, State], State] | None = None,
    data: tuple[Any, ...] = (),
    options: Mapping[str, Any] | None = None,
    network: str | None = None,
    on_host: bool = False,
) -> Criterion:
    """A criterion whose `update(state, activations, *data, **options)` refuses what is not finite. New data do not
    compile again, new options do. States are united bit by bit unless there is another `merge`.
    """
    check_part("convention", convention, Convention)
    checked = jax.tree_util.Partial(_Checked(update, convention, tuple((options or {}).items())), *data)
    return Criterion(init, checked, merge or united, value, name, convention, network, on_host)


@dataclasses.dataclass(frozen=True)
class _Checked:  # a class and not a closure: equal for equal choices, so that equal criteria compile once
    update: Callable[..., State]
    convention: Convention
    options: tuple[tuple[str, Any], ...]

    def __call__(self, *given: Any) -> State:
        *data, state, activations = given
        shape, neurons = activations.values.shape, self.convention.neurons
        if shape[1:] != (neurons,):
            raise ValueError(f"activations [B, {neurons}] are wanted, of {self.convention}; got {list(shape)}")
        check_finite(activations, self.convention)
        return self.update(state, activations, *data, **dict(self.options))


def check_finite(activations: Activations, convention: Convention, first: int = 0) -> None:
    """Raises ValueError if a layer gave a NaN or an infinity. Traced values pass: `measure` asks afterwards."""
    if not known(activations.low):
        return
    good = np.isfinite(np.asarray(activations.low)) & np.isfinite(np.asarray(activations.high))
    if not good.all():
        row, layer = (int(each[0]) for each in np.nonzero(~good))
        raise ValueError(
            f"input {first + row} has an activation that is NaN or infinite in layer {convention.layers[layer].name}: "
            "leave that input out, because nothing can be said about what it covers"
        )


def united(first: State, second: State) -> State:
    """Both states' bits."""
    return jax.tree.map(jnp.bitwise_or, first, second)


def packed(bits: Bool[Array, "*S N"]) -> UInt32[Array, "*S W"]:
    """Bits as words of 32, the first bit lowest."""
    size = bits.shape[-1]
    padded = jnp.pad(bits, [(0, 0)] * (bits.ndim - 1) + [(0, -size % 32)])
    words = padded.reshape(*bits.shape[:-1], -1, 32).astype(jnp.uint32)
    places = jnp.left_shift(jnp.uint32(1), jnp.arange(32, dtype=jnp.uint32))
    return (words * places.reshape((1,) * bits.ndim + (32,))).sum(-1, dtype=jnp.uint32)


def unpacked(words: UInt32[AnyArray, "*S W"], size: int) -> Bool[np.ndarray, "*S N"]:
    """The first `size` bits of words, in NumPy."""
    octets = np.ascontiguousarray(np.asarray(words).astype("<u4")).view(np.uint8)
    return np.unpackbits(octets, axis=-1, bitorder="little", count=size).astype(bool)


def no_bits(*shape: int) -> UInt32[Array, "*S W"]:
    """So many bits, all 0, packed along the last axis."""
    return jnp.zeros((*shape[:-1], -(-shape[-1] // 32)), jnp.uint32)


def counted(name: str, convention: Convention, covered: np.ndarray, each: int = 1) -> Coverage:
    """The coverage of neurons that have so much covered out of `each`."""
    names = [layer.name for layer in convention.layers]
    sums = {layer: int(np.sum(covered[part])) for layer, part in zip(names, convention.slices, strict=True)}
    total = {layer.name: each * layer.neurons for layer in convention.layers}
    return Coverage(name, sum(sums.values()) / sum(total.values()), sums, total, convention)


def measure(
    neurons: Neurons,
    criteria: Criterion | Mapping[str, Criterion],
    x: Float[AnyArray, "M *S"],
    *,
    batch: int = 64,
    context: PyTree = None,
) -> Any:
    """The coverage of some inputs, by one criterion or by several in one pass.

    The network, the neurons and the states are one program.

    Args:
      neurons: from `neurons`.
      criteria: one, or several by name, of the same neurons.
      x: the inputs.
      batch: how many at once. It changes no bit of a coverage.
      context: what the model is told besides, with an entry for each input.

    Returns:
      A `Coverage`; or one for each name.

    Raises:
      ValueError: no inputs; a criterion of other neurons, or whose profile is of another network; an activation that is
        NaN or infinite.

    Example:
      >>> top = cw.coverage.top_neuron_coverage(units.convention, k=1)
      >>> said = cw.coverage.measure(units, top, x[:1])
      >>> said.value, said.covered, said.total
      (0.5, {'relu_0': 1, 'relu_1': 1}, {'relu_0': 2, 'relu_1': 2})
    """
    check_count("measure's number of inputs", len(x))
    return next(curve(neurons, criteria, x, (len(x),), batch=batch, context=context))


def curve(
    neurons: Neurons,
    criteria: Criterion | Mapping[str, Criterion],
    x: Float[AnyArray, "M *S"],
    counts: Sequence[int],
    *,
    batch: int = 64,
    context: PyTree = None,
) -> Iterator[Any]:
    """What `measure` says of the first inputs, for each of these counts, in one pass over them.

    Coverage grows with the number of inputs: compare two suites at equal counts.

    Args:
      neurons: as in `measure`.
      criteria: as in `measure`.
      x: as in `measure`.
      counts: numbers of inputs, rising.
      batch: as in `measure`.
      context: as in `measure`.

    Raises:
      ValueError: as `measure`; counts that do not rise, or are more than there are inputs.

    Example:
      >>> top = cw.coverage.top_neuron_coverage(units.convention, k=1)
      >>> [said.value for said in cw.coverage.curve(units, top, x, [1, 2])]
      [0.5, 1.0]
    """
    several = criteria if isinstance(criteria, Mapping) else {"": criteria}
    check_part("neurons", neurons, Neurons)
    check_count("batch", batch)
    if list(counts) != sorted(set(counts)) or not 0 < min(counts, default=0) <= max(counts) <= len(x):
        raise ValueError(f"counts must rise from at least 1 to at most {len(x)}, got {list(counts)}")
    _check_belong(several, neurons)
    states, done = {name: each.init() for name, each in several.items()}, 0
    for count in counts:
        for first in range(done, count, batch):
            rows = slice(first, min(first + batch, count))
            told = jax.tree.map(lambda leaf, rows=rows: leaf[rows], context)
            states = _advanced(neurons, several, states, jnp.asarray(x[rows]), told, first)
        done = count
        values = {name: each.value(states[name]) for name, each in several.items()}
        yield values if isinstance(criteria, Mapping) else values[""]


def _check_belong(criteria: Mapping[str, Criterion], neurons: Neurons) -> None:
    for criterion in criteria.values():
        check_part("a criterion", criterion, Criterion)
        if criterion.convention != neurons.convention:
            raise ValueError(f"{criterion.name} is of {criterion.convention}; the network's are {neurons.convention}")
    profiles = [criterion for criterion in criteria.values() if criterion.network]
    network = neurons.network() if profiles else None
    for criterion in profiles:
        if criterion.network != network:
            raise ValueError(
                f"the profile of {criterion.name} is of other weights: make it anew with cw.coverage.profiled"
            )


def _advanced(neurons, criteria, states, x, context, first):
    inside = {name: each.update for name, each in criteria.items() if not each.on_host}
    mine, activations = _step(neurons, inside, {name: states[name] for name in inside}, x, context)
    check_finite(activations, neurons.convention, first)
    outside = {name: each.update(states[name], activations) for name, each in criteria.items() if each.on_host}
    return mine | outside


@partial(jax.jit, donate_argnums=2)  # the one program of `curve` and `measure`
def _step(neurons, updates, states, x, context):
    _, activations = neurons(x, context)
    return {name: update(states[name], activations) for name, update in updates.items()}, activations
