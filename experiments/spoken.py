"""Spoken digits: recordings read from a folder, joined to utterances, and waves checked before anything runs.

The recordings are those of the Free Spoken Digit Dataset (Jakobovski et al., CC BY-SA 4.0): 8,000 samples a second, one
channel, 16 bits; takes 0 to 4 of each speaker and digit are the test set. They are not part of this project. Get them
by `git clone https://github.com/Jakobovski/free-spoken-digit-dataset`, and name the folder `recordings` in it; or say
`tfds:spoken_digit`, and the archive that tensorflow-datasets registers by that name is downloaded to $CWJAX_DATA.
"""

import tarfile
import tempfile
import wave
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cwjax.lab.data.dataset import CorruptData, MissingData
from cwjax.lab.data.official import OfficialFiles
from cwjax.lab.data.sources import folder_of
from cwjax.lab.files.store import CorruptFile

RATE = 8000  # samples a second
FULL = 32768  # of a 16-bit sample: the wave's 1.0
SHORTEST, LONGEST = 0.1, 4.0  # seconds of a wave
FILLED = 3.6  # seconds that joined utterances are filled up to; a multiple of 0.04, as LONGEST is
TEST_TAKES = 5  # the first takes are for tests
GAPS = (0.03, 0.15)  # seconds of quiet before each digit and at the end
MOST = 6  # digits in an utterance
REFUSED = (ValueError, FileNotFoundError, MissingData, CorruptData, CorruptFile)  # told in one line
TFDS = Path("tfds:spoken_digit")
ARCHIVE = "v1.0.9.tar.gz"
# Address and SHA-256 are those that tensorflow-datasets 4.9.10 registers (datasets/spoken_digit/checksums.tsv). Its own
# reader needs TensorFlow and pydub.
PUBLISHED = OfficialFiles(
    name="spoken_digit",
    builder="",
    url="https://github.com/Jakobovski/free-spoken-digit-dataset/archive",
    sha256={ARCHIVE: "8bc44cde129d505cbbb6b365c09f80c663f2aa77578afc634e6141a2f87100c0"},
    classes=tuple("0123456789"),
)


class Recordings(NamedTuple):
    """Digits, each spoken once; row i is waves[i]."""

    waves: list[np.ndarray]  # float32 [N] in [-1, 1]
    digit: np.ndarray  # int [R]
    speaker: np.ndarray  # int [R], a place in `speakers`
    take: np.ndarray  # int [R]
    speakers: tuple[str, ...]

    def kept(self, where: np.ndarray) -> "Recordings":
        """Those where a boolean array [R] is True."""
        places = np.flatnonzero(where)
        rows = (self.digit[places], self.speaker[places], self.take[places])
        return Recordings([self.waves[i] for i in places], *rows, self.speakers)


class Utterances(NamedTuple):
    """Several digits after one another, filled up with zeros to one length."""

    waves: np.ndarray  # float32 [B, N] in [-1, 1]
    length: np.ndarray  # int32 [B]: samples that count
    digits: list[list[int]]
    speaker: list[str]


class Split(NamedTuple):
    """What a recogniser learns from, and two kinds of recordings that it never hears."""

    train: Recordings
    test: Recordings  # unseen takes of the speakers in `train`
    stranger: Recordings  # the test takes of the speaker who was held out


