"""`cwjax generate`: rows in batches, each kept as soon as it is done, so that a run that was stopped goes on."""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

import cwjax as cw
from cwjax.coverage import Neurons
from cwjax.lab.attacking import judging
from cwjax.lab.console.progress import progress, say
from cwjax.lab.files import environment, store
from cwjax.lab.generating import requirements_met
from cwjax.lab.generating.generated import Generated
from cwjax.lab.generating.plans import Asked, Made, Plan
from cwjax.lab.generating.settings import OWN
from cwjax.lab.generating.subject import Subject, neurons_of
from cwjax.lab.sweeps import units
from cwjax.lab.sweeps.vault import Vault

_OWN = (
    "by_answers.py",
    "by_neurons.py",
    "by_transforms.py",
    "by_weather.py",
    "plans.py",
)  # sources here that decide what is generated


def run(asked: Asked, plan: Plan, out: Path) -> Generated:
    """All rows of the plan; those of batches that are kept in the folder already are read.

    A batch is what its number, the models, the seeds, the settings and the sources decide, so a run that was stopped
    ends with the same bytes as one that was not.
    """
    vault, identity = Vault(out), _identity(asked)
    parts = [range(first, min(first + asked.batch, plan.total)) for first in range(0, plan.total, asked.batch)]
    made: list[Made] = []
    for part in parts:
        kept = vault.get(store.fingerprint([identity, part.start, part.stop]))
        if kept is None:
            break
        made.append(_read(kept))
    done = sum(len(each.found) for each in made)
    if done:
        say(f"{done} of {plan.total} tests are there already.")
    with progress(f"{asked.system}: tests", plan.total, done=done, first="compiling") as advance:
        for part in parts[len(made) :]:
            made.append(plan.make(part, made))
            vault.put(store.fingerprint([identity, part.start, part.stop]), _written(made[-1]), {"rows": len(part)})
            advance(len(part), f"{sum(sum(each.found) for each in made)} found so far")
    return _told(asked, plan, made)


def _identity(asked: Asked) -> str:
    """What decides the rows, as a digest."""
    subject, seeds = asked.subject, asked.subject.seeds
    every = subject.dataset
    arrays = [seeds.images, seeds.labels, seeds.index]
    arrays += [every.images, every.labels] if asked.system == "deepfault" else []
    learns = asked.settings.get("criterion") == "nbc" or asked.system == "deeproad"
    arrays += [asked.training()] if learns else []
    here = Path(__file__).parent
    return store.fingerprint(
        {
            "system": asked.system,
            "settings": {name: _plain(value) for name, value in asked.settings.items()},
            "models": [[name, units.model_named(name).digest] for name in subject.names],
            "seeds": [store.fingerprint(each) for each in arrays],
            "count": asked.asked_for,
            "batch": asked.batch,
            "seed": asked.seed,
            "code": [units.code(), *(store.fingerprint(here / name) for name in _OWN)],
        }
    )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _written(made: Made) -> dict[str, bytes]:
    file = io.BytesIO()
    np.save(file, made.x)
    rows = made._asdict()
    rows.pop("x")
    return {"x.npy": file.getvalue(), "rows.json": json.dumps(rows).encode()}


def _read(files: dict[str, bytes]) -> Made:
    return Made(x=np.load(io.BytesIO(files["x.npy"])), **json.loads(files["rows.json"]))


def joined(made: Sequence[Made]) -> Made:
    """The rows of all batches as one."""
    place, asked, found = ([each for part in made for each in getattr(part, name)] for name in _LISTS)
    more = {name: [each for part in made for each in part.more[name]] for name in made[0].more}
    return Made(place, asked, np.concatenate([part.x for part in made]), found, more)


_LISTS = ("place", "asked", "found")


def _told(asked: Asked, plan: Plan, parts: Sequence[Made]) -> Generated:
    """The rows with what each model says of the stored images, and what they are of."""
    subject, made = asked.subject, joined(parts)
    places = np.asarray(made.place)
    seeds, labels = subject.seeds.images[places], subject.seeds.labels[places]
    found = look(asked.system, asked.settings, subject, {"label": labels.tolist()} | made.more, seeds, made.x)
    met = np.asarray(made.found) & found.met & np.asarray([not fault for fault in found.faults])
    axes = (len(met), *[1] * (seeds.ndim - 1))
    x = np.where(met.reshape(axes), made.x, seeds)
    columns: dict[str, Any] = {
        "test": np.arange(len(met)),
        "index": subject.seeds.index[places],
        "label": labels,
        "asked": made.asked,
        "met": met,
        "already": met & (x == seeds).reshape(len(x), -1).all(1),
    }
    for number in range(len(subject.models)):
        columns[f"before_{number + 1}"] = found.before[number]
        columns[f"after_{number + 1}"] = np.where(met, found.after[number], found.before[number])
    columns |= {name: np.asarray(value) for name, value in norms_of(seeds, x).items()} | made.more
    about = {
        "title": f"{asked.system}: {len(met)} tests of {' and '.join(subject.names)} on {subject.data}",
        "system": asked.system,
        "what": OWN[asked.system].what,
        "models": list(subject.names),
        "data": subject.data,
        "count": asked.asked_for,
        "batch": asked.batch,
        "seed": asked.seed,
        "settings": {name: _plain(value) for name, value in asked.settings.items()},
        "seeds": len(subject.seeds.labels),
        "misread": list(subject.misread),
        "classes": list(subject.dataset.classes),
        **plan.about,
        "environment": environment.describe(),
    }
    return Generated(pa.table(columns), seeds, x, about)


def norms_of(seeds: np.ndarray, x: np.ndarray) -> dict[str, Any]:
    """How far the tests are from their seeds: pixels of images, elements of vectors."""
    return cw.metrics.norms(seeds, x, channel_axis=-1 if seeds.ndim == 4 else None)


def look(
    system: str, settings: dict[str, Any], subject: Subject, columns: dict[str, Any], seeds: np.ndarray, x: np.ndarray
) -> requirements_met.Judged:
    """`requirements_met.judged`, with models that are compiled."""

    def way(model: cw.Model) -> requirements_met.Way:
        return lambda images: judging.said(model, subject.dataset, np.arange(len(images)), images)

    values = None
    if "neuron" in columns:
        [neurons] = neurons_of(system, subject, settings["unit"])
        values = values_way(neurons)
    return requirements_met.judged(system, settings, columns, seeds, x, [way(each) for each in subject.models], values)


def values_way(neurons: Neurons, batch: int = 64) -> requirements_met.Way:
    """The values of all neurons, `batch` inputs at once."""

    def values(images: np.ndarray) -> np.ndarray:
        parts = [np.asarray(neurons(images[i : i + batch])[1].values) for i in range(0, len(images), batch)]
        return np.concatenate(parts)

    return values
