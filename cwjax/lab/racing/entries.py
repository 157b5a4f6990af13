"""The attacks of this library as contestants of a race, by name, with the numbers that they run at.

Those of the paper need more steps than a race has: theirs are larger than its own, and c begins where it matters. Their
numbers are from a few that were tried on eight digits, at 300 and 1,000 propagations, and not tuned beyond that.
"""

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import optax

import cwjax as cw
from cwjax.attacks import carlini
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
from cwjax.lab import functions
from cwjax.lab.racing.contestants import RACED, Contestant, Numbers, numbers_of, ours
from cwjax.search.radius import minimised

_ROUNDS = 9  # of the paper's search over c, that the steps are shared among
_RADII = 10  # of the search for the smallest radius, likewise
_RADIUS = {"l1": 10.0, "l2": 1.0, "linf": 0.1}  # the first of these; the next is the double or the half
_L0 = ("l0", "l0_elements")
_ALL = (*_L0, "l1", "l2", "linf")


def _plain(function: Callable[..., Attack], *norms: str, **settings: Any) -> Contestant:
    """An attack that takes one gradient a step; a setting that depends on the norm is a function of it."""
    return _made(function, norms, settings)


def _made(
    function: Callable[..., Attack],
    norms: tuple[str, ...],
    settings: dict[str, Any],
    cost: Callable[[int], int] = lambda classes: 2,
) -> Contestant:
    """An attack that is told its steps, these settings, and what `Task.settings` has."""

    def own(norm: str) -> dict[str, Any]:
        return {key: value(norm) if callable(value) else value for key, value in settings.items()}

    def make(norm: str, steps: int, classes: int, **told: Any) -> Attack:
        return function(steps=steps, **own(norm) | told)

    return ours(make, *norms, cost=cost, source=function.__module__, numbers=_numbers(function, own))


def _numbers(function: Callable[..., Attack], own: Callable[[str], dict[str, Any]]) -> Callable[[str], Numbers]:
    """The numbers of an attack whose entry has some of its own."""

    def numbers(norm: str) -> Numbers:
        return numbers_of(function) | {key: value for key, value in own(norm).items() if isinstance(value, int | float)}

    return numbers


