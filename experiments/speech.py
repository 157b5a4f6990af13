"""Spoken digits that a recogniser hears as other digits, or as nothing: the attack of Carlini & Wagner (2018).

Claim: a change of a wave that is far quieter than the speech makes a recogniser write down any other digits, as many as
were spoken or another number, or nothing at all. The second phase of the attack, once an alignment is known, is quieter
than the first. Noise as loud as the change does nothing of the kind.

Command (see `experiments/spoken.py` for the recordings):

    python -m experiments.speech --data FOLDER

Cost: on one core, four minutes to train the recogniser, which is kept, and about ten for 40 utterances. What is found
is kept utterance by utterance: a run that was killed goes on where it stopped. `--count 100` for as many as the paper.

Expect: see docs/speech.md.

Each utterance is three to six unseen recordings of one speaker, joined with quiet between. Its target is drawn: other
digits, as many (two of five); other digits, more or fewer (two of five); silence. The first phase starts from changes
of up to `start` decibels of the utterance's own peak, since the speakers' loudness differs sixteenfold. The second goes
on from what the first found. Every example is heard again by greedy decoding and by a beam search, after rounding to 16
bits and after 8-bit μ-law, in another program than the attack's.

Two files of your own, and what they are to be heard as:

    python -m experiments.speech --data FOLDER --wav a.wav b.wav --say 123 ""

The same recogniser under any attack of the command line, where `$CWJAX_DATA/speech` has the recordings:

    cwjax attack --model experiments.speech:task --attack fast_linf --steps 200 --examples 10 --out runs/speech_task

Writes OUT/speech.md, speech.csv, speech.png, utterances.csv, and report.html: transcripts, spectrograms, and players.
"""

import csv
import dataclasses
import sys
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import tyro

import cwjax as cw
from cwjax.arguments import check_count, check_number
from cwjax.lab.console.progress import progress, say
from cwjax.lab.data.sources import folder_of
from cwjax.lab.files import store
from cwjax.models import Model
from experiments import recogniser, shown, speech_judged, speech_page, spoken
from experiments.recogniser import Trained, frames_of
from experiments.spoken import Utterances

TRAINING = recogniser.Training()
KINDS = ("as many digits", "more or fewer digits", "silence")


@dataclasses.dataclass(frozen=True)
class Arguments:
    data: Path | None = None  # the recordings' folder, or tfds:spoken_digit; by default `speech` in $CWJAX_DATA
    held_out: str = "lucas"  # the speaker whom the recogniser never hears
    updates: int = 500  # of the recogniser's training
    count: int = 40  # utterances to attack
    chunk: int = 10  # of them attacked at once
    steps: int = 300  # gradients of the first phase
    aligned_steps: int = 200  # of the second
    start: float = -15.0  # decibels: of the largest change at the beginning
    confidence: float = 2.0  # logits by which each frame has to lead
    wav: tuple[Path, ...] = ()  # attack these files, 8 kHz mono 16 bits, and not drawn utterances
    say: tuple[str, ...] = ()  # digits for each of them; "" is silence
    trained: Path = Path("runs/recognisers")  # where recognisers are kept
    seed: int = 0  # of the utterances, targets and noise
    out: Path = Path("runs/speech")  # where the results go


class Asked(NamedTuple):
    """What is attacked."""

    heard: Utterances
    targets: list[list[int]]  # digits; empty: silence
    kinds: list[str]


class Found(NamedTuple):
    """What became of utterances, as arrays [B, ...]."""

    first: np.ndarray  # float32 [B, N]: the wave after the first phase, the clean one where it failed
    second: np.ndarray  # after both
    first_met: np.ndarray  # boolean
    second_met: np.ndarray


def main(arguments: Arguments) -> list[dict[str, Any]]:
    """Runs the experiment; a row for each kind of target and phase."""
    check_arguments(arguments)
    store.make_folder(arguments.out)
    asked = None
    if arguments.wav:
        waves = [spoken.from_file(path) for path in arguments.wav]
        targets = [spoken.digits_of(text) for text in arguments.say]
        asked = of_files(waves, targets)  # refused before anything runs
    trained, data = subject(arguments)
    if asked is None:
        asked = drawn(data.test, arguments.count, arguments.seed)
    found = attacked(trained, asked, arguments)
    each = speech_judged.judged(trained.model, asked, found, arguments.seed)
    rows = speech_judged.summed_up(each)
    _write(rows, each, asked, found, trained, arguments)
    return rows


