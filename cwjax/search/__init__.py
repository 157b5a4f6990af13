"""Searches: each turns one knob of the problem, and the descent runs again or goes on."""

from cwjax.search.confidence import confident
from cwjax.search.mask import many_pixels, one_pixel, shrink_mask
from cwjax.search.radius import minimised, search_scale, shrink_bounds, shrink_tau
from cwjax.search.rounds import searched, tracked
from cwjax.search.versions import average_target, best_of, best_target, restarted, worst_of, worst_target
from cwjax.search.weight import binary_search, grow_c, multiplier

__all__ = [
    "average_target",
    "best_of",
    "best_target",
    "binary_search",
    "confident",
    "grow_c",
    "many_pixels",
    "minimised",
    "multiplier",
    "one_pixel",
    "restarted",
    "search_scale",
    "searched",
    "shrink_bounds",
    "shrink_mask",
    "shrink_tau",
    "tracked",
    "worst_of",
    "worst_target",
]
