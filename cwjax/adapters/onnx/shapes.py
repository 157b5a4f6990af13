"""Operators that move elements, and those that make shapes and constants."""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from cwjax.adapters.onnx.node import Node, Rule, aligned, dtype_of, numbers, static, whole

_END = 2**31 - 1  # ONNX says "to the end" by the largest number of the type


def _axes(node: Node, given: Any) -> tuple[int, ...] | None:
    """The axes: an input in newer files, an attribute in older ones; None where they are left out."""
    if given is not None:
        return whole(node, given, "axes")
    axes = node.get("axes", None)
    return None if axes is None else tuple(axes)


def _reshape(node: Node, x: Any, shape: Any = None) -> Any:
    wanted = node.attributes["shape"] if shape is None else whole(node, shape, "sizes")
    keeps = not node.get("allowzero", 0)
    return x.reshape([x.shape[axis] if size == 0 and keeps else size for axis, size in enumerate(wanted)])


def _flatten(node: Node, x: Any) -> Any:
    axis = node.get("axis", 1)
    rows = math.prod(x.shape[: axis if axis >= 0 else axis + x.ndim])
    return x.reshape(rows, -1)


def _squeeze(node: Node, x: Any, axes: Any = None) -> Any:
    return numbers(x).squeeze(x, _axes(node, axes))


def _unsqueeze(node: Node, x: Any, axes: Any = None) -> Any:
    return numbers(x).expand_dims(x, _axes(node, axes) or ())


def _transpose(node: Node, x: Any) -> Any:
    return x.transpose(node.get("perm", tuple(range(x.ndim))[::-1]))


def _slice(node: Node, x: Any, starts: Any = None, ends: Any = None, axes: Any = None, steps: Any = None) -> Any:
    if starts is None:
        first, last = node.attributes["starts"], node.attributes["ends"]
    else:
        first, last = whole(node, starts, "starts"), whole(node, ends, "ends")
    along = _axes(node, axes)
    along = tuple(range(len(first))) if along is None else along
    by = (1,) * len(first) if steps is None else whole(node, steps, "steps")
    index = [slice(None)] * x.ndim
    for start, end, axis, step in zip(first, last, along, by, strict=True):
        begin = None if abs(start) >= _END else start
        index[axis] = slice(begin, None if abs(end) >= _END or (step < 0 and end < -x.shape[axis]) else end, step)
    return x[tuple(index)]