def read(folder: Path) -> Recordings:
    """The recordings of a folder: files DIGIT_SPEAKER_TAKE.wav, or the same in one file `spoken_digits.npz`, whose
    arrays are `samples` int16, `offset`, `label`, `speaker`, `take`, `speakers` and `rate`. `TFDS`: see `unpacked`.

    Raises:
      ValueError: a file of another name, or a wave that `checked` refuses.
      FileNotFoundError: there are none.
      MissingData, CorruptData: see `OfficialFiles.fetch`.
    """
    folder = unpacked(folder_of(None)) if folder == TFDS else folder
    packed = folder / "spoken_digits.npz"
    if packed.is_file():
        with np.load(packed) as file:
            rate, ends = int(file["rate"]), file["offset"]
            samples = file["samples"]
            pieces = np.split(samples, ends[1:-1])
            waves = [checked(piece, rate, f"recording {i}") for i, piece in enumerate(pieces)]
            digit, speaker, take = (file[name].astype(int) for name in ("label", "speaker", "take"))
            return Recordings(waves, digit, speaker, take, tuple(map(str, file["speakers"])))
    files = sorted(folder.glob("*.wav"))
    if not files:
        raise FileNotFoundError(
            f"no recordings in {folder}: get them by `git clone https://github.com/Jakobovski/free-spoken-digit-dataset`"
            ", and name its folder `recordings`"
        )
    parts = [file.stem.split("_") for file in files]
    for file, part in zip(files, parts, strict=True):
        if len(part) != 3 or not (part[0].isdigit() and part[2].isdigit()) or int(part[0]) > 9:
            raise ValueError(f"{file} is not named DIGIT_SPEAKER_TAKE.wav, as 7_theo_12.wav is")
    speakers = tuple(sorted({part[1] for part in parts}))
    digit, speaker, take = (
        np.array(column) for column in zip(*((int(d), speakers.index(s), int(t)) for d, s, t in parts), strict=True)
    )
    return Recordings([from_file(file) for file in files], digit, speaker, take, speakers)


def unpacked(folder: Path) -> Path:
    """The folder of the recordings in the archive of tensorflow-datasets, 2,500 of them; downloaded on first use.

    Args:
      folder: where data is kept; they are in `spoken_digit/recordings` of it.
    """
    recordings = folder / PUBLISHED.name / "recordings"
    if not recordings.is_dir():
        archive = PUBLISHED.fetch(folder) / ARCHIVE
        recordings.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="unfinished-", dir=recordings.parent) as unfinished:
            whole = Path(unfinished) / "whole"
            whole.mkdir()
            with tarfile.open(archive) as members:
                for member in members:
                    name, content = Path(member.name), members.extractfile(member)
                    if name.parent.name == "recordings" and name.suffix == ".wav" and content is not None:
                        (whole / name.name).write_bytes(content.read())
            whole.rename(recordings)
    return recordings


def split(recordings: Recordings, held_out: str) -> Split:
    """Train and test recordings, with one speaker held out. Raises ValueError for a speaker who is not there."""
    if held_out not in recordings.speakers or len(recordings.speakers) < 2:
        raise ValueError(f"--held-out {held_out!r} is none of several speakers: {', '.join(recordings.speakers)}")
    strange = recordings.speaker == recordings.speakers.index(held_out)
    test = recordings.take < TEST_TAKES
    return Split(*map(recordings.kept, (~strange & ~test, ~strange & test, strange & test)))


def from_file(path: Path) -> np.ndarray:
    """The wave of a WAV file, checked. Raises ValueError where it is none, or one that `checked` refuses."""
    try:
        with wave.open(str(path), "rb") as file:
            rate, channels, width = file.getframerate(), file.getnchannels(), file.getsampwidth()
            content = file.readframes(file.getnframes())
    except (wave.Error, EOFError) as error:
        raise ValueError(f"{path} is no WAV file of plain samples ({str(error) or 'it is too short'})") from error
    if width != 2:
        raise ValueError(f"{path} has samples of {8 * width} bits: save it with 16")
    samples = np.frombuffer(content, "<i2")
    return checked(samples if channels == 1 else samples.reshape(-1, channels), rate, str(path))


