"""The fast family: `cw.fast`, and the rules that it is made of."""

from cwjax.attacks.fast import attacks, legs, scout, shrink, slide
from cwjax.attacks.fast.attacks import fast

__all__ = ["attacks", "fast", "legs", "scout", "shrink", "slide"]
