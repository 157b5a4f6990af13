"""The systems of `cwjax generate`, by name."""

from collections.abc import Callable

from cwjax.lab.generating import by_answers, by_neurons, by_transforms, by_weather
from cwjax.lab.generating.plans import Asked, Plan

SYSTEMS: dict[str, Callable[[Asked], Plan]] = {
    "deepxplore": by_answers.deepxplore_plan,
    "deeptest": by_transforms.deeptest_plan,
    "deepct": by_neurons.deepct_plan,
    "deepconcolic": by_neurons.deepconcolic_plan,
    "deepfault": by_answers.deepfault_plan,
    "deeproad": by_weather.deeproad_plan,
    "fuzzing": by_answers.fuzzing_plan,
}
"""What makes a plan of what is asked."""