def check_arguments(arguments: Arguments) -> None:
    """Raises ValueError for numbers out of range, or files without targets."""
    for name in ("count", "chunk", "steps", "aligned_steps", "updates"):
        check_count(f"--{name.replace('_', '-')}", getattr(arguments, name))
    check_number("--confidence", arguments.confidence, least=0)
    check_number("--start", arguments.start, least=-200, most=0)
    if len(arguments.wav) != len(arguments.say):
        raise ValueError(f"--wav names {len(arguments.wav)} files and --say {len(arguments.say)} targets: one for each")


def subject(arguments: Arguments) -> tuple[Trained, spoken.Split]:
    """The recogniser, trained or read, and the recordings."""
    folder = arguments.data or folder_of(None) / "speech"
    data = spoken.split(spoken.read(folder), arguments.held_out)
    training = dataclasses.replace(TRAINING, updates=arguments.updates)
    trained = recogniser.train(training, data, arguments.trained)
    errors = trained.card["test_digit_error"], trained.card["held_out_digit_error"]
    say(f"Digit error: {errors[0]:.1%} on unseen takes, {errors[1]:.1%} on {arguments.held_out}, whom it never heard.")
    return trained, data


def drawn(test: spoken.Recordings, count: int, seed: int) -> Asked:
    """Utterances of test recordings, and a target for each that differs from what was spoken."""
    heard = spoken.joined(test, count, (seed, 2))
    rng, targets, kinds = np.random.default_rng((seed, 3)), [], []
    for i, digits in enumerate(heard.digits):
        kind = KINDS[(0, 0, 1, 1, 2)[i % 5]]
        others = [n for n in range(3, 7) if n != len(digits)]
        length = {KINDS[0]: len(digits), KINDS[1]: rng.choice(others), KINDS[2]: 0}[kind]
        target = digits
        while target == digits:
            target = rng.integers(10, size=length).tolist()
        targets.append(target)
        kinds.append(kind)
    return Asked(heard, targets, kinds)


def of_files(waves: list[np.ndarray], targets: list[list[int]]) -> Asked:
    """Waves of the user's own; what is spoken in them is not known. Raises ValueError where a target does not fit."""
    heard = spoken.padded(waves, [[] for _ in waves], ["file"] * len(waves))
    goal_of(targets, heard.length)
    return Asked(heard, targets, ["file"] * len(waves))


def goal_of(targets: list[list[int]], length: np.ndarray) -> cw.goals.TranscriptGoal:
    """The goal of digits; raises ValueError where they need more frames than there are."""
    symbols = [[digit + 1 for digit in target] + [0] * (6 - len(target)) for target in targets]
    size = max(map(len, symbols))
    rows = np.array([row + [0] * (size - len(row)) for row in symbols], np.int32)
    counts = np.array(list(map(len, targets)), np.int32)
    return cw.goals.transcript(rows, lengths=counts, frames=frames_of(length), silence=True)


def attacked(trained: Trained, asked: Asked, arguments: Arguments) -> Found:
    """Both phases on all utterances, in chunks that are kept in OUT/parts."""
    settings = (arguments.steps, arguments.aligned_steps, arguments.start, arguments.confidence, arguments.chunk)
    what = (trained.card["sha256"], *settings, store.fingerprint(asked.heard.waves), asked.targets)
    identity = store.fingerprint(what)[:12]
    phases, parts, total = _phases(arguments), [], len(asked.targets)
    with progress("attacking utterances", total, first="compiling") as advance:
        for begin in range(0, total, arguments.chunk):
            file = arguments.out / "parts" / f"{identity}-{begin:04}.safetensors"
            places = np.minimum(
                np.arange(begin, begin + arguments.chunk), total - 1
            )  # the last one fills a short chunk
            if file.exists():
                like = _like(arguments.chunk, asked.heard.waves.shape[1])
                part = Found(*map(np.asarray, store.read_arrays(file, like)))
            else:
                part = _attack(trained.model, asked, places, phases, arguments.start)
                store.make_folder(file.parent)
                store.write_arrays(file, part)
            size = min(arguments.chunk, total - begin)
            parts.append(Found(*(leaf[:size] for leaf in part)))
            advance(size, f"{np.concatenate([p.second_met for p in parts]).mean():.0%} reached their target", now=True)
    return Found(*map(np.concatenate, zip(*parts, strict=True)))


def _phases(arguments: Arguments) -> tuple[Any, Any]:
    kappa = arguments.confidence
    first = cw.attacks.audio(objective=cw.objectives.ctc(kappa), steps=arguments.steps)
    second = cw.attacks.audio_aligned(confidence=kappa, steps=arguments.aligned_steps)
    return jax.jit(cw.batched(first)), jax.jit(cw.batched(second))


