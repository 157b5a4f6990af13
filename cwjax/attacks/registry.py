"""Every attack by its name: what makes it, and what it makes small. The command line, races and advice read it here."""

import functools
from collections.abc import Callable
from typing import NamedTuple

from cwjax.attacks.alma import alma
from cwjax.attacks.apgd import apgd, apgd_targeted
from cwjax.attacks.boundary_projection import boundary_projection
from cwjax.attacks.brendel_bethge import brendel_bethge
from cwjax.attacks.carlini import l0, l1, l2, linf
from cwjax.attacks.ddn import ddn
from cwjax.attacks.deepfool import deepfool
from cwjax.attacks.ead import ead
from cwjax.attacks.fast.attacks import fast
from cwjax.attacks.fgsm import fgsm
from cwjax.attacks.fmn import fmn
from cwjax.attacks.jsma import jsma_f, jsma_z
from cwjax.attacks.lbfgs import lbfgs
from cwjax.attacks.mifgsm import mifgsm
from cwjax.attacks.pdpgd import pdgd, pdpgd
from cwjax.attacks.pgd import bim, pgd
from cwjax.attacks.pma import pma
from cwjax.attacks.sigma_zero import sigma_zero
from cwjax.attacks.sparse_pgd import sparse_pgd
from cwjax.attacks.superdeepfool import superdeepfool
from cwjax.attacks.trust_region import trust_region
from cwjax.attacks.vfga import fga, vfga
from cwjax.base import Attack

_ALL = ("l0", "l1", "l2", "linf")


class Entry(NamedTuple):
    """An attack by name."""

    make: Callable[..., Attack]
    norms: tuple[str, ...]  # that it can make small; several: its argument `norm`
    family: str = "rival"  # "paper", "fast" or "rival"
    within: bool = False  # whether it keeps within an epsilon that it is told, the least of which `minimised` finds
    passes: Callable[[int], int] = lambda classes: 2  # (classes) -> forward and backward passes of a step


ATTACKS = {
    "l2": Entry(l2, ("l2",), "paper"),
    "l1": Entry(l1, ("l1",), "paper"),
    "l0": Entry(l0, ("l0",), "paper"),
    "linf": Entry(linf, ("linf",), "paper"),
    "lbfgs": Entry(lbfgs, ("l2",)),
    "fast_l2": Entry(functools.partial(fast, "l2"), ("l2",), "fast"),
    "fast_l1": Entry(functools.partial(fast, "l1"), ("l1",), "fast"),
    "fast_linf": Entry(functools.partial(fast, "linf"), ("linf",), "fast"),
    "fast_l0": Entry(functools.partial(fast, "l0"), ("l0",), "fast"),
    "ddn": Entry(ddn, ("l2",)),
    "fmn": Entry(fmn, _ALL),
    "alma": Entry(alma, ("l1", "l2")),
    "pdgd": Entry(pdgd, ("l2",)),
    "pdpgd": Entry(pdpgd, _ALL),
    "sigma_zero": Entry(sigma_zero, ("l0",)),
    "ead": Entry(ead, ("l1",)),  # with decision="l1"
    "deepfool": Entry(deepfool, ("l2", "linf"), passes=lambda classes: min(classes, 10)),
    "boundary_projection": Entry(boundary_projection, ("l2",)),
    "brendel_bethge": Entry(brendel_bethge, ("l1", "l2", "linf")),
    "superdeepfool": Entry(superdeepfool, ("l2",), passes=lambda classes: min(classes, 10)),
    "trust_region": Entry(trust_region, ("l2", "linf")),
    "jsma_z": Entry(jsma_z, ("l0",), passes=lambda classes: 3),
    "jsma_f": Entry(jsma_f, ("l0",)),
    "vfga": Entry(vfga, ("l0",), passes=lambda classes: 22),
    "fga": Entry(fga, ("l0",), passes=lambda classes: 12),
    "fgsm": Entry(fgsm, ("l1", "l2", "linf"), within=True),
    "bim": Entry(bim, ("l1", "l2", "linf"), within=True),
    "pgd": Entry(pgd, ("l1", "l2", "linf"), within=True),
    "mifgsm": Entry(mifgsm, ("l1", "l2", "linf"), within=True),
    "apgd": Entry(apgd, ("l2", "linf"), within=True),
    "apgd_targeted": Entry(apgd_targeted, ("l2", "linf"), within=True),
    "sparse_pgd": Entry(sparse_pgd, ("l0",), within=True),
    "pma": Entry(pma, ("linf",), within=True),
}
"""By name."""


def fast_attacks(norm: str) -> tuple[str, ...]:
    """The names of the fast family's attacks that make a norm small."""
    return tuple(name for name, entry in ATTACKS.items() if entry.family == "fast" and norm in entry.norms)
