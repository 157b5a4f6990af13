"""The attack on speech beside that of another package, with a stand-in for the package, and a model that reads digits
off the wave.
"""

import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cwjax as cw
from experiments import speech, speech_rivals, spoken
from experiments.recogniser import FRAME, SYMBOLS

FRAMES, STEP = 3, 0.05  # of a wave; of its height from symbol to symbol
TARGETS = [[2, 1], [7, 8], []]
CTC, MARGIN = speech_rivals.RIVALS


def heights(params, x, length):
    """Logits: a frame says the symbol whose height its mean is next to."""
    del length
    means = x.reshape(len(x), -1, FRAME).mean(-1)[..., None]
    return -(((means / params) - jnp.arange(SYMBOLS).reshape(1, 1, -1)) ** 2)


MODEL = cw.bind(heights, jnp.float32(STEP))


def saying(digits) -> np.ndarray:
    symbols = np.array([digit + 1 for digit in digits] + [0] * (FRAMES - len(digits)))
    return np.repeat(np.float32(STEP) * symbols, FRAME).astype(np.float32)


class StandIn:
    """Of ASRAttacker. By its CTC loss it finds what is to be said, but for silence; by its margin all, and louder."""

    asked: list = []  # noqa: RUF012 - what it was asked, in all

    def __init__(self, backend, *, verbose):
        assert not verbose

    def cw(self, wave, *, target, targeted, loss, num_iter):
        assert targeted
        self.asked.append((target, loss, num_iter))
        if loss == "ctc" and not target:
            return wave[None]
        changed = saying([int(digit) for digit in target])
        changed[0] += 0.9 if loss == "margin" else 0
        return changed[None]


@pytest.fixture
def stood_in(monkeypatch):
    """Three utterances, of which ours reaches the first and the last target, and the stand-in of the package."""
    waves = np.stack([saying([1, 2]), saying([3]), saying([4, 5])])
    heard = spoken.Utterances(waves, np.full(3, FRAMES * FRAME, np.int32), [[1, 2], [3], [4, 5]], ["low"] * 3)
    asked = speech.Asked(heard, TARGETS, list(speech.KINDS))
    ours = np.stack([saying([2, 1]), waves[1], saying([])])
    trained = SimpleNamespace(model=MODEL, card={"sha256": "0"})
    monkeypatch.setattr(speech, "subject", lambda arguments: (trained, SimpleNamespace(test=None)))
    monkeypatch.setattr(speech, "drawn", lambda test, count, seed: asked)
    monkeypatch.setattr(speech, "attacked", lambda trained, asked, arguments: SimpleNamespace(second=ours))
    monkeypatch.setattr(speech_rivals, "_module", lambda model, length: (model, length))
    package = SimpleNamespace(ASRAttacker=StandIn, CTCModuleBackend=lambda module, labels, **told: (module, labels))
    monkeypatch.setitem(sys.modules, "asr_attacks", package)
    monkeypatch.setattr(StandIn, "asked", [])


def test_rivals_have_as_many_gradients_and_are_judged_by_what_is_heard(stood_in, tmp_path):
    arguments = speech_rivals.Arguments(count=3, gradients=10, out=tmp_path)
    rows = {(row["target"], row["attack"]): row for row in speech_rivals.main(arguments)}
    texts = ["21", "78", ""]
    assert StandIn.asked == [(text, "ctc", 10) for text in texts] + [(text, "margin", 5) for text in texts]
    assert len(rows) == 4 * 3
    ours, ctc, margin = (rows["all", name] for name in ("cwjax", CTC, MARGIN))
    assert [row["success"] for row in (ours, ctc, margin)] == pytest.approx([2 / 3, 2 / 3, 1])
    assert [row["louder than ours"] for row in (ours, ctc, margin)] == pytest.approx([0, 1 / 3, 2 / 3])
    assert ctc["dB above ours where both succeed"] == 0
    # At its first sample the first utterance rises by 0.05 + 0.9, the last by 0.9 - 0.25. Ours: 0.05 and 0.3.
    size = 20 * np.log10(0.95 / 0.05), 20 * np.log10(0.65 / 0.3)
    assert margin["dB above ours where both succeed"] == pytest.approx(np.mean(size), abs=1e-3)
    assert rows[speech.KINDS[2], CTC]["success"] == 0
    assert (tmp_path / "speech_rivals.png").read_bytes().startswith(b"\x89PNG")


def test_what_the_package_found_is_kept(stood_in, tmp_path, monkeypatch):
    arguments = speech_rivals.Arguments(count=3, gradients=10, rivals=(CTC,), out=tmp_path)
    rows = speech_rivals.main(arguments)
    monkeypatch.setattr(speech_rivals, "by_asr_attacks", None)
    assert str(speech_rivals.main(arguments)) == str(rows)


def test_a_rival_that_there_is_not_is_refused_before_anything_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(speech, "subject", None)
    with pytest.raises(ValueError, match=r"--rivals are 'asr-attacks, CTC'.* got"):
        speech_rivals.main(speech_rivals.Arguments(rivals=("other",), out=tmp_path))


def test_the_slope_through_pytorch_is_that_of_jax():
    torch = pytest.importorskip("torch")
    x = torch.tensor(saying([1, 2])[None] + 0.01, requires_grad=True)
    logits = speech_rivals._module(MODEL, FRAMES * FRAME)(x)
    (logits**2).sum().backward()
    given = jnp.asarray(x.detach().numpy())
    wanted = jax.grad(lambda x: (MODEL.of_batch(x, np.array([FRAMES * FRAME])) ** 2).sum())(given)
    np.testing.assert_allclose(x.grad.numpy(), np.asarray(wanted), rtol=1e-5)
