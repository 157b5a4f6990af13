"""DeepTest: images that are changed as weather and cameras change them, until coverage grows or a relation breaks.

changed = deeptest.swept(x, TRANSFORMS["rotation"], TRANSFORMS["rotation"].grid)    # [P, B, H, W, C]
guided  = deeptest.guided(units, criterion, x, list(TRANSFORMS.values()))           # the paper's greedy search
draws, attack = deeptest.by_slopes(20); run = jax.jit(cw.batched(attack))
start   = deeptest.best_drawn(model, TRANSFORMS["rotation"], keys, x, relation, draws)
worst   = deeptest.worst(run, model, TRANSFORMS["rotation"], keys, x, relation.goal, start=start)  # by slopes

The search for the worst parameters is written in `worst_case`.
"""

import collections
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from cwjax.arguments import check_count, check_part
from cwjax.base import AnyArray
from cwjax.coverage.convention import Neurons
from cwjax.coverage.criterion import Criterion
from cwjax.generation.novelty import Novelty, new_coverage
from cwjax.generation.transforms import Transform
from cwjax.generation.worst_case import Worst as Worst
from cwjax.generation.worst_case import best_drawn as best_drawn
from cwjax.generation.worst_case import by_slopes as by_slopes
from cwjax.generation.worst_case import worst as worst


class Guided(NamedTuple):
    """What the greedy search kept."""

    x: Float[np.ndarray, "G H W C"]  # images that covered something new
    origin: Int[np.ndarray, "G"]  # the seed of each
    transforms: list[tuple[str, ...]]  # of each, all that were applied since its seed
    parameters: list[tuple[float, ...]]  # of each, those of its transforms one after the other
    tried: int  # images that were made


def swept(
    x: Float[AnyArray, "B H W C"], transform: Transform, parameters: Sequence[Sequence[float]]
) -> Float[Array, "P B H W C"]:
    """Every image under every setting of a transform, in one program, as 8-bit images.

    Args:
      x: images in [0, 1].
      transform: of them.
      parameters: the settings, such as `transform.grid`.

    Example:
      >>> from cwjax.generation import deeptest
      >>> from cwjax.generation.transforms import TRANSFORMS
      >>> images = deeptest.swept(jnp.full((1, 4, 4, 1), 0.5), TRANSFORMS["brightness"], [[0.0], [0.2]])
      >>> print(np.asarray(images[:, 0, 0, 0, 0]).round(2))
      [0.5 0.7]
    """
    return _swept(transform, jnp.asarray(x), jnp.asarray(parameters, jnp.float32).reshape(-1, len(transform.low)))


