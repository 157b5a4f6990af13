"""Tests for neural networks, generated as the systems of the literature do, from parts that the attacks share.

    from cwjax.generation import deepconcolic, requirements

    units  = cw.coverage.neurons(model, x, value="before")
    attack = cw.attacks.fmn(norm="linf", objective=requirements.neurons_reached(hinged=False))
    run    = jax.jit(cw.discretised(cw.batched(attack), between=(0, 1)))
    suite  = deepconcolic.neuron_cover(run, units, x[:1])

A requirement is a goal, its nearest input is what an attack finds, and a metamorphic relation is a goal that is to be
missed. Coverage describes the tests; it is no measure of their quality.
"""

from cwjax.generation import (
    deepconcolic,
    deepct,
    deepfault,
    deeproad,
    deeptest,
    deepxplore,
    differences,
    fuzzing,
    linear_program,
    lipschitz,
    metamorphic,
    requirements,
    suites,
    transforms,
)

__all__ = [
    "deepconcolic",
    "deepct",
    "deepfault",
    "deeproad",
    "deeptest",
    "deepxplore",
    "differences",
    "fuzzing",
    "linear_program",
    "lipschitz",
    "metamorphic",
    "requirements",
    "suites",
    "transforms",
]
