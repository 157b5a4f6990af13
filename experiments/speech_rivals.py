"""The attack on speech beside that of asr-attacks, the package that has Carlini & Wagner's (2018): equal gradients.

Claim: on the same recogniser, utterances and targets, and for the same number of gradients, our two phases reach more
targets, and by quieter changes.

Command (see `experiments/spoken.py` for the recordings; the package needs PyTorch):

    pip install torch asr-attacks
    python -m experiments.speech_rivals --data FOLDER

Cost: the training of the recogniser, which is kept, and about a quarter of an hour of one core for 100 utterances. Each
utterance is kept: a run that was killed goes on.

Expect: see docs/speech.md.

asr-attacks 0.3.0 is asked as its user would ask it, one utterance at a time, with the numbers that it has: Adam at
10/32,768 from within ±2,000/32,768, a look every ten steps, bounds times 0.8 after a success. Either all gradients are
for its CTC loss, as it does where nothing is said, or half of them are, and half for its aligned margin; ours are 3 for
2. Both have confidence 0: its CTC loss knows no other. Looks are not counted: it takes one more forward pass every ten
steps, and with the margin at every step. A success is what `recogniser.greedy` hears of the wave that it returns, as
for ours.

Writes OUT/speech_rivals.md, speech_rivals.csv and speech_rivals.png.
"""

# pyright: reportMissingImports=false
import dataclasses
import sys
import warnings
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from matplotlib.figure import Figure

from cwjax.arguments import check_count
from cwjax.lab.console.progress import progress
from cwjax.lab.files import store
from cwjax.lab.reporting.pictures import COLORS, plain
from cwjax.models import Model
from experiments import recogniser, shown, speech, spoken
from experiments.recogniser import frames_of

OURS = "cwjax"
RIVALS = {"asr-attacks, CTC": "ctc", "asr-attacks, CTC and margin": "margin"}  # name -> its argument `loss`
SHARE = 3 / 5  # of our gradients that go to the first phase


@dataclasses.dataclass(frozen=True)
class Arguments:
    data: Path | None = None  # the recordings' folder, or tfds:spoken_digit; by default `speech` in $CWJAX_DATA
    held_out: str = "lucas"  # the speaker whom the recogniser never hears
    updates: int = 500  # of the recogniser's training
    count: int = 100  # utterances to attack
    gradients: int = 500  # for an utterance
    start: float = -15.0  # decibels: of our largest change at the beginning
    rivals: tuple[str, ...] = tuple(RIVALS)
    trained: Path = Path("runs/recognisers")  # where recognisers are kept
    seed: int = 0  # of the utterances and targets
    out: Path = Path("runs/speech_rivals")  # where the results go


def main(arguments: Arguments) -> list[dict[str, Any]]:
    """Runs the experiment; a row for each attack and kind of target."""
    check_count("--count", arguments.count)
    check_count("--gradients", arguments.gradients, least=2)
    if unknown := set(arguments.rivals) - RIVALS.keys():
        raise ValueError(f"--rivals are {', '.join(map(repr, RIVALS))}, got {unknown}")
    store.make_folder(arguments.out)
    first = round(SHARE * arguments.gradients)
    shared = {name: getattr(arguments, name) for name in ("data", "held_out", "updates", "start", "trained", "seed")}
    ours = speech.Arguments(
        **shared,
        count=arguments.count,
        steps=first,
        aligned_steps=arguments.gradients - first,
        confidence=0.0,
        out=arguments.out,
    )
    trained, data = speech.subject(ours)
    asked = speech.drawn(data.test, arguments.count, arguments.seed)
    waves = {OURS: speech.attacked(trained, asked, ours).second}
    waves |= {name: attacked(trained, asked, name, arguments) for name in arguments.rivals}
    found = {name: sizes(trained.model, asked, each) for name, each in waves.items()}
    rows = [row(name, kind, found, asked.kinds) for kind in (*speech.KINDS, "all") for name in found]
    shown.write("speech_rivals", "Speech: beside asr-attacks", rows, figure(found), arguments)
    return rows


def attacked(trained: recogniser.Trained, asked: Any, name: str, arguments: Arguments) -> np.ndarray:
    """The waves [B, N] that asr-attacks returns, each kept in OUT/parts."""
    x, length = asked.heard.waves, asked.heard.length
    loss, phases = RIVALS[name], 2 if RIVALS[name] == "margin" else 1
    what = trained.card["sha256"], loss, arguments.gradients, store.fingerprint(x), asked.targets
    identity, like, waves = store.fingerprint(what)[:12], jax.ShapeDtypeStruct(x.shape[1:], np.float32), []
    with progress(name, len(x), first="compiling") as advance:
        for i, target in enumerate(asked.targets):
            file = arguments.out / "parts" / f"{identity}-{i:04}.safetensors"
            if file.exists():
                waves.append(np.asarray(store.read_arrays(file, {"x": like})["x"]))
            else:
                steps, text = arguments.gradients // phases, "".join(map(str, target))
                waves.append(by_asr_attacks(trained.model, x[i], length[i], text, steps, loss))
                store.make_folder(file.parent)
                store.write_arrays(file, {"x": waves[-1]})
            advance(1)
    return np.stack(waves)


