"""Rows of the laws' table for FGSM, PGD, MI-FGSM, JSMA, DeepFool, EAD, and how a fixed radius is minimised.

In half precision DeepFool stalls where the last bit of its way rounds to nothing, hence its share of fooled examples.
FGSM, DeepFool and JSMA end after very few steps of their own, so they stand here inside what runs them several times.
"""

from typing import Any

import jax.numpy as jnp

import cwjax as cw
from cwjax.attacks.deepfool import class_differences, deepfool
from cwjax.attacks.ead import ead
from cwjax.attacks.fgsm import fgsm
from cwjax.attacks.jsma import jsma_f, jsma_z, label_and_other_logits, label_probability
from cwjax.attacks.mifgsm import mifgsm
from cwjax.attacks.pgd import pgd
from cwjax.parts.losses import label_cross_entropy
from cwjax.search.radius import minimised
from tests import problems

_MODEL = cw.bind(problems.mlp, problems.mlp_params())
_LEAVE = cw.untargeted(_MODEL.apply(_MODEL.params, jnp.asarray(problems.inputs(12))).argmax(-1))


def _fixed(attack, norm) -> dict[str, Any]:
    """An attack of a fixed radius, by default a wide one, from the clean input."""
    epsilon = {"l1": 4.0, "l2": 1.5, "linf": 0.6}[norm]

    def make(confidence=0.0, **numbers):
        objective = label_cross_entropy(confidence)
        return attack(norm=norm, objective=objective, random_start=False, **(given | numbers))

    given = {"epsilon": epsilon, "relative_step": 0.15, "steps": 20}
    return {"make": make, "norm": norm, "numbers": given, "others": {"steps": 6}, "lengths": ("epsilon",)}


def _radius(attack, norm, fooled=0.6, **fixed) -> dict[str, Any]:
    """The same, its radius searched for from a small one."""
    given = {"epsilon": {"l1": 1.0, "l2": 0.3, "linf": 0.1}[norm]} | fixed

    def make(confidence=0.0, rounds=6, **numbers):
        inner = attack(norm=norm, objective=label_cross_entropy(confidence), **(given | numbers))
        return minimised(inner, steps=rounds)

    numbers = {"rounds": 6} | given
    row = {"make": make, "norm": norm, "numbers": numbers, "others": {"rounds": 3}}
    return row | {"fooled": fooled, "lengths": ("epsilon",)}


def _deepfool(norm, around, **more) -> dict[str, Any]:
    own = {name: more.pop(name) for name in ("radius",) if name in more}

    def make(confidence=0.0, **numbers):
        given = {name: numbers.pop(name, value) for name, value in own.items()}
        inner = deepfool(norm=norm, objective=class_differences(confidence), **({"steps": 20} | numbers))
        return around(inner, **given)

    numbers = {"steps": 20, "overshoot": 0.02} | own
    row = {"make": make, "norm": norm, "numbers": numbers, "others": {"steps": 2}, "lengths": tuple(own)}
    return row | more


def _jsma(attack, objective, **more) -> dict[str, Any]:
    def make(confidence=0.0, **numbers):
        inner = attack(objective=objective(confidence), **({"steps": 20} | numbers))
        return cw.best_target(inner, problems.CLASSES)

    numbers = {"steps": 20, "theta": 1.0, "gamma": 1.0}
    return {"make": make, "norm": "l0", "numbers": numbers, "others": {"steps": 2}, "goal": _LEAVE} | more


def _ead() -> dict[str, Any]:
    def make(confidence=0.0, rounds=4, initial_c=0.3, **numbers):
        return ead(
            decision="l1",
            objective=cw.objectives.logit_margin(confidence),
            search=cw.search.binary_search(rounds, initial_c=initial_c),
            **({"learning_rate": 2e-2, "steps": 40} | numbers),
        )

    numbers = {"rounds": 4, "initial_c": 0.3, "steps": 40, "learning_rate": 2e-2, "beta": 1e-3}
    others = {"steps": 6, "rounds": 2}
    return {"make": make, "norm": "l1", "numbers": numbers, "others": others, "lengths": ("beta",)}


def _best_target(attack):
    return cw.best_target(attack, problems.CLASSES)


RIVALS: dict[str, dict[str, Any]] = {
    "fgsm, minimised": _radius(fgsm, "linf", fooled=0.5),
    "pgd": _fixed(pgd, "linf"),
    "pgd l2": _fixed(pgd, "l2"),
    "pgd l1": _fixed(pgd, "l1"),
    "pgd, minimised": _radius(pgd, "linf", steps=12, relative_step=0.2),
    "mifgsm, minimised": _radius(mifgsm, "linf"),
    "deepfool, best target": _deepfool("l2", _best_target, goal=_LEAVE, fooled=0.4),
    "deepfool, restarted": _deepfool("linf", lambda attack, radius: cw.restarted(attack, 3, radius), radius=0.3),
    "jsma-z": _jsma(jsma_z, label_and_other_logits, fooled=0.2),
    "jsma-f": _jsma(jsma_f, label_probability, fooled=0.4),
    "ead": _ead(),
}
