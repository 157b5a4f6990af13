"""A model of ours as a PyTorch module, for other libraries to attack: the same weights, by the same program.

The module counts the images that pass through it, each way, and holds whoever calls it to a budget; and it remembers
the nearest adversarial example that it was ever asked about, which is not always the one that comes back.
"""

# pyright: reportMissingImports=false, reportPrivateImportUsage=false
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

import cwjax as cw
from cwjax.canonical import canonical
from cwjax.confidence import handicapped
from cwjax.lab.contestants import Task
from cwjax.objectives import margin

ORDERS = {"l0": 0, "l1": 1, "l2": 2, "linf": np.inf}  # as numpy and torch name the norms


class Bridge(torch.nn.Module):
    """Takes images [N, C, H, W], or of any shape without channels, and returns logits [N, K].

    Which example an image belongs to: of as many images as there are examples each stands in its own place; of fewer,
    the example that is nearest.

    An example that has spent its budget is answered as AttackBench does it: with its label alone, or any class but
    its target, and with a slope of zero. No such answer counts as anything.
    """

    def __init__(self, task: Task, device: str = "cpu"):
        super().__init__()
        self.task, self.device, count = task, device, len(task.x)
        self.forwards, self.backwards, self.refused = np.zeros((3, count), np.int64)
        self.queried = np.full(count, np.inf)  # the distance of the nearest query that met the goal
        self.images = self.out(task.x)  # the clean ones
        self.place = torch.nn.Parameter(torch.zeros(0, device=device))  # what libraries ask for the device
        self._model = cw.in_precision(task.model, "highest")
        self._goals = jax.tree.map(np.asarray, task.goal())
        self._flat = torch.from_numpy(task.x.reshape(count, -1))

    def out(self, x: Any) -> torch.Tensor:
        """Images as PyTorch has them: channels first."""
        return _channels(torch.from_numpy(np.array(x, np.float32)), -1, 1).contiguous().to(self.device)

    def back(self, x: torch.Tensor) -> np.ndarray:
        """The inverse of `out`."""
        return np.ascontiguousarray(_channels(x.detach(), 1, -1).cpu().numpy())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits [N, K]."""
        return _Through.apply(x, self)

    def answer(self, x: torch.Tensor, *, slope: bool) -> tuple[torch.Tensor, Callable[[torch.Tensor], torch.Tensor]]:
        """The logits; and, if asked for, the function that takes a slope in them back to the images."""
        images = self.back(x)
        owner = self._owner(images)
        paid, count, pull = self._pay(self.forwards, owner), len(images), None
        logits = np.zeros((count, self.task.classes), np.float32)
        if paid.any():
            goals = jax.tree.map(lambda field: field[_padded(owner)], self._goals)
            asked = self._model, jnp.asarray(_padded(images)), goals, self.task.confidence
            told, pull = _begin(*asked) if slope else (_logits(*asked), None)
            logits = np.array(told)[:count]
            distance = self._distances(images, np.asarray(_leads(told, goals))[:count], owner)
            np.minimum.at(self.queried, owner[paid], distance[paid])
        silent = np.where(self.task.target < 0, self.task.label, (self.task.target + 1) % self.task.classes)[owner]
        logits[~paid] = np.eye(self.task.classes, dtype=np.float32)[silent[~paid]]

        def back(up: torch.Tensor) -> torch.Tensor:
            due = self._pay(self.backwards, owner) & paid
            slopes = np.zeros(images.shape, np.float32)
            if due.any():
                slopes = np.array(_end(pull, jnp.asarray(_padded(up.detach().cpu().numpy())))[:count])
            slopes[~due] = 0.0
            return self.out(slopes)

        return torch.from_numpy(logits).to(x.device), back

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

    def _owner(self, images: np.ndarray) -> np.ndarray:
        if len(images) == len(self.task.x):
            return np.arange(len(images))
        return torch.cdist(torch.from_numpy(images.reshape(len(images), -1)), self._flat).argmin(1).numpy()

    def _distances(self, images: np.ndarray, lead: np.ndarray, owner: np.ndarray) -> np.ndarray:
        """How far each image is from the example that it belongs to; inf where it does not meet the goal."""
        delta = (images - self.task.x[owner]).reshape(len(owner), -1).astype(np.float64)
        size = np.linalg.norm(delta, ord=ORDERS[self.task.norm], axis=1)
        return np.where(lead > 0, size, np.inf)


class _Through(torch.autograd.Function):
    """Forward by the model, backward by its vector-Jacobian product."""

    @staticmethod
    def forward(ctx, x, bridge):  # pyright: ignore[reportIncompatibleMethodOverride]
        logits, ctx.pull = bridge.answer(x, slope=ctx.needs_input_grad[0])
        return logits

    @staticmethod
    def backward(ctx, up):  # pyright: ignore[reportIncompatibleMethodOverride]
        return ctx.pull(up), None


def _told(model, x, goals, confidence):
    return handicapped(model.apply(model.params, x), goals, confidence)


_logits = jax.jit(_told)
_begin = jax.jit(lambda model, x, *more: jax.vjp(lambda x: _told(model, x, *more), x))  # -> logits, and what goes back
_leads = jax.jit(jax.vmap(margin))
_end = jax.jit(canonical(lambda pull, up: pull(up)[0]))


def _padded(rows: np.ndarray) -> np.ndarray:
    """The rows, and the first one again until they are a power of two: so programs are few."""
    whole = 1 << (len(rows) - 1).bit_length()
    return np.concatenate([rows, np.repeat(rows[:1], whole - len(rows), 0)])


def _channels(x: torch.Tensor, here: int, there: int) -> torch.Tensor:
    """Images with their channels moved; those that have none are left alone."""
    return x.movedim(here, there) if x.ndim == 4 else x
