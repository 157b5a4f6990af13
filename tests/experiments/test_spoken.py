"""Recordings read from a folder, utterances joined from them, and waves that are refused in one line."""

import dataclasses
import hashlib
import math
import shutil
import tarfile
from importlib import resources

import numpy as np
import pytest

from cwjax.lab.data import official
from experiments import spoken
from tests.experiments import tones

WAVE = (np.sin(np.arange(4000) / 3) * 9000).astype(np.int16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tones")
    tones.write(folder)
    return folder


@pytest.fixture(scope="module")
def recordings(folder):
    return spoken.read(folder)


def test_files_are_read_by_their_names(recordings):
    assert recordings.speakers == tones.SPEAKERS
    assert len(recordings.waves) == 10 * 2 * tones.TAKES
    for row in (0, 77, 159):
        digit, speaker, take = (int(each[row]) for each in recordings[1:4])
        np.testing.assert_array_equal(recordings.waves[row] * 32768, tones.tone(digit, speaker, take))


def test_one_packed_file_is_the_same(recordings, tmp_path):
    samples = [(wave * 32768).astype(np.int16) for wave in recordings.waves]
    offset = np.concatenate([[0], np.cumsum([len(each) for each in samples])])
    tables = {"label": recordings.digit, "speaker": recordings.speaker, "take": recordings.take}
    whole = np.concatenate(samples)
    np.savez(tmp_path / "spoken_digits.npz", samples=whole, offset=offset, speakers=tones.SPEAKERS, rate=8000, **tables)
    found = spoken.read(tmp_path)
    assert found.speakers == recordings.speakers
    for mine, its in zip(found.waves, recordings.waves, strict=True):
        np.testing.assert_array_equal(mine, its)
    np.testing.assert_array_equal(found.take, recordings.take)


def test_the_archive_of_tensorflow_datasets_is_fetched_once_and_read(folder, recordings, tmp_path, monkeypatch):
    archive = tmp_path / "there.tar.gz"
    with tarfile.open(archive, "w:gz") as members:
        members.add(folder, "free-spoken-digit-dataset-1.0.9/recordings")
        members.add(__file__, "free-spoken-digit-dataset-1.0.9/trimmer.py")
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    published, asked = dataclasses.replace(spoken.PUBLISHED, sha256={spoken.ARCHIVE: digest}), []

    def download(url, path):
        asked.append(url)
        shutil.copy(archive, path)

    monkeypatch.setattr(spoken, "PUBLISHED", published)
    monkeypatch.setattr(official, "download", download)
    monkeypatch.setattr(official, "unreachable", lambda url: None)
    monkeypatch.setenv("CWJAX_DATA", str(tmp_path / "kept"))
    for _ in range(2):
        found = spoken.read(spoken.TFDS)
        np.testing.assert_array_equal(found.digit, recordings.digit)
        np.testing.assert_array_equal(np.concatenate(found.waves), np.concatenate(recordings.waves))
    assert asked == ["https://github.com/Jakobovski/free-spoken-digit-dataset/archive/v1.0.9.tar.gz"]
    assert sorted(path.name for path in (tmp_path / "kept/spoken_digit").iterdir()) == ["recordings", "v1.0.9.tar.gz"]


def test_the_archive_is_what_tensorflow_datasets_registers():
    told = resources.files("tensorflow_datasets").joinpath("datasets/spoken_digit/checksums.tsv").read_text().split()
    assert told[0] == f"{spoken.PUBLISHED.url}/{spoken.ARCHIVE}"
    assert told[2] == spoken.PUBLISHED.sha256[spoken.ARCHIVE]


def test_the_split_keeps_takes_and_speakers_apart(recordings):
    train, test, stranger = spoken.split(recordings, "odd")
    assert [len(each.waves) for each in (train, test, stranger)] == [30, 50, 50]
    assert set(train.speaker) == set(test.speaker) == {0}
    assert set(stranger.speaker) == {1}
    assert train.take.min() == 5 > test.take.max()
    with pytest.raises(ValueError, match="--held-out 'me' is none of several speakers: low, odd"):
        spoken.split(recordings, "me")


def test_an_utterance_is_its_digits_one_after_another(recordings):
    some = spoken.joined(recordings, 30, 5)
    assert some.waves.shape == (30, 28_800)
    for wave, length, digits in zip(some.waves, some.length, some.digits, strict=True):
        assert 3 <= len(digits) <= 6
        assert not wave[length:].any()
        assert len(digits) * 0.14 + (len(digits) + 1) * spoken.GAPS[0] < length / 8000 + 0.01
    assert set(some.speaker) == set(tones.SPEAKERS)
    again = spoken.joined(recordings, 30, 5)
    assert again.digits == some.digits


@pytest.mark.parametrize(
    ("samples", "rate", "words"),
    [
        (WAVE, 16_000, "^it has 16,000 samples a second: resample it to 8,000$"),
        (np.stack([WAVE, WAVE], 1), 8000, r"^it has the shape \[4000, 2\]: mix its channels to one"),
        (np.zeros(4000, np.int16), 8000, "^it is silence"),
        (np.zeros(4000), 8000, "^it is silence"),
        (np.where(np.arange(4000) < 7, np.nan, 0.1), 8000, "^it has 7 samples that are not finite$"),
        (WAVE.astype(np.float32), 8000, r"^it has floats up to 8999: divide 16-bit samples by 32,768$"),
        (WAVE.astype(np.int32), 8000, "^it is int32: give int16"),
        (WAVE[:700], 8000, "^it is 0.09 s long: give 0.1 to 4 s$"),
        (np.tile(WAVE, 9), 8000, "^it is 4.50 s long"),
    ],
)
def test_waves_that_cannot_be_heard_are_refused(samples, rate, words):
    with pytest.raises(ValueError, match=words):
        spoken.checked(samples, rate, "it")


def test_a_wave_is_in_units_of_full_scale():
    np.testing.assert_array_equal(spoken.checked(WAVE, 8000, "it"), WAVE / 32768)
    np.testing.assert_array_equal(spoken.checked(WAVE / 32768, 8000, "it"), (WAVE / 32768).astype(np.float32))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rate": 44_100}, "a.wav has 44,100 samples a second"),
        ({"channels": 2}, r"a.wav has the shape \[2000, 2\]"),
        ({"width": 1}, "a.wav has samples of 8 bits: save it with 16"),
    ],
)
def test_files_of_another_kind_are_refused_by_name(change, words, tmp_path):
    tones.save(tmp_path / "a.wav", WAVE, **change)
    with pytest.raises(ValueError, match=words):
        spoken.from_file(tmp_path / "a.wav")


