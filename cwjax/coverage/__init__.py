"""Coverage criteria of neural-network testing, which stream and merge.

    units   = cw.coverage.neurons(model, images)                     # which values are neurons
    profile = cw.coverage.profiled(units, training_images)           # what they do in training
    kmnc    = cw.coverage.section_coverage(profile, sections=1000)
    print(cw.coverage.measure(units, kmnc, images))

Coverage describes inputs. Whether more of it finds more faults is not known: never read it as quality.
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
