"""Coverage criteria by others, as `benchmarks.coverage` races them: plain NumPy, dnn-tip's own code, PyTorch's loops.

The NumPy ones are written here, plainly. dnn-tip 0.1.1 (Weiss and Tonella) is the package itself, with its input as it
wants it. NeuraL-Coverage (Yuan et al. 2023) is a repository and no package, so its updates are written here after it,
line by line, for activations that are given: a boolean table for a batch, united with the one that is kept, and the
sum over the table that its `gain` takes at every step. DeepXplore's loop is written after the repository too.
"""

# pyright: reportMissingImports=false
import abc
from collections.abc import Callable
from typing import Any

import numpy as np

from cwjax.coverage import Convention, Profile

Rival = tuple[Callable[[], Any], int]  # the call, and how many images it is given


def sections(which: str, values: np.ndarray, profile: Profile, k: int, slow: int) -> Rival:
    """KMNC by one of them."""
    of, few = profile.convention, values[:slow]
    if which == "numpy":
        return (lambda: each_image(values, profile, k)), len(values)
    if which == "dnn-tip":
        from dnn_tip.neuron_coverage import KMNC

        theirs, layers = KMNC(split(profile.low, of), split(profile.high, of), k), split(few, of)
        return (lambda: theirs(layers)), len(few)
    theirs = TorchSections(values, profile, k)
    return theirs.step, len(values)


def activated(which: str, values: np.ndarray, of: Convention, threshold: float, slow: int) -> Rival:
    """NC by one of them; dnn-tip does not scale, so that it has less to do."""
    if which == "numpy":
        return (lambda: scaled_layers(values, of, threshold)), len(values)
    if which == "dnn-tip":
        from dnn_tip.neuron_coverage import NAC

        layers = split(values, of)
        return (lambda: NAC(threshold)(layers)), len(values)
    if which == "torch":
        return TorchActivated(values, of, threshold).step, len(values)
    return (lambda: each_neuron(values[:slow], of, threshold)), slow


def beyond(which: str, values: np.ndarray, profile: Profile) -> Rival:
    """NBC by one of them."""
    of = profile.convention
    if which == "numpy":
        low, high = np.asarray(profile.low), np.asarray(profile.high)
        return (lambda: ((values < low).any(0), (values > high).any(0))), len(values)
    if which == "dnn-tip":
        from dnn_tip.neuron_coverage import NBC

        ends = (split(each, of) for each in (profile.low, profile.high, profile.deviation))
        theirs, layers = NBC(*ends, scaler=0), split(values, of)
        return (lambda: theirs(layers)), len(values)
    return TorchBeyond(values, profile).step, len(values)


def leading(which: str, values: np.ndarray, of: Convention, k: int) -> Rival:
    """TKNC by one of them."""
    if which == "numpy":
        return (lambda: sorted_layers(values, of, k)), len(values)
    if which == "dnn-tip":
        from dnn_tip.neuron_coverage import TKNC

        theirs, layers = TKNC(k), split(values, of)
        return (lambda: theirs(layers)), len(values)
    return TorchLeading(values, of, k).step, len(values)


def distances(which: str, reference: np.ndarray, classes: np.ndarray, values, predicted, slow: int) -> Rival:
    """DSA by one of them."""
    few, labels = values[:slow], predicted[:slow]
    if which == "dnn-tip":
        from dnn_tip.surprise import DSA

        theirs = DSA(reference, classes)
        return (lambda: theirs(few, labels)), len(few)
    return (lambda: each_pair(reference, classes, few, labels)), len(few)


def split(values: Any, of: Convention) -> list[np.ndarray]:
    """The neurons of each layer, as dnn-tip takes them."""
    return [np.ascontiguousarray(np.asarray(values)[..., part]) for part in of.slices]


def each_image(values: np.ndarray, profile: Profile, k: int) -> np.ndarray:
    """KMNC by an index for each image, into a table of booleans."""
    low, high = np.asarray(profile.low), np.asarray(profile.high)
    width, neurons = np.where(high > low, high - low, 1), np.arange(len(low))
    covered = np.zeros((len(low), k), bool)
    for row in values:
        inside = (row >= low) & (row <= high) & (high > low)
        place = np.minimum(((row - low) / width * k).astype(int), k - 1)
        covered[neurons[inside], place[inside]] = True
    return covered


