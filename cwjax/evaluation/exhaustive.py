"""The fewest changes that reach a goal, by trying them all: what a search on a lattice is held against."""

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from cwjax.arguments import allowed_of, check_allowed, check_count, check_examples, check_part
from cwjax.base import AnyArray, Goal, Objective, Terms
from cwjax.models import Model
from cwjax.parts import distances
from cwjax.parts.boxes import projected
from cwjax.parts.lattices import Lattice, check_on, lattice
from cwjax.parts.objectives import logit_margin
from cwjax.problems import Allowed
from cwjax.runners.batch import own_and_shared
from cwjax.runners.snapping import followed, room_of

BINARY = lattice()  # each element is 0 or 1
MOST_MOVES = 4000  # of one input: single changes to choose from


class Fewest(NamedTuple):
    """What was found, with one entry for each example."""

    x: Float[np.ndarray, "B *S"]  # an input with the fewest changes; the clean one where there is none
    changes: Float[np.ndarray, "B"]  # how many elements differ; inf: more than `most`, or none at all will do
    tried: np.ndarray  # int64 [B]: inputs that the model was asked about


def fewest_changes(
    model: Model,
    x: AnyArray,
    goal: Goal,
    *,
    values: Lattice = BINARY,
    most: int = 3,
    objective: Objective = logit_margin(),
    at_once: int = 4096,
    **bounds: Any,
) -> Fewest:
    """The fewest elements that have to change for the goal to be met, by trying all.

    Every set of up to `most` changes is tried, by one program. So 136 features that may be added make 136 sets of one,
    9,180 of two and 410,040 of three.

    Sets that lack what follows from them are left out: the change that follows counts like any other.

    Args:
      model: from `bind`.
      x: the clean inputs [B, *S].
      goal: fields [B].
      values: which values an element may have, from `cwjax.lattices.lattice`.
      most: changes, 1 to 4.
      objective: its `met` decides.
      at_once: inputs that the model is asked about.
      **bounds: low, high, mask and context, as for `cwjax.batched`.

    Raises:
      TypeError, ValueError: arguments that do not fit; more than 4,000 single changes to choose from.

    Example:
      >>> import jax.numpy as jnp, cwjax as cw
      >>> model = cw.bind(lambda weights, x: x @ weights, jnp.array([[0.0, 1.0], [0.0, 1.0], [1.5, 0.0]]))
      >>> x = jnp.array([[0.0, 0.0, 1.0]])
      >>> cw.evaluation.fewest_changes(model, x, cw.untargeted([0]), low=x).changes.tolist()
      [2.0]
    """
    check_part("values", values, Lattice)
    check_count("most", most, most=4)
    check_count("at_once", at_once)
    allowed, x = allowed_of(bounds), np.asarray(x)
    check_examples(model, x, goal, allowed.context, objective)
    check_allowed(x, allowed)
    check_on(values, x, allowed.mask)
    own, shared = own_and_shared(allowed._asdict(), x)
    terms = Terms(objective, distances.l0(per_pixel=False), projected())

    @jax.jit
    def met(model: Model, clean: Array, goal: Goal, places: Array, levels: Array, own: dict[str, Any]) -> Array:
        allowed = Allowed(**own, **shared)
        room = room_of(values, clean, allowed, terms)

        def one(places, levels):
            changed = clean.reshape(-1).at[places].set(levels).reshape(clean.shape)
            closed = (followed(values, room, changed.astype(room.clean.dtype)) == changed).all()
            return objective.met(model.given(allowed.context)(changed), goal) & closed

        return jax.vmap(one)(places, levels)

    found = []
    for row in range(len(x)):
        of_row = jax.tree.map(lambda leaf, row=row: leaf[row], (goal, own))
        room = room_of(values, jnp.asarray(x[row]), Allowed(**of_row[1], **shared), terms)
        places, levels = _moves(values, np.asarray(room.low), np.asarray(room.high), x[row])
        found.append(_first(met, model, x[row], of_row, places, levels, most, at_once))
    changed, counts, tried = zip(*found, strict=True)
    return Fewest(np.stack(changed), np.array(counts), np.array(tried))


def _moves(values: Lattice, low: np.ndarray, high: np.ndarray, clean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every change of a single element: where, and to which value."""
    table = np.broadcast_to(values.levels.reshape(len(values.levels), -1), (len(values.levels), clean.size))
    steps = np.broadcast_to(np.asarray(values.steps).reshape(-1), clean.size)
    places, levels = [], []
    for i, (least, largest, own) in enumerate(zip(low.ravel(), high.ravel(), clean.ravel(), strict=True)):
        if least == largest:
            continue
        if steps[i] > 0 and (largest - least) / steps[i] > MOST_MOVES:
            raise ValueError(f"element {i} has {(largest - least) / steps[i]:,.0f} values: too many to try them all")
        one = np.arange(least, largest + steps[i] / 2, steps[i]) if steps[i] > 0 else np.unique(table[:, i])
        one = one.astype(clean.dtype)
        one = one[(one >= least) & (one <= largest) & (one != own)]
        places.append(np.full(len(one), i))
        levels.append(one)
    count = sum(map(len, places))
    if count > MOST_MOVES:
        raise ValueError(f"an input has {count:,} single changes to choose from, more than {MOST_MOVES:,}: allow fewer")
    if not count:
        return np.zeros(0, int), np.zeros(0, clean.dtype)
    return np.concatenate(places), np.concatenate(levels)


def _first(met, model, clean, of_row, places, levels, most, at_once) -> tuple[np.ndarray, float, int]:
    """The first set of changes that meets the goal, the smallest sets first."""
    goal, own = of_row
    tried = 0
    for count in range(most + 1):
        for chosen in _sets(len(places), count, at_once):
            used = np.sort(places[chosen], 1)
            some = chosen[(used[:, 1:] > used[:, :-1]).all(1)] if count > 1 else chosen
            if not len(some):
                continue
            filled = np.resize(some, (at_once, count)) if count else some
            hit = np.asarray(met(model, clean, goal, places[filled], levels[filled], own))[: len(some)]
            tried += len(some)
            if hit.any():
                first = some[int(hit.argmax())]
                x = clean.reshape(-1).copy()
                x[places[first]] = levels[first]
                return x.reshape(clean.shape), float(count), tried
    return clean, float("inf"), tried


def _sets(moves: int, count: int, at_once: int) -> Iterator[np.ndarray]:
    """Sets of `count` of the moves, int64 [<= at_once, count]."""
    every = itertools.chain.from_iterable(itertools.combinations(range(moves), count))
    if not count:
        yield np.zeros((1, 0), np.int64)
        return
    while len(some := np.fromiter(itertools.islice(every, at_once * count), np.int64)):
        yield some.reshape(-1, count)
