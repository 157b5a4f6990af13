"""The same L2 attack by cwjax and by other libraries: same weights, same images, same schedule.

Claim: on CPU, cwjax takes at most 1 / 1.3 of adv-lib's time for the same distance, within 1 %.

    pip install torch foolbox adversarial-robustness-toolbox; pip install --no-deps adv-lib torchattacks
    python -m benchmarks.peers                              # 9 x 1,000 steps on 100 digits: half an hour on 2 cores
    python -m benchmarks.peers --steps 200 --limit 600

Network: the zoo's MNIST CNN, trained on mnist5k (the first time a minute more); test digits that it gets right, each
towards the class after its own. The peers get it as a PyTorch module with the same weights, and the settings of the
released code: 9 rounds over c from 0.001, Adam at 0.01, early abort. torchattacks has no search over c, so it runs one
round at c = 1. Every contestant runs in a process of its own, one after the other; who exceeds the limit is reported
so. Passes are counted outside the attack: images through the network, forwards and backwards.
"""

# pyright: reportMissingImports=false, reportPrivateImportUsage=false
import dataclasses
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

import cwjax as cw
from benchmarks.libraries import art_classifier, attacks_of
from benchmarks.timing import machine
from cwjax.lab import data
from cwjax.lab.files import compiling
from cwjax.lab.training import training


@dataclasses.dataclass(frozen=True)
class Arguments:
    examples: int = 100
    steps: int = 1000  # in each of the nine rounds
    peers: tuple[str, ...] = ("cwjax", "adv-lib", "foolbox", "torchattacks", "art")
    limit: int = 1800  # seconds for each
    data: str = "mnist5k"  # see cwjax.lab.data
    epochs: int = 50  # of the network's training
    models: Path = Path("runs/models")  # where the trained network is kept
    only: str = ""  # used by the program itself: run this one and write its result to `out`
    out: Path = Path("result.npz")


def subject(arguments: Arguments) -> tuple[cw.Model, np.ndarray, np.ndarray, np.ndarray]:
    """The network, images, labels and targets."""
    trained = training.train(training.Training(data=arguments.data, epochs=arguments.epochs), arguments.models)
    dataset = data.load(arguments.data, "test")
    answers = np.asarray(trained.model.apply(trained.model.params, dataset.images)).argmax(1)
    right = np.flatnonzero(answers == dataset.labels)[: arguments.examples]
    labels = dataset.labels[right].astype(np.int64)
    return trained.model, dataset.images[right], labels, (labels + 1) % len(dataset.classes)


def by_cwjax(model, x, labels, targets, steps) -> dict[str, Any]:
    run = cw.streamed(cw.l2(steps=steps))
    keys = jax.random.split(jax.random.key(0), len(x))
    with compiling.timed() as compiled:
        result = run(model, keys, jnp.asarray(x), cw.targeted(targets, labels=labels))
        adversarial = np.asarray(result.x)
    passes = {"forwards": np.asarray(result.forwards).sum(), "backwards": np.asarray(result.backwards).sum()}
    return {"x": adversarial, "compiling": sum(compiled), **passes}


def network(model: cw.Model):
    """The report's CNN in PyTorch (images [B, 1, H, W]), and how many images went through it since."""
    import torch

    passes = {"forwards": 0, "backwards": 0}

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            arrays = jax.tree.map(lambda leaf: torch.from_numpy(np.array(leaf)), model.params)
            self.convolutions = torch.nn.ModuleList()
            for layer in arrays["convolutions"].values():
                kernel = layer["kernel"].permute(3, 2, 0, 1)
                module = torch.nn.Conv2d(kernel.shape[1], kernel.shape[0], tuple(kernel.shape[2:]))
                self.convolutions.append(_filled(module, kernel, layer["bias"]))
            self.layers = torch.nn.ModuleList()
            for layer in arrays["layers"].values():
                module = torch.nn.Linear(*layer["kernel"].shape)
                self.layers.append(_filled(module, layer["kernel"].T, layer["bias"]))

        def forward(self, x):
            passes["forwards"] += len(x)
            for i, convolution in enumerate(self.convolutions):
                x = torch.relu(convolution(x))
                x = torch.nn.functional.max_pool2d(x, 2) if i % 2 else x
            x = x.permute(0, 2, 3, 1).flatten(1)
            for i, layer in enumerate(self.layers):
                x = layer(x if i == 0 else torch.relu(x))
            if x.requires_grad:
                x.register_hook(lambda slope: passes.update(backwards=passes["backwards"] + len(slope)))
            return x

    def _filled(module, weight, bias):
        module.weight.data, module.bias.data = weight.contiguous(), bias
        return module

    return Network().eval().requires_grad_(False), passes


