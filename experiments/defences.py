"""Twelve defences of one digit network, attacked without and with knowing of them.

Claim: an attack that does not know of a defence is stopped by most of them. The same attack with the defence in its
objective (`cw.defences.undetected`) gets past nearly all. What a defence gains is distance, and for most little of it.

Command, with all of MNIST in the data folder:

    python -m experiments.defences --data mnist --diagnose 8

Cost: one to three minutes of a core for each of 14 rows. Attacks grow with the digits and the gradients; `--examples 50
--steps 300` is a larger size, which was not run.

Expect: the adaptive attack succeeds on all digits in each row, at 1.00 to 2.1 times the distance of the undefended
network. Of the checks, `weaker_wins`, `too_short` and `not_monotone` fail for magnet, and none does with `--steps 600`;
`weaker_wins` warns for extra_class.

Each defence learns from the first 10,000 training images, in less than a minute of a core, and its detector refuses 5 %
of the last 2,000 of them. Attacked are the first test images that the network reads rightly; of those, a row has the
ones that the defended network reads rightly too and does not refuse. The attack is `cw.fast("l2")`, everywhere with the
same number of gradients. "Unaware" is the attack on the undefended network: as it is, and with a confidence, which goes
farther so that it holds on other networks. "Overhead" is the mean distance of the adaptive attack over that of the
attack on the undefended network, on the same images.

Each row is kept in OUT/rows under a hash of all that decides it, so a run that was stopped goes on. The library's code
is part of it: after a change of an attack no row of an earlier one is taken. Every success is looked at again with
NumPy: misread, and not refused. Writes OUT/defences.md, defences.csv and defences.png.
"""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from matplotlib.axes import Axes

import cwjax as cw
from cwjax.defences import DEFENCES, Defended
from cwjax.evaluation import Diagnosis
from cwjax.lab import data, defending
from cwjax.lab.console.progress import progress, say
from cwjax.lab.files import store
from cwjax.lab.subjects import model_of
from cwjax.lab.sweeps import units
from cwjax.models import Model
from experiments import shown

NONE, ZOO = "none", "distilled (zoo)"
PUBLISHED = {
    ZOO: "1.7 (Carlini & Wagner 2017, Table VI, best case)",
    "mean_filter": "1.46 against 1.32 undefended (a comment in the code of Carlini & Wagner 2017b)",
    "bounded_relu": "about 1.3 times as far (the README of the code of Carlini & Wagner 2017c)",
}


@dataclasses.dataclass(frozen=True)
class Arguments:
    data: str = "mnist5k"  # see cwjax.lab.data
    model: str = "zoo:mnist_cnn"  # to defend, see cwjax.lab.subjects
    defences: tuple[str, ...] = (NONE, *DEFENCES, ZOO)  # rows of the table
    learn_from: int = 10_000  # training images
    clean: int = 1000  # test images for accuracy and false positives
    examples: int = 20  # the first test images that the undefended network gets right
    steps: int = 150  # gradients for each image and attack
    confidence: float = 5.0  # in logits, of the second attack that does not know of the defence
    diagnose: int = 0  # images that `cw.diagnose` is asked about for each defence; 0: none, since it takes minutes
    out: Path = Path("runs/defences")  # where the results go


def main(arguments: Arguments, model: Model | None = None) -> list[dict[str, Any]]:
    """Runs the experiment; one row for each defence. A model may be handed over instead of the one by name."""
    store.make_folder(arguments.out)
    model = model_of(arguments.model)[0] if model is None else model
    train, test = data.load(arguments.data, "train"), data.load(arguments.data, "test")
    clean = test.take(slice(arguments.clean))
    right = ~shown.wrong(model, clean.images, clean.labels)
    pool = clean.take(shown.first_of(right, arguments.examples))
    unaware = kept(arguments, "unaware", model, pool, functools.partial(_unaware, model, pool, arguments))
    unaware = {name: np.asarray(value, np.float32) for name, value in unaware.items()}
    rows = []
    with progress("defences", len(arguments.defences), first="compiling") as advance:
        for name in arguments.defences:
            defended = functools.cache(functools.partial(defended_by, name, model, train, arguments))
            make = functools.partial(_row, name, defended, clean, pool, unaware, arguments)
            row = kept(arguments, name, model, pool, make)
            checks = checks_of(name, defended, model, pool, arguments) if arguments.diagnose else "not asked"
            rows.append(row | {"checks": checks, "published L2": PUBLISHED.get(name, "")})
            advance(1, f"{name}: {row['success']:.0%} at {row['mean L2']:.2f}", now=True)
    shown.write("defences", "Defences, attacked", rows, _figure(rows), arguments, told=_told(rows))
    return rows


