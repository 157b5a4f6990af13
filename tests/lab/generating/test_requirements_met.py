import numpy as np
import pytest

from cwjax.generation import deeproad, deeptest
from cwjax.generation.transforms import TRANSFORMS
from cwjax.lab.generating import requirements_met

SEEDS = np.rint(255 * np.random.default_rng(0).uniform(0.2, 0.8, (2, 6, 6, 1))).astype(np.float32) / np.float32(255)


def answers(x):
    """Bright or dark."""
    mean = x.reshape(len(x), -1).mean(-1)
    return np.stack([0.5 - mean, mean - 0.5], 1)


def looked(system, settings, x, models=(answers,), values=None, **columns):
    label = [int(each) for each in answers(SEEDS).argmax(-1)]
    return requirements_met.judged(system, settings, {"label": label} | columns, SEEDS, x, models, values)


def changed(place, value):
    x = SEEDS.copy()
    x[0][place] = np.float32(value)
    return x


@pytest.mark.parametrize(
    ("system", "settings", "place", "value", "words"),
    [
        ("any", {}, (0, 0), 0.1234, requirements_met.BYTES),
        ("any", {}, (0, 0), 256 / 255, requirements_met.OUTSIDE),
        ("deepct", {"radius": 0.1}, (0, 0), 1.0, "farther than 0.1 from its seed"),
        ("deepfault", {"epsilon": 0.1}, (0, 0), 1.0, "farther than 0.1 from its seed"),
        ("fuzzing", {"fuzzer": "tensorfuzz"}, (slice(None),), 1.0, "farther than 0.4 from its seed"),
        ("deepxplore", {"constraint": "occlusion", "patch": 2}, (2, 0), 1.0, "changed outside of the patch"),
        ("deepxplore", {"constraint": "blackout", "patch": 2}, (2, 0), 1.0, "brighter somewhere"),
    ],
)
def test_what_must_not_change(system, settings, place, value, words):
    assert looked(system, settings, changed(place, value)).faults == [words, ""]
    assert looked(system, settings, SEEDS).faults == ["", ""]


def test_what_may_change():
    settings = {"constraint": "occlusion", "patch": 2}
    assert looked("deepxplore", settings, changed((1, 1), 1.0)).faults == ["", ""]
    assert looked("deepxplore", {"constraint": "blackout", "patch": 2}, changed((1, 1), 0.0)).faults == ["", ""]


def test_a_transform_has_to_be_the_one_that_is_named():
    shift = np.float32(10 / 255)
    x = np.clip(SEEDS + shift, 0, 1)
    columns = {"transform": ["brightness"] * 2, "parameters": [[10 / 255], [-10 / 255]]}
    wrong = "not its transform of the seed"
    assert looked("deeptest", {}, x, **columns).faults == ["", wrong]
    beyond = columns | {"parameters": [[40 / 255]] * 2}
    assert TRANSFORMS["brightness"].high[0] < 40 / 255
    assert looked("deeptest", {}, np.clip(SEEDS + np.float32(40 / 255), 0, 1), **beyond).faults == [wrong, wrong]


def test_guided_tests_and_weathers_are_made_again():
    wrong = "not its transform of the seed"
    names, numbers = ["brightness", "contrast"], [10 / 255, 0.9]
    x = np.stack([np.asarray(deeptest.repeated(seed, [TRANSFORMS[name] for name in names], numbers)) for seed in SEEDS])
    columns = {"transforms": [names, names], "parameters": [numbers, [0.0, 0.6]]}
    assert looked("deeptest", {}, x, **columns).faults == ["", wrong]
    night = np.rint(255 * np.float32(deeproad.NIGHT) * SEEDS).astype(np.float32) / np.float32(255)
    assert looked("deeproad", {}, night, transform=["night", "fog"]).faults == ["", wrong]
    colours = {"transform": ["night"] * 2, "parameters": [[deeproad.NIGHT, 0.0, 0.0], [1.0, 0.0, 0.0]]}
    assert looked("deeproad", {}, night, **colours).faults == ["", wrong]


def test_answers_are_met_where_they_differ():
    x = np.stack([np.ones_like(SEEDS[0]), np.zeros_like(SEEDS[0])])
    one = looked("deepfault", {}, x)
    np.testing.assert_array_equal(one.after, [[1, 0]])
    np.testing.assert_array_equal(one.met, one.after[0] != answers(SEEDS).argmax(-1))
    several = looked("deepxplore", {}, x, (answers, lambda x: np.tile([[0.0, 1.0]], (len(x), 1))))
    np.testing.assert_array_equal(several.met, [False, True])


def test_neurons_are_met_on_their_side_of_their_bounds():
    columns = {"neuron": [[0, 1], [1]], "above": [[True, False], [True]], "bound": [[0.5, 0.5], [0.5]]}
    values = np.array([[0.6, 0.4], [0.6, 0.4]])
    np.testing.assert_array_equal(looked("deepct", {}, SEEDS, values=lambda x: values, **columns).met, [True, False])
    values = np.array([[0.4, 0.4], [0.6, 0.6]])
    np.testing.assert_array_equal(looked("deepct", {}, SEEDS, values=lambda x: values, **columns).met, [False, True])
