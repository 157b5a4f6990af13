"""`torch_attack`: an attack of cwjax as a function of PyTorch tensors, the way back."""

# pyright: reportMissingImports=false
from __future__ import annotations  # so that the site reads them without the framework

from typing import Any

import jax
import numpy as np
import torch

from cwjax.adapters.pytorch.asked import state_of
from cwjax.adapters.pytorch.modules import How, from_torch
from cwjax.arguments import check_count, check_part
from cwjax.base import Attack, Result
from cwjax.goals import targeted as reaching
from cwjax.goals import untargeted as leaving
from cwjax.models import Model
from cwjax.runners.batch import batched, chunked


def torch_attack(attack: Attack, *, how: How = "auto", batch: int | None = None, seed: int = 0) -> TorchAttack:
    """The attack as PyTorch code calls one: `adversarial = attack(model, inputs, labels)`, as in adv-lib and
    AttackBench.

    Args:
      attack: a `cwjax.Attack`.
      how: how the model becomes one of cwjax, see `from_torch`. A module that counts its calls, or answers otherwise as
        they grow (AttackBench's does), has to be asked: `how="ask"`.
      batch: how many examples are attacked at once; None: all. Each number of examples compiles a program.
      seed: of the attack's random draws.

    Returns:
      A function `(model, inputs, labels, targets=None, targeted=False) -> adversarial inputs`, see `TorchAttack`.

    Example:
      >>> import torch
      >>> net = torch.nn.Identity().eval()  # its logits are its inputs
      >>> attack = cw.adapters.torch_attack(cw.attacks.ddn(steps=20), how="ask")
      >>> adversarial = attack(net, torch.tensor([[0.6, 0.4, 0.1]]), torch.tensor([0]))
      >>> net(adversarial).argmax(1).tolist(), attack.result.success.tolist()
      ([1], [True])
    """
    check_part("attack", attack, Attack)
    if batch is not None:
        check_count("batch", batch)
    return TorchAttack(attack, how, batch, seed)


class TorchAttack:
    """An attack as a function of PyTorch tensors; make it with `torch_attack`.

    The last model is kept as it was made, for as long as it and its weights stay the same.
    """

    def __init__(self, attack: Attack, how: How, batch: int | None, seed: int):
        runner = batched(attack) if batch is None else chunked(batched(attack), batch)
        self._run, self._seed = jax.jit(runner), seed
        self._how: How = how
        self._made: tuple[Any, Model] | None = None
        self._result: Result | None = None

    @property
    def result(self) -> Result:
        """The `cwjax.Result` of the last call, as NumPy arrays: images channels last, success, distance and passes.

        Raises:
          RuntimeError: there was no call.
        """
        if self._result is None:
            raise RuntimeError("there is no result yet: call the attack first")
        return self._result

    def __call__(
        self,
        model: torch.nn.Module,
        inputs: torch.Tensor,
        labels: torch.Tensor,
        targets: torch.Tensor | None = None,
        targeted: bool = False,
    ) -> torch.Tensor:
        """The adversarial inputs; where the attack failed, the clean one.

        Args:
          model: in evaluation mode, from inputs to logits. Its normalisation is part of it.
          inputs: floating-point [B, C, H, W], or [B, F], in [0, 1].
          labels: [B], the classes to leave; with `targeted` and without `targets`, the classes to reach.
          targets: [B], the classes to reach. Only read with `targeted`.
          targeted: whether to reach a class.

        Returns:
          Tensors of the inputs' shape, on their device and in their dtype.

        Raises:
          TypeError, ValueError: arguments that are not that.
          NotConvertible: see `from_torch`.
        """
        if isinstance(targets, bool):
            raise TypeError(f"targets must be a tensor of classes, got {targets}: say targeted={targets} by its name")
        for name, value in (("inputs", inputs), ("labels", labels)):
            if not isinstance(value, torch.Tensor):
                raise TypeError(f"{name} must be a torch.Tensor, got {type(value).__name__}")
        if not inputs.is_floating_point() or not 0 <= float(inputs.min()) <= float(inputs.max()) <= 1:
            raise ValueError(
                "inputs must be floating-point in [0, 1]: divide 8-bit images by 255, and put the normalisation into "
                "the model"
            )
        images = inputs.ndim == 4
        x = inputs.detach().float().cpu().numpy()
        x = np.ascontiguousarray(x.transpose(0, 2, 3, 1)) if images else x.copy()
        goal = reaching(_numbers(labels if targets is None else targets)) if targeted else leaving(_numbers(labels))
        keys = jax.random.split(jax.random.key(self._seed), len(x))
        result = self._run(self._model(model, tuple(inputs.shape[1:]), images), keys, x, goal)
        self._result = jax.tree.map(np.array, result)
        found = np.asarray(result.x).transpose(0, 3, 1, 2) if images else np.asarray(result.x)
        return torch.from_numpy(np.array(found, order="C")).to(inputs)  # a copy: whoever calls may write to it

    def _model(self, module: torch.nn.Module, shape: tuple[int, ...], images: bool) -> Model:
        wanted = (module, shape, state_of(module)) if isinstance(module, torch.nn.Module) else (module, shape, 0)
        if self._made is None or self._made[0][1:] != wanted[1:] or self._made[0][0] is not module:
            self._made = wanted, from_torch(module, shape, how=self._how, layout="NCHW" if images else None)
        return self._made[1]


def _numbers(labels: torch.Tensor) -> np.ndarray:
    return labels.detach().cpu().numpy()