def guided(
    neurons: Neurons,
    criterion: Criterion,
    seeds: Float[AnyArray, "B H W C"],
    transforms: Sequence[Transform],
    *,
    tries: int = 10,
    most: int = 1000,
    known: Float[AnyArray, "K H W C"] | None = None,
    seed: int = 0,
) -> Guided:
    """DeepTest's greedy search: images changed by two transforms are kept where they cover something new.

    Depth first from each seed (Tian et al. 2018, algorithm 1). The top image is changed by two transforms with random
    parameters; one that covers something new is put on top, and its transforms are tried first from then on. After so
    many tries in vain the image is given up.

    All tries of an image are made in one batch, and the first that is new is taken. Images are rounded to 8 bits.

    Args:
      neurons: of the network.
      criterion: of packed bits; the paper's is neuron coverage at 0.2.
      seeds: images in [0, 1]; the last is searched first, as from a stack.
      transforms: at least two.
      tries: for an image; the paper has 10.
      most: images to make in all, after which it ends.
      known: images whose neurons count as covered, such as those of an earlier call.
      seed: of the draws.

    Raises:
      ValueError: fewer than two transforms, or numbers out of range.

    Example:
      >>> from cwjax.generation import deeptest
      >>> from cwjax.generation.transforms import TRANSFORMS
      >>> reader = cw.bind(lambda weights, x: jax.nn.relu(x.reshape(len(x), -1)[:, :2] @ weights), layer)
      >>> seeds = jnp.full((1, 4, 4, 1), 0.2).at[0, 0, 0, 0].set(0.8)
      >>> hidden = cw.coverage.neurons(reader, seeds)
      >>> criterion = cw.coverage.neuron_coverage(hidden.convention)
      >>> moves = [TRANSFORMS["translation"], TRANSFORMS["brightness"]]
      >>> found = deeptest.guided(hidden, criterion, seeds, moves, tries=5, most=30)
      >>> found.x.shape, found.transforms
      ((1, 4, 4, 1), [('translation', 'brightness')])

    References:
      Tian et al. 2018, "DeepTest: automated testing of deep-neural-network-driven autonomous cars", algorithm 1,
        https://arxiv.org/abs/1708.08559
    """
    check_part("neurons", neurons, Neurons)
    check_count("tries", tries)
    check_count("most", most)
    if len(transforms) < 2:
        raise ValueError(f"two transforms are drawn for an image, and {len(transforms)} are given")
    rng, key, novelty = np.random.default_rng(seed), jax.random.key(seed), new_coverage(criterion)
    helped: collections.deque[int] = collections.deque(maxlen=len(transforms))
    stack: list[tuple[Any, int, tuple[str, ...], tuple[float, ...]]] = [
        (np.asarray(each, np.float32), place, (), ()) for place, each in enumerate(seeds)
    ]
    state = novelty.init()
    for image in [*([] if known is None else known), *(each[0] for each in stack)]:
        state, _ = _new(neurons, novelty, state, np.stack([image] * tries), first=1)
    kept, tried = [], 0
    while stack and tried < most:
        image, place, history, settings = stack[-1]
        pair = [int(each) for each in rng.permutation(len(transforms))[:2]]
        if helped:
            pair[0] = helped.popleft()
            if pair[0] == pair[1]:
                pair[1] = int(rng.choice([each for each in range(len(transforms)) if each != pair[0]]))
        made, drawn = jnp.asarray(np.stack([image] * tries)), []
        for each in pair:  # one program for each transform, and not for each pair
            key, own = jax.random.split(key)
            drawn.append(np.asarray(transforms[each].drawn(own, tries)))
            made = transforms[each].changed(made, drawn[-1])
        made = np.asarray(_rounded(made))
        state, row = _new(neurons, novelty, state, made, first=tries)
        tried += tries if row is None else row + 1
        if row is None:
            stack.pop()
            continue
        names = (*history, *(transforms[each].name for each in pair))
        settings = (*settings, *(float(value) for each in drawn for value in each[row]))
        stack.append((made[row], place, names, settings))
        kept.append(stack[-1])
        helped.extend(pair)
    found = np.stack([each[0] for each in kept]) if kept else np.zeros((0, *np.shape(seeds)[1:]), np.float32)
    origin, names, settings = ([each[i] for each in kept] for i in (1, 2, 3))
    return Guided(found, np.asarray(origin, int), names, settings, tried)


def repeated(
    x: Float[AnyArray, "H W C"], transforms: Sequence[Transform], parameters: Sequence[float]
) -> Float[Array, "H W C"]:
    """One image under transforms one after the other, rounded to 8 bits after each two, as `guided` makes it.

    Args:
      x: the image, in [0, 1].
      transforms: in their order.
      parameters: those of all transforms, one after the other.

    Example:
      >>> from cwjax.generation import deeptest
      >>> from cwjax.generation.transforms import TRANSFORMS
      >>> twice = [TRANSFORMS["brightness"]] * 2
      >>> print(np.asarray(deeptest.repeated(jnp.full((2, 2, 1), 0.2), twice, [0.2, 0.2])[0, 0]).round(2))
      [0.6]
    """
    image, left = jnp.asarray(x), list(parameters)
    for number, transform in enumerate(transforms):
        own, left = left[: len(transform.low)], left[len(transform.low) :]
        image = transform.apply(image, jnp.asarray(own, jnp.float32))
        image = _rounded(image) if number % 2 or number + 1 == len(transforms) else image
    return image


@functools.partial(jax.jit, static_argnums=0)
def _swept(transform: Transform, x: Array, parameters: Array) -> Array:
    changed = jax.vmap(lambda some: jax.vmap(lambda image: transform.apply(image, some))(x))(parameters)
    return _rounded(changed)


def _rounded(x: Array) -> Array:
    """As 8-bit images."""
    return jnp.round(255 * jnp.clip(x, 0, 1)) / 255


def _new(neurons: Neurons, novelty: Novelty, state: Any, x: np.ndarray, *, first: int) -> tuple[Any, int | None]:
    """The state after the first of the first few images that is new, and its place; None where none is."""
    outputs, activations = _seen(neurons, jnp.asarray(x))
    for row in range(first):
        state, new = novelty.after(state, activations, outputs, row)
        if new:
            return state, row
    return state, None


@jax.jit
def _seen(neurons: Neurons, x: Array) -> Any:
    return neurons(x)
