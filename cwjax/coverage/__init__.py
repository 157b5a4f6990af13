"""Coverage criteria of neural-network testing, which stream and merge.

Coverage describes inputs. Whether more of it finds more faults is not known: never read it as quality. The examples go
on from these lines:

Example:
  >>> layer = jnp.array([[1.0, -1.0], [-1.0, 1.0]])  # its neurons are on for a > b, and for a < b
  >>> network = cw.bind(lambda weights, x: jax.nn.relu(jax.nn.relu(x @ weights) @ weights), layer)
  >>> x = jnp.array([[0.9, 0.1], [0.2, 0.7]])
  >>> units = cw.coverage.neurons(network, x)  # which values are neurons
  >>> profile = cw.coverage.profiled(units, x)  # what they do in training
  >>> kmnc = cw.coverage.section_coverage(profile, sections=10)
  >>> cw.coverage.measure(units, kmnc, x).value  # of ten sections, each neuron's first and last
  0.2
"""

from cwjax.coverage import priority, surprise, suspicion, uncertainty
from cwjax.coverage.boundaries import boundary_coverage, strong_activation_coverage
from cwjax.coverage.combinations import combination_coverage
from cwjax.coverage.convention import Activations, Convention, Layer, Neurons
from cwjax.coverage.criterion import Coverage, Criterion, curve, measure
from cwjax.coverage.neuron_coverage import neuron_coverage
from cwjax.coverage.neurons import from_function, from_nnx, neurons, rewired
from cwjax.coverage.profiles import Profile, load, profiled, profiling
from cwjax.coverage.sections import section_coverage
from cwjax.coverage.sign_sign import sign_sign_coverage
from cwjax.coverage.spread import covariance_spread
from cwjax.coverage.top_neurons import top_neuron_coverage, top_pattern_count

__all__ = [
    "Activations",
    "Convention",
    "Coverage",
    "Criterion",
    "Layer",
    "Neurons",
    "Profile",
    "boundary_coverage",
    "combination_coverage",
    "covariance_spread",
    "curve",
    "from_function",
    "from_nnx",
    "load",
    "measure",
    "neuron_coverage",
    "neurons",
    "priority",
    "profiled",
    "profiling",
    "rewired",
    "section_coverage",
    "sign_sign_coverage",
    "strong_activation_coverage",
    "surprise",
    "suspicion",
    "top_neuron_coverage",
    "top_pattern_count",
    "uncertainty",
]
