"""Digits that are tones, as recordings in a folder: two speakers, of whom one is held out."""

import wave

import numpy as np

from experiments import spoken

SPEAKERS = ("low", "odd")
TAKES = 8  # five of them for tests


def tone(digit: int, speaker: int, take: int) -> np.ndarray:
    """A digit, int16: a pitch of its own, as loud as its speaker."""
    rng = np.random.default_rng((digit, speaker, take))
    time = np.arange(int(rng.uniform(0.14, 0.2) * spoken.RATE)) / spoken.RATE
    pitch = (300 + 300 * digit) * (1.04 if speaker else 1) * rng.uniform(0.98, 1.02)
    return (np.sin(2 * np.pi * pitch * time) * np.hanning(len(time)) * (900, 12_000)[speaker]).astype(np.int16)


def save(path, samples: np.ndarray, *, rate: int = spoken.RATE, channels: int = 1, width: int = 2) -> None:
    """A WAV file."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(samples.tobytes())


def write(folder) -> None:
    """All recordings, named as those of the Free Spoken Digit Dataset are."""
    for digit in range(10):
        for speaker, name in enumerate(SPEAKERS):
            for take in range(TAKES):
                save(folder / f"{digit}_{name}_{take}.wav", tone(digit, speaker, take))
