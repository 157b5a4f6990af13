"""Shapes, places and pieces. The exported graph has no views: what writes to a piece of an array returns a new one."""

import jax.numpy as jnp
import numpy as np
from jax import lax

from cwjax.adapters.pytorch.rules.shared import for_each_axis, whole

_END = 2**60  # PyTorch writes 2**63 - 1 for "to the end"


def _flattened(x, start=0, end=-1):
    if x.ndim == 0:
        return x.reshape(1)
    start, end = start % x.ndim, end % x.ndim
    return x.reshape(*x.shape[:start], -1, *x.shape[end + 1 :])


def _unflattened(x, dim, sizes):
    dim %= x.ndim
    return x.reshape(*x.shape[:dim], *sizes, *x.shape[dim + 1 :])


def _squeezed(x, dim=None):
    dims = range(x.ndim) if dim is None else (dim,) if isinstance(dim, int) else dim
    return x.squeeze(tuple(d for d in dims if x.shape[d] == 1))


def _expanded(x, sizes, *, implicit=False):
    lead = len(sizes) - x.ndim
    return jnp.broadcast_to(x, [s if s != -1 else x.shape[i - lead] for i, s in enumerate(sizes)])


def _place(dim, start, end, step):
    index = [slice(None)] * (dim + 1)
    index[dim] = slice(start, None if end is None or end > _END else end, step)
    return tuple(index)


def _sliced(x, dim=0, start=None, end=None, step=1):
    return x[_place(dim % x.ndim, start, end, step)]


def _slice_written(x, piece, dim=0, start=None, end=None, step=1):
    return x.at[_place(dim % x.ndim, start, end, step)].set(piece)


def _selected(x, dim, index):
    return lax.index_in_dim(x, index, dim, keepdims=False)


def _selection_written(x, piece, dim, index):
    return x.at[(slice(None),) * (dim % x.ndim) + (index,)].set(piece)


def _narrowed(x, dim, start, length):
    return lax.slice_in_dim(x, start, start + length, axis=dim % x.ndim)


def _split(x, size, dim=0):
    cuts = range(size, x.shape[dim], size) if isinstance(size, int) else np.cumsum(size)[:-1]
    return jnp.split(x, list(cuts), dim)


