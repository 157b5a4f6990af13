"""Tests for neural networks, generated as the systems of the literature do, from parts that the attacks share.

A requirement is a goal, its nearest input is what an attack finds, and a metamorphic relation is a goal that is to be
missed. Coverage describes the tests; it is no measure of their quality. The examples go on from these lines:

Example:
  >>> from cwjax.generation import deepconcolic, requirements
  >>> layer = jnp.array([[1.0, -1.0], [-1.0, 1.0]])
  >>> network = cw.bind(lambda weights, x: jax.nn.relu(jax.nn.relu(x @ weights) @ weights), layer)
  >>> x, labels = jnp.array([[0.9, 0.1], [0.2, 0.7]]), np.array([0, 1])
  >>> units = cw.coverage.neurons(network, x, value="before")  # a - b and b - a, and so on in the next layer
  >>> attack = cw.attacks.bim(epsilon=0.5, objective=requirements.neurons_reached(hinged=False))
  >>> run = jax.jit(cw.batched(attack))
  >>> suite = deepconcolic.neuron_cover(run, units, x[:1], radius=0.5, lanes=2)
  >>> suite.met.tolist(), len(suite.x)  # the seed meets two requirements, and one new test the other two
  ([True, True, True, True], 2)
"""

from cwjax.generation import (
    constraints,
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
    mutations,
    novelty,
    requirements,
    suites,
    transforms,
    worst_case,
)

__all__ = [
    "constraints",
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
    "mutations",
    "novelty",
    "requirements",
    "suites",
    "transforms",
    "worst_case",
]
