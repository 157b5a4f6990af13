"""A recogniser of tones: its features, its training, its card, and that what is behind a wave's end does not count."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cwjax.lab.files import store
from experiments import recogniser, spoken
from experiments.recogniser import Recogniser, Training

SMALL = Training(updates=2, batch=4, channels=(8, 12), blocks=1)
MODEL = recogniser.as_model(Recogniser(SMALL))
NET = jax.jit(lambda x, length: MODEL.apply(MODEL.params, x, length))


def test_the_features_are_those_of_a_fourier_transform_by_numpy():
    rng = np.random.default_rng(0)
    wave = rng.normal(size=(1, 960)).astype(np.float32)
    found = np.asarray(recogniser.log_mel(jnp.asarray(wave), jnp.array([800])))[0, :10]
    heard = np.where(np.arange(960) < 800, wave[0], 0)
    heard = np.pad(heard / np.sqrt((heard**2).sum() / 800), 80)
    frames = np.stack([heard[80 * i : 80 * i + 240] for i in range(10)]) * np.hanning(240) / np.sqrt(240)
    value = np.log(np.abs(np.fft.rfft(frames)) ** 2 @ recogniser.tables()[2] + recogniser.FLOOR)
    np.testing.assert_allclose(found, value - value.mean(0), rtol=1e-3, atol=1e-3)


def test_every_filter_hears_something_and_a_tone_is_heard_by_the_filter_of_its_pitch():
    mel = recogniser.tables()[2]
    assert (mel.sum(0) > 0).all()
    for pitch in (400, 2500):
        wave = np.sin(2 * np.pi * pitch * np.arange(960) / 8000).astype(np.float32)
        quiet = np.where(np.arange(960) < 480, wave, 0)[None]
        loudest = int(np.asarray(recogniser.log_mel(jnp.asarray(quiet), jnp.array([960])))[0, 2].argmax())
        assert mel[round(pitch * 240 / 8000), loudest] == mel[round(pitch * 240 / 8000)].max()


def test_what_is_behind_the_end_does_not_count():
    wave = np.random.default_rng(1).normal(size=(1, 1000)).astype(np.float32)
    short, long = (np.pad(wave, ((0, 0), (0, size - 1000)), constant_values=7.0) for size in (1280, 2560))
    length = jnp.array([1000])
    one, other = (np.asarray(NET(x, length)) for x in (short, long))
    np.testing.assert_allclose(one, other[:, :4], rtol=1e-4, atol=1e-5)
    assert one.shape == (1, 4, recogniser.SYMBOLS)
    assert (other[:, 4:].argmax(-1) == recogniser.BLANK).all()
    slope = jax.jit(jax.grad(lambda x: NET(x, length)[:, :4].sum()))(long)
    assert (slope[:, 1000:] == 0).all()
    assert np.abs(slope[:, :1000]).max() > 0
    assert recogniser.frames_of(np.array([960, 961, 1280])).tolist() == [3, 4, 4]


def test_loudness_does_not_count():
    wave = np.random.default_rng(1).normal(size=(1, 1280)).astype(np.float32)
    length = jnp.array([1280])
    np.testing.assert_allclose(NET(wave, length), NET(wave / 16, length), rtol=1e-2, atol=1e-3)


def test_decoding_and_edits():
    logits = np.eye(recogniser.SYMBOLS)[[3, 3, 0, 3, 1, 1, 5]] * 9
    assert recogniser.greedy(logits, 7) == recogniser.beam(logits, 7) == [2, 2, 0, 4]
    assert recogniser.greedy(logits, 2) == [2]
    assert recogniser.greedy(np.zeros((3, 11)), 3) == []
    assert recogniser.edits([1, 2, 3], [1, 3]) == 1
    assert recogniser.edits([], [1, 3]) == 2
    assert recogniser.edits([1, 2, 3], [2, 3, 4]) == 2


@pytest.mark.long
def test_a_network_is_trained_once_and_read_again(tone_data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(recogniser, "JUDGED", 20)
    monkeypatch.setattr(spoken, "FILLED", 1.6)
    trained = recogniser.train(SMALL, tone_data, tmp_path)
    assert trained.folder.parent == tmp_path
    assert trained.card["test_digit_error"] >= 0
    assert trained.card["speakers"] == ["low"]
    monkeypatch.setattr(recogniser, "_fit", None)
    again = recogniser.train(SMALL, tone_data, tmp_path)
    jax.tree.map(np.testing.assert_array_equal, again.model.params, trained.model.params)
    weights, card = trained.folder / "weights.safetensors", trained.folder / "card.json"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(store.CorruptFile, match="is not what its card says"):
        recogniser.load(trained.folder)
    card.write_text(json.dumps({"net": "mnist_cnn"}))
    with pytest.raises(store.CorruptFile, match="is no recogniser's card"):
        recogniser.load(trained.folder)
    with pytest.raises(FileNotFoundError, match=r"run `python -m experiments.speech` first"):
        recogniser.load(tmp_path)


def test_noise_is_20_to_60_decibels_below_the_peak():
    waves = np.zeros((50, 4000), np.float32)
    waves[:, 0] = np.linspace(0.1, 1, 50)
    noise = recogniser._noise(waves, np.random.default_rng(0))
    size = spoken.decibels(3 * noise.std(1), waves[:, 0])
    assert -61 < size.min() < size.max() < -19
