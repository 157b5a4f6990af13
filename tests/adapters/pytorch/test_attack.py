"""An attack as PyTorch code calls one: tensors in, tensors out, on the same device and in the same dtype."""

# pyright: reportMissingImports=false
from typing import Any, cast

import numpy as np
import pytest

import cwjax as cw

torch = pytest.importorskip("torch", reason="needs the extra torch")

from cwjax.adapters import torch_attack  # noqa: E402

pytestmark = pytest.mark.usefixtures("as_users_have_it")

SHAPE = (3, 5, 4)


class Counted(torch.nn.Module):
    """Counts its passes, and so has to be asked."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.line, self.passes = torch.nn.Linear(60, 4), 0

    def forward(self, x):
        self.passes += 1
        return self.line(torch.tanh(x.flatten(1)))


NET = Counted().eval()
IMAGES = torch.rand(6, *SHAPE, generator=torch.Generator().manual_seed(1))
LABELS = NET(IMAGES).argmax(1)


@pytest.fixture(scope="module")
def attack():
    return torch_attack(cw.fast("l2", steps=20))


def test_tensors_come_back_as_they_went(attack):
    found = attack(NET, IMAGES, LABELS)
    assert (found.shape, found.dtype, found.device) == (IMAGES.shape, IMAGES.dtype, IMAGES.device)
    success = torch.from_numpy(attack.result.success)
    assert success.sum() >= 5
    torch.testing.assert_close(NET(found).argmax(1) != LABELS, success)
    sizes = (found - IMAGES).flatten(1).norm(dim=1)
    np.testing.assert_allclose(sizes[success], attack.result.distance[success], rtol=1e-3)
    assert attack.result.x.shape == (6, 5, 4, 3)
    assert attack(NET, IMAGES.double(), LABELS).dtype == torch.float64


def test_a_target_is_a_target_or_a_label(attack):
    targets = (LABELS + 1) % 4
    by_name = attack(NET, IMAGES, LABELS, targets=targets, targeted=True)
    assert attack.result.success.all()
    assert (NET(by_name).argmax(1) == targets).all()
    torch.testing.assert_close(attack(NET, IMAGES, targets, targeted=True), by_name)
    away = attack(NET, IMAGES, LABELS, targets=targets)
    torch.testing.assert_close(away, attack(NET, IMAGES, LABELS))


def test_a_module_that_counts_is_asked():
    attack = torch_attack(cw.fast("l2", steps=20), how="ask")
    attack(NET, IMAGES, LABELS)
    before = NET.passes
    attack(NET, IMAGES, LABELS)
    assert 20 <= NET.passes - before <= 22


def test_a_model_is_made_once_and_again_where_its_weights_change(attack):
    module = Counted().eval()
    attack(module, IMAGES, LABELS)
    passes = module.passes
    attack(module, IMAGES, LABELS)
    assert module.passes == passes
    with torch.no_grad():
        module.line.bias += torch.tensor([100.0, 0, 0, 0])
    attack(module, IMAGES, LABELS)
    assert module.passes > passes
    assert (attack.result.distance[LABELS.numpy() != 0] == 0).all()


def test_a_grey_result_may_be_written_to():
    """Images of one channel lie in memory as JAX has them, so that no move of the channels copies them."""
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(6, 3)).eval()
    grey = torch.rand(2, 1, 2, 3, generator=torch.Generator().manual_seed(1))
    attack = torch_attack(cw.fast("l2", steps=5))
    found = attack(net, grey, net(grey).argmax(1))
    kept = attack.result.x.copy()
    found.clamp_(max=0)
    np.testing.assert_array_equal(attack.result.x, kept)


def test_batches_are_cut():
    whole, cut = torch_attack(cw.fast("l2", steps=20)), torch_attack(cw.fast("l2", steps=20), batch=4)
    torch.testing.assert_close(whole(NET, IMAGES, LABELS), cut(NET, IMAGES, LABELS), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("kind", "words", "arguments"),
    [
        (TypeError, r"say targeted=True by its name", (NET, IMAGES, LABELS, True)),
        (TypeError, r"inputs must be a torch.Tensor, got ndarray", (NET, IMAGES.numpy(), LABELS)),
        (TypeError, r"labels must be a torch.Tensor, got list", (NET, IMAGES, [0] * 6)),
        (ValueError, r"floating-point in \[0, 1\]: divide 8-bit images", (NET, IMAGES * 255, LABELS)),
        (ValueError, r"floating-point in \[0, 1\]", (NET, IMAGES.to(torch.uint8), LABELS)),
        (TypeError, r"takes a torch.nn.Module, got function", (lambda x: x, IMAGES, LABELS)),
        (ValueError, r"Counted is in training mode", (Counted(), IMAGES, LABELS)),
    ],
)
def test_what_does_not_fit_is_refused(attack, kind, words, arguments):
    with pytest.raises(kind, match=words):
        attack(*arguments)


def test_an_attack_is_wanted_and_a_result_comes_after_a_call():
    with pytest.raises(TypeError, match=r"attack must be of the type cwjax\.Attack"):
        torch_attack(cast(Any, print))
    with pytest.raises(RuntimeError, match="there is no result yet"):
        _ = torch_attack(cw.fast("l2", steps=20)).result
