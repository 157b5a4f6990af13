"""`art_attack`: an attack of cwjax as one of the Adversarial Robustness Toolbox."""

# pyright: reportMissingImports=false
from __future__ import annotations  # so that the site reads them without the framework

from typing import Any, ClassVar

import numpy as np
import torch
from art.attacks.attack import EvasionAttack
from art.estimators.classification import PyTorchClassifier
from art.preprocessing.standardisation_mean_std.pytorch import StandardisationMeanStdPyTorch
from art.utils import check_and_transform_label_format

from cwjax.adapters.checking import kind_of
from cwjax.adapters.pytorch.boxed import Boxed
from cwjax.adapters.pytorch.torch_attack import torch_attack
from cwjax.base import Attack, Result


def art_attack(
    attack: Attack, classifier: Any, *, targeted: bool = False, batch: int | None = None, seed: int = 0
) -> ArtAttack:
    """The attack as one of ART's evasion attacks: `adversarial = attack.generate(x, y)`.

    The classifier's module is asked at every step, with its mean and standard deviation. It is put into evaluation
    mode, as ART's own attacks do.

    Args:
      attack: a `cwjax.Attack`.
      classifier: an `art.estimators.classification.PyTorchClassifier` with `clip_values`.
      targeted: whether `y` are the classes to reach.
      batch: how many examples are attacked at once; None: all. Each number of examples compiles a program.
      seed: of the attack's random draws.

    Returns:
      An `art.attacks.attack.EvasionAttack`.

    Raises:
      TypeError: no attack.
      art.exceptions.EstimatorError: another kind of classifier.
      ValueError: a classifier without `clip_values`, with others for each feature, or with a preprocessing besides mean
        and standard deviation.

    Example:
      >>> import torch
      >>> from art.estimators.classification import PyTorchClassifier
      >>> loss = torch.nn.CrossEntropyLoss()
      >>> classifier = PyTorchClassifier(torch.nn.Identity(), loss, (3,), 3, clip_values=(0, 1))
      >>> attack = cw.adapters.art_attack(cw.attacks.ddn(steps=20), classifier)
      >>> adversarial = attack.generate(np.array([[0.6, 0.4, 0.1]], np.float32), np.array([0]))
      >>> int(adversarial.argmax())
      1

    References:
      Nicolae et al. 2018, Adversarial Robustness Toolbox, https://arxiv.org/abs/1807.01069
    """
    return ArtAttack(attack, classifier, targeted, batch, seed)


class ArtAttack(EvasionAttack):
    """An attack of cwjax as ART calls one; make it with `art_attack`."""

    attack_params: ClassVar[list[str]] = [*EvasionAttack.attack_params, "targeted"]
    _estimator_requirements = (PyTorchClassifier,)

    def __init__(self, attack: Attack, classifier: Any, targeted: bool, batch: int | None, seed: int):
        self._attack = torch_attack(attack, how="ask", batch=batch, seed=seed)
        super().__init__(estimator=classifier)
        self.targeted = targeted
        low, high = _bounds_of(classifier)
        self._boxed = Boxed(_logits_of(classifier), low, high, torch.zeros((), device=classifier.device))

    @property
    def result(self) -> Result:
        """The `cwjax.Result` of the last call, as NumPy arrays; inputs and distances are those of the box [0, 1].

        Raises:
          RuntimeError: there was no call.
        """
        return self._attack.result

    def generate(self, x: np.ndarray, y: np.ndarray | None = None, **kwargs: Any) -> np.ndarray:
        """The adversarial inputs; where the attack failed, the clean one.

        Args:
          x: [B, *S] as the classifier takes them, within its clip_values.
          y: classes [B], or one-hot [B, K]: those to leave, or to reach if the attack is targeted. None: leave the
            classes that the classifier answers.
          kwargs: none are taken.

        Returns:
          float32 [B, *S].

        Raises:
          TypeError: more arguments, such as a mask.
          ValueError: a targeted attack without `y`; inputs outside clip_values.
        """
        if kwargs:
            raise TypeError(f"an attack of cwjax takes x and y alone, got {', '.join(kwargs)}")
        if y is None and self.targeted:
            raise ValueError("a targeted attack needs y, the classes to reach")
        told: Any = self.estimator.predict(x) if y is None else y
        classes = torch.from_numpy(check_and_transform_label_format(told, self.estimator.nb_classes).argmax(1))
        inputs = torch.from_numpy(np.array(x, np.float32)).to(self._boxed.kind[0])
        self.estimator.model.eval()
        return self._boxed.attacked(self._attack, inputs, classes, targeted=self.targeted).cpu().numpy()


def _bounds_of(classifier: Any) -> tuple[float, float]:
    if classifier.clip_values is None:
        raise ValueError("the classifier has no clip_values: make it with clip_values=(0, 1), the box of its inputs")
    low, high = (np.unique(end) for end in classifier.clip_values)
    if low.size > 1 or high.size > 1:
        raise ValueError(f"clip_values must be the same for all features, got {classifier.clip_values}")
    return float(low[0]), float(high[0])


def _logits_of(classifier: Any) -> Any:
    """What ART's predict gives, with a gradient."""
    before = [each for each in classifier.preprocessing_operations if each.apply_predict]
    others = [each for each in before if not isinstance(each, StandardisationMeanStdPyTorch)]
    if others or classifier.postprocessing_defences:
        named = kind_of((others or classifier.postprocessing_defences)[0])
        raise ValueError(
            f"the classifier has {named}, and art_attack takes mean and standard deviation alone: make it a part of "
            "the module"
        )

    def logits(x: torch.Tensor) -> torch.Tensor:
        for each in before:
            x, _ = each.forward(x, None)
        return classifier.model(x)

    return logits
