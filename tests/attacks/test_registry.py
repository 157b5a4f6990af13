"""One registry of attacks: everything that is an attack stands in it, and what it says of each is so."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cwjax as cw
from cwjax.attacks.fast.attacks import FAMILY
from cwjax.attacks.registry import ATTACKS, fast_attacks
from cwjax.lab.attacking import presets
from cwjax.lab.racing import entries
from cwjax.problems import problem
from cwjax.search.radius import minimised

CLASSES = 4
X = np.linspace(0.1, 0.9, 5 * 5 * 2, dtype=np.float32).reshape(5, 5, 2)
WEIGHTS = np.random.default_rng(0).normal(size=(X.size, CLASSES)).astype(np.float32)


def linear(x):
    """Logits [K] of an input [5, 5, 2]."""
    return x.ravel() @ WEIGHTS


def made(name: str, norm: str) -> cw.Attack:
    entry, told = ATTACKS[name], {}
    parameters = inspect.signature(entry.make).parameters
    told |= {"norm": norm} if "norm" in parameters else {}
    told |= {"epsilon": 0.5} if entry.within else {}
    told |= {"decision": "l1"} if name == "ead" else {}
    told |= {"num_classes": CLASSES} if "num_classes" in parameters else {}
    return entry.make(**told)


def passes(attack: cw.Attack) -> int:
    """What the first step says that it spent; the compiler leaves out whatever else it would compute."""

    @jax.jit
    def spent(x):
        given = problem(x, cw.LabelGoal(label=jnp.argmax(linear(x)).astype(jnp.int32), sign=jnp.float32(-1)))
        progress = attack.step(linear, given, attack.init(jax.random.key(0), given)).progress
        return progress.forwards + progress.backwards

    return int(spent(X))


def test_it_has_every_function_that_makes_an_attack():
    parts = {"quasi_newton"}  # a descent, of which `lbfgs` is the attack
    parts |= {"audio", "audio_aligned"}  # of transcripts: races and the command line's names are for classes
    functions = {name: getattr(cw.attacks, name) for name in cw.attacks.__all__}
    own = {name: entry.make for name, entry in ATTACKS.items() if entry.family != "fast"}
    assert own == {name: each for name, each in functions.items() if inspect.isfunction(each) and name not in parts}
    fast = {f"fast_{norm}": norm for norm in FAMILY}
    assert fast.keys() == ATTACKS.keys() - own.keys()
    assert all(ATTACKS[name].make(steps=7).terms.distance.norm == norm for name, norm in fast.items())


def test_the_command_line_and_the_races_name_attacks_as_it_does():
    assert presets.PRESETS.keys() <= ATTACKS.keys()
    assert entries.OURS.keys() - {"alma_fixed_rate"} == ATTACKS.keys()
    for name in presets.PRESETS:
        assert ATTACKS[name].norms == (presets.norm_of(name),)


@pytest.mark.parametrize(("name", "norm"), [(name, norm) for name, entry in ATTACKS.items() for norm in entry.norms])
def test_an_attack_makes_the_norm_small_that_it_says_and_a_step_costs_what_it_says(name, norm):
    entry, attack = ATTACKS[name], made(name, norm)
    assert attack.terms.distance.norm == norm
    assert ("epsilon" in inspect.signature(entry.make).parameters) == entry.within
    assert passes(attack) == entry.passes(CLASSES)
    if entry.within:
        assert minimised(attack, steps=3).terms.distance.norm == norm


def test_each_norm_has_its_attack_of_the_fast_family():
    assert [fast_attacks(norm) for norm in ("l2", "l0", "linf")] == [("fast_l2",), ("fast_l0",), ("fast_linf",)]
    assert fast_attacks("other") == ()