def test_what_is_no_recording_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no recordings in .*git clone"):
        spoken.read(tmp_path)
    (tmp_path / "song.wav").write_bytes(b"no sound")
    with pytest.raises(ValueError, match=r"song.wav is not named DIGIT_SPEAKER_TAKE.wav"):
        spoken.read(tmp_path)
    with pytest.raises(ValueError, match=r"song.wav is no WAV file"):
        spoken.from_file(tmp_path / "song.wav")


def test_digits_of_a_text():
    assert spoken.digits_of("407") == [4, 0, 7]
    assert spoken.digits_of("") == []
    with pytest.raises(ValueError, match="the target '4x7 ' has the unknown symbols ' ' 'x': digits alone"):
        spoken.digits_of("4x7 ")


def test_decibels_are_of_the_peak():
    np.testing.assert_allclose(spoken.decibels(np.array([0.5, 0.05, 0.01]), np.array([0.5, 0.5, 1.0])), [0, -20, -40])
    assert spoken.decibels(np.array([0.0]), np.array([1.0])) == -math.inf


def test_sixteen_bits_and_mu_law():
    fine = np.array([0.1, -0.3, 1.0, -1.0], np.float32)
    np.testing.assert_array_equal(spoken.in_16_bits(fine) * 32768, [3277, -9830, 32767, -32768])
    found = spoken.mu_law(fine)
    np.testing.assert_allclose(found, fine, rtol=0.03)  # a level is some 2 % apart from the next where it is loud
    assert found[2:].tolist() == [1, -1]
    levels = np.unique(spoken.mu_law(np.linspace(-1, 1, 9999)))
    assert len(levels) == 255
    assert 0 in levels