def by_peer(attack: Callable[..., Any]) -> Callable[..., dict[str, Any]]:
    """A contestant from an attack `(network, images, labels, targets, steps) -> adversarial images` in PyTorch."""

    def contestant(model, x, labels, targets, steps):
        import torch

        net, passes = network(model)
        images, labels, targets = (torch.from_numpy(np.array(a)) for a in (x.transpose(0, 3, 1, 2), labels, targets))
        expected = np.asarray(model.apply(model.params, x))
        assert np.abs(net(images).numpy() - expected).max() < 1e-3 * np.abs(expected).max()
        passes.update(forwards=0, backwards=0)
        adversarial = np.asarray(attack(net, images, labels, targets, steps))
        return {"x": adversarial.transpose(0, 2, 3, 1), "compiling": 0.0, **passes}

    return contestant


def adv_lib(net, images, labels, targets, steps):
    return attacks_of("adv_lib").carlini_wagner_l2(net, images, targets, targeted=True, max_iterations=steps)


def foolbox(net, images, labels, targets, steps):
    import foolbox as fb

    attack = fb.attacks.L2CarliniWagnerAttack(steps=steps)
    model = fb.PyTorchModel(net, bounds=(0, 1), device="cpu")
    return attack(model, images, fb.criteria.TargetedMisclassification(targets), epsilons=None)[1]


def torchattacks(net, images, labels, targets, steps):
    import torchattacks as ta

    attack = ta.CW(net, c=1, steps=steps, lr=0.01)
    attack.set_mode_targeted_by_label(quiet=True)
    return attack(images, targets)


def art(net, images, labels, targets, steps):
    import torch
    from art.attacks.evasion import CarliniL2Method

    attack = CarliniL2Method(
        art_classifier(net, torch.nn.CrossEntropyLoss(), images, 10),
        targeted=True,
        binary_search_steps=9,
        max_iter=steps,
        initial_const=1e-3,
        batch_size=len(images),
        verbose=False,
    )
    return attack.generate(images.numpy(), torch.nn.functional.one_hot(targets, 10).numpy())


CONTESTANTS: dict[str, Callable[..., dict[str, Any]]] = {
    "cwjax": by_cwjax,
    "adv-lib": by_peer(adv_lib),
    "foolbox": by_peer(foolbox),
    "torchattacks": by_peer(torchattacks),
    "art": by_peer(art),
}
MODULES = {"adv-lib": "adv_lib"}


def alone(arguments: Arguments) -> None:
    """What the process of one contestant does."""
    asked = subject(arguments)
    began = time.perf_counter()
    told = CONTESTANTS[arguments.only](*asked, arguments.steps)
    np.savez(arguments.out, seconds=time.perf_counter() - began, **told)


def contest(arguments: Arguments, name: str) -> dict[str, Any] | str:
    """The row of one contestant, or why it has none."""
    if importlib.util.find_spec(MODULES.get(name, name)) is None:
        return "not installed"
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "result.npz"
        told = {"only": name, "out": out, "peers": ()}
        command = [sys.executable, "-m", "benchmarks.peers", *_flags(dataclasses.replace(arguments, **told))]
        try:
            ended = subprocess.run(command, capture_output=True, text=True, timeout=arguments.limit + 120)
        except subprocess.TimeoutExpired:
            return f"more than {arguments.limit} s"
        if ended.returncode:
            return f"failed: {ended.stderr.strip().splitlines()[-1]}"
        with np.load(out) as arrays:
            told = dict(arrays)
    model, x, labels, targets = subject(arguments)
    adversarial = jnp.asarray(told["x"], jnp.float32)
    hit = np.asarray(cw.metrics.successes(model, adversarial, cw.targeted(targets, labels=labels)))
    distance = np.asarray(cw.metrics.norms(x, adversarial)["l2"])[hit]
    return {
        "success %": 100 * hit.mean(),
        "mean L2": distance.mean() if hit.any() else np.nan,
        "median L2": np.median(distance) if hit.any() else np.nan,
        "forwards an image": told["forwards"] / len(x),
        "backwards an image": told["backwards"] / len(x),
        "compiling, s": told["compiling"],
        "seconds": told["seconds"],
    }


def _flags(arguments: Arguments) -> list[str]:
    given = {key: value for key, value in dataclasses.asdict(arguments).items() if key != "peers"}
    return [word for key, value in given.items() for word in (f"--{key}", str(value))]


def main(arguments: Arguments) -> None:
    """Prints the table as Markdown."""
    if arguments.only:
        alone(arguments)
        return
    subject(arguments)
    print(f"{machine()}\n{arguments.examples} images, 9 x {arguments.steps} steps\n")
    rows: dict[str, Any] = {}
    for name in arguments.peers:
        rows[name] = contest(arguments, name)
        print(json.dumps({name: rows[name]}, default=float), flush=True)
    shown = [row for row in rows.values() if not isinstance(row, str)]
    if not shown:
        return
    ours = rows["cwjax"]["seconds"] if isinstance(rows.get("cwjax"), dict) else np.nan
    print("\n| | " + " | ".join(shown[0]) + " | time over cwjax's |\n" + "|---" * (len(shown[0]) + 2) + "|")
    for name, row in rows.items():
        if isinstance(row, str):
            print(f"| {name} | {row} |" + " |" * len(shown[0]))
        else:
            cells = " | ".join(f"{value:.4g}" for value in row.values())
            print(f"| {name} | {cells} | {row['seconds'] / ours:.2f} |")


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
