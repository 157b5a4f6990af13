"""What one attack is asked for."""

import dataclasses

import pytest

from cwjax.lab.attacking import presets
from cwjax.lab.attacking.request import Request


def test_what_is_left_out_is_the_attacks_own_and_goes_to_no_target():
    request = Request("l2")
    assert presets.resolved((request.attack,), request.settings)["l2"] == presets.PRESETS["l2"].own
    told = {name: value for name, value in dataclasses.asdict(request).items() if name not in ("attack", "settings")}
    assert told == {"targets": "untargeted", "seed": 0, "precision": "highest", "rounded": False, "restored": False}


def test_equal_requests_are_one_and_none_can_be_changed():
    first, same = (Request("linf", presets.Settings(steps=5), seed=3) for _ in range(2))
    assert len({first, same, dataclasses.replace(first, seed=4)}) == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(first, "seed", 4)  # noqa: B010 - a type checker would not let it be set
