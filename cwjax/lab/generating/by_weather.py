"""DeepRoad: seeds taken to another weather, by colours that are learnt from images without pairs, or by the weather's
own operator.
"""

from collections.abc import Callable, Sequence

import jax
import numpy as np

from cwjax import coverage
from cwjax.generation import deeproad
from cwjax.lab.generating.plans import Asked, Made, Plan, in_eight_bits
from cwjax.lab.generating.subject import neurons_of, wrong

LEARNT = 1000  # training images at most, of which colours and features are learnt


def deeproad_plan(asked: Asked) -> Plan:
    """Each seed in each weather. Row w·count + i is seed i in weather w.

    An image that the validator turns away, because its features are too far from those of training images, is no test.
    """
    subject, told = asked.subject, asked.settings
    shape = subject.seeds.images.shape[1:]
    if len(shape) != 3:
        raise ValueError(f"--system deeproad changes images [H, W, C], got {list(shape)}")
    images = asked.training()[:LEARNT]
    half = len(images) // 2
    if half < 2:
        raise ValueError(f"--system deeproad learns from training images, and {subject.data} has {len(images)} of them")
    [neurons] = neurons_of(asked.system, subject, "element")
    features = _features(neurons)
    valid = deeproad.validator(features(images[:half]), features(images[half:]), rejected=told["rejected"])

    def make(rows: range, before: Sequence[Made]) -> Made:
        del before
        which, places = np.divmod(np.asarray(rows), asked.asked_for)
        names = [told["weathers"][each] for each in which]
        seeds, labels = subject.seeds.images[places], subject.seeds.labels[places]
        x, true, colours = np.empty_like(seeds), np.empty_like(seeds), {}
        for name in set(names):
            some = np.asarray([each == name for each in names])
            operator = deeproad.WEATHERS[name]
            moved = deeproad.colours_between(images[:half], np.asarray(operator(images[half:])))
            colours[name] = [float(each) for part in moved for each in np.ravel(part)]
            true[some] = in_eight_bits(operator(seeds[some]))
            x[some] = true[some] if told["translation"] == "operator" else in_eight_bits(moved(seeds[some]))
        accepted = np.asarray(valid.accepts(features(x)))
        lost, really = wrong(subject, places, x, labels), wrong(subject, places, true, labels)
        found = lost & accepted
        kept = np.where(found.reshape(-1, 1, 1, 1), x, seeds)
        more = {"transform": names, "accepted": accepted.tolist(), "the operator agrees": (really == lost).tolist()}
        if told["translation"] == "colours":
            more["parameters"] = [colours[name] for name in names]
        words = [
            f"{name} breaks the label" if near else f"{name}: the validator turns the image away"
            for name, near in zip(names, accepted, strict=True)
        ]
        return Made(places.tolist(), words, kept, found.tolist(), more)

    return Plan(asked.asked_for * len(told["weathers"]), make, {"features": neurons.convention.layers[-1].name})


def _features(neurons: coverage.Neurons) -> Callable[[np.ndarray], np.ndarray]:
    """What the last hidden layer says of images, [B, F]."""
    last = neurons.convention.slices[-1]
    ask = jax.jit(lambda neurons, x: neurons(x)[1].values[:, last])

    def features(x: np.ndarray) -> np.ndarray:
        return np.concatenate([np.asarray(ask(neurons, x[i : i + 100])) for i in range(0, len(x), 100)])

    return features