def scaled_layers(values: np.ndarray, of: Convention, threshold: float) -> np.ndarray:
    """NC by layers, each of them scaled at once."""
    hits = []
    for part in of.slices:
        low, high = values[:, part].min(1, keepdims=True), values[:, part].max(1, keepdims=True)
        hits.append(((values[:, part] - low) / (high - low) > threshold).any(0))
    return np.concatenate(hits)


def each_neuron(values: np.ndarray, of: Convention, threshold: float) -> dict[tuple[int, int], bool]:
    """NC by DeepXplore's loop over images, layers and neurons, into a dictionary."""
    covered: dict[tuple[int, int], bool] = {}
    for row in values:
        for layer, part in enumerate(of.slices):
            scaled = (row[part] - row[part].min()) / (row[part].max() - row[part].min())
            for neuron in range(part.stop - part.start):
                if np.mean(scaled[neuron]) > threshold:
                    covered[layer, neuron] = True
    return covered


def sorted_layers(values: np.ndarray, of: Convention, k: int) -> np.ndarray:
    """TKNC by sorting each layer."""
    covered = np.zeros(values.shape[1], bool)
    for part in of.slices:
        covered[part.start + np.argsort(values[:, part], axis=1)[:, -k:].reshape(-1)] = True
    return covered


def each_pair(reference: np.ndarray, classes: np.ndarray, values: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """DSA by the differences of each input to all others."""
    scores = []
    for value, label in zip(values, predicted, strict=True):
        same, other = reference[classes == label], reference[classes != label]
        apart = np.linalg.norm(same - value, axis=1)
        nearest = same[apart.argmin()]
        scores.append(apart.min() / np.linalg.norm(other - nearest, axis=1).min())
    return np.asarray(scores)


class Torch(abc.ABC):
    """NeuraL-Coverage's `step`: the tables of a batch, united with what is kept, and their sum."""

    def __init__(self, values: np.ndarray, of: Convention):
        import torch

        self.torch, self.of = torch, of
        self.layers = [torch.from_numpy(each) for each in split(values, of)]
        self.kept: list[Any] = [False] * len(self.layers)

    @abc.abstractmethod
    def table(self, place: int) -> Any:
        """Which neurons, or sections, the batch reaches in one layer."""

    def step(self) -> float:
        self.kept = [self.table(place) | kept for place, kept in enumerate(self.kept)]
        return float(sum(each.sum() for each in self.kept))


class TorchActivated(Torch):
    """NC: scaled within the layer."""

    def __init__(self, values, of, threshold):
        super().__init__(values, of)
        self.threshold = threshold

    def table(self, place):
        layer = self.layers[place]
        low, high = layer.min(-1)[0].unsqueeze(-1), layer.max(-1)[0].unsqueeze(-1)
        return ((layer - low) / (high - low) > self.threshold).sum(0) > 0


class TorchRanged(Torch):
    """The criteria that go by a profile."""

    def __init__(self, values, profile):
        super().__init__(values, profile.convention)
        sides = (split(side, self.of) for side in (profile.low, profile.high))
        self.ends = [tuple(map(self.torch.from_numpy, both)) for both in zip(*sides, strict=True)]


class TorchBeyond(TorchRanged):
    """NBC: a table of lower corners and one of upper ones."""

    def table(self, place):
        (low, high), layer = self.ends[place], self.layers[place]
        return self.torch.cat([(layer < low).sum(0) > 0, (layer > high).sum(0) > 0])


class TorchSections(TorchRanged):
    """KMNC: section 0 stands for what is out of range."""

    def __init__(self, values, profile, k):
        super().__init__(values, profile)
        self.k = k

    def table(self, place):
        torch, (low, high), layer = self.torch, self.ends[place], self.layers[place]
        neurons, ranged = layer.size(1), high > low
        inside = ranged & (layer >= low) & (layer <= high)
        covered = torch.zeros(neurons, self.k + 1).type(torch.BoolTensor)
        width = (~ranged) * 1e-6 + ranged * (high - low)
        at = torch.ceil((layer - low) / width * self.k).type(torch.LongTensor) * inside
        covered[(torch.LongTensor(list(range(neurons))), at)] = True
        return covered


class TorchLeading(Torch):
    """TKNC."""

    def __init__(self, values, of, k):
        super().__init__(values, of)
        self.k = k

    def table(self, place):
        torch, layer = self.torch, self.layers[place]
        _, at = layer.topk(min(self.k, layer.size(1)), dim=1, largest=True, sorted=False)
        covered = torch.zeros(layer.size())
        covered[(torch.LongTensor(list(range(len(layer)))), at.transpose(0, 1))] = 1
        return covered.sum(0) > 0
