"""DeepXplore on PDF documents, beside attacks on the disagreement with as many gradients, where counts may only grow.

Claim: attacks that look for a disagreement itself find more of them than DeepXplore with its best target. With 20
gradients fast L0 and L1 find more than DeepXplore with 60, 20 for each target in turn. Each of ours wins at equal
budgets except L-infinity up to the boundary: it finds more too, and rounding to whole counts undoes it.

Command:

    python -m experiments.deepxplore_documents --features pdf135.npz --networks deepxplore_pdf_models.npz

Cost: two minutes of processor time.

Expect: of 491 documents with 20 gradients each, DeepXplore finds 256, 92 and 149 with networks 1, 2 and 3 as the
target, and 325 with each in turn. Fast L0 finds 351, L1 329, L2 295, PGD 276, L-infinity 177; with 60 gradients 375,
358, 341, 343 and 260. With fractions of counts L-infinity has 315 and 371. Asked for differences of a logit, it finds
289 and 343 in whole counts. docs/generation_neurons.md has features changed and distances.

33 counts may grow, to the 99th percentile of all documents, as in experiments.malware_pdf; all else stays. Every
search is within these bounds and ends in whole counts: `cw.runners.snapped` has 10 looks at the model to repair what
rounding broke and 10 to undo changes, three times as many with 60 gradients. `with fractions` is what a search found
before that. `found` is what is left then and was judged again by the networks, of the documents on which they agree.
Counts have units that differ by millions; all searches work in standard deviations of the documents, as the networks
do, and so do the norms here but for `L1, counts`. DeepXplore stops where it has a difference. The attacks spend all
their gradients to come nearer.

PGD starts at the seed and may go as far in L-infinity as so many steps of DeepXplore, 0.1 each.

FILES: as for experiments.malware_pdf. Writes OUT/deepxplore_documents.md, .csv and .png.
"""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from matplotlib.figure import Figure

import cwjax as cw
from cwjax.coverage import Neurons
from cwjax.generation import deepxplore, differences
from cwjax.lab.console.progress import progress, say
from cwjax.lab.files import store
from cwjax.parts.lattices import Lattice
from experiments import malware, malware_pdf, shown

STEP = 0.1  # DeepXplore's, in deviations
ROUNDS = 2  # parts of the seeds, the second of which knows what the first covered
BEYOND = 1.0  # logits, against what rounding does to L-infinity
REPAIRS = 10  # looks at the model for whole counts, and as many to undo changes

BOTH_WAYS = ("createdate_ts", "createdate_tz", "moddate_ts", "moddate_tz", "version")
AUTHORED = ("author", "creator", "keywords", "producer", "subject", "title")


@dataclasses.dataclass(frozen=True)
class Arguments:
    features: Path  # the file of documents
    networks: Path  # the file of the networks
    documents: int = 500  # drawn at random
    steps: int = 20  # gradients for each seed, and each target of DeepXplore
    seed: int = 0  # of the documents and the search
    out: Path = Path("runs/deepxplore_documents")  # where the results go


class Rules(NamedTuple):
    """What may change of documents."""

    grows: np.ndarray  # bool [F]
    both: np.ndarray  # bool [F]
    high: np.ndarray  # float32 [F]
    unit: np.ndarray  # float32 [F]: the standard deviation


class Documents(NamedTuple):
    """Documents of the test, and who judges them."""

    models: tuple[cw.Model, ...]
    neurons: tuple[Neurons, ...]
    x: np.ndarray  # float32 [N, F]
    labels: np.ndarray
    rules: Rules


def read(features: Path, networks: Path) -> Documents:
    """The released networks, all documents, and what may change of them."""
    with np.load(features) as arrays:
        names, parts = arrays["names"].tolist(), [arrays[name] for name in ("google_ben", "virustotal_mal")]
    every, labels = np.concatenate(parts), np.repeat([0, 1], [len(each) for each in parts])
    models = tuple(malware_pdf.released(networks, every).values())
    neurons = tuple(cw.coverage.from_function(activations_of, model.params, every[:3]) for model in models)
    rules = Rules(
        grows=np.array([malware_pdf.may_grow(name) for name in names]),
        both=np.array([name in BOTH_WAYS or _is_authored(name) for name in names]),
        high=np.floor(np.percentile(every, 99, axis=0)).astype(np.float32),
        unit=np.where(every.std(0) > 0, every.std(0), 1).astype(np.float32),
    )
    return Documents(models, neurons, every, labels, rules)


def _is_authored(name: str) -> bool:
    first, _, last = name.partition("_")
    return first in AUTHORED and last in ("dot", "lc", "num", "oth", "uc")


