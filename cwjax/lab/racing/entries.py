"""The attacks of this library as contestants of a race, by name, with the numbers that they run at.

Those of the paper need more steps than a race has: theirs are larger than its own, and c begins where it matters. Their
numbers are from a few that were tried on eight digits, at 300 and 1,000 propagations, and not tuned beyond that.
"""

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import optax

import cwjax as cw
from cwjax.attacks.registry import ATTACKS
from cwjax.base import Attack
from cwjax.lab import functions
from cwjax.lab.racing.contestants import RACED, Contestant, Numbers, numbers_of, ours

_ROUNDS = 9  # of the paper's search over c, that the steps are shared among
_RADII = 10  # of the search for the smallest radius, likewise
# The first of these; the next is the double or the half.
_RADIUS = {"l1": 10.0, "l2": 1.0, "linf": 0.1, "l0": 20.0, "l0_elements": 20.0}


def _plain(name: str, **settings: Any) -> Contestant:
    """An attack that makes a norm small by itself: it is told its steps, these settings, and what `Task.settings` has.

    A setting that depends on the norm is a function of it.
    """
    function = ATTACKS[name].make

    def own(norm: str) -> dict[str, Any]:
        return {key: value(norm) if callable(value) else value for key, value in settings.items()}

    def make(norm: str, steps: int, classes: int, **told: Any) -> Attack:
        return function(steps=steps, **own(norm) | told)

    return _entered(name, make, _numbers(function, own))


def _entered(name: str, make: Callable[..., Attack], numbers: Callable[[str], Numbers] | None = None) -> Contestant:
    """The attack of that name in the registry, made so."""
    entry = ATTACKS[name]
    norms = [each for norm in entry.norms for each in (("l0", "l0_elements") if norm == "l0" else (norm,))]
    kinds = ("untargeted",) if name == "apgd_targeted" else ("untargeted", "targeted")
    return ours(
        make,
        *norms,
        cost=entry.passes,
        kinds=kinds,
        source=getattr(entry.make, "func", entry.make).__module__,
        numbers=numbers,
    )


def _numbers(function: Callable[..., Attack], own: Callable[[str], dict[str, Any]]) -> Callable[[str], Numbers]:
    """The numbers of an attack whose entry has some of its own."""

    def numbers(norm: str) -> Numbers:
        return numbers_of(function) | {key: value for key, value in own(norm).items() if isinstance(value, int | float)}

    return numbers


