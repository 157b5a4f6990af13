"""A model of ours as a PyTorch module, for other libraries to attack: the same weights, by the same program.

Images, logits and slopes go from one library to the other over DLPack, on whichever device they are. The module counts
the images that pass through it, each way, and holds whoever calls it to a budget; and it remembers the nearest
adversarial example that it was ever asked about, which is not always the one that comes back.
"""

# pyright: reportMissingImports=false, reportPrivateImportUsage=false
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import torch

import cwjax as cw
from cwjax.lab.racing.contestants import RACED, Task
from cwjax.parts.objectives import margin
from cwjax.runners.fast_convolutions import canonical
from cwjax.search.confidence import handicapped


class Bridge(torch.nn.Module):
    """Takes images [N, C, H, W], or of any shape without channels, and returns logits [N, K].

    Which example an image belongs to: of as many images as there are examples each stands in its own place; of fewer,
    the example that is nearest.

    An example that has spent its budget is answered as AttackBench does it: with its label alone, or any class but
    its target, and with a slope of zero. No such answer counts as anything.
    """

    def __init__(self, task: Task):
        super().__init__()
        self.task, count = task, len(task.x)
        self.forwards, self.backwards, self.refused = np.zeros((3, count), np.int64)
        self.queried = np.full(count, np.inf)  # the distance of the nearest query that met the goal
        self.device = "cuda" if jax.default_backend() == "gpu" and torch.cuda.is_available() else "cpu"
        self.images = _channels(torch.from_numpy(task.x), -1, 1).contiguous().to(self.device)  # the clean ones
        self.place = torch.nn.Parameter(torch.zeros(0, device=self.device))  # what libraries ask for the device
        model, goals = cw.in_precision(task.model, "highest"), jax.tree.map(jnp.asarray, task.goal())
        self._asked = model, _to_jax(self.images.clone()), goals, task.confidence

    def back(self, x: torch.Tensor) -> np.ndarray:
        """Images as the task has them: channels last."""
        return np.ascontiguousarray(_channels(x.detach().float(), 1, -1).cpu().numpy())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits [N, K]."""
        return _Through.apply(x, self)

    def answer(self, x: torch.Tensor, *, slope: bool) -> tuple[torch.Tensor, Callable[[torch.Tensor], torch.Tensor]]:
        """The logits; and, if asked for, the function that takes a slope in them back to the images."""
        count, device = len(x), x.device
        owner, order = self._owner(x), _order(len(x))
        paid, pull = self._pay(self.forwards, owner), None
        silent = np.where(self.task.target < 0, self.task.label, (self.task.target + 1) % self.task.classes)[owner]
        logits = torch.nn.functional.one_hot(torch.from_numpy(silent).long(), self.task.classes).float().to(device)
        if paid.any():
            # A tensor that is indexed is a new one, so that nobody writes to what is lent to JAX.
            asked = _to_jax(x.detach().float()[order]), owner[order], *self._asked
            told, distance, pull = (_begin if slope else _look)(*asked, norm=self.task.norm)
            np.minimum.at(self.queried, owner[paid], np.asarray(distance)[:count][paid])
            within = torch.from_numpy(paid)
            logits[within] = _to_torch(told, device)[:count][within]

        def back(up: torch.Tensor) -> torch.Tensor:
            due = self._pay(self.backwards, owner) & paid
            slopes = torch.zeros_like(x, dtype=torch.float32, memory_format=torch.contiguous_format)
            if due.any():
                within = torch.from_numpy(due)
                pulled = _end(pull, _to_jax(up.detach().float()[order]))
                slopes[within] = _to_torch(pulled, device)[:count][within]
            return slopes

        return logits, back

    def _pay(self, passes: np.ndarray, owner: np.ndarray) -> np.ndarray:
        """Which of these images are within the budget of their example; it may have several here."""
        paid = np.zeros(len(owner), bool)
        for place, i in enumerate(owner):
            if self.forwards[i] + self.backwards[i] < self.task.budget:
                passes[i] += 1
                paid[place] = True
            else:
                self.refused[i] += 1
        return paid

    def _owner(self, x: torch.Tensor) -> np.ndarray:
        if len(x) == len(self.images):
            return np.arange(len(x))
        clean = self.images.to(x.device).flatten(1)
        return torch.cdist(x.detach().float().flatten(1), clean).argmin(1).cpu().numpy()


class _Through(torch.autograd.Function):
    """Forward by the model, backward by its vector-Jacobian product."""

    @staticmethod
    def forward(ctx, x, bridge):  # pyright: ignore[reportIncompatibleMethodOverride]
        logits, ctx.pull = bridge.answer(x, slope=ctx.needs_input_grad[0])
        return logits

    @staticmethod
    def backward(ctx, up):  # pyright: ignore[reportIncompatibleMethodOverride]
        return ctx.pull(up), None


def _told(x, asked, norm):
    """The logits; and the distance of each image from its own, inf where it does not meet its goal."""
    owner, model, clean, goals, confidence = asked
    goals = jax.tree.map(lambda field: field[owner], goals)
    images = jnp.moveaxis(x, 1, -1) if x.ndim == 4 else x
    logits = handicapped(model.apply(model.params, images), goals, confidence)
    delta = x - clean[owner]
    size = jax.vmap(RACED[norm].measure)(jnp.moveaxis(delta, 1, -1) if x.ndim == 4 else delta)
    return logits, jnp.where(jax.vmap(margin)(logits, goals) > 0, size, jnp.inf)


@functools.partial(jax.jit, static_argnames="norm")
def _look(x, *asked, norm):
    return *_told(x, asked, norm), None


@functools.partial(jax.jit, static_argnames="norm")
def _begin(x, *asked, norm):
    logits, pull, distance = jax.vjp(lambda x: _told(x, asked, norm), x, has_aux=True)
    return logits, distance, pull


_end = jax.jit(canonical(lambda pull, up: pull(up)[0]))


def _to_jax(x: torch.Tensor) -> jax.Array:
    """The tensor where JAX computes: itself if it is there already, and then nobody may write to it."""
    return jax.device_put(jax.dlpack.from_dlpack(x.contiguous()), jax.devices()[0])


def _to_torch(x: jax.Array, device: torch.device) -> torch.Tensor:
    """The array on a device: itself if it is there already, and then nobody may write to it."""
    there = jax.devices("cpu" if device.type == "cpu" else None)[0]
    return torch.from_dlpack(jax.device_put(x, there)).to(device)


def _order(count: int) -> np.ndarray:
    """The places of so many rows, and the first one again until they are a power of two: so programs are few."""
    places = np.zeros(1 << (count - 1).bit_length(), np.int64)
    places[:count] = np.arange(count)
    return places


def _channels(x: torch.Tensor, here: int, there: int) -> torch.Tensor:
    """Images with their channels moved; those that have none are left alone."""
    return x.movedim(here, there) if x.ndim == 4 else x