def activations_of(params: dict[str, Any], x: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The logits, and the value of every layer, the softmax too: what DeepXplore counts."""
    kept, last = {}, len(params["layers"]) - 1
    x = (x - jnp.asarray(params["mean"])[None]) / jnp.asarray(params["std"])[None]
    for place, layer in enumerate(params["layers"]):
        x = x @ layer["weights"] + layer["bias"][None]
        x = x if place == last else jax.nn.relu(x)
        kept[f"{place} dense"] = x
    return x, kept | {f"{last + 1} softmax": jax.nn.softmax(x)}


def in_deviations(constraint: deepxplore.Constraint, unit: np.ndarray) -> deepxplore.Constraint:
    """The constraint for networks that are given features in their own units: the step that they would make if they
    were given standardised ones.
    """

    def step(key: Any, direction: Any) -> jax.Array:
        scaled = direction * unit
        return jnp.asarray(unit * constraint(key, scaled / (jnp.sqrt(jnp.mean(scaled**2)) + 1e-5)))

    return step


class Found(NamedTuple):
    """What one search came to, for each seed."""

    x: np.ndarray  # float32 [B, F]: whole counts
    success: np.ndarray  # bool [B]
    before: np.ndarray  # bool [B]: with fractions of counts
    gradients: np.ndarray  # [B]


def main(arguments: Arguments) -> list[dict[str, Any]]:
    """Runs the experiment; one row for each search."""
    store.make_folder(arguments.out)
    some = read(arguments.features, arguments.networks)
    seeds = some.x[np.random.default_rng(arguments.seed).permutation(len(some.x))[: arguments.documents]]
    high = np.maximum(some.rules.high, seeds)
    agree = differing(some, seeds) == 0
    rows, ways = [], searches(arguments, some, seeds, high)
    with progress("searches", len(ways), first="compiling") as advance:
        for name, search in ways.items():
            found = checked(some, seeds, high, search())
            rows.append({"search": name} | numbers(some.rules, seeds, found, agree))
            advance(1, f"{name}: {rows[-1]['found']}", now=True)
    told = [f"{len(seeds)} documents. The networks differ on {(~agree).sum()} of them already, which are left out."]
    shown.write("deepxplore_documents", "Documents that networks disagree on", rows, figure(rows), arguments, told=told)
    return rows


def searches(
    arguments: Arguments, some: Documents, seeds: np.ndarray, high: np.ndarray
) -> dict[str, Callable[[], Found]]:
    """By name: DeepXplore's for each network that is to leave the answer, for all in turn, and the attacks."""
    steps, several = arguments.steps, len(some.models)
    keys, rules = jax.random.split(jax.random.key(arguments.seed), len(seeds)), some.rules
    constraint = in_deviations(deepxplore.increasing(rules.grows), rules.unit)
    growing = deepxplore.differential(constraint, step=STEP, steps=steps, leaving_weight=2.0)
    theirs = jax.jit(cw.runners.snapped(cw.batched(growing), cw.lattices.lattice(steps=1.0), steps=REPAIRS))
    goal = cw.untargeted(deepxplore.answers(cw.joined(some.models), seeds)[0])
    grid, unit = cw.lattices.lattice(steps=1 / rules.unit), rules.unit
    model = scaled(cw.joined(some.models), unit)
    kept: list[Found] = []

    def explored(target: int) -> Found:
        bounds: dict[str, Any] = {"low": seeds, "high": high, "mask": rules.grows}
        before: list[np.ndarray] = []

        def run(*arguments: Any, **options: Any) -> Any:
            result, rounding = theirs(*arguments, **options)
            before.append(np.asarray(rounding.success))
            return result

        found = deepxplore.explored(run, some.neurons, keys, seeds, target=target, rounds=ROUNDS, **bounds)
        spent = np.asarray(found.result.backwards)
        kept.append(Found(np.asarray(found.result.x), found.success, np.concatenate(before), spent))
        return kept[-1]

    def attacked(run: Any, taken: int) -> Found:
        bounds = {"low": seeds / unit, "high": high / unit, "mask": rules.grows}
        result, rounding = run(taken, REPAIRS * taken // steps, model, keys, seeds / unit, goal, **bounds)
        x = np.where(rules.grows, np.round(np.asarray(result.x) * unit), seeds)
        success, before = np.asarray(result.success), np.asarray(rounding.success)
        return Found(x.astype(np.float32), success, before, np.asarray(result.backwards))

    ways: dict[str, Callable[[], Found]] = {
        f"DeepXplore, network {target + 1}, {steps}": lambda target=target: explored(target)
        for target in range(several)
    }
    ways[f"DeepXplore, each in turn, {several} x {steps}"] = lambda: nearest(kept, seeds, unit)
    programs = {name: jax.jit(functools.partial(_attacked, name, grid)) for name in attacks(steps)}
    for taken in (steps, several * steps):
        for name, run in programs.items():
            ways[f"{name}, {taken}"] = lambda run=run, taken=taken: attacked(run, taken)
    return ways


def _attacked(name: str, grid: Lattice, steps: Any, repairs: Any, *arguments: Any, **bounds: Any) -> Any:
    """One program for any number of gradients."""
    return cw.runners.snapped(cw.batched(attacks(steps)[name]), grid, steps=repairs)(*arguments, **bounds)


def attacks(steps: Any) -> dict[str, cw.Attack]:
    """On the disagreement itself, by name. PGD may go as far as so many of DeepXplore's steps."""
    objective = differences.models_disagree(hinged=False)
    made = {f"fast {norm}": cw.fast(norm, steps=steps, objective=objective) for norm in ("l2", "linf", "l1")}
    made["fast l0"] = cw.fast("l0", steps=steps, objective=objective, distance=malware.COUNTED)
    beyond = differences.models_disagree(BEYOND, hinged=False)
    made["fast linf, a logit beyond"] = cw.fast("linf", steps=steps, objective=beyond)
    far = {"epsilon": STEP * steps, "relative_step": 1 / steps, "steps": steps, "random_start": False}
    return made | {"PGD linf": cw.attacks.pgd(objective=objective, **far)}


def scaled(model: cw.Model, unit: np.ndarray) -> cw.Model:
    """The model of features that were divided by the unit."""
    return cw.Model(apply=lambda params, x: model.apply(params, x * unit[None]), params=model.params)


def nearest(several: list[Found], seeds: np.ndarray, unit: np.ndarray) -> Found:
    """Of several searches the nearest difference in deviations; their gradients together."""
    far = np.stack([np.where(each.success, (np.abs(each.x - seeds) / unit).sum(1), np.inf) for each in several])
    best, rows = far.argmin(0), np.arange(len(seeds))
    x = np.stack([each.x for each in several])[best, rows]
    before = np.any([each.before for each in several], 0)
    return Found(x, np.asarray(np.isfinite(far).any(0)), before, np.sum([each.gradients for each in several], 0))


def differing(some: Documents, x: np.ndarray) -> np.ndarray:
    """How many networks say something else than the first, of each document."""
    said = deepxplore.answers(cw.joined(some.models), x)
    return (said != said[0]).sum(0)


def checked(some: Documents, seeds: np.ndarray, high: np.ndarray, found: Found) -> Found:
    """The search once more with what it reports looked at again.

    Raises:
      RuntimeError: a feature is no whole number, fell, grew too far, or may not change.
    """
    x, grows = found.x[found.success], some.rules.grows
    before, most = seeds[found.success], high[found.success]
    if (x < before).any() or (x > most).any() or (x != before)[:, ~grows].any() or (x != np.round(x))[:, grows].any():
        raise RuntimeError("a feature of a reported difference is where it may not be")
    return found._replace(success=np.asarray(found.success & (differing(some, found.x) > 0)))


def numbers(rules: Rules, seeds: np.ndarray, found: Found, agree: np.ndarray) -> dict[str, Any]:
    """A row of the table."""
    hit = found.success & agree
    change = (found.x - seeds)[hit].astype(np.float64)

    def of(reduced: Callable[..., Any], values: np.ndarray) -> float:
        return float(reduced(values)) if len(values) else float("nan")

    return {
        "seeds": int(agree.sum()),
        "with fractions": int((found.before & agree).sum()),
        "found": int(hit.sum()),
        "features changed": of(np.mean, (change != 0).sum(1)),
        "L1, counts, median": of(np.median, change.sum(1)),
        "L1, deviations": of(np.mean, (change / rules.unit).sum(1)),
        "L2, deviations": of(np.mean, np.linalg.norm(change / rules.unit, axis=1)),
        "Linf, deviations": of(np.mean, (change / rules.unit).max(1, initial=0)),
        "gradients": float(found.gradients[agree].mean()),
    }


def figure(rows: list[dict[str, Any]]) -> Figure:
    """How many differences each search found."""
    drawn = Figure(figsize=(7, 0.3 * len(rows) + 1), dpi=110, layout="constrained")
    axes = drawn.subplots()
    names = [row["search"] for row in rows][::-1]
    axes.barh(names, [row["found"] for row in rows][::-1], color=shown.BLUE)
    axes.tick_params(axis="y", labelsize=8)
    shown.plain(axes, f"differences from {rows[0]['seeds']} documents", "")
    return drawn


if __name__ == "__main__":
    given = tyro.cli(Arguments, description=__doc__)
    say(f"{len(main(given))} searches done")
