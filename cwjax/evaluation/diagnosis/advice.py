"""What to do about a check that raised its flag, in sentences that fit the attack in hand.

A function takes the `Case`. Of `case.settings` it names only what the attack has.
"""

import jax
import jax.numpy as jnp
import numpy as np

from cwjax.attacks.registry import fast_attacks
from cwjax.evaluation.diagnosis.case import Case

_STUCK = 1e-3  # of a variable's usual slope
_MANY = 0.1  # share of the elements


def saturated_softmax(case: Case) -> str:
    """An attack that follows the logits is not blind where the softmax is saturated."""
    if (case.first_slopes != 0).all():
        return (
            "This attack follows the logits and sees a slope; attacks on cross-entropy or softmax would see none here."
        )
    return "Attacks that follow cross-entropy or softmax see nothing here: use an objective of the logits (f6)."


def unstable_loss(case: Case) -> str:
    """The loss is jagged."""
    own = _listed(case, {"learning_rate": "a larger learning rate", "starts": "many starts"})
    more = f", or give the attack {own}" if own else ", or attack from many starts (cwjax.restarted)"
    return f"The loss is jagged: smooth it (average gradients over noise){more}."


def blind_attack(case: Case) -> str:
    """The first gradient owes nothing to the model."""
    if case.settings.get("objective", "f6") != "f6":
        return "Choose an objective with a gradient at the clean inputs, such as f6."
    return "The model gives no slope at the clean inputs: replace what has none (BPDA), or attack without gradients."


def saturated_c(case: Case) -> str:
    """The search over c ended at a bound, or knows c badly."""
    own = {"initial_c": "another first c", "largest_c": "a larger largest c", "search_steps": "more search steps"}
    return f"Give the search over c {_listed(case, own) or 'another first c, a larger largest c or more rounds'}."


def saturated_tanh(case: Case) -> str:
    """The variable of the descent has no slope left."""
    lower = "Lower the learning rate, or descend" if "learning_rate" in case.settings else "Descend"
    return f"{lower} in the pixels themselves (cwjax.boxes.projected, --box projected)."


def weaker_wins(case: Case) -> str:
    """The attack is stuck or blind."""
    sentences = []
    if share := _stuck(case):
        sentences.append(
            f"Try the box projected first (cwjax.boxes.projected, --box projected): {share:.0%} of the values lie on a "
            "bound, as black and white pixels do, and this box hardly moves them."
        )
    own = {"steps": "more steps", "learning_rate": "a smaller learning rate", "starts": "more starts"}
    others = [name for name in fast_attacks(case.norm) if name != case.name][:1]
    give = _listed(case, own) or "more steps"
    other = f"; or run {others[0]} as well, and keep the nearer example of the two" if others else ""
    sentences.append(f"Give the attack {give}{other}.")
    return " ".join(sentences)


def _listed(case: Case, own: dict[str, str]) -> str:
    """Those of the phrases whose setting the attack has: "more steps, a smaller learning rate or more starts"."""
    *some, last = [phrase for name, phrase in own.items() if name in case.settings] or [""]
    return f"{', '.join(some)} or {last}" if some else last


def _stuck(case: Case) -> float:
    """The share of the inputs' values that lie on a bound and that the attack's box hardly moves; 0 where that is no
    matter.
    """
    box, (low, high) = case.terms.box, case.bounds

    def slope(x):
        w = box.encode(x, low, high)
        return jax.jvp(lambda w: box.decode(w, low, high).inside, (w,), (jnp.ones_like(w),))[1]

    share = float(((case.x == low[None]) | (case.x == high[None])).mean())
    on, inside = (float(np.abs(slope(each)).mean()) for each in (low, (low + high) / 2))
    return share if share > _MANY and on < _STUCK * inside else 0.0
