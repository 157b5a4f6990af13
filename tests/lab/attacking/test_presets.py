"""The attacks by name, and what each can be told."""

import dataclasses
import functools
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cwjax as cw
from cwjax.lab.attacking import presets

PRESETS = {
    "l2": cw.l2,
    "l1": cw.l1,
    "l0": cw.l0,
    "linf": cw.linf,
    "lbfgs": cw.lbfgs,
    **{f"fast_{norm}": functools.partial(cw.fast, norm) for norm in ("l2", "l1", "linf", "l0")},
}


pytestmark = pytest.mark.xdist_group("attacking")  # most of them look at one run


def program(attack) -> str:
    """All that an attack computes, every number included."""
    model = cw.bind(lambda kernel, x: x @ kernel, jnp.ones((6, 4)))
    keys = jax.random.split(jax.random.key(0), 5)
    traced = jax.make_jaxpr(cw.batched(attack))(model, keys, jnp.ones((5, 6)), cw.untargeted(np.arange(5) % 4))
    return re.sub("0x[0-9a-f]+", "", f"{traced} {traced.consts}")  # where in memory a function lies


QUICK = ("l2", "linf", "fast_l0")  # to trace


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.long] * (name not in QUICK)) for name in presets.PRESETS]
)
def test_an_attack_that_is_told_nothing_is_the_librarys(name):
    settings = presets.resolved((name,), presets.Settings())[name]
    assert program(presets.attack_of(name, settings)) == program(PRESETS[name]())


def test_every_setting_reaches_the_attack():
    settings = presets.Settings(
        objective="f7", box="projected", optimizer="momentum", confidence=0.3, learning_rate=0.02, steps=9
    )
    settings = dataclasses.replace(settings, initial_c=0.5, starts=2, radius=0.4)
    parts: dict[str, Any] = {
        "objective": cw.objectives.smooth_logit_margin(0.3),
        "box": cw.boxes.projected(),
        "steps": 9,
    }
    parts["optimizer"] = cw.optimizers.OPTIMIZERS["momentum"](0.02)
    searching = cw.l1(search=cw.search.binary_search(4, initial_c=0.5), **parts)
    shrinking = cw.linf(search=cw.search.shrink_tau(initial_c=0.5), largest_c=7.0, **parts)
    for name, attack, own in (("l1", searching, {"search_steps": 4}), ("linf", shrinking, {"largest_c": 7.0})):
        told = presets.resolved((name,), dataclasses.replace(settings, **own))[name]
        assert program(presets.attack_of(name, told)) == program(cw.restarted(attack, 2, 0.4))
        assert program(presets.attack_of(name, told)) != program(cw.restarted(attack, 2, 0.5))


def test_of_several_attacks_each_takes_what_it_has_and_the_rest_is_said(capsys):
    chosen = presets.resolved(("l0", "l2", "linf"), presets.Settings(search_steps=3, steps=8))
    assert [settings.search_steps for settings in chosen.values()] == [None, 3, None]
    assert [settings.steps for settings in chosen.values()] == [8, 8, 8]
    assert [settings.largest_c for settings in chosen.values()] == [2e6, None, 20.0]
    assert capsys.readouterr().out == "--search-steps goes to l2 alone: it is no setting of l0 or linf.\n"


@pytest.mark.parametrize(
    ("attacks", "change", "words"),
    [
        ("l2", {"confidence": -1.0}, "--confidence must be at least 0, got -1.0"),
        ("l2", {"confidence": float("nan")}, "--confidence must be at least 0, got nan"),
        ("l2", {"steps": 0}, "--steps must be at least 1, got 0"),
        ("l2", {"search_steps": 0}, "--search-steps must be at least 1"),
        ("l2", {"initial_c": 0.0}, "--initial-c must be at least 1e-30"),
        ("l2", {"learning_rate": -0.1}, "--learning-rate must be more than 0"),
        ("l2", {"steps": 10**9, "search_steps": 9}, "--steps 1000000000 times --search-steps 9 .* beyond counting"),
        ("l0", {"steps": 2**31}, "--steps 2147483648 .* beyond counting"),
        ("l0", {"largest_c": 1e-3}, "--largest-c must be more than 0.001, got 0.001"),
        ("l2", {"starts": 0}, "--starts must be at least 1"),
        ("l2", {"radius": -1.0}, "--radius must be at least 0"),
        ("l2", {"starts": 2}, "--starts above 1 and a --radius above 0 go together: got 2 and 0"),
        ("l2", {"radius": 0.5}, "--starts above 1 and a --radius above 0 go together: got 1 and 0.5"),
        ("linf", {"search_steps": 5}, "--search-steps is no setting of linf, which takes --objective, --box"),
        ("l1 l2", {"largest_c": 5.0}, "--largest-c is no setting of l1 or l2, which takes .*--search-steps"),
        ("lbfgs", {"learning_rate": 0.1}, "--learning-rate is no setting of lbfgs"),
        ("l2", {"objective": "f8"}, "unknown objective 'f8': choose one of f1, f2, f3, f4, f5, f6, f7"),
        ("l0", {"box": "open"}, "unknown box 'open': choose one of change_of_variables, projected, clipped"),
        ("linf", {"optimizer": "sgd"}, "unknown optimizer 'sgd': choose one of gradient_descent, momentum, nesterov"),
        ("magic", {}, "unknown attack 'magic': choose one of l2, l1, l0, linf, lbfgs"),
        ("l2 l0 l2", {}, "--attack takes one name or several different ones, got l2 l0 l2"),
        ("", {}, "--attack takes one name or several different ones, got none"),
    ],
)
def test_settings_out_of_range_are_named(attacks, change, words):
    with pytest.raises(ValueError, match=words):
        presets.resolved(attacks.split(), presets.Settings(**change))


def test_every_settings_own_values_are_those_of_the_attacks():
    names = {field.name for field in dataclasses.fields(presets.Settings)}
    assert set(presets.MEANINGS) == names
    assert presets.own_values("starts") == "1"
    assert presets.own_values("largest_c") == "2e+06 (l0), 20 (linf)"
    for name in names - {"starts", "radius"}:
        said = presets.own_values(name)
        for attack, kind in presets.PRESETS.items():
            assert (re.search(rf"\b{attack}\b", said) is None) == (getattr(kind.own, name) is None)
