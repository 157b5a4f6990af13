"""Rows of the laws' table for DDN, FMN, sigma-zero, APGD, PDGD, PDPGD, ALMA, SuperDeepFool, Trust Region, VFGA and
Boundary Projection, Brendel & Bethge, PMA and Sparse-PGD.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax.numpy as jnp

import cwjax as cw
from cwjax.attacks.alma import alma
from cwjax.attacks.apgd import apgd, apgd_targeted
from cwjax.attacks.boundary_projection import boundary_projection
from cwjax.attacks.brendel_bethge import brendel_bethge
from cwjax.attacks.ddn import ddn
from cwjax.attacks.deepfool import class_differences
from cwjax.attacks.fmn import fmn
from cwjax.attacks.jsma import label_probability
from cwjax.attacks.pdpgd import pdgd, pdpgd
from cwjax.attacks.pma import pma
from cwjax.attacks.sigma_zero import sigma_zero
from cwjax.attacks.sparse_pgd import sparse_pgd
from cwjax.attacks.superdeepfool import superdeepfool
from cwjax.attacks.trust_region import trust_region
from cwjax.attacks.vfga import fga, vfga
from cwjax.parts.losses import label_cross_entropy, logits_ratio, negative_margin
from cwjax.search.radius import minimised
from tests import problems

_MODEL = cw.bind(problems.mlp, problems.mlp_params())
_LEAVE = cw.untargeted(_MODEL.apply(_MODEL.params, jnp.asarray(problems.inputs(12))).argmax(-1))


def _row(attack: Callable[..., cw.Attack], objective, norm: str, numbers: dict[str, Any], **more) -> dict[str, Any]:
    def make(confidence=0.0, **others):
        return attack(objective=objective(confidence), **(numbers | others))

    lengths = ("epsilon",) if "epsilon" in numbers else ()
    return {"make": make, "norm": norm, "numbers": numbers, "others": {"steps": 6}, "lengths": lengths} | more


def _several(attack, objective, numbers, norms, **more) -> dict[str, Any]:
    """A row for each norm that the attack takes."""
    rows = {norm: _row(partial(attack, norm=norm), objective, norm, numbers, **more) for norm in norms}
    return {f"{attack.__name__}, {norm}": row for norm, row in rows.items()}


def _confident(attack) -> Callable[..., cw.Attack]:
    """An attack that is told a confidence, and no objective."""
    return lambda objective, **numbers: attack(confidence=objective, **numbers)


def _least_radius(rounds, **settings) -> cw.Attack:
    return minimised(apgd(norm="l2", **settings), steps=rounds)


_PRIMAL_DUAL = {
    "steps": 40,
    "primal_rate": 0.1,
    "primal_decay": 0.01,
    "dual_rate": 0.1,
    "dual_decay": 0.1,
    "first_ratio": 0.01,
    "least_ratio": 1e-6,
    "averaging": 0.9,
}
_DDN = {"steps": 40, "initial_norm": 1.0, "gamma": 0.05, "first_step": 1.0, "last_step": 0.01}
_FMN = {"steps": 40, "first_step": 1.0, "last_step": 0.01, "first_gamma": 0.05, "last_gamma": 0.001}
_ALMA = {"steps": 40, "mu": 1.0, "rho": 1.0, "every": 10, "tau": 0.95, "gamma": 1.2, "alpha": 0.9, "last_rate": 0.01}
_PROJECTION = {"steps": 40, "first_step": 0.5, "least_step": 0.01, "first_gamma": 0.7, "last_gamma": 1.0}
_SHORT = {"first_step": 0.15}  # so that a region of NaN, in one of the laws, is not jumped over

RIVALS: dict[str, dict[str, Any]] = {
    "ddn": _row(ddn, label_cross_entropy, "l2", _DDN),
    "ddn, 64 levels": _row(ddn, label_cross_entropy, "l2", _DDN | {"levels": 64}),
    **_several(fmn, negative_margin, _FMN | _SHORT, ("l0",)),
    # A sphere cut by a box this small has corners from which the loss falls no further.
    **_several(fmn, negative_margin, _FMN, ("l1", "l2"), fooled=0.4),
    **_several(fmn, negative_margin, _FMN, ("linf",)),
    "sigma_zero": _row(
        sigma_zero, cw.objectives.logit_margin, "l0", {"steps": 40, "sigma": 1e-3, "threshold": 0.05} | _SHORT
    ),
    **_several(apgd, label_cross_entropy, {"steps": 30, "rho": 0.75, "epsilon": 0.19}, ("linf",), fooled=0.2),
    "apgd_targeted": _row(
        partial(apgd_targeted, num_classes=problems.CLASSES),
        logits_ratio,
        "linf",
        {"steps": 15, "epsilon": 0.19},
        goal=_LEAVE,
        fooled=0.4,
    ),
    "apgd, l2, minimised": _row(_least_radius, label_cross_entropy, "l2", {"steps": 20, "rounds": 6, "epsilon": 0.15}),
    "superdeepfool": _row(
        superdeepfool, class_differences, "l2", {"steps": 40, "overshoot": 0.02}, others={"steps": 3}
    ),
    **_several(trust_region, negative_margin, {"steps": 80, "radius": 0.01}, ("l2", "linf")),
    "boundary_projection": _row(boundary_projection, label_cross_entropy, "l2", _PROJECTION),
    **_several(brendel_bethge, negative_margin, {"steps": 40, "radius": 0.02}, ("l1", "l2", "linf")),
    "vfga": _row(vfga, label_probability, "l0", {"steps": 12}, others={"steps": 2}, first=21),
    "fga": _row(fga, label_probability, "l0", {"steps": 12}, others={"steps": 2}, first=11, fooled=0.1),
    "pma": _row(_confident(pma), lambda confidence: confidence, "linf", {"steps": 40, "epsilon": 0.3}, fooled=0.4),
    "sparse_pgd": _row(
        sparse_pgd, label_cross_entropy, "l0", {"steps": 40, "epsilon": 3, "relative_step": 0.25}, lengths=()
    ),
    "pdgd": _row(pdgd, negative_margin, "l2", _PRIMAL_DUAL),
    **_several(pdpgd, negative_margin, _PRIMAL_DUAL, ("l0", "l1", "l2", "linf")),
    **_several(alma, logits_ratio, _ALMA | {"first_rate": 0.02}, ("l1", "l2")),
}
