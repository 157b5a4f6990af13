"""The attacks against plain loops of the released code, written in NumPy float64 with their derivatives by hand."""

import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cwjax as cw
from tests import problems

COUNT, ROUNDS = 10, 9


class Example(NamedTuple):
    params: dict[str, np.ndarray]
    x: np.ndarray  # [S]: flat
    label: int
    sign: float  # as in a goal


class Point(NamedTuple):
    """An iterate of the descent."""

    image: np.ndarray
    delta: np.ndarray
    lead: float  # by how many logits the goal is met
    gradient: np.ndarray  # of D + c·f, in tanh space
    c: float


Slope = Callable[[np.ndarray], np.ndarray]
"""From delta to the gradient of D in the image."""


def descent(
    example: Example, start: np.ndarray, c: float, slope: Slope, *, rate: float, confidence=0.0, mask=True, every=0
) -> Iterator[Point]:
    """The points that Adam visits from `start`, without end; c doubles after `every` so many of them, if any."""
    params, x, label, sign = example
    w, first, second = np.arctanh((start * 2 - 1) * (1 - 1e-6)), 0.0, 0.0
    for step in itertools.count(1):
        tanh = np.tanh(w)
        image = np.where(mask, tanh / 2 + 0.5, x)
        hidden = np.tanh(image @ params["w1"] + params["b1"])
        logits = hidden @ params["w2"] + params["b2"]
        masked = logits.copy()
        masked[label] = -np.inf
        other = int(masked.argmax())
        lead = sign * (logits[label] - logits[other])
        by_logits = np.zeros_like(logits)
        if lead < confidence:
            by_logits[label], by_logits[other] = -sign, sign
        by_image = slope(image - x) + c * params["w1"] @ ((1 - hidden**2) * (params["w2"] @ by_logits))
        gradient = mask * by_image * (1 - tanh**2) / 2
        yield Point(image, image - x, lead, gradient, c)
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        corrected = first / (1 - 0.9**step), second / (1 - 0.999**step)
        w = w - rate * corrected[0] / (np.sqrt(corrected[1]) + 1e-8)
        if every and step % every == 0:
            c *= 2


