"""The attack on speech from end to end, on tones in the place of digits."""

import csv
import re
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from experiments import recogniser, speech, speech_page, spoken
from tests.experiments import tones

SMALL = recogniser.Training(batch=8, channels=(16, 24), blocks=1, rate=1e-2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Recordings, and what is trained on them."""
    folder = tmp_path_factory.mktemp("tones")
    tones.write(folder)
    return folder


@pytest.fixture
def untrained(monkeypatch, tone_data):
    """A recogniser in the place of one that takes seconds to train."""
    model = recogniser.as_model(recogniser.Recogniser(SMALL))
    card = {"sha256": "0", "test_digit_error": 1.0, "held_out_digit_error": 1.0}
    trained = recogniser.Trained(model, card, Path("nowhere"))
    monkeypatch.setattr(speech, "subject", lambda arguments: (trained, tone_data))
    return trained


@pytest.fixture(autouse=True)
def smaller(monkeypatch):
    """Utterances, networks and pages that are computed in seconds."""
    monkeypatch.setattr(spoken, "FILLED", 1.6)
    monkeypatch.setattr(spoken, "MOST", 4)
    monkeypatch.setattr(speech, "TRAINING", SMALL)
    monkeypatch.setattr(speech_page, "MOST", 1)
    monkeypatch.setattr(recogniser, "JUDGED", 20)


def arguments(folder, out, **more):
    given = {"data": folder, "held_out": "odd", "updates": 2, "count": 5, "chunk": 5, "steps": 60, "aligned_steps": 40}
    return speech.Arguments(**given | {"trained": folder / "nets", "out": out, "confidence": 0.0} | more)


def check_written(rows, out):
    """All files are there, and the page needs no other file."""
    assert [(row["target"], row["phase"]) for row in rows] == [
        (kind, phase) for kind in (*speech.KINDS, "all") for phase in ("CTC", "aligned")
    ]
    with (out / "utterances.csv").open() as file:
        each = list(csv.DictReader(file))
    assert len(each) == 10
    for row in each:
        assert row["target"] != row["spoken"]
        assert (row["heard"] == row["target"]) >= (row["success"] == "True")
    page = (out / "report.html").read_text()
    assert len(re.findall(r'<audio controls preload="none" src="data:audio/wav;base64,', page)) == 3
    assert not re.findall(r'(src|href)="(?!data:)', page)
    assert "heard after" in page
    assert (out / "speech.png").read_bytes().startswith(b"\x89PNG")
    assert (out / "speech.md").read_text().count("\n| ") == len(rows) + 1


@pytest.mark.long
def test_tones_are_heard_as_others(folder, tmp_path):
    asked = arguments(folder, tmp_path, updates=60, start=-6.0)
    rows = speech.main(asked)
    check_written(rows, tmp_path)
    first, second = rows[-2:]
    assert second["success"] == first["success"] > 0
    assert second["mean dB"] <= first["mean dB"] < asked.start


def attack(met):
    """In the place of an attack, changes of a tenth of the peak that reach their targets or do not, as it says."""

    def attack(model, asked, places, phases, start):
        x, flags = asked.heard.waves[places], np.full(len(places), met)
        return speech.Found(x, 1.1 * x, flags, flags)

    return attack


@pytest.mark.long
def test_what_was_found_is_written_and_kept(untrained, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(speech, "_attack", attack(False))
    asked = arguments(folder, tmp_path, chunk=3)  # the last chunk is not full
    rows = speech.main(asked)
    check_written(rows, tmp_path)
    assert [row["success"] for row in rows] == [0] * 8
    assert [row["utterances"] for row in rows] == [2, 2, 2, 2, 1, 1, 5, 5]
    assert len(list((tmp_path / "parts").iterdir())) == 2
    monkeypatch.setattr(speech, "_attack", None)
    assert str(speech.main(asked)) == str(rows)


def test_a_success_that_is_none_is_not_reported(untrained, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(speech, "_attack", attack(True))
    with pytest.raises(RuntimeError, match="utterance 0: a reported success is heard as"):
        speech.main(arguments(folder, tmp_path))


def test_the_targets_differ_from_what_was_spoken(monkeypatch):
    heard = spoken.Utterances(np.zeros((30, 8)), np.full(30, 8), [[1, 2, 3]] * 30, ["low"] * 30)
    monkeypatch.setattr(spoken, "joined", lambda test, count, seed: heard)
    asked = speech.drawn(None, 30, 0)  # type: ignore
    counts = [len(target) for target in asked.targets]
    assert counts[::5] == counts[1::5] == [3] * 6
    assert counts[4::5] == [0] * 6
    assert not {3, 0} & set(counts[2::5] + counts[3::5])
    assert [1, 2, 3] not in asked.targets


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"count": 0}, "--count must be at least 1"),
        ({"start": 3.0}, "--start must be at most 0"),
        ({"say": ("12",)}, "--wav names 0 files and --say 1 targets"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_runs(change, words, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(speech, "subject", None)
    with pytest.raises(ValueError, match=words):
        speech.main(arguments(folder, tmp_path, **change))


@pytest.mark.parametrize(
    ("say", "words"),
    [
        ("1a", "the target '1a' has the unknown symbols 'a'"),
        ("12345678", "the transcript of example 0 needs 8 frames, .* and there are 4"),
        ("444", "the transcript of example 0 needs 5 frames"),
    ],
)
def test_a_target_that_cannot_be_said_is_refused_before_anything_runs(say, words, tmp_path, monkeypatch):
    tones.save(tmp_path / "a.wav", tones.tone(3, 1, 0)[:1200])
    monkeypatch.setattr(speech, "subject", None)
    with pytest.raises(ValueError, match=words):
        speech.main(arguments(tmp_path, tmp_path, wav=(tmp_path / "a.wav",), say=(say,)))


@pytest.mark.long
def test_its_task_can_be_attacked_and_read(untrained, folder):
    task = speech.task(arguments(folder, folder / "unused", count=3))
    outputs = np.asarray(task.model.of_batch(jnp.asarray(task.x), task.context))
    plain = recogniser.logits_of(untrained.model, 2 * task.x - 1, task.context)
    np.testing.assert_allclose(outputs, plain, rtol=1e-2, atol=1e-2)
    assert task.read(outputs[0]) == speech.in_words(recogniser.greedy(plain[0], 99))
    assert task.picture(task.x[0], outputs[0]).shape == (4 * recogniser.MELS, task.x.shape[1] // 80, 1)
    assert task.objective_of(2.0).confidence == 2


def test_a_wave_in_an_address_is_the_wave():
    import base64
    import io
    import wave

    said = tones.tone(5, 1, 1)
    kind, content = speech_page.wav_uri(said / np.float32(32768)).split(",")
    assert kind == "data:audio/wav;base64"
    with wave.open(io.BytesIO(base64.b64decode(content))) as file:
        assert (file.getframerate(), file.getnchannels()) == (8000, 1)
        np.testing.assert_array_equal(np.frombuffer(file.readframes(10**6), "<i2"), said)
