"""Resizing of images [N, C, ...]: along each axis the product with a matrix of weights, which is known in advance."""

import functools

import jax.numpy as jnp
import numpy as np

_CUBIC, _CUBIC_SMOOTHED = -0.75, -0.5  # PyTorch's sharpness of a cubic, and that with anti-aliasing


def _triangle(distance):
    return np.maximum(1 - np.abs(distance), 0)


def _cubic(distance, sharpness=_CUBIC):
    d, a = np.abs(distance), sharpness
    near = (a + 2) * d**3 - (a + 3) * d**2 + 1
    far = a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0))


def _weights(length, size, *, corners, scale, kernel, reach, smoothed):
    """How much each of `length` elements counts for each of `size`: [size, length]."""
    places = np.arange(size)
    if corners:
        step = (length - 1) / (size - 1) if size > 1 else 0.0
        centres = places * step
    else:
        step = 1 / scale if scale else length / size
        centres = (places + 0.5) * step - 0.5
    matrix = np.zeros((size, length))
    if smoothed:
        width = max(step, 1.0)  # a kernel wider than the step: no element is passed over
        for place, centre in enumerate(centres):
            first = max(int(centre + 0.5 - reach * width + 0.5), 0)
            last = min(int(centre + 0.5 + reach * width + 0.5), length)
            weights = kernel((np.arange(first, last) - centre) / width)
            matrix[place, first:last] = weights / weights.sum()
        return matrix
    if kernel is _triangle and not corners:
        centres = np.maximum(centres, 0)
    for place, centre in enumerate(centres):
        first = int(np.floor(centre))
        for offset in range(1 - reach, reach + 1):
            element = first + offset  # beyond an edge it is the edge that counts
            matrix[place, min(max(element, 0), length - 1)] += kernel(centre - element)
    return matrix


def _resized(x, sizes, scales, weights_of):
    rank = x.ndim - 2
    scales = scales or [None] * rank
    if sizes is None:
        sizes = [int(np.floor(n * scale)) for n, scale in zip(x.shape[2:], scales, strict=True)]
    for axis, (size, scale) in enumerate(zip(sizes, scales, strict=True), start=2):
        if size == x.shape[axis] and scale in (None, 1.0):
            continue
        matrix = jnp.asarray(weights_of(x.shape[axis], size, scale), x.dtype)
        x = jnp.moveaxis(jnp.tensordot(x, matrix, ([axis], [1])), -1, axis)
    return x


def _smooth(kernel, reach, smoothed=False):
    def rule(x, sizes, corners, scales=None, *others):
        given = scales if scales is None or isinstance(scales, tuple | list) else [scales, *others]

        def weights(length, size, scale):
            return _weights(length, size, corners=corners, scale=scale, kernel=kernel, reach=reach, smoothed=smoothed)

        return _resized(x, sizes, given, weights)

    return rule


def _nearest(exact):
    def weights(length, size, scale):
        step = 1 / scale if scale else length / size
        places = np.floor((np.arange(size) + (0.5 if exact else 0)) * np.float32(step)).astype(int)
        return np.eye(length)[np.minimum(places, length - 1)]

    def rule(x, sizes, scales=None, *others):
        given = scales if scales is None or isinstance(scales, tuple | list) else [scales, *others]
        return _resized(x, sizes, given, weights)

    return rule


RULES = {
    "upsample_linear1d": _smooth(_triangle, 1),
    "upsample_bilinear2d": _smooth(_triangle, 1),
    "upsample_trilinear3d": _smooth(_triangle, 1),
    "upsample_bicubic2d": _smooth(_cubic, 2),
    "_upsample_bilinear2d_aa": _smooth(_triangle, 1, smoothed=True),
    "_upsample_bicubic2d_aa": _smooth(functools.partial(_cubic, sharpness=_CUBIC_SMOOTHED), 2, smoothed=True),
} | {
    f"{name}{rank}d": _nearest(exact)
    for name, exact in {"upsample_nearest": False, "_upsample_nearest_exact": True}.items()
    for rank in (1, 2, 3)
}
