"""The pictures and the page of `experiments.speech`: transcripts, spectrograms, and players that work offline."""

import base64
import io
import wave
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment
from matplotlib.figure import Figure

from cwjax.lab.reporting.pictures import INK, png
from experiments import recogniser
from experiments.spoken import FULL, RATE

MOST = 12  # utterances on the page
LENGTHS = ("dB", "L2")  # columns of these are no shares
LOUDER = 0.5  # of full scale: as loud as the change is played a second time
_PAGE = Path(__file__).with_suffix(".html.jinja")


def spectrogram(wave: np.ndarray) -> np.ndarray:
    """Powers of mel filters over time, high ones on top: a picture [M, T, 1] in [0, 1] over 60 dB."""
    real, imaginary, mel = recogniser.tables()
    blocks = np.pad(wave, recogniser.HOP)[: (len(wave) // recogniser.HOP + 2) * recogniser.HOP]
    blocks = blocks.reshape(-1, recogniser.HOP)
    frames = np.concatenate([blocks[:-2], blocks[1:-1], blocks[2:]], -1)
    loud = 10 * np.log10(((frames @ real) ** 2 + (frames @ imaginary) ** 2) @ mel + 1e-12)
    return np.clip(1 + (loud.T[::-1, :, None] - 5) / 70, 0, 1).astype(np.float32)


def wav_uri(wave_: np.ndarray) -> str:
    """The wave as an address that holds a whole 16-bit WAV file."""
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(np.clip(np.round(wave_ * FULL), -FULL, FULL - 1).astype("<i2").tobytes())
    return f"data:audio/wav;base64,{base64.b64encode(content.getvalue()).decode()}"


def figure(asked: Any, found: Any, each: list[dict[str, Any]], places: list[int] | None = None) -> Figure:
    """Spectrograms of some utterances: the wave, what the attack made of it, and the change."""
    count = len(asked.targets)
    places = list(range(min(3, count))) if places is None else places
    sheet = Figure(figsize=(10, 0.4 + 1.7 * len(places)), dpi=100, layout="constrained")
    for row, place in zip(sheet.subplots(len(places), 3, squeeze=False), places, strict=True):
        last = each[count + place]
        length = int(asked.heard.length[place])
        clean, changed = (waves[place, :length] for waves in (asked.heard.waves, found.second))
        words = (
            f"heard as {_digits(last['clean'])}",
            f"heard as {_digits(last['heard'])}",
            f"the change, {last['dB']:.1f} dB" if last["success"] else "failed",
        )
        for axes, wave_, title in zip(row, (clean, changed, changed - clean), words, strict=True):
            seconds = length / RATE
            axes.imshow(
                spectrogram(wave_)[..., 0], cmap="magma", vmin=0, vmax=1, aspect="auto", extent=(0, seconds, 0, 4)
            )
            axes.set_title(title, color=INK, fontsize=9)
            axes.set_yticks([0, 4], ["0", "4 kHz"], fontsize=7)
            axes.xaxis.set_major_formatter("{x:g} s")
            axes.tick_params(labelsize=7)
    return sheet


def page(rows: list[dict[str, Any]], each: list[dict[str, Any]], asked: Any, found: Any, told: list[str]) -> str:
    """The page as HTML that needs no other file."""
    count, some = len(asked.targets), []
    for place in range(min(MOST, count)):
        first, last = each[place], each[count + place]
        length = int(asked.heard.length[place])
        clean, changed = (waves[place, :length] for waves in (asked.heard.waves, found.second))
        change = changed - clean
        loud = change * (LOUDER / max(float(np.abs(change).max()), 1e-9))
        picture = base64.b64encode(png(figure(asked, found, each, [place]))).decode()
        some.append(
            {"utterance": place, "speaker": last["speaker"], "picture": f"data:image/png;base64,{picture}"}
            | {"words": _told(first, last)}
            | {
                "sounds": {
                    "the wave": wav_uri(clean),
                    "attacked": wav_uri(changed),
                    "the change, louder": wav_uri(loud),
                }
            }
        )
    table = [{name: _cell(name, value) for name, value in row.items()} for row in rows]
    template = Environment(autoescape=True).from_string(_PAGE.read_text("utf-8"))
    return template.render(told=told, rows=table, shown=some, count=count)


def _cell(name: str, value: Any) -> Any:
    """One value of the table of results: lengths as numbers, all others that are no whole numbers as shares."""
    if not isinstance(value, float):
        return value
    if np.isnan(value):
        return "–"
    return f"{value:.3g}" if name.endswith(LENGTHS) else f"{100 * value:.3g}\u00a0%"


def _told(first: dict[str, Any], last: dict[str, Any]) -> dict[str, str]:
    words = {"spoken": _digits(last["spoken"])} if last["spoken"] else {}
    words |= {"heard before": _digits(last["clean"]), "target": _digits(last["target"])}
    names = ("heard", "beam", "16 bits", "mu-law", "noise")
    told = ("heard after", "by a beam search", "after 16 bits", "after μ-law", "with noise as loud")
    words |= {label: _digits(last[name]) for name, label in zip(names, told, strict=True)}
    sizes = [f"{row['dB']:.1f}" if row["success"] else "failed" for row in (first, last)]
    return words | {"dB after the first phase, and both": " → ".join(sizes)}


def _digits(digits: list[int]) -> str:
    return " ".join(map(str, digits)) or "(silence)"
