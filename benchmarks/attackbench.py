"""AttackBench's own acceptance command, with cwjax's fast attacks entered beside its attacks.

Claim: none, orientation. AttackBench counts the passes, enforces the budget and measures the distances.

    pip install 'cwjax[demo,bench,torch]' 'attackbenchlib[attacks]'; pip install --no-deps adv-lib
    python -m benchmarks.attackbench --out table.md                           # 20 minutes on one busy core
    python -m benchmarks.attackbench --models mnist_cnn mnist_robust          # AttackBench's SmallCNN: longer
    python -m benchmarks.attackbench --norms linf --examples 4 --budget 60    # half a minute

AttackBench's checkpoints and MNIST are downloads. Here its SmallCNN has the weights of the zoo's networks of the same
layers, and the images are digits of mnist5k, on which no network of the zoo was trained.

An attack of cwjax is asked through `torch_attack(…, how="ask")`. The first call compares the asked model with the
module, and AttackBench counts these passes too: an image or two have fewer of their budget left.
"""

# pyright: reportMissingImports=false
import contextlib
import dataclasses
import functools
import importlib
import importlib.metadata
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
import tyro

from benchmarks.libraries import attacks_of
from benchmarks.timing import machine
from cwjax.adapters import torch_attack
from cwjax.attacks.registry import ATTACKS, fast_attacks
from cwjax.lab import data, zoo

Name = Literal["mnist_lenet", "mnist_cnn", "mnist_distilled", "mnist_robust"]  # networks of the zoo

STEPS = 1000  # of AttackBench's own configurations: 1,000 passes each way are its budget of 2,000

BESIDE = {  # AttackBench's attacks that make a norm small, and for L-infinity one within a radius that it chooses
    "l2": ("preconfigured:fmn", "preconfigured:deepfool", "preconfigured:superdeepfool", "preconfigured:fab"),
    "linf": ("preconfigured:fmn", "preconfigured:fab", "preconfigured:apgd"),
    "l1": ("preconfigured:fmn", "preconfigured:fab"),
    "l0": ("preconfigured:fmn", "mended:sigma_zero"),
}
MORE = {"l2": ("adv_lib:ddn", "adv_lib:alma"), "l1": ("adv_lib:alma",)}  # where adv-lib is installed

_HEAD = (
    "| attack | success % | local optimality | median distance | mean distance | the returned one, % longer | forwards "
    "| backwards |\n" + "|---" * 8 + "|"
)


@dataclasses.dataclass(frozen=True)
class Arguments:
    examples: int = 64
    budget: int = 2000  # forward and backward passes of an image
    norms: tuple[str, ...] = ("l2", "linf", "l1", "l0")
    models: tuple[Name, ...] = ("mnist_lenet",)
    out: Path | None = None  # a Markdown file that the tables are added to


def entered() -> None:
    """Enters the fast attacks, the networks and the images into AttackBench's registries, as its own are."""
    importlib.import_module("torchvision.utils")  # before adv-lib is imported without it
    with contextlib.suppress(ImportError):
        attacks_of("adv_lib")
    attacks, models, images = (
        importlib.import_module(f"attackbench.{kind}.registry") for kind in ("attacks", "models", "datasets")
    )
    attacks.library_modules["cwjax"] = types.SimpleNamespace(_wrapper=_called)
    for norm in BESIDE:
        for name in fast_attacks(norm):
            config = {"name": name, "source": "cwjax", "threat_model": norm, "num_steps": STEPS}
            attacks.attack_configs["cwjax"][f"{name}_{norm}"] = functools.partial(dict, config)
            attacks.library_getters["cwjax"][name] = _getter(name)
    # The entry of σ-zero in attackbenchlib 2.0.2 hands its function an argument that it does not take, and so fails.
    attacks.library_modules["mended"] = types.SimpleNamespace(_wrapper=_called)
    config = attacks.attack_configs["original"]["sigma_zero"]() | {"num_steps": STEPS}
    attacks.attack_configs["mended"]["sigma_zero"] = functools.partial(dict, config)
    attacks.library_getters["mended"]["sigma_zero"] = attacks.library_getters["original"]["sigma_zero"]
    for name in get_args(Name):
        models.MODEL_CONFIGS[f"zoo_{name}"] = {"name": f"zoo_{name}", "dataset": "mnist", "source": "local"}
        models._local_models[f"zoo_{name}"] = functools.partial(network, name)
    images._datasets["mnist"] = digits


def _called(model: Any, inputs: Any, labels: Any, attack: Any, targets: Any = None, targeted: bool = False) -> Any:
    return attack(model, inputs, labels, targets=targets, targeted=targeted)


def _getter(name: str) -> Callable[..., Any]:
    entry = ATTACKS[name]

    def made(threat_model: str, num_steps: int):
        norm = {"norm": threat_model} if len(entry.norms) > 1 else {}
        return torch_attack(entry.make(steps=num_steps, **norm), how="ask")

    return made


