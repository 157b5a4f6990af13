"""A model of another library as a PyTorch module of images in [0, 1], which `torch_attack` takes."""

# pyright: reportMissingImports=false
from collections.abc import Callable

import torch

from cwjax.adapters.pytorch.torch_attack import TorchAttack


class Boxed(torch.nn.Module):
    """The function of inputs in [low, high], as a module of inputs in [0, 1].

    Args:
      function: inputs [B, *S] in its own box -> logits [B, K], both tensors; it has a gradient.
      low: the lower end of its box.
      high: the upper end.
      like: a tensor of the device and the dtype that it takes.
    """

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor], low: float, high: float, like: torch.Tensor):
        super().__init__()
        self.function, self.low, self.high = function, float(low), float(high)
        self.kind = (like.device, like.dtype)
        self.register_buffer("place", torch.zeros((), device=like.device, dtype=like.dtype))
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits [B, K] of inputs in [0, 1]."""
        return self.function(self._outer(x))

    def attacked(self, attack: TorchAttack, x: torch.Tensor, classes: torch.Tensor, *, targeted: bool) -> torch.Tensor:
        """What the attack makes of inputs x of the function. Elements that it leaves alone are those of x, bit by bit.

        Raises:
          ValueError: inputs outside the box.
        """
        low, high = float(x.min()), float(x.max())
        if not self.low <= low <= high <= self.high:
            raise ValueError(
                f"inputs must be within the model's own bounds [{self.low:g}, {self.high:g}], got values from {low:g} "
                f"to {high:g}"
            )
        inside = ((x - self.low) / (self.high - self.low)).clamp(0, 1)
        found = attack(self, inside, classes, targeted=targeted)
        return torch.where(found == inside, x, self._outer(found))

    def _outer(self, x: torch.Tensor) -> torch.Tensor:
        """Inputs in [0, 1] as the function takes them."""
        return (x * (self.high - self.low) + self.low).clamp(self.low, self.high)
