"""What to do about a flag, in sentences that fit the attack in hand."""

import jax.numpy as jnp
import numpy as np
import pytest

import cwjax as cw
from cwjax.evaluation.diagnosis import advice
from tests.evaluation.diagnosis.known import known
from tests.evaluation.diagnosis.test_case import MODEL, case


def advised(check: str, **changes) -> str:
    """The advice of a check to an attack that came to nothing known; black images, unless said otherwise."""
    return getattr(advice, check)(case(MODEL, **{"x": jnp.zeros((2, 4, 4, 1))} | changes))


STEPS = {"steps": 100, "confidence": 0.0}


OR = "; or run {} as well, and keep the nearer example of the two."


PAPER = STEPS | {"box": "change_of_variables", "learning_rate": 0.01, "starts": 1}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"settings": STEPS, "name": "fast_l2"}, "Give the attack more steps."),
        ({"settings": STEPS, "name": "fast_linf", "attack": cw.fast("linf")}, "Give the attack more steps."),
        (
            {"settings": PAPER, "name": "l2", "attack": cw.l2()},
            "Try the box projected first (cwjax.boxes.projected, --box projected): 100% of the values lie on a bound, "
            "as black and white pixels do, and this box hardly moves them. Give the attack more steps, a smaller "
            "learning rate or more starts" + OR.format("fast_l2"),
        ),
        (
            {"settings": PAPER, "name": "l2", "attack": cw.l2(box=cw.boxes.projected())},
            "Give the attack more steps, a smaller learning rate or more starts" + OR.format("fast_l2"),
        ),
        (
            {"settings": PAPER, "name": "l2", "attack": cw.l2(), "x": jnp.full((2, 4, 4, 1), 0.5)},
            "Give the attack more steps, a smaller learning rate or more starts" + OR.format("fast_l2"),
        ),
    ],
)
def test_the_advice_fits_the_attack_in_hand(changes, said):
    assert advised("weaker_wins", **changes) == said


def test_advice_names_no_setting_that_the_attack_lacks():
    for check in ("unstable_loss", "saturated_tanh", "weaker_wins"):
        said = advised(check, settings=STEPS, name="fast_l2")
        assert "learning rate" not in said
        assert "search steps" not in said
    assert advised("saturated_c", settings=PAPER | {"search_steps": 9}) == "Give the search over c more search steps."
    assert "objective" not in advised("blind_attack", settings=STEPS)
    assert advised("blind_attack", settings={"objective": "f2"}).startswith("Choose an objective")


@pytest.mark.parametrize(
    ("slopes", "said"),
    [
        ([0.5, -2.0], "This attack follows the logits and sees a slope; attacks on cross-entropy or softmax would see"),
        ([0.5, 0.0], "Attacks that follow cross-entropy or softmax see nothing here: use an objective of the logits"),
    ],
)
def test_a_saturated_softmax_matters_to_who_follows_it(slopes, said):
    assert advice.saturated_softmax(known(2, first_slopes=np.array(slopes))).startswith(said)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, ", or attack from many starts (cwjax.restarted)."),
        ({"learning_rate": 0.1}, ", or give the attack a larger learning rate."),
        ({"learning_rate": 0.1, "starts": 2}, ", or give the attack a larger learning rate or many starts."),
    ],
)
def test_what_smooths_a_jagged_loss_is_what_the_attack_can_be_told(settings, said):
    smooth = "The loss is jagged: smooth it (average gradients over noise)"
    assert advice.unstable_loss(known(1, settings=settings)) == smooth + said


def test_an_attack_without_settings_is_told_of_the_librarys_own_parts():
    nothing = known(1, settings={})
    assert advice.saturated_c(nothing).endswith("another first c, a larger largest c or more rounds.")
    assert advice.saturated_tanh(nothing).startswith("Descend in the pixels themselves (cwjax.boxes.projected")
    assert advice.blind_attack(nothing).startswith("The model gives no slope at the clean inputs")
    assert advice.blind_attack(known(1, settings={"objective": "f6"})) == advice.blind_attack(nothing)


@pytest.mark.parametrize(("dark", "share"), [(24, "100%"), (3, "12%"), (2, None), (0, None)])
def test_the_box_is_to_blame_where_more_than_a_tenth_of_the_values_lie_on_a_bound(dark, share):
    pictures = known(2, x=0.5 * (jnp.arange(24) >= dark).reshape(2, 3, 4), settings={})
    pictures.__dict__["terms"] = pictures.terms._replace(box=cw.boxes.change_of_variables())
    said = advice.weaker_wins(pictures)
    assert ("Try the box projected first" in said) == (share is not None)
    assert share is None or f": {share} of the values lie on a bound" in said
