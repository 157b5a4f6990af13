"""Objectives: what a model's outputs and a goal mean. One file for each kind of task, and one to put them together."""

from cwjax.parts.objectives.classification import (
    OBJECTIVES,
    comparable,
    cross_entropy,
    half_probability,
    in_play,
    log_half_probability,
    logit_margin,
    margin,
    probability_margin,
    rounding_margin,
    smooth_logit_margin,
    smooth_probability_margin,
)
from cwjax.parts.objectives.combined import all_of, any_of, below
from cwjax.parts.objectives.labels import one_output, several_labels
from cwjax.parts.objectives.regression import tolerance
from cwjax.parts.objectives.segmentation import pixels
from cwjax.parts.objectives.sequences import aligned_margin, beam_search, ctc, greedily, path_of

__all__ = [
    "OBJECTIVES",
    "aligned_margin",
    "all_of",
    "any_of",
    "beam_search",
    "below",
    "comparable",
    "cross_entropy",
    "ctc",
    "greedily",
    "half_probability",
    "in_play",
    "log_half_probability",
    "logit_margin",
    "margin",
    "one_output",
    "path_of",
    "pixels",
    "probability_margin",
    "rounding_margin",
    "several_labels",
    "smooth_logit_margin",
    "smooth_probability_margin",
    "tolerance",
]
