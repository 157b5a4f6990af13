"""Road frames with steering angles, and a network that steers: what the experiments on driving share.

Without a file the roads are drawn: a road that bends, seen from a car, and the angle is its bend. With one, they are
frames of a real drive: FILE holds the arrays `blob` and `offset` (JPEG files one after another, and where each begins)
and `steering` (radians). Frames that follow each other are near copies, so whole blocks are held out.
"""

import io
import itertools
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from PIL import Image

import cwjax as cw
from experiments import small_nets

WIDEST = 0.5  # radians of a drawn road
BLOCKS = 10  # of the drive; every third is held out


class Roads(NamedTuple):
    """Frames and angles."""

    frames: np.ndarray  # float32 [N, H, W, C] in [0, 1], H and W multiples of 4
    angles: np.ndarray  # float32 [N], radians; positive to the left


class Drive(NamedTuple):
    """A drive in two parts."""

    train: Roads
    held_out: Roads


def of_file(path: Path) -> Drive:
    """The drive of a file.

    Raises:
      ValueError: there is no such file, or it has other arrays.
    """
    try:
        with np.load(path) as file:
            blob, offset, angles = (file[name] for name in ("blob", "offset", "steering"))
    except (OSError, KeyError, ValueError) as error:
        raise ValueError(f"{path} holds no drive, the arrays blob, offset and steering: {error}") from error
    pieces = [blob[start:end].tobytes() for start, end in itertools.pairwise(offset)]
    frames = np.stack([np.asarray(Image.open(io.BytesIO(piece)), np.float32) for piece in pieces]) / 255
    height, width = (size // 4 * 4 for size in frames.shape[1:3])
    return _parted(Roads(frames[:, :height, :width], angles.astype(np.float32)))


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
    return _parted(Roads(frames, bend.astype(np.float32)))


def steering(roads: Roads, *, updates: int, seed: int = 0) -> cw.Model:
    """A small convolutional network trained to say the angle; it answers with one number an image."""

    def loss(params, key, x, angle):
        del key
        return jnp.square(_angle(params, x) - angle).mean()

    params = small_nets.convolutional(seed, roads.frames.shape[1:], 1)
    params = small_nets.train("the steering", loss, params, roads, updates=updates, seed=seed)
    return cw.bind(_angle, params)


def _angle(params: small_nets.Params, x) -> jnp.ndarray:
    return small_nets.answered(params, x - 0.5)[:, 0]


def _parted(roads: Roads) -> Drive:
    block = np.arange(len(roads.angles)) * BLOCKS // len(roads.angles)
    out = block % 3 == 1
    return Drive(Roads(*(each[~out] for each in roads)), Roads(*(each[out] for each in roads)))
