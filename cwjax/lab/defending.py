"""Defended networks by name, with what they learnt kept until something changes.

The name of a defence stands behind that of its model, as an option: "zoo:mnist_cnn,defence=magnet,taught=mnist". So
whatever takes a model takes a defended one: `cwjax attack`, sweeps, `cwjax verify`.
"""

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

import cwjax
from cwjax import defences
from cwjax.defences import DEFENCES, Defended
from cwjax.defences.learnt_weights import ADVERSARIAL
from cwjax.goals import untargeted
from cwjax.lab import options as naming
from cwjax.lab.attacking import judging
from cwjax.lab.console.progress import say
from cwjax.lab.console.spelling import choices
from cwjax.lab.data import Dataset
from cwjax.lab.files import store
from cwjax.models import Model
from cwjax.tasks import Task

OPTIONS = ("defence", "taught")  # its name, and the data whose training images it learns from
NONE = "none"
REFUSED = "refused"

PLACE = Path("runs/models/defences")
LEARN_FROM = 10_000  # training images at most


def defended(
    name: str, model: Model, train: Dataset, *, folder: Path = PLACE, count: int = LEARN_FROM, **options: Any
) -> Defended:
    """The model with a defence, learnt from the first training images or read from an earlier time.

    Writes `folder/NAME-HASH/*.safetensors`, where the hash is of the model's weights, the images, the options and the
    sources of the defences.

    Args:
      name: one of `cwjax.defences.DEFENCES`.
      model: to defend.
      train: training images; the first ones are taken, see `count`.
      folder: where defences are kept.
      count: training images at most.
      **options: of the defence.

    Raises:
      ValueError: an unknown name; what the defence refuses.
      store.CorruptFile: a file is not what was written.
    """
    if name not in DEFENCES:
        raise ValueError(f"unknown defence {name!r}: choose one of {', '.join(DEFENCES)}")
    some = train.take(slice(count))
    identity = {
        "name": name,
        "options": options,
        "model": model_digest(model),
        "data": [store.fingerprint(some.images), store.fingerprint(some.labels)],
        "source": source(),
    }
    of_all = {key: value for key, value in identity.items() if key not in ("name", "options")}
    place, common = (
        folder / f"{what}-{store.fingerprint(each)[:12]}" for what, each in ((name, identity), ("common", of_all))
    )

    def keep(part: str, make: Callable[[], Any]) -> Any:
        path = (common if part.startswith(ADVERSARIAL) else place) / f"{part}.safetensors"
        if path.exists():
            return store.read_arrays(path, jax.eval_shape(make))
        say(f"Defence {name}: learning its {part}")
        made = make()
        store.write_arrays(path, made)
        return made

    return DEFENCES[name](model, some.images, some.labels, jax.random.key(0), keep=keep, **options)


def named(model: str, defence: str | None, data: str | None) -> str:
    """The name of a model with a defence behind it; as it is where there is none.

    Raises:
      ValueError: an unknown defence.
    """
    if defence in (None, NONE):
        return model
    if defence not in DEFENCES:
        raise ValueError(f"--defence {defence} is not known: {choices(str(defence), [NONE, *DEFENCES])}")
    return naming.joined(model, {"defence": defence, "taught": data})


def task_of(name: str, it: Defended, test: Dataset) -> Task:
    """The task of the test images: each is to be misread and not refused.

    Args:
      name: of the defence.
      it: with a detector.
      test: the images and labels.
    """
    threshold, classes = float(it.threshold), test.classes

    def read(outputs: Any) -> str:
        logits, score = outputs
        return f"{classes[int(np.argmax(logits))]}, {REFUSED if score > threshold else 'passes'}"

    return Task(
        name=f"{test.name} behind {name}",
        model=defences.whole(it),
        x=test.images,
        goal=untargeted(test.labels),
        objective=functools.partial(defences.undetected, it),
        read=read,
        wanted=lambda goal: f"not {classes[int(goal.label)]}, passes",
    )


def on_clean(model: Model, dataset: Dataset) -> dict[str, str]:
    """What a defended network does with the images before any attack, heading -> words: how many it classifies rightly,
    and of one with a detector, how many of all it refuses.
    """
    places = np.arange(len(dataset.labels))
    outputs = judging.said(cwjax.in_precision(model, "highest"), dataset, places, dataset.images)
    logits, labels, found = outputs, dataset.labels, {}
    if dataset.task:
        logits, labels = outputs[0], np.asarray(judging.goals_of(dataset, places).label)
        words = map(dataset.task.read, judging.one_by_one(outputs))
        found["clean images that are refused"] = f"{sum(each.endswith(REFUSED) for each in words)} of {len(places)}"
    right = int((logits.argmax(-1) == labels).sum())
    return {"clean images classified rightly, with the defence": f"{right} of {len(places)}"} | found


def model_digest(model: Model) -> str:
    """A hash of what a model computes with: its weights and their structure."""
    leaves = [store.fingerprint(np.asarray(leaf)) for leaf in jax.tree.leaves(model.params)]
    return store.fingerprint([leaves, str(jax.tree.structure(model.params))])


def source() -> str:
    """A hash of the version and the sources of the defences."""
    digest = hashlib.sha256(cwjax.__version__.encode())
    for file in sorted(Path(str(defences.__file__)).parent.glob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()
