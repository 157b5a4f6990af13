"""The attacks of this library as contestants of a race, by name, with the numbers that they run at.

Those of the paper need more steps than a race has: theirs are larger than its own, and c begins where it matters. Their
numbers are from a few that were tried on eight digits, at 300 and 1,000 propagations, and not tuned beyond that.
"""

from collections.abc import Callable
from typing import Any

import optax

import cwjax as cw
from cwjax import carlini
from cwjax.attacks.alma import alma
from cwjax.attacks.apgd import apgd, apgd_targeted
from cwjax.attacks.ddn import ddn
from cwjax.attacks.deepfool import deepfool
from cwjax.attacks.ead import ead
from cwjax.attacks.fgsm import fgsm
from cwjax.attacks.fmn import fmn
from cwjax.attacks.jsma import jsma_f, jsma_z
from cwjax.attacks.mifgsm import mifgsm
from cwjax.attacks.pdpgd import pdgd, pdpgd
from cwjax.attacks.pgd import bim, pgd
from cwjax.attacks.sigma_zero import sigma_zero
from cwjax.base import Attack
from cwjax.lab.contestants import DISTANCES, Contestant, Make, ours
from cwjax.minimising import minimised

_ROUNDS = 9  # of the paper's search over c, that the steps are shared among
_RADII = 10  # of the search for the smallest radius, likewise
_RADIUS = {"l1": 10.0, "l2": 1.0, "linf": 0.1}  # the first of these; the next is the double or the half
_ALL = ("l0", "l1", "l2", "linf")


def _plain(function: Callable[..., Attack], *norms: str, **settings: Any) -> Contestant:
    """An attack that takes one gradient a step; a setting that depends on the norm is a function of it."""
    return ours(_made(function, settings), *norms, source=function.__module__)


def _made(function: Callable[..., Attack], settings: dict[str, Any]) -> Make:
    def make(norm: str, steps: int, classes: int) -> Attack:
        given = {key: value(norm) if callable(value) else value for key, value in settings.items()}
        return function(steps=steps, **given)

    return make


def _minimal(function: Callable[..., Attack], *norms: str, points: int | None = None) -> Contestant:
    """An attack of fixed radius with its radius searched for, the steps being shared among the radii.

    Args:
      function: makes it.
      norms: that it can make small.
      points: that it asks about; by default as many as it is told.
    """

    def make(norm: str, steps: int, classes: int) -> Attack:
        rounds = max(min(_RADII, steps // (points or 2)), 1)
        own = {} if points else {"steps": steps // rounds}
        return minimised(function(epsilon=_RADIUS[norm], norm=norm, **own), steps=rounds)

    return ours(make, *norms, source=function.__module__)


def _apgd_targeted(norm: str, steps: int, classes: int) -> Attack:
    """The steps shared among the radii, and at each of them among the other classes."""
    rounds = max(min(_RADII, steps // (2 * (classes - 1))), 1)
    each = max(steps // (rounds * (classes - 1)), 1)
    return minimised(apgd_targeted(num_classes=classes, epsilon=_RADIUS[norm], norm=norm, steps=each), steps=rounds)


def _weighed(preset: Callable[..., Attack], norm: str) -> Contestant:
    """The paper's L2 attack, and the L1 attack like it."""

    def make(norm: str, steps: int, classes: int) -> Attack:
        search = cw.binary_search(min(_ROUNDS, steps), initial_c=1.0)
        return preset(steps=max(steps // _ROUNDS, 1), search=search, optimizer=optax.adam(0.1))

    return ours(make, norm, source=carlini.__name__)


def _linf(norm: str, steps: int, classes: int) -> Attack:
    """The paper's: a tenth of the steps at every weight c, of which there are five."""
    return cw.linf(steps=max(steps // 10, 1), search=cw.shrink_tau(initial_c=1.0), optimizer=optax.adam(5e-2))


def _l0(norm: str, steps: int, classes: int) -> Attack:
    """The paper's, with every element a pixel of its own: a twentieth of the steps at every weight c."""
    search = cw.shrink_mask(initial_c=1.0, per_pixel=False)
    return cw.l0(steps=max(steps // 20, 1), search=search, optimizer=optax.adam(0.1), distance=DISTANCES["l0"])


def _elastic(norm: str, steps: int, classes: int) -> Attack:
    """EAD by its L1 rule, its steps shared among the rounds of its search over c as in `_weighed`."""
    search = cw.binary_search(min(_ROUNDS, steps), initial_c=0.1)
    return ead(decision="l1", steps=max(steps // _ROUNDS, 1), search=search)


def _norm(norm: str) -> str:
    return norm


def _first_step(norm: str) -> float:
    """Of FMN: ten times its own in L-infinity, as AttackBench has it."""
    return 10.0 if norm == "linf" else 1.0


def _last_step(norm: str) -> float:
    return _first_step(norm) / 100


OURS: dict[str, Contestant] = {
    "fast_l2": _plain(cw.fast_l2, "l2"),
    "alternating_l2": _plain(cw.alternating_l2, "l2"),
    "fast_linf": _plain(cw.fast_linf, "linf"),
    "fast_l0": _plain(cw.fast_l0, "l0"),
    "fast_l1": _plain(cw.fast_l1, "l1"),
    "cw_l2": _weighed(cw.l2, "l2"),
    "cw_l1": _weighed(cw.l1, "l1"),
    "cw_linf": ours(_linf, "linf", source=carlini.__name__),
    "cw_l0": ours(_l0, "l0", source=carlini.__name__),
    "ddn": _plain(ddn, "l2"),
    "fmn": _plain(fmn, *_ALL, norm=_norm, distance=DISTANCES.__getitem__, first_step=_first_step, last_step=_last_step),
    "alma": _plain(alma, "l1", "l2", norm=_norm, first_distance={"l1": 0.5, "l2": 0.1}.__getitem__),  # its paper's
    "alma_fixed_rate": _plain(alma, "l1", "l2", norm=_norm),
    "pdgd": _plain(pdgd, "l2"),
    "pdpgd": _plain(pdpgd, *_ALL, norm=_norm, distance=DISTANCES.__getitem__),
    "sigma_zero": _plain(sigma_zero, "l0"),
    "ead": ours(_elastic, "l1", source=ead.__module__),
    "deepfool": ours(
        _made(deepfool, {"norm": _norm}),
        "l2",
        "linf",
        cost=lambda classes: min(classes, 10),  # one pass there, and one back for each other class
        source=deepfool.__module__,
    ),
    "jsma_z": ours(
        _made(jsma_z, {"distance": DISTANCES["l0"]}), "l0", cost=lambda classes: 3, source=jsma_z.__module__
    ),
    "jsma_f": _plain(jsma_f, "l0", distance=DISTANCES.__getitem__),
    "fgsm": _minimal(fgsm, "l1", "l2", "linf", points=2),
    "bim": _minimal(bim, "l1", "l2", "linf"),
    "pgd": _minimal(pgd, "l1", "l2", "linf"),
    "mifgsm": _minimal(mifgsm, "l1", "l2", "linf"),
    "apgd": _minimal(apgd, "l2", "linf"),
    "apgd_targeted": ours(_apgd_targeted, "l2", "linf", kinds=("untargeted",), source=apgd_targeted.__module__),
}
"""By name."""