def _split(node: Node, x: Any, sizes: Any = None) -> Any:
    axis, count = node.get("axis", 0), len(node.outputs)
    parts = node.get("split", None) if sizes is None else whole(node, sizes, "sizes")
    sizes = (-(-x.shape[axis] // count),) * count if parts is None else parts
    return tuple(numbers(x).split(x, [int(end) for end in np.cumsum(sizes[:-1])], axis))


def _pad(node: Node, x: Any, pads: Any = None, value: Any = None, axes: Any = None) -> Any:
    sizes = node.get("pads", None) if pads is None else whole(node, pads, "pads")
    sizes = node.attributes["paddings"] if sizes is None else sizes
    along = _axes(node, axes)
    along = tuple(range(x.ndim)) if along is None else along
    pairs = [(0, 0)] * x.ndim
    for axis, low, high in zip(along, sizes[: len(along)], sizes[len(along) :], strict=True):
        pairs[axis] = (low, high)
    mode = node.get("mode", "constant")
    if mode == "constant":
        fill = node.get("value", 0.0) if value is None else value
        fill = jnp.asarray(fill, x.dtype).reshape(())
        return lax.pad(jnp.asarray(x), fill, [(low, high, 0) for low, high in pairs])
    if mode not in ("reflect", "edge", "wrap"):
        raise node.refused(f"mode {mode!r} is not covered")
    return jnp.pad(x, pairs, mode=mode)


def _concatenate(node: Node, *xs: Any) -> Any:
    return numbers(*xs).concatenate(xs, node.attributes["axis"])


def _gather(node: Node, x: Any, indices: Any) -> Any:
    axis = node.get("axis", 0)
    if static(x, indices):
        return np.take(x, indices, axis)
    if static(indices):
        index, length = np.asarray(indices), x.shape[axis]
        if index.ndim == 0:
            return lax.index_in_dim(x, int(index) % length, axis % x.ndim, keepdims=False)
        return jnp.take(x, np.where(index < 0, index + length, index).astype(np.int32), axis)
    return jnp.take(jnp.asarray(x), jnp.where(indices < 0, indices + x.shape[axis], indices), axis)


def _gather_elements(node: Node, x: Any, indices: Any) -> Any:
    axis = node.get("axis", 0)
    index = numbers(indices).where(indices < 0, indices + x.shape[axis], indices)
    return jnp.take_along_axis(jnp.asarray(x), jnp.asarray(index, jnp.int32), axis)


def _gather_nd(node: Node, x: Any, indices: Any) -> Any:
    if node.get("batch_dims", 0):
        raise node.refused("batch_dims above 0 is not covered")
    index = np.asarray(indices) if static(indices) else indices
    return x[tuple(index[..., axis] for axis in range(index.shape[-1]))]


def _expand(node: Node, x: Any, shape: Any) -> Any:
    wanted = np.broadcast_shapes(x.shape, whole(node, shape, "sizes"))
    [x, _] = aligned(x, np.empty((0,) * len(wanted)))
    return numbers(x).broadcast_to(x, wanted)


def _tile(node: Node, x: Any, repeats: Any) -> Any:
    return numbers(x).tile(x, whole(node, repeats, "repeats"))


def _shape(node: Node, x: Any) -> Any:
    return np.asarray(x.shape[node.get("start", 0) : node.get("end", None)], np.int64)


def _constant(node: Node) -> Any:
    if "value" in node.attributes:
        return node.attributes["value"]
    [[name, value]] = node.attributes.items()
    if name not in ("value_int", "value_ints", "value_float", "value_floats"):
        raise node.refused(f"a constant given as {name} is not covered")
    return np.asarray(value, np.float32 if "float" in name else np.int64)


def _filled(node: Node, shape: Any) -> Any:
    value = node.get("value", np.zeros(1, np.float32))
    return np.full(whole(node, shape, "sizes"), np.asarray(value).reshape(-1)[0])


def _range(node: Node, start: Any, limit: Any, step: Any) -> Any:
    if not static(start, limit, step):
        raise node.refused("its ends depend on the values of the input: export the model with fixed shapes")
    ends = [np.asarray(value).reshape(()) for value in (start, limit, step)]
    return np.arange(*(end.item() for end in ends), dtype=ends[0].dtype)


def _depth_to_space(node: Node, x: Any) -> Any:
    batch, channels, height, width = x.shape
    block = node.attributes["blocksize"]
    rest = channels // block**2
    if node.get("mode", "DCR") == "DCR":
        moved = x.reshape(batch, block, block, rest, height, width).transpose(0, 3, 4, 1, 5, 2)
    else:
        moved = x.reshape(batch, rest, block, block, height, width).transpose(0, 1, 4, 2, 5, 3)
    return moved.reshape(batch, rest, height * block, width * block)


def _space_to_depth(node: Node, x: Any) -> Any:
    batch, channels, height, width = x.shape
    block = node.attributes["blocksize"]
    cut = x.reshape(batch, channels, height // block, block, width // block, block).transpose(0, 3, 5, 1, 2, 4)
    return cut.reshape(batch, channels * block**2, height // block, width // block)


def _one_hot(node: Node, indices: Any, depth: Any, values: Any) -> Any:
    [count] = whole(node, depth, "depth")
    off, on = values[0], values[1]
    axis = node.get("axis", -1) % (np.ndim(indices) + 1)
    index = numbers(indices).expand_dims(indices, axis)
    places = np.arange(count).reshape([-1 if each == axis else 1 for each in range(np.ndim(index))])
    return jnp.where(index % count == places, on, off)


def _triangle(node: Node, x: Any, k: Any = None) -> Any:
    diagonal = 0 if k is None else whole(node, k, "diagonal")[0]
    return (numbers(x).triu if node.get("upper", 1) else numbers(x).tril)(x, diagonal)


def _eye_like(node: Node, x: Any) -> Any:
    dtype = dtype_of(node, node.attributes["dtype"]) if "dtype" in node.attributes else np.dtype(x.dtype)
    return np.eye(*x.shape, k=node.get("k", 0), dtype=np.float32 if dtype is None else dtype)


RULES: dict[str, Rule] = {
    "Concat": _concatenate,
    "Constant": _constant,
    "ConstantOfShape": _filled,
    "DepthToSpace": _depth_to_space,
    "Expand": _expand,
    "EyeLike": _eye_like,
    "Flatten": _flatten,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "OneHot": _one_hot,
    "Pad": _pad,
    "Range": _range,
    "Reshape": _reshape,
    "Shape": _shape,
    "Size": lambda node, x: np.asarray(np.size(x) if static(x) else x.size, np.int64),
    "Slice": _slice,
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "Squeeze": _squeeze,
    "Tile": _tile,
    "Transpose": _transpose,
    "Trilu": _triangle,
    "Unsqueeze": _unsqueeze,
}