def by_asr_attacks(model: Model, wave: np.ndarray, length: int, target: str, steps: int, loss: str) -> np.ndarray:
    """One wave [N] by asr-attacks.

    Args:
      model: the recogniser.
      wave: filled up with zeros.
      length: samples that count.
      target: digits; "" is silence.
      steps: gradients of each phase.
      loss: "ctc", one phase; or "margin", a second phase after it.
    """
    from asr_attacks import ASRAttacker, CTCModuleBackend

    labels = ["-", *"0123456789"]
    attacker = ASRAttacker(CTCModuleBackend(_module(model, length), labels, device="cpu", blank_id=0), verbose=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "CW margin stage skipped")  # the first phase failed
        changed = attacker.cw(wave, target=target, targeted=True, loss=loss, num_iter=steps)
    return np.asarray(changed, np.float32).reshape(wave.shape)


def _module(model: Model, length: int) -> Any:
    """The recogniser as a PyTorch module: forward by the model, backward by its vector-Jacobian product."""
    import torch

    lengths = np.array([length], np.int32)

    class Through(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):  # pyright: ignore[reportIncompatibleMethodOverride]
            ctx.save_for_backward(x)
            logits = _forward(model, jnp.asarray(x.detach().numpy()), lengths)
            return torch.from_numpy(np.array(logits))

        @staticmethod
        def backward(ctx, up):  # pyright: ignore[reportIncompatibleMethodOverride]
            [x] = ctx.saved_tensors
            slope = _backward(model, jnp.asarray(x.detach().numpy()), lengths, jnp.asarray(up.numpy()))
            return torch.from_numpy(np.array(slope))

    class Module(torch.nn.Module):
        def forward(self, x):
            return Through.apply(x)

    return Module()


@jax.jit
def _forward(model, x, length):
    return model.of_batch(x, length)


@jax.jit
def _backward(model, x, length, up):
    return jax.vjp(lambda x: model.of_batch(x, length), x)[1](up)[0]


def sizes(model: Model, asked: Any, waves: np.ndarray) -> np.ndarray:
    """Decibels of each change [B]; inf where the target is not what is heard."""
    x, length = asked.heard.waves, asked.heard.length
    logits = recogniser.logits_of(model, waves, length)
    heard = map(recogniser.greedy, logits, map(int, frames_of(length)))
    met = [said == target for said, target in zip(heard, asked.targets, strict=True)]
    return np.where(met, spoken.decibels(np.abs(waves - x).max(1), np.abs(x).max(1)), np.inf)


def row(name: str, kind: str, found: dict[str, np.ndarray], kinds: list[str]) -> dict[str, Any]:
    """The numbers of one attack on the utterances of a kind, or "all"."""
    here = np.array([kind in (each, "all") for each in kinds])
    its, ours = found[name][here], found[OURS][here]
    hit, both = its[np.isfinite(its)], np.isfinite(its) & np.isfinite(ours)
    return {
        "target": kind,
        "attack": name,
        "utterances": len(its),
        "success": float(np.isfinite(its).mean()) if len(its) else float("nan"),
        "mean dB": float(hit.mean()) if hit.size else float("nan"),
        "median dB": float(np.median(hit)) if hit.size else float("nan"),
        "dB above ours where both succeed": float((its[both] - ours[both]).mean()) if both.any() else float("nan"),
        "louder than ours": float((its > ours).mean()) if len(its) else float("nan"),
    }


def figure(found: dict[str, np.ndarray]) -> Figure:
    """The share of utterances that reach their target by a change of at most so many decibels."""
    sheet = Figure(figsize=(7, 4), dpi=110, layout="constrained")
    axes = sheet.add_subplot()
    for color, (name, each) in zip(COLORS, found.items(), strict=False):
        hit = np.sort(each[np.isfinite(each)])
        axes.step(hit, np.arange(1, len(hit) + 1) / max(len(each), 1), where="post", label=name, color=color)
    axes.set(ylim=(0, 1.01), title="A change this loud suffices")
    plain(axes, "decibels of the change, relative to the wave's peak", "share of the utterances")
    axes.legend(frameon=False, fontsize=8)
    return sheet


if __name__ == "__main__":
    try:
        main(tyro.cli(Arguments, description=__doc__))
    except ImportError as error:
        sys.exit(f"speech_rivals: error: {error}: pip install torch asr-attacks")
    except spoken.REFUSED as error:
        sys.exit(f"speech_rivals: error: {error}")
