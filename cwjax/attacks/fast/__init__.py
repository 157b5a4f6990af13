"""The fast family: an example for a fixed number of gradients, and what the attacks are made of."""

from cwjax.attacks.fast.alternating import alternating_l2
from cwjax.attacks.fast.attacks import fast_l2, fast_linf
from cwjax.attacks.fast.legs import in_legs
from cwjax.attacks.fast.scout import aimed
from cwjax.attacks.fast.slide import radius, slid
from cwjax.attacks.fast.sparse import fast_l0, fast_l1

__all__ = [
    "aimed",
    "alternating_l2",
    "fast_l0",
    "fast_l1",
    "fast_l2",
    "fast_linf",
    "in_legs",
    "radius",
    "slid",
]