def defended_by(name: str, model: Model, train: data.Dataset, arguments: Arguments) -> Defended:
    """The network with the defence of that row."""
    if name == NONE:
        return Defended(model)
    if name == ZOO:
        return Defended(model_of("zoo:mnist_distilled")[0])
    folder = arguments.out / "trained"
    return defending.defended(name, model, train, folder=folder, count=arguments.learn_from)


def _unaware(model: Model, pool: data.Dataset, arguments: Arguments) -> dict[str, Any]:
    """What the attack on the undefended network makes of the images, without and with a confidence."""
    keys, goal = keys_of(pool), cw.untargeted(pool.labels)

    @jax.jit
    def run(model, kappa):
        attack = cw.fast("l2", steps=arguments.steps, objective=cw.losses.negative_margin(kappa))
        return cw.batched(attack)(model, keys, pool.images, goal)

    near, far = (run(model, jnp.float32(kappa)) for kappa in (0, arguments.confidence))
    return {"near": np.asarray(near.x).tolist(), "far": np.asarray(far.x).tolist()}


def _row(name, defended, clean, pool, unaware, arguments) -> dict[str, Any]:
    defended = defended()
    read = ~shown.wrong(defended.model, clean.images, clean.labels)
    row = {
        "defence": name,
        "accuracy": float(read.mean()),
        "false positives": float(cw.defences.refused(defended, clean.images).mean()),
    }
    counted = usable(defended, pool)
    some = pool.take(shown.first_of(counted, arguments.examples))
    near, far = unaware["near"][counted], unaware["far"][counted]
    row["unaware"] = float(fooled(defended, near, some.labels).mean())
    row[f"unaware, κ = {arguments.confidence:g}"] = float(fooled(defended, far, some.labels).mean())
    attack = cw.fast("l2", steps=arguments.steps, objective=cw.defences.undetected(defended))
    whole, keys, goal = cw.defences.whole(defended), keys_of(some), cw.untargeted(some.labels)
    result = jax.jit(cw.batched(attack))(whole, keys, some.images, goal)
    row |= shown.checked(result, some.images, fooled(defended, np.asarray(result.x), some.labels))
    hit = np.asarray(result.success)
    base = shown.lengths(some.images, near)
    row["overhead"] = float(np.asarray(result.distance)[hit].mean() / base[hit].mean()) if hit.any() else float("nan")
    if name == "dropout_uncertainty":
        row["told"] = _on_fresh_masks(defended, np.asarray(result.x)[hit])
    return row


def usable(defended: Defended, some: data.Dataset) -> np.ndarray:
    """Which images the defended network reads rightly and does not refuse."""
    return ~shown.wrong(defended.model, some.images, some.labels) & ~cw.defences.refused(defended, some.images)