def _chunks(x, count, dim=0):
    return _split(x, -(-x.shape[dim] // count), dim)


def _unbound(x, dim=0):
    return [lax.index_in_dim(x, i, dim, keepdims=False) for i in range(x.shape[dim])]


def _padded(x, pads, mode="constant", value=None):
    pairs = list(zip(pads[::2], pads[1::2], strict=True))[::-1]
    pairs = [(0, 0)] * (x.ndim - len(pairs)) + [whole(pair) for pair in pairs]
    if mode == "constant":  # a negative one cuts
        return lax.pad(x, jnp.asarray(value or 0, x.dtype), [(low, high, 0) for low, high in pairs])
    return jnp.pad(x, pairs, mode={"reflect": "reflect", "replicate": "edge", "circular": "wrap"}[mode])


def _rolled(x, shifts, dims=()):
    return jnp.roll(x, whole(shifts), whole(dims)) if np.size(dims) else jnp.roll(x, whole(shifts)[0])


def _turned(x, times=1, dims=(0, 1)):
    return jnp.rot90(x, times, tuple(dims))


def _index(indices):
    return tuple(slice(None) if index is None else index for index in indices)


def _written(x, indices, values, accumulate=False):
    at = x.at[_index(indices)]
    return at.add(values) if accumulate else at.set(values)


def _taken(x, indices):
    return x[_index(indices)]


def _gathered(x, dim, index, *, sparse_grad=False):
    dim %= x.ndim
    near = x[tuple(slice(None) if axis == dim else slice(size) for axis, size in enumerate(index.shape))]
    return jnp.take_along_axis(near, index, dim)


def _scattered(x, dim, index, piece):
    grids = list(jnp.indices(index.shape, sparse=True))
    grids[dim % x.ndim] = index
    return x.at[tuple(grids)].set(piece if np.ndim(piece) == 0 else piece[tuple(map(slice, index.shape))])


def _repeated(x, count, dim=None, *, output_size=None):
    return jnp.repeat(x.ravel() if dim is None else x, count, 0 if dim is None else dim)


def _pixels_to_space(x, factor):
    *lead, channels, height, width = x.shape
    y = x.reshape(*lead, channels // factor**2, factor, factor, height, width)
    n = len(lead)
    return y.transpose(*range(n), n, n + 3, n + 1, n + 4, n + 2).reshape(*lead, -1, height * factor, width * factor)


def _space_to_pixels(x, factor):
    *lead, channels, height, width = x.shape
    y = x.reshape(*lead, channels, height // factor, factor, width // factor, factor)
    n = len(lead)
    return y.transpose(*range(n), n, n + 2, n + 4, n + 1, n + 3).reshape(*lead, -1, height // factor, width // factor)


def _channels_shuffled(x, groups):
    return x.reshape(x.shape[0], groups, -1, *x.shape[2:]).swapaxes(1, 2).reshape(x.shape)


def _windows(x, dim, size, step):
    """Windows along an axis, as a last axis."""
    dim %= x.ndim
    starts = range(0, x.shape[dim] - size + 1, step)
    pieces = [lax.slice_in_dim(x, start, start + size, axis=dim) for start in starts]
    return jnp.moveaxis(jnp.stack(pieces, dim), dim + 1, -1)


def _columns(x, window, dilation=1, padding=0, stride=1):
    """The elements of each window, as a column: [N, C, H, W] -> [N, C * h * w, windows]."""
    window, dilation, padding, stride = (for_each_axis(value, 2) for value in (window, dilation, padding, stride))
    patches = lax.conv_general_dilated_patches(
        x, window, stride, [(p, p) for p in padding], rhs_dilation=dilation, dimension_numbers=("NCHW", "OIHW", "NCHW")
    )
    return patches.reshape(*patches.shape[:2], -1)


def _diagonal(x, offset=0, first=0, second=1):
    return jnp.diagonal(x, offset, first, second)


def _grids(arrays, *, indexing="ij"):
    return jnp.meshgrid(*arrays, indexing=indexing)


RULES = {
    "view": lambda x, sizes: x.reshape(sizes),
    "_unsafe_view": lambda x, sizes: x.reshape(sizes),
    "reshape": lambda x, sizes: x.reshape(sizes),
    "view_as": lambda x, other: x.reshape(other.shape),
    "flatten": _flattened,
    "unflatten": _unflattened,
    "permute": jnp.transpose,
    "transpose": jnp.swapaxes,
    "movedim": jnp.moveaxis,
    "t": jnp.transpose,
    "numpy_T": jnp.transpose,
    "unsqueeze": jnp.expand_dims,
    "squeeze": _squeezed,
    "expand": _expanded,
    "expand_as": lambda x, other: jnp.broadcast_to(x, other.shape),
    "broadcast_to": jnp.broadcast_to,
    "repeat": jnp.tile,
    "tile": jnp.tile,
    "repeat_interleave": _repeated,
    "cat": lambda xs, dim=0: jnp.concatenate(xs, dim),
    "concat": lambda xs, dim=0: jnp.concatenate(xs, dim),
    "stack": lambda xs, dim=0: jnp.stack(xs, dim),
    "slice": _sliced,
    "slice_scatter": _slice_written,
    "select": _selected,
    "select_scatter": _selection_written,
    "narrow": _narrowed,
    "split": _split,
    "split_with_sizes": _split,
    "chunk": _chunks,
    "unbind": _unbound,
    "pad": _padded,
    "constant_pad_nd": lambda x, pads, value=0: _padded(x, pads, "constant", value),
    "flip": lambda x, dims: jnp.flip(x, tuple(dims)),
    "roll": _rolled,
    "rot90": _turned,
    "index": _taken,
    "index_put": _written,
    "index_select": lambda x, dim, index: jnp.take(x, index, dim),
    "gather": _gathered,
    "scatter": _scattered,
    "embedding": lambda weight, index, *_: weight[index],
    "pixel_shuffle": _pixels_to_space,
    "pixel_unshuffle": _space_to_pixels,
    "channel_shuffle": _channels_shuffled,
    "unfold": _windows,
    "im2col": _columns,
    "tril": jnp.tril,
    "triu": jnp.triu,
    "diagonal": _diagonal,
    "meshgrid": _grids,
}
