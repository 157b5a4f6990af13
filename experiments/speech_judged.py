"""What is heard of attacked utterances, looked at again: by a beam search, after rounding and μ-law, beside noise."""

from typing import Any

import numpy as np

from cwjax.models import Model
from experiments import recogniser, spoken
from experiments.recogniser import frames_of


def judged(model: Model, asked: Any, found: Any, seed: int) -> list[dict[str, Any]]:
    """A row for each utterance and phase, after a second look. Raises RuntimeError where a success is none."""
    x, length, frames = asked.heard.waves, asked.heard.length, frames_of(asked.heard.length)
    peak, rng = np.abs(x).max(1), np.random.default_rng((seed, 4))

    def heard(waves, decode=recogniser.greedy):
        logits = recogniser.logits_of(model, waves, length)
        return [decode(each, int(count)) for each, count in zip(logits, frames, strict=True)]

    clean, rows = heard(x), []
    inside = np.arange(x.shape[1])[None] < length[:, None]
    for phase, waves, met in (("CTC", found.first, found.first_met), ("aligned", found.second, found.second_met)):
        size = np.abs(waves - x).max(1)
        noise = np.where(inside, rng.choice([-1, 1], x.shape) * size[:, None], 0).astype(np.float32)
        said = {
            "heard": heard(waves),
            "beam": heard(waves, recogniser.beam),
            "16 bits": heard(spoken.in_16_bits(waves)),
            "mu-law": heard(spoken.mu_law(waves)),
            "noise": heard(np.clip(x + noise, -1, 1)),
        }
        for i, target in enumerate(asked.targets):
            now = {name: each[i] for name, each in said.items()}
            if met[i] and now["heard"] != target:
                raise RuntimeError(f"utterance {i}: a reported success is heard as {now['heard']}, not {target}")
            rows.append(
                {"utterance": i, "speaker": asked.heard.speaker[i], "kind": asked.kinds[i], "phase": phase}
                | {"spoken": asked.heard.digits[i], "clean": clean[i], "target": target, "success": bool(met[i])}
                | {"dB": float(spoken.decibels(size[i], peak[i])) if met[i] else float("nan")}
                | {"L2": float(np.linalg.norm(waves[i].astype(float) - x[i]))}
                | now
                | {"noise edits": recogniser.edits(now["noise"], clean[i])}
            )
    return rows


def summed_up(each: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row of the table for each kind of target and phase, and for all."""
    kinds, rows = list(dict.fromkeys(row["kind"] for row in each)), []
    for kind in kinds + ["all"] * (len(kinds) > 1):
        for phase in ("CTC", "aligned"):
            some = [row for row in each if row["phase"] == phase and kind in (row["kind"], "all")]
            hit = [row for row in some if row["success"]]
            sizes = [row["dB"] for row in hit] or [float("nan")]

            def share(name, hit=hit):
                return float(np.mean([row[name] == row["target"] for row in hit])) if hit else float("nan")

            digits = sum(len(row["clean"]) for row in hit)
            rows.append(
                {"target": kind, "phase": phase, "utterances": len(some), "success": len(hit) / len(some)}
                | {"mean dB": float(np.mean(sizes)), "median dB": float(np.median(sizes))}
                | {"median L2": float(np.median([row["L2"] for row in hit])) if hit else float("nan")}
                | {"beam agrees": share("beam"), "after 16 bits": share("16 bits"), "after μ-law": share("mu-law")}
                | {"noise: target heard": share("noise")}
                | {"noise: digit error": sum(row["noise edits"] for row in hit) / digits if digits else float("nan")}
            )
    return rows
