"""A small recogniser of spoken digits in Flax NNX: log-mel features inside the network, strided convolutions, CTC.

An attack is then on the wave itself, and differentiates through the features. A network that was trained is kept in a
folder with its card, and read again by `load`.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float, Int

import cwjax as cw
from cwjax.lab.console.progress import progress, say
from cwjax.lab.files import environment, store
from cwjax.models import Model
from experiments import spoken
from experiments.spoken import RATE, Recordings, Split, Utterances

HOP, WINDOW = 80, 240  # samples: 10 ms and 30 ms
MELS, FLOOR, RMS = 32, 1e-3, 1e-8  # filters; power below which nothing is heard; that of no wave
FRAME = 320  # samples of a frame of the output: 40 ms
BLANK, SYMBOLS = 0, 11  # the symbol d + 1 is the digit d
JUDGED = 200  # joined utterances that the digit errors of a card are of
_SURE = 20.0  # logits by which blank leads behind the end of a wave


@dataclasses.dataclass(frozen=True)
class Training:
    """What decides which weights come out."""

    updates: int = 700  # of Adam
    batch: int = 32  # utterances in one
    rate: float = 3e-3  # Adam's, at its highest; up over a tenth of the updates, then down along a cosine
    channels: tuple[int, int] = (96, 128)  # of the two strided convolutions; blocks have the second
    blocks: int = 3  # residual, after them
    seed: int = 0


class Trained(NamedTuple):
    model: Model  # (params, waves [B, N] in [-1, 1], length [B]) -> logits [B, N / 320, 11]
    card: dict[str, Any]
    folder: Path


class Recogniser(nnx.Module):
    """Log-mel features, two convolutions of stride 2, residual convolutions, one logit a symbol.

    What is behind a wave's length does not count: frames there are 0 before every convolution. So an utterance gets the
    same logits however far it is filled up. Frames behind it say blank.

    Args:
      training: its numbers.
    """

    def __init__(self, training: Training):
        rngs, (first, second) = nnx.Rngs(training.seed), training.channels
        conv = functools.partial(nnx.Conv, kernel_init=nnx.initializers.he_normal(), rngs=rngs)
        self.strided = nnx.List([conv(MELS, first, (5,), 2), conv(first, second, (5,), 2)])
        self.blocks = nnx.List(conv(second, second, (5,)) for _ in range(training.blocks))
        self.norms = nnx.List(nnx.LayerNorm(second, rngs=rngs) for _ in range(training.blocks + 1))
        self.head = nnx.Linear(second, SYMBOLS, rngs=rngs)

    def __call__(self, x: Float[Array, "B N"], length: Int[Array, "B"]) -> Float[Array, "B T V"]:
        """Logits of frames of 40 ms. N is a multiple of 320."""
        h, frame = log_mel(x, length), HOP

        def inside(h):
            return jnp.where(jnp.arange(h.shape[1])[None, :, None] * frame < length[:, None, None], h, 0)

        for convolution in self.strided:
            h, frame = nnx.relu(convolution(inside(h))), 2 * frame
        for norm, convolution in zip(self.norms, self.blocks, strict=False):
            h = h + nnx.relu(convolution(inside(norm(h))))
        logits = self.head(self.norms[-1](h))
        counts = jnp.arange(logits.shape[1])[None, :, None] * FRAME < length[:, None, None]
        return jnp.where(counts, logits, _SURE * (jnp.arange(SYMBOLS) == BLANK))


def log_mel(x: Float[Array, "B N"], length: Int[Array, "B"]) -> Float[Array, "B T M"]:
    """The logarithms of MELS powers in each 10 ms, less their mean over the utterance; the wave's loudness is divided
    out first. Differentiable, and made of matrix products alone.
    """
    x = jnp.where(jnp.arange(x.shape[1])[None] < length[:, None], x, 0)
    power = jnp.sum(x**2, 1, keepdims=True) / length[:, None]
    x = x * jax.lax.rsqrt(power + RMS)
    blocks = jnp.pad(x, ((0, 0), (HOP, HOP))).reshape(len(x), -1, HOP)
    frames = jnp.concatenate([blocks[:, :-2], blocks[:, 1:-1], blocks[:, 2:]], -1)
    real, imaginary, mel = tables()
    value = jnp.log(((frames @ real) ** 2 + (frames @ imaginary) ** 2) @ mel + FLOOR)
    counts = (jnp.arange(value.shape[1])[None] * HOP < length[:, None])[..., None]
    mean = jnp.sum(jnp.where(counts, value, 0), 1, keepdims=True) / jnp.sum(counts, 1, keepdims=True)
    return value - mean


@functools.cache
def tables() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A windowed Fourier transform as two matrices, and triangles evenly spaced on the mel scale."""
    angle = 2 * np.pi * np.outer(np.arange(WINDOW), np.arange(WINDOW // 2 + 1)) / WINDOW
    window = np.hanning(WINDOW)[:, None] / np.sqrt(WINDOW)
    top = 2595 * np.log10(1 + RATE / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, MELS + 2) / 2595) - 1)
    bins = np.arange(WINDOW // 2 + 1)[:, None] * RATE / WINDOW
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    mel = np.maximum(np.minimum(rising, falling), 0)
    return tuple(table.astype(np.float32) for table in (window * np.cos(angle), window * np.sin(angle), mel))


def frames_of(length: Any) -> np.ndarray:
    """How many frames of the output a wave of so many samples has."""
    return -(-np.asarray(length) // FRAME)


@dataclasses.dataclass(frozen=True)
class _Forward:  # a class and not a closure: equal for equal networks, so that new weights do not compile again
    graph: nnx.GraphDef

    def __call__(self, params, x, length):
        return nnx.merge(self.graph, nnx.State(params))(jnp.asarray(x), jnp.asarray(length))


def as_model(net: Recogniser) -> Model:
    """The model of a recogniser; its context is the lengths [B]."""
    graph, params = nnx.split(net)
    return cw.bind(_Forward(graph), nnx.to_pure_dict(params))


def train(training: Training, data: Split, folder: Path) -> Trained:
    """Trains a recogniser, or reads its weights if the same settings on the same recordings were trained before.

    Writes `folder/speech-HASH/weights.safetensors` and `card.json`.
    """
    heard = np.concatenate(data.train.waves)
    identity = dataclasses.asdict(training) | {
        "net": "speech",
        "rate_in_hertz": RATE,
        "speakers": [data.train.speakers[i] for i in np.unique(data.train.speaker)],
        "recordings": store.fingerprint(heard),
        "digits": store.fingerprint(data.train.digit),
    }
    place = folder / f"speech-{store.fingerprint(identity)[:12]}"
    if (place / "card.json").exists():
        say(f"Trained before: {place}")
        return load(place)
    store.make_folder(place)
    params, history = _fit(training, data.train)
    model = dataclasses.replace(as_model(Recogniser(training)), params=params)
    errors = {}
    for name, some in (("test", data.test), ("held_out", data.stranger)):
        errors[f"{name}_digit_error"] = digit_error(model, spoken.joined(some, JUDGED, 1))
    store.write_arrays(place / "weights.safetensors", model.params)
    card = identity | errors | {"history": history, "environment": environment.describe()}
    store.write_json(place / "card.json", card | {"sha256": store.fingerprint(place / "weights.safetensors")})
    return load(place)


def load(folder: Path) -> Trained:
    """Reads a trained recogniser. Raises FileNotFoundError where there is none, store.CorruptFile where its files are
    damaged.
    """
    weights, file = folder / "weights.safetensors", folder / "card.json"
    if not (weights.is_file() and file.is_file()):
        raise FileNotFoundError(f"no trained recogniser in {folder}: run `python -m experiments.speech` first")
    card = store.read_json(file)
    try:
        known: dict[str, Any] = {field.name: card[field.name] for field in dataclasses.fields(Training)}
        known["channels"] = tuple(known["channels"])
        training = Training(**known)
        like = as_model(nnx.eval_shape(lambda: Recogniser(training)))
        digest = card["sha256"]
    except (KeyError, TypeError, ValueError) as error:
        raise store.CorruptFile(f"{file} is no recogniser's card ({error!r}): delete {folder}") from error
    if store.fingerprint(weights) != digest:
        raise store.CorruptFile(f"{weights} is not what its card says: delete {folder} and train again")
    params = jax.tree.map(jnp.asarray, store.read_arrays(weights, like.params))
    return Trained(dataclasses.replace(like, params=params), card, folder)


def _fit(training: Training, recordings: Recordings) -> tuple[Any, list[float]]:
    """The weights, and the mean loss of each tenth of the updates."""
    graph, params = nnx.split(Recogniser(training))
    rate = optax.warmup_cosine_decay_schedule(0, training.rate, training.updates // 10, training.updates)
    optimizer = optax.chain(optax.clip_by_global_norm(5.0), optax.adamw(rate, weight_decay=1e-2))
    state, losses = optimizer.init(params), []

    @jax.jit
    def update(params, state, waves, length, labels, unused):
        def loss(params):
            logits = nnx.merge(graph, params)(waves, length)
            beyond = (jnp.arange(logits.shape[1])[None] * FRAME >= length[:, None]).astype(jnp.float32)
            return optax.ctc_loss(logits, beyond, labels, unused, blank_id=BLANK).mean()

        value, slope = jax.value_and_grad(loss)(params)
        change, state = optimizer.update(slope, state, params)
        return optax.apply_updates(params, change), state, value

    with progress("training a recogniser", training.updates, first="compiling") as advance:
        for number in range(training.updates):
            seed = (training.seed, number)
            some = spoken.joined(recordings, training.batch, seed)
            noisy = some.waves + _noise(some.waves, np.random.default_rng((*seed, 1)))
            labels, unused = _rows(some.digits)
            params, state, value = update(params, state, noisy, some.length, labels, unused)
            losses.append(float(value))
            advance(1, f"loss {losses[-1]:.3f}")
    parts = np.array_split(losses, min(10, len(losses)))
    return nnx.to_pure_dict(params), [float(part.mean()) for part in parts]


def _noise(waves: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """White noise, 20 to 60 dB below the loudest sample of each."""
    peak = np.abs(waves).max(1, keepdims=True)
    share = 10 ** rng.uniform(-3, -1, (len(waves), 1))
    return (peak * share * rng.normal(size=waves.shape) / 3).astype(np.float32)


def _rows(digits: Sequence[Sequence[int]], size: int = 6) -> tuple[np.ndarray, np.ndarray]:
    labels, unused = np.zeros((len(digits), size), np.int32), np.ones((len(digits), size), np.float32)
    for i, row in enumerate(digits):
        labels[i, : len(row)], unused[i, : len(row)] = np.array(row) + 1, 0
    return labels, unused


def logits_of(model: Model, waves: np.ndarray, length: np.ndarray, *, at_once: int = 25) -> np.ndarray:
    """The model's logits [B, T, V], in NumPy."""
    apply: Callable[..., Any] = jax.jit(model.apply)
    parts = [
        np.asarray(apply(model.params, waves[i : i + at_once], length[i : i + at_once]))
        for i in range(0, len(waves), at_once)
    ]
    return np.concatenate(parts)


def greedy(logits: np.ndarray, frames: int) -> list[int]:
    """The digits of greedy decoding."""
    path = logits[:frames].argmax(-1)
    kept = path[np.concatenate([[True], path[1:] != path[:-1]])]
    return [int(symbol) - 1 for symbol in kept if symbol != BLANK]


def beam(logits: np.ndarray, frames: int) -> list[int]:
    """The digits of a beam search of 16."""
    return [symbol - 1 for symbol in cw.objectives.beam_search(logits[:frames])]


def digit_error(model: Model, some: Utterances) -> float:
    """Edits of greedy transcripts to the truth, over the digits that were spoken."""
    logits = logits_of(model, some.waves, some.length)
    said = [greedy(each, int(frames)) for each, frames in zip(logits, frames_of(some.length), strict=True)]
    return sum(map(edits, said, some.digits)) / sum(map(len, some.digits))


def edits(one: Sequence[int], other: Sequence[int]) -> int:
    """Digits to insert, delete or replace, at the least (Levenshtein 1966)."""
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        before, row[0] = row[0], i
        for j, b in enumerate(other, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (a != b))
    return row[-1]
