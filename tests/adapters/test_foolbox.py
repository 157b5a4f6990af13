"""An attack as foolbox calls one: foolbox says what succeeded, at which epsilon."""

# pyright: reportMissingImports=false
from typing import Any, cast

import numpy as np
import pytest

import cwjax as cw

foolbox = pytest.importorskip("foolbox", reason="needs the extra foolbox")
torch = pytest.importorskip("torch", reason="needs the extra foolbox")

from cwjax.adapters import foolbox_attack  # noqa: E402

pytestmark = pytest.mark.usefixtures("as_users_have_it")

torch.manual_seed(0)
NET = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(60, 16), torch.nn.Tanh(), torch.nn.Linear(16, 4)).eval()
SCALE = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4], "axis": -3}
LOW, HIGH = -1.0, 3.0
MODEL = foolbox.PyTorchModel(NET, bounds=(LOW, HIGH), device="cpu", preprocessing=SCALE)
IMAGES = torch.rand(6, 3, 5, 4, generator=torch.Generator().manual_seed(1)) * (HIGH - LOW) + LOW
LABELS = MODEL(IMAGES).argmax(1)


@pytest.fixture(scope="module")
def attack():
    return foolbox_attack(cw.fast("l2", steps=20))


def test_foolbox_finds_the_successes_at_their_epsilons(attack):
    [raw, *_], clipped, success = attack(MODEL, IMAGES, LABELS, epsilons=[None, 1e-3, 100.0])
    sizes = (raw - IMAGES).flatten(1).norm(dim=1)
    assert (raw.dtype, raw.shape) == (IMAGES.dtype, IMAGES.shape)
    assert bool(LOW <= raw.min() <= raw.max() <= HIGH)
    assert success.float().mean(1).tolist() == [1, 0, 1]
    np.testing.assert_allclose(attack.result.distance * (HIGH - LOW), sizes, rtol=1e-3)
    assert ((clipped[1] - IMAGES).flatten(1).norm(dim=1) < 1.01e-3).all()
    # A minimum has nothing within half of it, and itself within a hundredth more.
    middle = float(sizes.median())
    _, _, at = attack(MODEL, IMAGES, LABELS, epsilons=[middle * 1.01])
    np.testing.assert_array_equal(at[0], sizes <= middle * 1.01)


def test_a_target_is_reached(attack):
    targets = (LABELS + 1) % 4
    raw, _, success = attack(MODEL, IMAGES, foolbox.criteria.TargetedMisclassification(targets), epsilons=None)
    assert success.all()
    torch.testing.assert_close(MODEL(raw).argmax(1), targets)


def test_new_weights_are_seen(attack):
    attack(MODEL, IMAGES, LABELS, epsilons=None)
    with torch.no_grad():
        NET[3].bias += (shift := torch.tensor([100.0, 0, 0, 0]))
    attack(MODEL, IMAGES, LABELS, epsilons=None)
    with torch.no_grad():
        NET[3].bias -= shift
    np.testing.assert_array_equal(attack.result.distance == 0, LABELS.numpy() != 0)


def test_what_the_attack_leaves_alone_stays_bit_by_bit():
    attack = foolbox_attack(cw.fast("l0", steps=20))
    raw, _, success = attack(MODEL, IMAGES, LABELS, epsilons=None)
    assert success.all()
    pixels = (raw != IMAGES).any(1).flatten(1).sum(1)
    np.testing.assert_array_equal(pixels, attack.result.distance)
    assert pixels.max() < 20


def test_the_distance_is_that_of_the_norm(attack):
    assert attack.distance is foolbox.distances.l2
    assert foolbox_attack(cw.fast("linf", steps=5)).distance is foolbox.distances.linf
    other = cw.fast("l2", steps=5)
    other = other._replace(terms=other.terms._replace(distance=other.terms.distance._replace(norm="other")))
    with pytest.raises(
        ValueError, match=r"foolbox has the distances l0, l1, l2, linf, and the attack measures 'other'"
    ):
        foolbox_attack(other)


@pytest.mark.parametrize(
    ("kind", "words", "arguments"),
    [
        (ValueError, r"own bounds \[-1, 3\], got values from 27.* to 2", (MODEL, IMAGES.abs() + 27, LABELS)),
        (
            TypeError,
            r"criterion must be Misclassification or TargetedMisclassification, got _And",
            (MODEL, IMAGES, foolbox.criteria.Misclassification(LABELS) & foolbox.criteria.Misclassification(LABELS)),
        ),
        (TypeError, r"models and inputs of PyTorch, got ndarray", (MODEL, IMAGES.numpy(), LABELS.numpy())),
    ],
)
def test_what_does_not_fit_is_refused(attack, kind, words, arguments):
    with pytest.raises(kind, match=words):
        attack.run(*arguments)


def test_an_attack_is_wanted_and_no_more_arguments(attack):
    with pytest.raises(TypeError, match=r"attack must be of the type cwjax\.Attack"):
        foolbox_attack(cast(Any, print))
    with pytest.raises(TypeError, match="unexpected keyword argument 'mask'"):
        attack(MODEL, IMAGES, LABELS, epsilons=None, mask=1)
