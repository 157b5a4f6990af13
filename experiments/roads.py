"""Road frames with steering angles, and a network that steers: what the experiments on driving share.

Without a file the roads are drawn: a road that bends, seen from a car, and the angle is its bend. With one, they are
frames of a real drive: FILE holds the arrays `blob` and `offset` (JPEG files one after another, and where each begins)
and `steering` (radians), and it may hold what networks of the challenge said of the same frames (`CONTEST`). Frames
that follow each other are near copies, so whole blocks are held out.
"""

import io
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

import cwjax as cw
from cwjax.defences.networks import convolved, dense, layer
from experiments import small_nets

WIDEST = 0.5  # radians of a drawn road
BLOCKS = 30  # of the drive; every third is held out
CHANNELS, UNITS = (16, 32, 48), 64  # of the steering's convolutions, each with a stride of 2, and of its hidden layer
CONTEST = ("autumn", "komanda", "rambo")  # networks of Udacity's second challenge, trained on hours of driving
DIM = 0.05  # a frame with less contrast than this is not stretched to the contrast of others


class Roads(NamedTuple):
    """Frames and angles."""

    frames: np.ndarray  # float32 [N, H, W, C] in [0, 1], H and W multiples of 4
    angles: np.ndarray  # float32 [N], radians; positive to the left


class Drive(NamedTuple):
    """A drive in two parts."""

    train: Roads
    held_out: Roads
    said: Mapping[str, np.ndarray]  # by networks that were trained elsewhere, of the frames that are held out


def of_file(path: Path) -> Drive:
    """The drive of a file.

    Raises:
      ValueError: there is no such file, or it has other arrays.
    """
    try:
        with np.load(path) as file:
            blob, offset, angles = (file[name] for name in ("blob", "offset", "steering"))
            said = {name: file[name].astype(np.float32) for name in CONTEST if name in file}
    except (OSError, KeyError, ValueError) as error:
        raise ValueError(f"{path} holds no drive, the arrays blob, offset and steering: {error}") from error
    pieces = [blob[start:end].tobytes() for start, end in itertools.pairwise(offset)]
    frames = np.stack([np.asarray(Image.open(io.BytesIO(piece)), np.float32) for piece in pieces]) / 255
    height, width = (size // 4 * 4 for size in frames.shape[1:3])
    return _parted(Roads(frames[:, :height, :width], angles.astype(np.float32)), said)


def drawn(count: int = 600, seed: int = 0, height: int = 32, width: int = 64) -> Drive:
    """A drive on drawn roads: the bend changes slowly, the light and the colour of the verge from block to block."""
    rng = np.random.default_rng(seed)
    bend = WIDEST * np.sin(np.linspace(0, 2 * np.pi * count / 90, count) + rng.uniform(0, 6))
    bend = np.clip(bend + rng.normal(0, 0.1, count), -WIDEST, WIDEST)
    depth = np.linspace(0, 1, height)[:, None]  # 0 at the horizon, 1 at the car
    across = np.linspace(-1, 1, width)[None]
    frames = np.zeros((count, height, width, 3), np.float32)
    for place, angle in enumerate(bend):
        block = place * BLOCKS // count
        light = 0.7 + 0.3 * np.cos(block)
        verge = np.array([0.25 + 0.05 * np.sin(block), 0.45, 0.2])
        off_centre = np.abs(across + angle * 1.6 * (1 - depth) ** 2)  # the road's middle moves with the bend
        on_road, on_line = off_centre < 0.1 + 0.7 * depth, off_centre < 0.02 + 0.04 * depth
        frame = np.where(on_road[..., None], 0.45, verge[None, None])
        frame = np.where(on_line[..., None], 0.95, frame)
        frames[place] = np.clip(light * frame + rng.normal(0, 0.02, frame.shape), 0, 1)
    return _parted(Roads(frames, bend.astype(np.float32)), {})


def steering(roads: Roads, *, updates: int, seed: int = 0) -> cw.Model:
    """A small convolutional network trained to say the angle; it answers with one number an image.

    Few frames of one drive are learnt by heart. So each frame loses its own brightness and contrast, half of a batch is
    mirrored with its angles, and half of the hidden units are dropped in training.
    """

    def loss(params, key, x, angle):
        mirror, drop = jax.random.split(key)
        turned = jax.random.bernoulli(mirror, 0.5, (len(x),))
        x = jnp.where(turned[:, None, None, None], x[:, :, ::-1], x)
        kept = jax.random.bernoulli(drop, 0.5, (len(x), UNITS)) / 0.5
        return jnp.square(_angle(params, x, kept) - jnp.where(turned, -angle, angle)).mean()

    params = small_nets.train(
        "the steering", loss, _fresh(seed, roads.frames.shape[1:]), roads, updates=updates, seed=seed
    )
    return cw.bind(_angle, params)


def _fresh(seed: int, shape: Sequence[int]) -> small_nets.Params:
    keys = iter(jax.random.split(jax.random.key(seed), len(CHANNELS) + 2))
    height, width, before = shape
    convolutions = []
    for after in CHANNELS:
        convolutions.append(layer(next(keys), (3, 3, before, after)))
        height, width, before = -(-height // 2), -(-width // 2), after
    hidden = layer(next(keys), (height * width * before, UNITS))
    return {"convolutions": convolutions, "hidden": hidden, "last": layer(next(keys), (UNITS, 1))}


def _angle(params: small_nets.Params, x: jax.Array, kept: jax.Array | None = None) -> jax.Array:
    mean, spread = (moment(x, (1, 2), keepdims=True) for moment in (jnp.mean, jnp.var))
    x = (x - mean) / jnp.sqrt(spread + DIM**2)
    for each in params["convolutions"]:
        x = jax.nn.relu(convolved(each, x, stride=2))
    x = jax.nn.relu(dense(params["hidden"], x.reshape(len(x), -1)))
    return dense(params["last"], x if kept is None else x * kept)[:, 0]


def _parted(roads: Roads, said: Mapping[str, np.ndarray]) -> Drive:
    """Every third block is held out. A ninth of a block beside it is in neither part: what follows within a second or
    two is a near copy.
    """
    count = len(roads.angles)
    out = np.arange(count) * BLOCKS // count % 3 == 1
    beside = np.convolve(out, np.ones(2 * (count // BLOCKS // 9) + 1), "same") > 0
    train, held_out = (Roads(*(each[rows] for each in roads)) for rows in (~beside, out))
    return Drive(train, held_out, {name: each[out] for name, each in said.items()})