def fooled(defended: Defended, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Which images are misread and not refused, by NumPy."""
    return shown.wrong(defended.model, images, labels) & ~cw.defences.refused(defended, images)


def _on_fresh_masks(defended: Defended, images: np.ndarray) -> str:
    draws = [cw.defences.with_fresh_masks(defended, jax.random.key(1 + seed)) for seed in range(10)]
    share = np.mean([~cw.defences.refused(each, images) for each in draws])
    return (
        f"Of the adaptive examples against dropout_uncertainty, {share:.0%} pass masks drawn anew (mean of 10 draws)."
    )


def checks_of(
    name: str, defended: Callable[[], Defended], model: Model, pool: data.Dataset, arguments: Arguments
) -> str:
    """The names of the checks of `diagnose` that warn or fail, of the first images that a row has. What each says of
    them is in the file that is kept.
    """
    make = functools.partial(_asked, defended, pool, arguments)
    return spoke(kept(arguments, f"{name} checks", model, pool, make, diagnose=arguments.diagnose))


def spoke(verdicts: dict[str, tuple[str, str]]) -> str:
    """The names of the checks that warn or fail, of the verdict and the line of each."""
    names = [f"{check} ({verdict})" for check, (verdict, _) in verdicts.items() if verdict in ("warn", "fail")]
    return ", ".join(names) or "none"


def told(diagnosis: Diagnosis) -> dict[str, tuple[str, str]]:
    """The verdict and the line of each check."""
    return {name: (check.verdict, check.line()) for name, check in diagnosis.checks.items()}


def _asked(defended, pool, arguments) -> dict[str, tuple[str, str]]:
    """The verdict and the line of each check of the adaptive attack."""
    defended = defended()
    some = pool.take(shown.first_of(usable(defended, pool), arguments.diagnose))
    whole, keys, goal = cw.defences.whole(defended), keys_of(some), cw.untargeted(some.labels)
    make = functools.partial(cw.fast, "l2", objective=cw.defences.undetected(defended))
    numbers = {"steps": arguments.steps}
    result = jax.jit(lambda model: cw.batched(make(**numbers))(model, keys, some.images, goal))(whole)
    longer = {"steps": 2 * arguments.steps}
    diagnosis = cw.diagnose(
        whole, make, some.images, goal, result, jax.random.key(0), numbers=numbers, longer=longer, name="fast"
    )
    return told(diagnosis)


def keys_of(some: data.Dataset) -> jax.Array:
    """A key for each image."""
    return jax.random.split(jax.random.key(0), len(some.labels))


def kept(arguments: Any, name: str, model: Model, pool: data.Dataset, make, **told: Any) -> dict[str, Any]:
    """What was made under these arguments before, or is made now. Three of them decide no row: where it is kept, which
    other rows there are, and how many images are diagnosed.
    """
    asked = dataclasses.asdict(arguments)
    asked = {key: str(value) for key, value in asked.items() if key not in ("defences", "diagnose", "out")} | told
    identity = [asked, name, defending.model_digest(model), store.fingerprint(pool.images), units.code()]
    path = arguments.out / "rows" / f"{name.replace(' ', '_')}-{store.fingerprint(identity)[:12]}.json"
    if path.exists():
        say(f"Done before: {path}")
        return store.read_json(path)
    made = make()
    store.write_json(path, made)
    return made


def _told(rows: list[dict[str, Any]]) -> list[str]:
    """Sentences for below the table, taken out of the rows."""
    sentences = [row.pop("told") for row in rows if "told" in row]
    standing = [row["defence"] for row in rows if row["success"] < 0.95]
    said = f"Not broken on 95 % of the images: {', '.join(standing)}." if standing else "Every defence is broken."
    return [said, *sentences]


def _figure(rows: list[dict[str, Any]]):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 0.5 + 0.4 * len(rows)), dpi=110, layout="constrained")
    axes: Axes = figure.subplots()
    names = [str(row["defence"]).replace("_", " ") for row in rows]
    sizes = [row["mean L2"] for row in rows]
    axes.barh(names, sizes, color=[shown.INK if row["defence"] == NONE else shown.BLUE for row in rows])
    for place, row in enumerate(rows):
        axes.text(row["mean L2"], place, f" {row['mean L2']:.2f}, {row['success']:.0%}", va="center", fontsize=8)
    axes.set(title="How far the adaptive attack has to go, and how often it succeeds", xlim=(0, 1.25 * max(sizes)))
    axes.invert_yaxis()
    shown.plain(axes, "mean L2 norm of the change", "")
    return figure


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
