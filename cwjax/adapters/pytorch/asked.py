"""A PyTorch module that is asked itself, at every step, through a callback with a gradient of its own."""

# pyright: reportMissingImports=false
import collections
import functools
import hashlib
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
import torch
from jaxtyping import Array, Float

from cwjax.adapters.inputs import logits_of
from cwjax.base import AnyArray


class _Pass(NamedTuple):
    """A forward pass whose graph waits for its backward pass."""

    x: np.ndarray  # a copy of what was asked
    rows: torch.Tensor
    logits: torch.Tensor


class Asked:
    """`(params, x [B, *S]) -> logits [B, K]`, by a module: the identity of a compiled program, as a function is.

    The gradient goes back through the graph of the forward pass, which is kept until then, so that a step costs one
    pass each way. Devices ask from threads of their own: one at a time is answered, and each finds its own graph by its
    inputs. As many graphs are kept as there are devices.
    """

    def __init__(self, module: torch.nn.Module, shape: tuple[int, ...], classes: int, name: str):
        self.module, self.shape, self.classes, self.name = module, shape, classes, name
        self._parameter = next(_floating(module), torch.zeros(()))
        self._lock = threading.Lock()
        self._kept: collections.deque[_Pass] = collections.deque(maxlen=jax.local_device_count())
        self._seen = state_of(module)

    def __call__(self, params: AnyArray, x: Float[Array, "B *S"]) -> Float[Array, "B K"]:
        return _asked(self, x)

    def logits(self, x: Any, *, keep: bool = False) -> np.ndarray:
        """The logits [..., K] of inputs [..., *S]."""
        with self._lock:
            asked = self._forward(np.asarray(x), keep)
            if keep:
                self._kept.append(asked)
            return self._array(asked.logits).reshape(*asked.x.shape[: -len(self.shape)], -1).astype(asked.x.dtype)

    def slope(self, x: Any, cotangent: Any) -> np.ndarray:
        """The gradient [..., *S] of `sum(cotangent * logits(x))`."""
        x, cotangent = np.asarray(x), np.asarray(cotangent)
        with self._lock:
            asked = next((each for each in self._kept if _same(each.x, x)), None)
            if asked is None:
                asked = self._forward(x, keep=True)
            self._forget(asked)
            up = np.broadcast_to(cotangent, (*x.shape[: -len(self.shape)], self.classes))
            up = torch.from_numpy(up.reshape(asked.logits.shape).astype(np.float32)).to(asked.logits)
            [gradient] = torch.autograd.grad(asked.logits, asked.rows, up)
            return self._array(gradient).reshape(x.shape).astype(x.dtype)

    def _forward(self, x: np.ndarray, keep: bool) -> _Pass:
        if state_of(self.module) != self._seen:
            raise RuntimeError(f"the weights of {self.name} have changed since from_torch: call from_torch again")
        rows = torch.from_numpy(np.array(x.reshape(-1, *self.shape), np.float32)).to(self._parameter)
        with torch.set_grad_enabled(keep):
            logits = logits_of(self.module(rows.requires_grad_(keep)), self.name)
        return _Pass(x.copy(), rows, logits)

    def _forget(self, asked: _Pass) -> None:
        self._kept = collections.deque((each for each in self._kept if each is not asked), self._kept.maxlen)

    @staticmethod
    def _array(tensor: torch.Tensor) -> np.ndarray:
        return tensor.detach().float().cpu().numpy()


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _asked(asked: Asked, x: Array) -> Array:
    return _called(asked.logits, asked, x)


def _called(function: Any, asked: Asked, x: Array) -> Array:
    logits = jax.ShapeDtypeStruct((x.shape[0], asked.classes), x.dtype)
    return jax.pure_callback(function, logits, x, vmap_method="expand_dims")


def _forward(asked: Asked, x: Array) -> tuple[Array, Array]:
    return _called(functools.partial(asked.logits, keep=True), asked, x), x


def _backward(asked: Asked, x: Array, cotangent: Array) -> tuple[Array]:
    slope = jax.ShapeDtypeStruct(x.shape, x.dtype)
    return (jax.pure_callback(asked.slope, slope, x, cotangent, vmap_method="expand_dims"),)


_asked.defvjp(_forward, _backward)


def fingerprint(module: torch.nn.Module) -> np.ndarray:
    """The SHA-256 of the module's state, uint8 [32]: the parameters of a model whose weights are PyTorch's, so that
    whoever names a model by its parameters, as a sweep does, sees another checkpoint as another model.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted({**dict(module.named_parameters()), **dict(module.named_buffers())}.items()):
        told = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {told.dtype} {list(told.shape)}".encode())
        digest.update(told.reshape(-1).view(torch.uint8).numpy().tobytes())
    return np.frombuffer(digest.digest(), np.uint8)


def state_of(module: torch.nn.Module) -> int:
    """A number that changes when somebody writes to the weights: PyTorch counts that itself."""
    return hash(tuple((id(tensor), tensor._version) for tensor in (*module.parameters(), *module.buffers())))


def _floating(module: torch.nn.Module) -> Iterator[torch.Tensor]:
    return (tensor for tensor in (*module.parameters(), *module.buffers()) if tensor.is_floating_point())


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and np.array_equal(a, b)
