"""What each neuron does on the inputs that a network was trained on: its range, its mean and its spread."""

import dataclasses
import json
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from cwjax.arguments import check_part
from cwjax.base import AnyArray
from cwjax.coverage.convention import Activations, Convention, Layer, Neurons
from cwjax.coverage.criterion import Criterion, made, measure


@dataclasses.dataclass(frozen=True)
class Profile:
    """The range and the spread of each neuron, of one network and one convention; make it with `profiled`.

    Example:
      >>> print(np.asarray(profile.high).round(1), np.asarray(profile.deviation).round(2), profile.count)
      [0.8 0.5 0.8 0.5] [0.4  0.25 0.4  0.25] 2
    """

    low: Float[AnyArray, "N"]
    high: Float[AnyArray, "N"]
    mean: Float[AnyArray, "N"]
    m2: Float[AnyArray, "N"]  # the sum of the squared differences from the mean
    count: int  # inputs
    convention: Convention
    network: str | None  # the hash of the weights; None: of activations without a network

    @property
    def deviation(self) -> Float[AnyArray, "N"]:
        """The standard deviation over the profile's inputs, which are all there are: divided by their count."""
        return np.sqrt(np.asarray(self.m2) / max(self.count, 1))

    def save(self, path: str | Path) -> None:
        """Writes a file that `load` reads."""
        about = {"count": self.count, "network": self.network, "convention": dataclasses.asdict(self.convention)}
        arrays = {name: np.asarray(getattr(self, name)) for name in ("low", "high", "mean", "m2")}
        with open(path, "wb") as file:
            np.savez(file, allow_pickle=False, about=np.frombuffer(json.dumps(about).encode(), np.uint8), **arrays)


def load(path: str | Path, neurons: Neurons) -> Profile:
    """The profile of a file.

    Args:
      path: that `Profile.save` wrote.
      neurons: of the network that it has to be of.

    Raises:
      ValueError: a profile of other weights or of other neurons.

    Example:
      >>> import pathlib, tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     profile.save(pathlib.Path(folder) / "profile.npz")
      ...     again = cw.coverage.load(pathlib.Path(folder) / "profile.npz", units)
      >>> again.count
      2
    """
    check_part("neurons", neurons, Neurons)
    with np.load(path) as file:
        arrays = dict(file)
    about = json.loads(arrays.pop("about").tobytes())
    kept = about["convention"]
    layers = tuple(Layer(**each | {"shape": tuple(each["shape"])}) for each in kept["layers"])
    convention = Convention(layers=layers, value=kept["value"], unit=kept["unit"])
    if convention != neurons.convention:
        raise ValueError(f"{path} is a profile of {convention}; the network's are {neurons.convention}")
    if about["network"] != neurons.network():
        raise ValueError(f"{path} is a profile of other weights: make it anew with cw.coverage.profiled")
    return Profile(**arrays, count=about["count"], convention=convention, network=about["network"])


class Moments(NamedTuple):
    """The state of a profile."""

    low: Float[Array, "N"]
    high: Float[Array, "N"]
    mean: Float[Array, "N"]
    m2: Float[Array, "N"]
    inputs: Int[Array, ""]  # int32: how many


def profiling(convention: Convention, *, network: str | None = None) -> Criterion:
    """A profile as a criterion: its value is a `Profile`.

    Range and count are exact: any order and any batches give the same bits. The mean and the sum of squares are merged
    by the formula of Chan et al. (1983, "Algorithms for computing the sample variance"), and are exact
    except for rounding: another order changes their last digits.

    Args:
      convention: of the neurons.
      network: the hash of the weights, `units.network()`; None: criteria of this profile are for any network.

    Example:
      >>> criterion = cw.coverage.profiling(units.convention)
      >>> criterion.value(criterion.update(criterion.init(), units(x)[1])).count
      2

    References:
      Chan et al. 1983, "Algorithms for computing the sample variance: analysis and recommendations", The American
        Statistician 37(3).
    """
    size = convention.neurons

    def init() -> Moments:
        nothing = jnp.zeros(size, float)
        return Moments(nothing + jnp.inf, nothing - jnp.inf, nothing, nothing + 0, jnp.zeros((), jnp.int32))

    def value(state: Moments) -> Profile:
        arrays = (np.asarray(each) for each in state[:4])
        return Profile(*arrays, count=int(state.inputs), convention=convention, network=network)

    return made("profile", convention, init=init, update=_observe, value=value, merge=merged)


def profiled(neurons: Neurons, x: Float[AnyArray, "M *S"], *, batch: int = 64, context: PyTree = None) -> Profile:
    """The profile of a network on some inputs, which should be those that it was trained on.

    Args:
      neurons: from `neurons`.
      x: the inputs.
      batch: how many at once.
      context: what the model is told besides.

    Raises:
      ValueError: as `measure`.

    Example:
      >>> profile = cw.coverage.profiled(units, x)
      >>> profile.low.tolist(), profile.count
      ([0.0, 0.0, 0.0, 0.0], 2)
    """
    check_part("neurons", neurons, Neurons)
    return measure(neurons, profiling(neurons.convention, network=neurons.network()), x, batch=batch, context=context)


def _observe(state: Moments, activations: Activations) -> Moments:
    values = activations.values
    mean = values.mean(0)
    m2 = jnp.square(values - mean[None]).sum(0)
    batch = Moments(values.min(0), values.max(0), mean, m2, jnp.full((), len(values), jnp.int32))
    return merged(state, batch)


def merged(first: Moments, second: Moments) -> Moments:
    """The moments of the inputs of both."""
    count = first.inputs + second.inputs
    dtype = jnp.promote_types(first.mean.dtype, second.mean.dtype)
    whole = jnp.maximum(count, 1).astype(dtype)
    share = second.inputs.astype(dtype) / whole
    apart = second.mean - first.mean
    return Moments(
        low=jnp.minimum(first.low, second.low),
        high=jnp.maximum(first.high, second.high),
        mean=first.mean + apart * share,
        m2=first.m2 + second.m2 + apart**2 * (first.inputs.astype(dtype) * share),
        inputs=count,
    )


def bounds(profile: Profile) -> tuple[Array, Array]:
    """The low and the high end of each neuron, for a criterion that goes by a profile.

    Raises:
      TypeError: no profile.
      ValueError: a profile of no inputs.
    """
    check_part("profile", profile, Profile)
    if not profile.count:
        raise ValueError("this profile is of no inputs: nothing is known of its neurons")
    return jnp.asarray(profile.low), jnp.asarray(profile.high)