def _minimal(function: Callable[..., Attack], *norms: str, points: int | None = None, looks: int = 0) -> Contestant:
    """An attack of fixed radius with its radius searched for, the steps being shared among the radii.

    Args:
      function: makes it.
      norms: that it can make small.
      points: that it asks about; by default as many as it is told.
      looks: that it takes besides these: one at the clean input, if it starts at random.
    """

    def make(norm: str, steps: int, classes: int, **told: Any) -> Attack:
        rounds = max(min(_RADII, steps // (points or 2)), 1)
        own = {} if points else {"steps": max(steps // rounds - looks, 1)}
        return minimised(function(norm=norm, **own, **_first_radius(norm) | told), steps=rounds)

    return ours(make, *norms, source=function.__module__, numbers=_numbers(function, _first_radius))


def _first_radius(norm: str) -> dict[str, float]:
    return {"epsilon": _RADIUS[norm]}


def _apgd_targeted(norm: str, steps: int, classes: int, **told: Any) -> Attack:
    """The steps shared among the radii, and at each of them among the other classes."""
    rounds = max(min(_RADII, steps // (2 * (classes - 1))), 1)
    each = max(steps // (rounds * (classes - 1)) - 1, 1)  # and one look at the clean input
    numbers: dict[str, Any] = _first_radius(norm) | told
    return minimised(apgd_targeted(num_classes=classes, norm=norm, steps=each, **numbers), steps=rounds)


def _weighed(preset: Callable[..., Attack], norm: str) -> Contestant:
    """The paper's L2 attack, and the L1 attack like it."""

    def make(norm: str, steps: int, classes: int, *, initial_c: Any = 1.0, learning_rate: Any = 0.1) -> Attack:
        search = cw.search.binary_search(min(_ROUNDS, steps), initial_c=initial_c)
        return preset(steps=max(steps // _ROUNDS, 1), search=search, optimizer=optax.adam(learning_rate))

    return ours(make, norm, source=carlini.__name__)


def _linf(norm: str, steps: int, classes: int, *, initial_c: Any = 1.0, learning_rate: Any = 5e-2) -> Attack:
    """The paper's: a tenth of the steps at every weight c, of which there are five."""
    search = cw.search.shrink_tau(initial_c=initial_c)
    return cw.linf(steps=max(steps // 10, 1), search=search, optimizer=optax.adam(learning_rate))


def _l0(norm: str, steps: int, classes: int, *, initial_c: Any = 1.0, learning_rate: Any = 0.1) -> Attack:
    """The paper's: a twentieth of the steps at every weight c."""
    search = cw.search.shrink_mask(initial_c=initial_c, per_pixel=norm == "l0")
    adam = optax.adam(learning_rate)
    return cw.l0(steps=max(steps // 20, 1), search=search, optimizer=adam, distance=RACED[norm])


def _elastic(
    norm: str, steps: int, classes: int, *, initial_c: Any = 0.1, learning_rate: Any = 0.01, beta: Any = 1e-3
) -> Attack:
    """EAD by its L1 rule, its steps shared among the rounds of its search over c as in `_weighed`."""
    search = cw.search.binary_search(min(_ROUNDS, steps), initial_c=initial_c)
    each = max(steps // _ROUNDS, 1)
    return ead(decision="l1", steps=each, search=search, learning_rate=learning_rate, beta=beta)


def _norm(norm: str) -> str:
    return "l0" if norm in _L0 else norm


def _first_step(norm: str) -> float:
    """Of FMN: ten times its own in L-infinity, as AttackBench has it."""
    return 10.0 if norm == "linf" else 1.0


def _last_step(norm: str) -> float:
    return _first_step(norm) / 100


OURS: dict[str, Contestant] = {
    "fast_l2": _plain(cw.fast_l2, "l2"),
    "alternating_l2": _plain(cw.alternating_l2, "l2"),
    "fast_linf": _plain(cw.fast_linf, "linf"),
    "fast_l0": _plain(cw.fast_l0, *_L0, distance=RACED.__getitem__),
    "fast_l1": _plain(cw.fast_l1, "l1"),
    "cw_l2": _weighed(cw.l2, "l2"),
    "cw_l1": _weighed(cw.l1, "l1"),
    "cw_linf": ours(_linf, "linf", source=carlini.__name__),
    "cw_l0": ours(_l0, *_L0, source=carlini.__name__),
    "ddn": _plain(ddn, "l2"),
    "fmn": _plain(fmn, *_ALL, norm=_norm, distance=RACED.__getitem__, first_step=_first_step, last_step=_last_step),
    "alma": _plain(alma, "l1", "l2", norm=_norm, first_distance={"l1": 0.5, "l2": 0.1}.__getitem__),  # its paper's
    "alma_fixed_rate": _plain(alma, "l1", "l2", norm=_norm),
    "pdgd": _plain(pdgd, "l2"),
    "pdpgd": _plain(pdpgd, *_ALL, norm=_norm, distance=RACED.__getitem__),
    "sigma_zero": _plain(sigma_zero, *_L0, distance=RACED.__getitem__),
    "ead": ours(_elastic, "l1", source=ead.__module__),
    "deepfool": _made(
        deepfool,
        ("l2", "linf"),
        {"norm": _norm},
        cost=lambda classes: min(classes, 10),  # one pass there, and one back for each other class
    ),
    "jsma_z": _made(jsma_z, _L0, {"distance": RACED.__getitem__}, cost=lambda classes: 3),
    "jsma_f": _plain(jsma_f, *_L0, distance=RACED.__getitem__),
    "fgsm": _minimal(fgsm, "l1", "l2", "linf", points=2),
    "bim": _minimal(bim, "l1", "l2", "linf"),
    "pgd": _minimal(pgd, "l1", "l2", "linf", looks=1),
    "mifgsm": _minimal(mifgsm, "l1", "l2", "linf"),
    "apgd": _minimal(apgd, "l2", "linf", looks=1),
    "apgd_targeted": ours(
        _apgd_targeted,
        "l2",
        "linf",
        kinds=("untargeted",),
        source=apgd_targeted.__module__,
        numbers=_numbers(apgd_targeted, _first_radius),
    ),
}
"""By name."""


def own(names: Iterable[str]) -> dict[str, Contestant]:
    """Attacks of one's own: of these names, those that are MODULE:FUNCTION.

    FUNCTION(norm, steps, classes) returns the `cwjax.Attack` that makes the norm, a key of `RACED`, small in so many
    steps, each of one forward and one backward pass, for a model of so many classes. Its keyword arguments whose
    defaults are numbers can be set and tuned like those of any other attack.

    Raises:
      ValueError: there is no such function, or it takes other arguments. What it returns is checked when it is called.
    """
    return {name: _own(name) for name in names if ":" in name}


def _own(name: str) -> Contestant:
    function = functions.named("--attacks", name)
    try:
        inspect.signature(function).bind("l2", 1, 10)
    except TypeError as error:
        raise ValueError(
            f"--attacks {name} is called as {name.partition(':')[2]}(norm, steps, classes), such as ('l2', 100, 10), "
            f"and cannot be: {error}"
        ) from error

    def make(norm: str, steps: int, classes: int, **told: Any) -> Attack:
        with functions.blamed("--attacks", name):
            attack = function(norm, steps, classes, **told)
        if not isinstance(attack, Attack):
            raise ValueError(
                f"--attacks {name} returned {type(attack).__name__}: it must return a cwjax.Attack, as "
                "cwjax.fast_l2(steps=steps) is one"
            )
        return attack

    numbers = numbers_of(function)
    return ours(make, *_ALL, source=name, numbers=lambda norm: numbers)
