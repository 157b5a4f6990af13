"""Changes of images that should not change what a network says: pure, of one image, with parameters that are numbers.

    turned = transforms.TRANSFORMS["rotation"]
    images = turned.changed(x, degrees)                             # x [B, H, W, C] in [0, 1], degrees [B, 1]

Each has a slope in its parameters, so an attack can look for the worst ones. `parametrised` makes the network a model
of them, and the limits are the bounds:

    model  = transforms.parametrised(network, turned)
    run    = jax.jit(cw.batched(cw.attacks.ddn()))
    result = run(model, keys, turned.start(len(x)), goal, low=turned.low, high=turned.high, context=x)
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from cwjax.arguments import check_model
from cwjax.base import AnyArray, Outputs
from cwjax.models import Model

Numbers: TypeAlias = tuple[float | int, ...]
WIDEST = 3.0  # of a Gaussian blur, in pixels; the window has three of it on each side


@dataclasses.dataclass(frozen=True)
class Transform:
    """A change of one image [H, W, C] in [0, 1] by P parameters. Between the limits an image should keep its label.

    The limits of `TRANSFORMS` are those of DeepHunter's code (Xie et al. 2019), and ours for rotation, blur, fog and
    rain; docs/generation.md says where each number comes from. Make your own with `dataclasses.replace`.

    Example:
      >>> from cwjax.generation.transforms import TRANSFORMS
      >>> brighter = TRANSFORMS["brightness"]
      >>> brighter.start(2).tolist(), brighter.drawn(keys[0], 3).shape
      ([[0.0], [0.0]], (3, 1))

    References:
      Xie et al. 2019, "DeepHunter: a coverage-guided fuzz testing framework for deep neural networks",
        https://doi.org/10.1145/3293882.3330579
    """

    name: str
    apply: Callable[..., Float[Array, "H W C"]]  # (image, parameters [P])
    low: Numbers
    high: Numbers
    neutral: Numbers  # changes nothing
    grid: tuple[Numbers, ...] = ()  # DeepTest's ten settings, for images 640 pixels wide

    def start(self, count: int) -> Float[np.ndarray, "B P"]:
        """So many times the parameters that change nothing."""
        return np.tile(np.asarray(self.neutral, np.float32), (count, 1))

    def drawn(self, key: PRNGKeyArray, count: int) -> Float[Array, "B P"]:
        """So many parameters, uniform between the limits."""
        low, high = jnp.asarray(self.low), jnp.asarray(self.high)
        return low[None] + (high - low)[None] * jax.random.uniform(key, (count, len(self.low)))

    def changed(self, images: Float[AnyArray, "B H W C"], parameters: Float[AnyArray, "B P"]) -> Any:
        """Each image under parameters of its own, [B, H, W, C], in one program."""
        return _changed(self, jnp.asarray(images), jnp.asarray(parameters))


@functools.partial(jax.jit, static_argnums=0)
def _changed(transform: Transform, images: Array, parameters: Array) -> Array:
    return jax.vmap(transform.apply)(images, parameters)


def parametrised(model: Model, transform: Transform) -> Model:
    """The network as a model of a transform's parameters [P]; the image is its context.

    Args:
      model: of images.
      transform: of them.

    Example:
      >>> from cwjax.generation import transforms
      >>> mean = cw.bind(lambda params, x: x.mean((1, 2)))
      >>> model = transforms.parametrised(mean, transforms.TRANSFORMS["brightness"])
      >>> print(np.asarray(model.apply((), jnp.array([[0.2]]), jnp.full((1, 2, 2, 1), 0.5))).round(2))
      [[0.7]]
    """
    check_model(model)
    return Model(apply=_Parametrised(model.apply, transform), params=model.params)


@dataclasses.dataclass(frozen=True)
class _Parametrised:
    apply: Callable[..., Outputs]
    transform: Transform

    def __call__(self, params: Any, parameters: Array, images: Array) -> Outputs:
        return self.apply(params, jax.vmap(self.transform.apply)(images, parameters))


def brightened(image: Float[AnyArray, "H W C"], shift: Float[AnyArray, "1"]) -> Float[Array, "H W C"]:
    """The shift added to every pixel, saturating.

    Args:
      image: in [0, 1].
      shift: to add.

    Example:
      >>> from cwjax.generation import transforms
      >>> print(np.asarray(transforms.brightened(jnp.array([[[0.2], [0.9]]]), jnp.array([0.3]))).round(2).ravel())
      [0.5 1. ]
    """
    return jnp.clip(image + shift[0], 0, 1)


def contrasted(image: Float[AnyArray, "H W C"], gain: Float[AnyArray, "1"]) -> Float[Array, "H W C"]:
    """Every pixel times the gain, saturating: DeepTest's contrast.

    Args:
      image: in [0, 1].
      gain: to multiply by.

    Example:
      >>> from cwjax.generation import transforms
      >>> print(np.asarray(transforms.contrasted(jnp.array([[[0.2], [0.9]]]), jnp.array([2.0]))).round(2).ravel())
      [0.4 1. ]

    References:
      Tian et al. 2018, "DeepTest: automated testing of deep-neural-network-driven autonomous cars",
        https://arxiv.org/abs/1708.08559
    """
    return jnp.clip(image * gain[0], 0, 1)


def translated(image: Float[AnyArray, "H W C"], pixels: Float[AnyArray, "2"]) -> Float[Array, "H W C"]:
    """Moved down and to the right, by pixels or parts of them.

    Args:
      image: in [0, 1].
      pixels: down and to the right.

    Example:
      >>> from cwjax.generation import transforms
      >>> dot = jnp.zeros((3, 3, 1)).at[0, 0].set(1.0)
      >>> print(np.asarray(transforms.translated(dot, jnp.array([1.0, 2.0]))[..., 0]).round(2))
      [[0. 0. 0.]
       [0. 0. 1.]
       [0. 0. 0.]]
    """
    return _warped(image, jnp.eye(2), -jnp.asarray(pixels))


def scaled(image: Float[AnyArray, "H W C"], factor: Float[AnyArray, "2"]) -> Float[Array, "H W C"]:
    """Stretched about the centre, by a factor down and one across.

    Args:
      image: in [0, 1].
      factor: down and across.

    Example:
      >>> from cwjax.generation import transforms
      >>> dot = jnp.zeros((3, 3, 1)).at[1, 1].set(1.0)
      >>> print(np.asarray(transforms.scaled(dot, jnp.array([1.0, 2.0]))[..., 0]).round(2))
      [[0.  0.  0. ]
       [0.5 1.  0.5]
       [0.  0.  0. ]]
    """
    return _warped(image, jnp.diag(1 / jnp.asarray(factor)), jnp.zeros(2))


def sheared(image: Float[AnyArray, "H W C"], factor: Float[AnyArray, "1"]) -> Float[Array, "H W C"]:
    """Rows moved across by the factor times their height over the centre.

    Args:
      image: in [0, 1].
      factor: pixels across for each row.

    Example:
      >>> from cwjax.generation import transforms
      >>> column = jnp.zeros((3, 3, 1)).at[:, 1].set(1.0)
      >>> print(np.asarray(transforms.sheared(column, jnp.array([1.0]))[..., 0]).round(2))
      [[0. 0. 1.]
       [0. 1. 0.]
       [1. 0. 0.]]
    """
    return _warped(image, jnp.stack([jnp.array([1.0, 0.0]), jnp.stack([factor[0], jnp.ones(())])]), jnp.zeros(2))


def rotated(image: Float[AnyArray, "H W C"], degrees: Float[AnyArray, "1"]) -> Float[Array, "H W C"]:
    """Turned about the centre, counter-clockwise.

    Args:
      image: in [0, 1].
      degrees: counter-clockwise.

    Example:
      >>> from cwjax.generation import transforms
      >>> row = jnp.zeros((3, 3, 1)).at[1, 2].set(1.0)  # to the right of the centre
      >>> print(np.asarray(transforms.rotated(row, jnp.array([90.0]))[..., 0]).round(2))
      [[0. 1. 0.]
       [0. 0. 0.]
       [0. 0. 0.]]
    """
    angle = jnp.deg2rad(degrees[0])
    cosine, sine = jnp.cos(angle), jnp.sin(angle)
    return _warped(image, jnp.stack([jnp.stack([cosine, sine]), jnp.stack([-sine, cosine])]), jnp.zeros(2))


def blurred(image: Float[AnyArray, "H W C"], sigma: Float[AnyArray, "1"]) -> Float[Array, "H W C"]:
    """A Gaussian blur, of a width of at most `WIDEST` pixels; edges are repeated. 0 changes nothing.

    Args:
      image: in [0, 1].
      sigma: in pixels.

    Example:
      >>> from cwjax.generation import transforms
      >>> dot = jnp.zeros((3, 3, 1)).at[1, 1].set(1.0)
      >>> print(np.asarray(transforms.blurred(dot, jnp.array([0.5]))[1, :, 0]).round(2))
      [0.08 0.62 0.08]
    """
    reach = int(3 * WIDEST)
    places = jnp.arange(-reach, reach + 1, dtype=jnp.float32)
    weights = jnp.exp(-0.5 * (places / jnp.maximum(sigma[0], 0.05)) ** 2)  # below 0.05 a neighbour has no weight
    weights = weights / weights.sum()
    for axis in (0, 1):
        pads = [(reach, reach) if each == axis else (0, 0) for each in range(3)]
        padded = jnp.pad(image, pads, mode="edge")
        size = image.shape[axis]
        shifted = [jax.lax.slice_in_dim(padded, i, i + size, axis=axis) for i in range(2 * reach + 1)]
        image = jnp.einsum("k,khwc->hwc", weights, jnp.stack(shifted))
    return jnp.asarray(image)


def fogged(image: Float[AnyArray, "H W C"], density: Float[AnyArray, "1"]) -> Float[Array, "H W C"]:
    """Mixed with white: `x·(1 - a) + a`.

    Args:
      image: in [0, 1].
      density: a, in [0, 1].

    Example:
      >>> from cwjax.generation import transforms
      >>> print(np.asarray(transforms.fogged(jnp.array([[[0.0], [0.5]]]), jnp.array([0.5]))).round(2).ravel())
      [0.5  0.75]
    """
    return jnp.asarray(image * (1 - density[0]) + density[0])


def rained(image: Float[AnyArray, "H W C"], parameters: Float[AnyArray, "2"]) -> Float[Array, "H W C"]:
    """Bright streaks over the image: how opaque they are, and how far they lean, in pixels over the whole height.

    The streaks are the same for every image, so that the parameters alone decide: an eighth of the columns, each with
    drops of a quarter of the height.

    Args:
      image: in [0, 1].
      parameters: how opaque streaks are, and how far they lean.

    Example:
      >>> from cwjax.generation import transforms
      >>> wet = transforms.rained(jnp.zeros((8, 8, 1)), jnp.array([1.0, 0.0]))
      >>> wet.shape, bool((wet > 0).any()), bool((wet == 0).any())
      ((8, 8, 1), True, True)
    """
    height, width = image.shape[:2]
    rng = np.random.default_rng(0)
    field = np.zeros((height, width), np.float32)
    for column in rng.permutation(width)[: max(width // 8, 1)]:
        top = int(rng.integers(0, height))
        field[np.arange(top, top + max(height // 4, 1)) % height, column] = 1
    lean = parameters[1] / height
    matrix = jnp.stack([jnp.array([1.0, 0.0]), jnp.stack([lean, jnp.ones(())])])
    streaks = _warped(jnp.asarray(field)[..., None], matrix, jnp.zeros(2))
    return jnp.asarray(image + parameters[0] * streaks * (1 - image))


def _warped(image: Any, matrix: Any, offset: Any) -> Array:
    """The image whose pixel p is that at `centre + matrix·(p - centre) + offset`; what is outside is 0. Bilinear."""
    height, width = image.shape[:2]
    centre = jnp.array([(height - 1) / 2, (width - 1) / 2])
    grid = jnp.stack(jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij"), -1) - centre[None, None]
    places = jnp.einsum("ij,hwj->ihw", matrix, grid, precision="highest") + (centre + offset)[:, None, None]

    def one(channel):
        return jax.scipy.ndimage.map_coordinates(channel, list(places), order=1, mode="constant", cval=0.0)

    return jax.vmap(one, in_axes=-1, out_axes=-1)(jnp.asarray(image))


def composed(transforms: Sequence[Transform]) -> Transform:
    """Several transforms one after the other, as one with all their parameters.

    Args:
      transforms: at least one.

    Example:
      >>> from cwjax.generation import transforms
      >>> both = transforms.composed([transforms.TRANSFORMS["brightness"], transforms.TRANSFORMS["contrast"]])
      >>> print(np.asarray(both.apply(jnp.full((1, 1, 1), 0.2), jnp.array([0.1, 2.0]))).round(2).ravel())
      [0.6]
    """
    several = tuple(transforms)
    if not several:
        raise ValueError("composed takes at least one transform, got none")
    return Transform(
        name=", ".join(each.name for each in several),
        apply=_Composed(several),
        low=sum((each.low for each in several), ()),
        high=sum((each.high for each in several), ()),
        neutral=sum((each.neutral for each in several), ()),
    )


@dataclasses.dataclass(frozen=True)
class _Composed:
    transforms: tuple[Transform, ...]

    def __call__(self, image: Any, parameters: Any) -> Array:
        first = 0
        for each in self.transforms:
            image = each.apply(image, parameters[first : first + len(each.low)])
            first += len(each.low)
        return image


def in_shares(transform: Transform) -> Transform:
    """The transform with each parameter as a share of the way from its lower limit to its upper one.

    So an attack moves all parameters alike, whatever their units.

    Args:
      transform: whose limits differ in every parameter.

    Example:
      >>> from cwjax.generation import transforms
      >>> brighter = transforms.in_shares(transforms.TRANSFORMS["brightness"])
      >>> brighter.neutral, brighter.low, brighter.high
      ((0.5,), (0.0,), (1.0,))
    """
    return Transform(
        name=transform.name,
        apply=_InShares(transform),
        low=(0.0,) * len(transform.low),
        high=(1.0,) * len(transform.low),
        neutral=tuple(shares_of(transform, [transform.neutral])[0].tolist()),
        grid=tuple(tuple(each) for each in shares_of(transform, transform.grid).tolist()) if transform.grid else (),
    )


def shares_of(transform: Transform, parameters: Any) -> Float[np.ndarray, "B P"]:
    """Parameters as shares of the way from the lower limits to the upper ones.

    Args:
      transform: whose limits differ in every parameter.
      parameters: [B, P].

    Example:
      >>> from cwjax.generation import transforms
      >>> transforms.shares_of(transforms.TRANSFORMS["brightness"], [[0.0]]).tolist()
      [[0.5]]
    """
    low, high = np.asarray(transform.low, np.float32), np.asarray(transform.high, np.float32)
    return ((np.asarray(parameters, np.float32) - low) / (high - low)).astype(np.float32)


def of_shares(transform: Transform, shares: Any) -> Any:
    """Parameters of shares of the way from the lower limits to the upper ones: the inverse of `shares_of`.

    Args:
      transform: of the parameters.
      shares: [..., P].

    Example:
      >>> from cwjax.generation import transforms
      >>> transforms.of_shares(transforms.TRANSFORMS["brightness"], np.array([[0.5]])).tolist()
      [[0.0]]
    """
    low, high = np.asarray(transform.low, np.float32), np.asarray(transform.high, np.float32)
    return low + (high - low) * shares


@dataclasses.dataclass(frozen=True)
class _InShares:
    transform: Transform

    def __call__(self, image: Any, shares: Any) -> Array:
        return self.transform.apply(image, of_shares(self.transform, shares))


def _grid(setting: Callable[[int], Numbers]) -> tuple[Numbers, ...]:
    return tuple(setting(p) for p in range(1, 11))


TRANSFORMS: dict[str, Transform] = {
    each.name: each
    for each in (
        Transform("brightness", brightened, (-20 / 255,), (20 / 255,), (0,), _grid(lambda p: (10 * p / 255,))),
        Transform("contrast", contrasted, (0.5,), (1.2,), (1,), _grid(lambda p: (1 + 0.2 * p,))),
        Transform("translation", translated, (-3, -3), (2, 2), (0, 0), _grid(lambda p: (10 * p, 10 * p))),
        Transform("scale", scaled, (0.7, 0.7), (1.1, 1.1), (1, 1), _grid(lambda p: (1 + 0.5 * p, 1 + 0.5 * p))),
        Transform("shear", sheared, (-0.6,), (0.6,), (0,), _grid(lambda p: (-0.1 * p,))),
        Transform("rotation", rotated, (-15,), (15,), (0,), _grid(lambda p: (3 * p,))),
        Transform("blur", blurred, (0,), (1,), (0,), _grid(lambda p: (0.3 * p,))),
        Transform("fog", fogged, (0,), (0.4,), (0,), _grid(lambda p: (0.08 * p,))),
        Transform("rain", rained, (0, -3), (0.6, 3), (0, 0), _grid(lambda p: (0.08 * p, 2))),
    )
}
"""By name. Rotation is held to 15 degrees, where DeepHunter has 50: a 6 that is turned farther is no 6. DeepTest's code
has no fog, no rain and no continuous blur; their grids are ours."""
