"""Judging models, attacks and results."""

from cwjax.evaluation.diagnosis.checks import Check, Diagnosis
from cwjax.evaluation.diagnosis.diagnose import diagnose
from cwjax.evaluation.exhaustive import Fewest, fewest_changes
from cwjax.evaluation.validation import Validation, validate

__all__ = ["Check", "Diagnosis", "Fewest", "Validation", "diagnose", "fewest_changes", "validate"]
