"""`foolbox_attack`: an attack of cwjax as one of foolbox."""

# pyright: reportMissingImports=false
from __future__ import annotations  # so that the site reads them without the framework

from typing import Any

import eagerpy
import torch
from foolbox.attacks.base import MinimizationAttack, get_criterion, raise_if_kwargs
from foolbox.criteria import Misclassification, TargetedMisclassification
from foolbox.distances import l0, l1, l2, linf

from cwjax.adapters.checking import kind_of
from cwjax.adapters.pytorch.boxed import Boxed
from cwjax.adapters.pytorch.torch_attack import torch_attack
from cwjax.base import Attack, Result

_DISTANCES = {"l0": l0, "l1": l1, "l2": l2, "linf": linf}


def foolbox_attack(attack: Attack, *, batch: int | None = None, seed: int = 0) -> FoolboxAttack:
    """The attack as one of foolbox's minimisation attacks: `attack(model, inputs, criterion, epsilons=…)`.

    Foolbox's model is asked at every step, with its bounds and its preprocessing. Foolbox itself says what succeeded.

    Args:
      attack: a `cwjax.Attack`.
      batch: how many examples are attacked at once; None: all. Each number of examples compiles a program.
      seed: of the attack's random draws. `repeat` draws the same again: make attacks of other seeds instead.

    Returns:
      A `foolbox.attacks.base.MinimizationAttack`. Its distance is the attack's norm. Foolbox counts elements in L0,
      where cwjax counts the pixels of a colour image unless the attack was made to count elements.

    Raises:
      TypeError: no attack.
      ValueError: an attack in a norm that foolbox does not have.

    Example:
      >>> import foolbox, torch
      >>> net = foolbox.PyTorchModel(torch.nn.Identity().eval(), bounds=(0, 1))
      >>> attack = cw.adapters.foolbox_attack(cw.attacks.ddn(steps=20))
      >>> raw, clipped, success = attack(net, torch.tensor([[0.6, 0.4, 0.1]]), torch.tensor([0]), epsilons=[1.0])
      >>> success.tolist()
      [[True]]

    References:
      Rauber et al. 2020, Foolbox Native, https://doi.org/10.21105/joss.02607
    """
    return FoolboxAttack(attack, batch, seed)


class FoolboxAttack(MinimizationAttack):
    """An attack of cwjax as foolbox calls one; make it with `foolbox_attack`."""

    def __init__(self, attack: Attack, batch: int | None, seed: int):
        self._attack = torch_attack(attack, how="ask", batch=batch, seed=seed)
        norm = attack.terms.distance.norm
        if norm not in _DISTANCES:
            raise ValueError(f"foolbox has the distances {', '.join(_DISTANCES)}, and the attack measures {norm!r}")
        self._distance = _DISTANCES[norm]
        self._asked: tuple[Any, Boxed] | None = None

    @property
    def distance(self) -> Any:
        """Foolbox's distance in the attack's norm."""
        return self._distance

    @property
    def result(self) -> Result:
        """The `cwjax.Result` of the last call, as NumPy arrays; inputs and distances are those of the box [0, 1].

        Raises:
          RuntimeError: there was no call.
        """
        return self._attack.result

    def run(self, model: Any, inputs: Any, criterion: Any, *, early_stop: float | None = None, **kwargs: Any) -> Any:
        """The adversarial inputs; where the attack failed, the clean one.

        Args:
          model: a `foolbox.PyTorchModel`, or another model of foolbox that takes PyTorch tensors.
          inputs: tensors within the model's bounds.
          criterion: `Misclassification`, `TargetedMisclassification`, or the labels.
          early_stop: not read: the attack goes on to the smallest change that it finds.
          kwargs: none are taken.

        Raises:
          TypeError: another criterion, or inputs that are no PyTorch tensors.
          ValueError: inputs outside the bounds.
        """
        raise_if_kwargs(kwargs)
        given, restore = eagerpy.astensor_(inputs)
        x, criterion = given.raw, get_criterion(criterion)
        targeted = isinstance(criterion, TargetedMisclassification)
        if not targeted and not isinstance(criterion, Misclassification):
            raise TypeError(
                f"the criterion must be Misclassification or TargetedMisclassification, got {kind_of(criterion)}"
            )
        if not isinstance(x, torch.Tensor):
            raise TypeError(
                f"foolbox_attack takes models and inputs of PyTorch, got {kind_of(x)}: give a function of JAX to "
                "cwjax.bind, and a TensorFlow model to cwjax.adapters.from_keras or from_onnx"
            )
        classes = (criterion.target_classes if targeted else criterion.labels).raw
        found = self._boxed(model, x).attacked(self._attack, x.detach(), classes, targeted=targeted)
        return restore(eagerpy.astensor(found))

    def _boxed(self, model: Any, x: torch.Tensor) -> Boxed:
        kind = (x.device, x.dtype)
        if self._asked is None or self._asked[0] is not model or self._asked[1].kind != kind:
            self._asked = model, Boxed(model, model.bounds[0], model.bounds[1], x)
        return self._asked[1]
