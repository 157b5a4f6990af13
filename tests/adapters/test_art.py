"""An attack as ART calls one: ART says what succeeded."""

# pyright: reportMissingImports=false
from typing import Any, cast

import numpy as np
import pytest

import cwjax as cw

pytest.importorskip("art", reason="needs the extra art")
torch = pytest.importorskip("torch", reason="needs the extra art")

from art.attacks.attack import EvasionAttack  # noqa: E402
from art.defences.preprocessor import FeatureSqueezing  # noqa: E402
from art.estimators.classification import PyTorchClassifier  # noqa: E402
from art.exceptions import EstimatorError  # noqa: E402
from art.utils import compute_success, to_categorical  # noqa: E402

from cwjax.adapters import art_attack  # noqa: E402

pytestmark = pytest.mark.usefixtures("as_users_have_it")

torch.manual_seed(0)
LAYERS = torch.nn.Linear(60, 16), torch.nn.Tanh(), torch.nn.Dropout(0.9), torch.nn.Linear(16, 4)
NET = torch.nn.Sequential(torch.nn.Flatten(), *LAYERS)
SHAPE, LOW, HIGH = (3, 5, 4), 0.0, 255.0


def classifier(**how):
    how = {"clip_values": (LOW, HIGH), "preprocessing": (100.0, 60.0)} | how
    return PyTorchClassifier(NET, torch.nn.CrossEntropyLoss(), SHAPE, 4, device_type="cpu", **how)


CLASSIFIER = classifier()
IMAGES = np.random.default_rng(0).uniform(LOW, HIGH, (6, *SHAPE)).astype(np.float32)
LABELS = CLASSIFIER.predict(IMAGES).argmax(1)


@pytest.fixture(scope="module")
def attack():
    return art_attack(cw.fast("l2", steps=20), CLASSIFIER)


def test_art_finds_the_successes(attack):
    NET.train()  # as a classifier is after fit()
    found = attack.generate(IMAGES, LABELS)
    assert isinstance(attack, EvasionAttack)
    assert (found.shape, found.dtype) == (IMAGES.shape, np.float32)
    assert LOW <= found.min() <= found.max() <= HIGH
    assert compute_success(CLASSIFIER, IMAGES, to_categorical(LABELS, 4), found) == 1
    sizes = np.linalg.norm((found - IMAGES).reshape(6, -1), axis=1)
    np.testing.assert_allclose(attack.result.distance * (HIGH - LOW), sizes, rtol=1e-3)
    np.testing.assert_array_equal(attack.generate(IMAGES, to_categorical(LABELS, 4)), found)
    np.testing.assert_array_equal(attack.generate(x=IMAGES), found)  # the classifier's own answers


def test_a_target_is_reached(attack):
    targets = (LABELS + 1) % 4
    attack.set_params(targeted=True)
    try:
        found = attack.generate(IMAGES, targets)
        with pytest.raises(ValueError, match="a targeted attack needs y"):
            attack.generate(IMAGES)
    finally:
        attack.set_params(targeted=False)
    np.testing.assert_array_equal(CLASSIFIER.predict(found).argmax(1), targets)
    np.testing.assert_array_equal(art_attack(cw.fast("l2", steps=20), CLASSIFIER, targeted=True).targeted, True)


@pytest.mark.parametrize(
    ("words", "how"),
    [
        (r"has no clip_values: make it with clip_values=\(0, 1\)", {"clip_values": None}),
        (r"must be the same for all features", {"clip_values": (np.zeros(SHAPE), np.arange(60.0).reshape(SHAPE) + 1)}),
        (r"has FeatureSqueezing, and .* a part of the module", {"preprocessing_defences": FeatureSqueezing((0, 1))}),
    ],
)
def test_a_classifier_that_does_not_fit_is_refused(words, how):
    with pytest.raises(ValueError, match=words):
        art_attack(cw.fast("l2", steps=5), classifier(**how))


def test_other_arguments_are_refused(attack):
    with pytest.raises(TypeError, match=r"attack must be of the type cwjax\.Attack"):
        art_attack(cast(Any, print), CLASSIFIER)
    with pytest.raises(EstimatorError, match="PyTorchClassifier"):
        art_attack(cw.fast("l2", steps=5), NET)
    with pytest.raises(TypeError, match="takes x and y alone, got mask"):
        attack.generate(IMAGES, LABELS, mask=IMAGES)
    with pytest.raises(ValueError, match=r"own bounds \[0, 255\], got values from .* to 300"):
        attack.generate(np.full_like(IMAGES, 300))