def digits(root: str) -> list[tuple[torch.Tensor, int]]:
    """Images [1, 28, 28] and labels, as torchvision's MNIST gives them."""
    dataset = data.load("mnist5k", "test")
    images = torch.from_numpy(np.array(dataset.images.transpose(0, 3, 1, 2), np.float32))
    return [(image, int(label)) for image, label in zip(images, dataset.labels, strict=True)]


def network(name: Name) -> torch.nn.Module:
    """A network of the zoo in PyTorch: AttackBench's own SmallCNN, or LeNet-5."""
    model = zoo.load(name).model
    net = _lenet() if name == "mnist_lenet" else importlib.import_module("attackbench.models.mnist").SmallCNN()
    layers = [layer for layer in net.modules() if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear)]
    weights = [*model.params["convolutions"].values(), *model.params["layers"].values()]
    channels = 1
    for layer, given in zip(layers, weights, strict=True):
        kernel = torch.from_numpy(np.array(given["kernel"]))
        if isinstance(layer, torch.nn.Conv2d):
            kernel, channels = kernel.permute(3, 2, 0, 1), kernel.shape[3]
        elif channels:  # the first dense layer reads channels last in the zoo, and first here
            side = round((kernel.shape[0] / channels) ** 0.5)
            kernel = kernel.reshape(side, side, channels, -1).permute(3, 2, 0, 1).flatten(1)
            channels = 0
        else:
            kernel = kernel.T
        layer.weight.data, layer.bias.data = kernel.contiguous(), torch.from_numpy(np.array(given["bias"]))
    x = np.stack([image.numpy() for image, _ in digits("")[:8]])
    wanted = np.asarray(model.apply(model.params, x.transpose(0, 2, 3, 1)))
    with torch.no_grad():
        apart = np.abs(net.eval()(torch.from_numpy(x)).numpy() - wanted).max() / np.abs(wanted).max()
    if not apart < 1e-4:
        raise ValueError(f"the logits of {name} in PyTorch differ by {apart:.1e} of the largest")
    return net


def _lenet() -> torch.nn.Module:
    nn = torch.nn
    convolutions = nn.Conv2d(1, 6, 5, padding=2), nn.MaxPool2d(2), nn.ReLU(), nn.Conv2d(6, 16, 5), nn.MaxPool2d(2)
    dense = nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)
    return nn.Sequential(*convolutions, nn.ReLU(), nn.Flatten(), *dense)


def accepted(norm: str, model: str, arguments: Arguments) -> str:
    """The table of one run of the acceptance command, as Markdown."""
    acceptance: Any = importlib.import_module("attackbench.acceptance")
    known = importlib.import_module("attackbench.attacks.registry").library_modules
    beside = *BESIDE[norm], *(name for name in MORE.get(norm, ()) if "adv_lib" in known)
    entries = *(f"cwjax:{name}" for name in fast_attacks(norm)), *beside
    command = (
        f"--model zoo_{model} --dataset mnist --threat-model {norm} --n-samples {arguments.examples} --device cpu "
        f"--batch-size {arguments.examples} --query-budget {arguments.budget} --attacks {' '.join(entries)}"
    )
    kept: list[Any] = []
    shown = acceptance.print_table
    acceptance.print_table = lambda *table: (kept.extend(table), shown(*table))
    try:
        acceptance.main(command.split())
    finally:
        acceptance.print_table = shown
    rows, optimality = kept
    lines = [f"## {norm}, `{model}`\n\n`attackbench-acceptance {command}`\n", _HEAD]
    lines += [
        f"| {row['attack']} | {row['ASR']:.1f} | {optimality[row['attack']]:.4f} | {row['median_d']:.4g} "
        f"| {row['mean_d']:.4g} | {row['gap_%']:.1f} | {row['#F']} | {row['#B']} |"
        for row in rows
    ]
    for row in rows:
        if row["failed_batches"] or row["box_violations"]:
            failed, outside = row["failed_batches"], row["box_violations"]
            lines.append(f"\n{row['attack']}: {failed} batches failed, {outside} images were out of the box.")
    return "\n".join(lines) + "\n"


def main(arguments: Arguments) -> None:
    """Prints the tables, and adds them to the file."""
    torch.set_num_threads(1)
    entered()
    versions = ", ".join(
        f"{name} {importlib.metadata.version(name)}" for name in ("attackbenchlib", "torch", "foolbox")
    )
    for model in arguments.models:
        for norm in arguments.norms:
            table = accepted(norm, model, arguments)
            print(f"\n{machine()}, {versions}\n\n{table}", flush=True)
            if arguments.out:
                with arguments.out.open("a") as out:
                    out.write(table + "\n")


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
