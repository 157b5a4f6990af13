"""Networks of six hidden neurons that tell the blobs apart, most of the time; and some that cannot be tested."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

import cwjax as cw


@functools.cache
def params(seed: int, classes: int = 3) -> dict[str, np.ndarray]:
    from tests.lab.conftest import Blobs

    images, labels, _ = Blobs().read("train", None)  # type: ignore
    flat = images.reshape(len(images), -1).astype(np.float32) / 255
    first = np.random.default_rng(seed).normal(size=(flat.shape[1], 6)).astype(np.float32) / 8
    wanted = np.eye(classes, dtype=np.float32)[labels]
    return {"first": first, "second": np.linalg.lstsq(np.maximum(flat @ first, 0), wanted, rcond=None)[0]}


def apply(params, x):
    return 10 * jax.nn.relu(x.reshape(len(x), -1) @ params["first"]) @ params["second"]


def one() -> cw.Model:
    return cw.bind(apply, params(2))


def other() -> cw.Model:
    return cw.bind(apply, params(3))


def four() -> cw.Model:
    """Of another number of classes."""
    return cw.bind(apply, params(2, 4))


def flat() -> cw.Model:
    """Without a hidden layer."""
    return cw.bind(lambda params, x: x.reshape(len(x), -1) @ params["first"][:, :3], params(2))


def small() -> cw.Model:
    """Of other images."""

    def apply(params, x):
        assert x.shape[1:] == (8, 8, 1)
        return jax.nn.relu(x.reshape(len(x), -1)[:, :3])

    return cw.bind(apply)


def never() -> cw.Model:
    """Never right."""

    def apply(params, x):
        right = jnp.stack([x[:, a, b, 0] for a, b in ((4, 4), (4, 11), (11, 4))], 1)
        return -jax.nn.relu(right)

    return cw.bind(apply)


def flawless() -> cw.Model:
    """Always right."""

    def apply(params, x):
        several = ((4, 4), (4, 11), (11, 4))
        return jnp.stack([jax.nn.relu(x[:, a - 2 : a + 3, b - 2 : b + 3, 0]).mean((1, 2)) for a, b in several], 1)

    return cw.bind(apply)


ONE, OTHER = (f"tests.lab.generating.made:{name}" for name in ("one", "other"))