def _minimal(name: str, *, points: int | None = None, looks: int = 0) -> Contestant:
    """An attack of fixed radius with its radius searched for, the steps being shared among the radii.

    Args:
      name: of the attack.
      points: that it asks about; by default as many as it is told.
      looks: that it takes besides these: one at the clean input, if it starts at random.
    """
    function = ATTACKS[name].make

    def make(norm: str, steps: int, classes: int, **told: Any) -> Attack:
        rounds = max(min(_RADII, steps // (points or 2)), 1)
        own: dict[str, Any] = {} if points else {"steps": max(steps // rounds - looks, 1)}
        own |= {"norm": norm} if len(ATTACKS[name].norms) > 1 else {}
        return cw.minimised(function(**own, **_first_radius(norm) | told), steps=rounds)

    return _entered(name, make, _numbers(function, _first_radius))


def _first_radius(norm: str) -> dict[str, float]:
    return {"epsilon": _RADIUS[norm]}


def _apgd_targeted(norm: str, steps: int, classes: int, **told: Any) -> Attack:
    """The steps shared among the radii, and at each of them among the other classes."""
    rounds = max(min(_RADII, steps // (2 * (classes - 1))), 1)
    each = max(steps // (rounds * (classes - 1)) - 1, 1)  # and one look at the clean input
    numbers: dict[str, Any] = _first_radius(norm) | told
    attack = cw.attacks.apgd_targeted(num_classes=classes, norm=norm, steps=each, **numbers)
    return cw.minimised(attack, steps=rounds)


def _sparse_pgd(norm: str, steps: int, classes: int, **told: Any) -> Attack:
    """As `_minimal` would, with pixels or elements counted."""
    rounds = max(min(_RADII, steps // 2), 1)
    numbers: dict[str, Any] = _first_radius(norm) | told
    each = max(steps // rounds - 1, 1)  # and one look at the clean input
    return cw.minimised(cw.attacks.sparse_pgd(steps=each, distance=RACED[norm], **numbers), steps=rounds)


def _weighed(name: str) -> Contestant:
    """The paper's L2 attack, and the L1 attack like it."""
    preset = ATTACKS[name].make

    def make(norm: str, steps: int, classes: int, *, initial_c: Any = 1.0, learning_rate: Any = 0.1) -> Attack:
        search = cw.search.binary_search(min(_ROUNDS, steps), initial_c=initial_c)
        return preset(steps=max(steps // _ROUNDS, 1), search=search, optimizer=optax.adam(learning_rate))

    return _entered(name, make)


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
    return cw.attacks.ead(decision="l1", steps=each, search=search, learning_rate=learning_rate, beta=beta)


def _lbfgs(norm: str, steps: int, classes: int, *, initial_c: Any = 1.0) -> Attack:
    """Its steps shared among the rounds of its search over c as in `_weighed`."""
    return cw.lbfgs(
        steps=max(steps // _ROUNDS, 1), search=cw.search.binary_search(min(_ROUNDS, steps), initial_c=initial_c)
    )


def _norm(norm: str) -> str:
    return "l0" if norm == "l0_elements" else norm


def _first_step(norm: str) -> float:
    """Of FMN: ten times its own in L-infinity, as AttackBench has it."""
    return 10.0 if norm == "linf" else 1.0


def _last_step(norm: str) -> float:
    return _first_step(norm) / 100


OURS: dict[str, Contestant] = {
    "l2": _weighed("l2"),
    "l1": _weighed("l1"),
    "linf": _entered("linf", _linf),
    "l0": _entered("l0", _l0),
    "lbfgs": _entered("lbfgs", _lbfgs),
    "fast_l2": _plain("fast_l2"),
    "fast_l1": _plain("fast_l1"),
    "fast_linf": _plain("fast_linf"),
    "fast_l0": _plain("fast_l0", distance=RACED.__getitem__),
    "ddn": _plain("ddn"),
    "fmn": _plain(
        "fmn",
        norm=_norm,
        distance=RACED.__getitem__,
        first_step=_first_step,
        last_step=lambda norm: _first_step(norm) / 100,
    ),
    "alma": _plain("alma", norm=_norm, first_distance={"l1": 0.5, "l2": 0.1}.__getitem__),  # its paper's
    "alma_fixed_rate": _plain("alma", norm=_norm),
    "pdgd": _plain("pdgd"),
    "pdpgd": _plain("pdpgd", norm=_norm, distance=RACED.__getitem__),
    "sigma_zero": _plain("sigma_zero", distance=RACED.__getitem__),
    "ead": _entered("ead", _elastic),
    "deepfool": _plain("deepfool", norm=_norm),
    "boundary_projection": _plain("boundary_projection"),
    "brendel_bethge": _plain("brendel_bethge", norm=_norm),
    "superdeepfool": _plain("superdeepfool"),
    "trust_region": _plain("trust_region", norm=_norm),
    "jsma_z": _plain("jsma_z", distance=RACED.__getitem__),
    "jsma_f": _plain("jsma_f", distance=RACED.__getitem__),
    "vfga": _plain("vfga", distance=RACED.__getitem__),
    "fga": _plain("fga", distance=RACED.__getitem__),
    "fgsm": _minimal("fgsm", points=2),
    "bim": _minimal("bim"),
    "pgd": _minimal("pgd", looks=1),
    "mifgsm": _minimal("mifgsm"),
    "apgd": _minimal("apgd", looks=1),
    "sparse_pgd": _entered("sparse_pgd", _sparse_pgd, _numbers(ATTACKS["sparse_pgd"].make, _first_radius)),
    "pma": _minimal("pma", looks=1),
    "apgd_targeted": _entered("apgd_targeted", _apgd_targeted, _numbers(ATTACKS["apgd_targeted"].make, _first_radius)),
}
"""By name."""


def own(names: Iterable[str]) -> dict[str, Contestant]:
    """Attacks of one's own: of these names, those that are MODULE:FUNCTION.

    FUNCTION(norm, steps, classes) returns the `cwjax.Attack` that makes the norm, a key of `RACED`, small in this
    number of steps, each of one forward and one backward pass, for a model with this number of classes. Its keyword
    arguments whose defaults are numbers can be set and tuned like those of any other attack.

    Raises:
      ValueError: there is no such function, or it takes other arguments. What it returns is checked when it is called.
    """
    return {name: _own(name) for name in names if ":" in name}


def _own(name: str) -> Contestant:
    function = functions.named("--attack", name)
    try:
        inspect.signature(function).bind("l2", 1, 10)
    except TypeError as error:
        raise ValueError(
            f"--attack {name} is called as {name.partition(':')[2]}(norm, steps, classes), such as ('l2', 100, 10), "
            f"and cannot be: {error}"
        ) from error

    def make(norm: str, steps: int, classes: int, **told: Any) -> Attack:
        with functions.blamed("--attack", name):
            attack = function(norm, steps, classes, **told)
        if not isinstance(attack, Attack):
            raise ValueError(
                f"--attack {name} returned {type(attack).__name__}: it must return a cwjax.Attack, as "
                "cwjax.fast(norm, steps=steps) is one"
            )
        return attack

    numbers = numbers_of(function)
    return ours(make, *RACED, source=name, numbers=lambda norm: numbers)