def l2(example: Example, steps: int, confidence: float) -> tuple[float, int]:
    """`l2_attack.py`: the best L2 norm, and the steps spent. A step is one evaluation of the model."""
    c, lower, upper, best, spent = 1e-3, 0.0, 1e10, np.inf, 0
    for _ in range(ROUNDS):
        points = descent(example, example.x, c, lambda delta: 2 * delta, rate=0.01, confidence=confidence)
        previous, found = np.inf, False
        for step, point in enumerate(itertools.islice(points, steps)):
            spent += 1
            distance = np.sum(point.delta**2)
            if point.lead > confidence:
                found = True
                best = min(best, np.sqrt(distance))
            loss = distance + c * max(0.0, confidence - point.lead)
            if step % (steps // 10) == 0:
                if loss > previous * 0.9999:
                    break
                previous = loss
        if found:
            upper = min(upper, c)
        else:
            lower = max(lower, c)
        c = (lower + upper) / 2 if upper < 1e9 else c * 10
    return best, spent


def linf(example: Example, steps: int, largest: float) -> tuple[float, int]:
    """`li_attack.py`: the best distance and the steps spent. A round succeeds where the goal is met within tau, rather
    than by the size of the loss; the closest example is returned, rather than the last.
    """
    start, c, tau, best, spent = example.x, 1e-5, np.inf, np.inf, 0
    while tau > 1 / 256:

        def slope(delta, tau=tau):
            return np.where(np.abs(delta) > tau, np.sign(delta), 0)

        for point in descent(example, start, c, slope, rate=5e-3, every=steps):
            if point.c >= largest:
                return best, spent
            spent += 1
            distance = np.abs(point.delta).max()
            if point.lead > 0:
                best = min(best, distance)
                if distance <= tau:
                    start, c, tau = point.image, point.c, 0.9 * distance
                    break
    return best, spent


def l0(example: Example, steps: int, largest: float, share: float, channels: int) -> tuple[float, int]:
    """`l0_attack.py`: the least number of pixels, and the steps spent. A pixel is a row of so many channels. With no
    pixel left the clean image is evaluated once.
    """
    start, c, mask, best, spent = example.x, 1e-3, np.ones(example.x.size, bool), np.inf, 0
    while True:
        options = {"rate": 0.01, "confidence": 0.01, "mask": mask, "every": steps}
        for point in descent(example, start, c, lambda delta: 2 * delta, **options):
            if point.c >= largest:
                return best, spent
            spent += 1
            success = point.lead >= 0.01
            if success:
                best = min(best, (point.delta.reshape(-1, channels) != 0).any(1).sum())
            if not mask.any():
                return best, spent
            if success:
                start, c, mask = point.image, point.c, shrunk(mask, point, share, channels)
                break


def shrunk(mask: np.ndarray, point: Point, share: float, channels: int) -> np.ndarray:
    """The pixels that may still move after the success at `point`."""
    delta, gradient = point.delta.reshape(-1, channels), point.gradient.reshape(-1, channels)
    scores = np.abs(delta.sum(1)) * np.abs(gradient).sum(1)
    changed, frozen = (np.abs(delta) >= 1e-4).any(1).sum(), 0
    valid = mask.reshape(-1, channels).copy()
    for pixel in np.argsort(scores):
        if valid[pixel].all():
            valid[pixel] = False
            frozen += 1
            if scores[pixel] > 0.01 or frozen >= share * np.sqrt(changed):
                break
    return valid.reshape(-1)


PARAMS, X = problems.mlp_params(dtype=np.float64), problems.inputs(COUNT).astype(np.float64)
GOAL = problems.goals(cw.bind(problems.mlp, problems.mlp_params()), X.astype(np.float32))


def by_loop(loop: Callable[[Example], tuple[float, int]]) -> tuple[np.ndarray, np.ndarray]:
    """Distances and steps of every example."""
    goals = zip(np.asarray(GOAL.label), np.asarray(GOAL.sign), strict=True)
    results = [loop(Example(PARAMS, x.reshape(-1), label, sign)) for x, (label, sign) in zip(X, goals, strict=True)]
    distance, spent = zip(*results, strict=True)
    assert np.isfinite(distance).sum() >= COUNT / 2
    return np.array(distance), np.array(spent)


def by_library(make: Callable[[], cw.Attack], shape=problems.SHAPE) -> tuple[np.ndarray, np.ndarray]:
    """The same, by an attack that is made where numbers are float64."""
    with jax.enable_x64(True):
        model = cw.bind(problems.mlp, jax.tree.map(jnp.asarray, PARAMS))
        x = jnp.asarray(X.reshape(COUNT, *shape))
        result = jax.jit(cw.batched(make()))(model, problems.keys(COUNT), x, jax.tree.map(jnp.asarray, GOAL))
        assert result.x.dtype == jnp.float64
        return np.asarray(result.distance), np.asarray(result.forwards)


@pytest.mark.parametrize("confidence", [0.0, pytest.param(2.0, marks=pytest.mark.long)])
def test_l2_agrees_with_the_released_loop(confidence):
    expected, spent = by_loop(lambda example: l2(example, 200, confidence))
    distance, forwards = by_library(lambda: cw.l2(objective=cw.objectives.logit_margin(confidence), steps=200))
    np.testing.assert_allclose(distance, expected, rtol=1e-4)
    np.testing.assert_array_equal(forwards, spent)


@pytest.mark.parametrize(("steps", "largest"), [(50, 20.0), pytest.param(120, 0.5, marks=pytest.mark.long)])
def test_linf_agrees_with_the_released_loop(steps, largest):
    expected, spent = by_loop(lambda example: linf(example, steps, largest))
    distance, forwards = by_library(lambda: cw.linf(steps=steps, largest_c=largest))
    np.testing.assert_allclose(distance, expected, rtol=1e-4)
    np.testing.assert_array_equal(forwards, spent)


# Of twelve pixels the released share of 0.3 freezes about one; 1.5 freezes up to five. `one_pixel` is the share 0.
@pytest.mark.parametrize(
    ("shape", "removal", "share"),
    [
        pytest.param(problems.SHAPE, cw.search.one_pixel(), 0.0, marks=pytest.mark.long),
        pytest.param(problems.SHAPE, cw.search.many_pixels(share=1.5), 1.5, marks=pytest.mark.long),
        ((2, 2, 3), cw.search.many_pixels(), 0.3),
    ],
)
def test_l0_agrees_with_the_released_loop(shape, removal, share):
    channels, axis = (shape[-1], -1) if len(shape) == 3 else (1, None)
    expected, spent = by_loop(lambda example: l0(example, 60, 100.0, share, channels))
    parts = {
        "search": cw.search.shrink_mask(removal=removal, channel_axis=axis),
        "distance": cw.distances.l0(channel_axis=axis),
    }
    distance, forwards = by_library(lambda: cw.l0(steps=60, largest_c=100.0, **parts), shape)
    np.testing.assert_array_equal(distance, expected)
    np.testing.assert_array_equal(forwards, spent)
    assert len(set(distance)) > 2