def _like(count: int, samples: int) -> Any:
    wave, met = jax.ShapeDtypeStruct((count, samples), np.float32), jax.ShapeDtypeStruct((count,), bool)
    return Found._make([wave, wave, met, met])


def _attack(model: Model, asked: Asked, places: np.ndarray, phases: tuple[Any, Any], start: float) -> Found:
    """Both phases on one chunk."""
    x, length = asked.heard.waves[places], asked.heard.length[places]
    goal, keys = goal_of([asked.targets[i] for i in places], length), jax.random.split(jax.random.key(0), len(x))
    peak = np.abs(x).max(1)
    radius = peak * np.float32(10 ** (start / 20))
    one = phases[0](model, keys, x, goal, context=length, **_bounds(x, length, radius))
    path = recogniser.logits_of(model, np.asarray(one.x), length).argmax(-1)  # the symbol of each frame
    met = np.asarray(one.success)
    nearer = np.where(met, np.abs(np.asarray(one.x) - x).max(1), radius)
    along = cw.goals.aligned(goal, path, weights=length[:, None])  # the squared norm is a sum over the samples
    two = phases[1](model, keys, x, along, start=one.x, context=length, **_bounds(x, length, nearer))
    better = np.asarray(two.success) & (np.asarray(two.distance) < nearer)
    second = np.where(better[:, None], np.asarray(two.x), np.asarray(one.x))
    return Found(np.asarray(one.x), second, met, met | better)


def _bounds(x: np.ndarray, length: np.ndarray, radius: np.ndarray) -> dict[str, np.ndarray]:
    """Each sample up to its radius about the wave; what is behind the wave's length does not move."""
    inside = np.arange(x.shape[1])[None] < length[:, None]
    reach = np.where(inside, radius[:, None], 0).astype(np.float32)
    return {"low": np.minimum(x, np.maximum(x - reach, -1)), "high": np.maximum(x, np.minimum(x + reach, 1))}


def task(arguments: Arguments | None = None) -> cw.Task:
    """For `cwjax attack --model experiments.speech:task`: a wave is a vector in [0, 1], 0.5 is quiet."""
    arguments = arguments or Arguments(count=10)
    trained, data = subject(arguments)
    asked = drawn(data.test, arguments.count, arguments.seed)
    length = asked.heard.length
    return cw.Task(
        name="spoken digits",
        model=cw.normalised(trained.model, 0.5, 0.5),
        x=asked.heard.waves / 2 + 0.5,
        goal=goal_of(asked.targets, length),
        context=length,
        objective=lambda confidence, hinged: cw.objectives.ctc(confidence),
        read=lambda outputs: in_words(recogniser.greedy(outputs, len(outputs))),
        wanted=lambda goal: in_words((goal.labels[: goal.length] - 1).tolist()),
        draw=lambda x, outputs: speech_page.spectrogram(2 * x - 1).repeat(4, 0),
        elements="samples",
    )


def in_words(digits: list[int]) -> str:
    """Digits to read."""
    return " ".join(map(str, digits)) or "(silence)"


def _write(rows, each, asked, found, trained, arguments) -> None:
    out, card = arguments.out, trained.card
    with store.atomically(out / "utterances.csv") as temporary, temporary.open("w", newline="") as file:
        table = csv.DictWriter(file, fieldnames=list(each[0]))
        table.writeheader()
        table.writerows(
            {name: in_words(value) if isinstance(value, list) else value for name, value in row.items()} for row in each
        )
    told = [
        f"Recogniser: digit error {100 * card['test_digit_error']:.2f} % on joined unseen takes of known speakers, "
        f"{100 * card['held_out_digit_error']:.1f} % on {arguments.held_out}, whom it never heard.",
        "Published: mean -31 dB, and -38 dB with the improved loss, 100 % success, on 100 clips of Common Voice and "
        "another recogniser (class notes on Carlini & Wagner 2018; not read in the paper itself).",
    ]
    figure = speech_page.figure(asked, found, each)
    shown.write("speech", "Spoken digits heard as others", rows, figure, arguments, told=told)
    page = speech_page.page(rows, each, asked, found, told)
    with store.atomically(out / "report.html") as temporary:
        temporary.write_text(page, "utf-8")
    say(f"Report: {out / 'report.html'}")


if __name__ == "__main__":
    try:
        main(tyro.cli(Arguments, description=__doc__))
    except spoken.REFUSED as error:
        sys.exit(f"speech: error: {error}")