def checked(samples: np.ndarray, rate: int, what: str) -> np.ndarray:
    """A wave as float32 [N] in [-1, 1].

    Args:
      samples: int16 [N], or floats [N] in [-1, 1].
      rate: samples a second.
      what: to call it in a message.

    Raises:
      ValueError: another rate, several channels, another dtype, NaN, floats beyond 1, silence, or a length out of
        0.1 to 4 seconds.

    Example:
      >>> checked(np.array([16384] * 800, np.int16), 8000, "a click")[0]
      np.float32(0.5)
    """
    samples = np.asarray(samples)
    if rate != RATE:
        raise ValueError(f"{what} has {rate:,} samples a second: resample it to {RATE:,}")
    if samples.ndim != 1:
        raise ValueError(f"{what} has the shape {list(samples.shape)}: mix its channels to one, [N]")
    if samples.dtype == np.int16:
        samples = samples / np.float32(FULL)
    elif not np.issubdtype(samples.dtype, np.floating):
        raise ValueError(f"{what} is {samples.dtype}: give int16, or floats in [-1, 1]")
    if not np.isfinite(samples).all():
        raise ValueError(f"{what} has {(~np.isfinite(samples)).sum()} samples that are not finite")
    peak = float(np.abs(samples).max(initial=0))
    if peak > 1:
        raise ValueError(f"{what} has floats up to {peak:g}: divide 16-bit samples by {FULL:,}")
    if peak == 0:
        raise ValueError(f"{what} is silence: dB are relative to the peak of the wave, which is 0")
    seconds = len(samples) / RATE
    if not SHORTEST <= seconds <= LONGEST:
        raise ValueError(f"{what} is {seconds:.2f} s long: give {SHORTEST:g} to {LONGEST:g} s")
    return samples.astype(np.float32)


def digits_of(text: str) -> list[int]:
    """The digits that a text names, "407"; "" is silence. Raises ValueError where there is anything else in it."""
    strange = sorted({letter for letter in text if letter not in "0123456789"})
    if strange:
        raise ValueError(f"the target {text!r} has the unknown symbols {' '.join(map(repr, strange))}: digits alone")
    return [int(letter) for letter in text]


def joined(recordings: Recordings, count: int, seed: Any) -> Utterances:
    """Utterances of 3 to 6 digits, each by one speaker, with quiet between; one longer than FILLED is drawn again.

    Args:
      recordings: to draw from.
      count: of utterances.
      seed: of what is drawn, a number or several.
    """
    rng = np.random.default_rng(seed)
    by_speaker = [np.flatnonzero(recordings.speaker == each) for each in np.unique(recordings.speaker)]
    drawn = [_one(recordings, by_speaker, rng, round(FILLED * RATE)) for _ in range(count)]
    waves, digits, speakers = zip(*drawn, strict=True)
    return padded(list(waves), list(digits), list(speakers), seconds=FILLED)


def padded(
    waves: Sequence[np.ndarray], digits: list[list[int]], speakers: list[str], *, seconds: float = LONGEST
) -> Utterances:
    """Waves of any lengths filled up with zeros."""
    whole = np.zeros((len(waves), round(seconds * RATE)), np.float32)
    for row, each in zip(whole, waves, strict=True):
        row[: len(each)] = each
    return Utterances(whole, np.array([len(each) for each in waves], np.int32), digits, speakers)


def _one(recordings, by_speaker, rng, longest):
    while True:
        places = rng.choice(by_speaker[rng.integers(len(by_speaker))], rng.integers(3, MOST + 1))
        gaps = (rng.uniform(*GAPS, len(places) + 1) * RATE).astype(int)
        parts = [np.zeros(gaps[0], np.float32)]
        for place, gap in zip(places, gaps[1:], strict=True):
            parts += [recordings.waves[place], np.zeros(gap, np.float32)]
        wave_ = np.concatenate(parts)
        if len(wave_) <= longest:
            speaker = recordings.speakers[recordings.speaker[places[0]]]
            return wave_, recordings.digit[places].tolist(), speaker


def decibels(size: np.ndarray, peak: np.ndarray) -> np.ndarray:
    """20·log10 of a change's largest sample over the wave's (Carlini & Wagner 2018, section II-C); -inf for none."""
    with np.errstate(divide="ignore"):
        return 20 * np.log10(size / peak)


def in_16_bits(waves: np.ndarray) -> np.ndarray:
    """The waves as a 16-bit WAV file keeps them."""
    return (np.clip(np.round(waves * FULL), -FULL, FULL - 1) / FULL).astype(np.float32)


def mu_law(waves: np.ndarray) -> np.ndarray:
    """The waves after 8-bit μ-law: 255 levels, evenly spaced after the continuous formula with μ = 255."""
    loud = np.sign(waves) * np.log1p(255 * np.abs(waves)) / np.log1p(255)
    level = np.round(127 * loud) / 127
    return (np.sign(level) * np.expm1(np.abs(level) * np.log1p(255)) / 255).astype(np.float32)
