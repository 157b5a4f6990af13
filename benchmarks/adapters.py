"""What a gradient costs that a model of another framework gives to an attack, over that framework's own.

Claim: a converted PyTorch module takes at most 1.10 times PyTorch's own forward and backward passes on ResNet-20, a
small vision transformer and a WideResNet; asked at every step, at most 1.10 times on ResNet-20; and a network of a 2×2
convolution and a 4×4 max-pool, converted, at most 1.2 times.

    python -m benchmarks.adapters                        # some minutes on one core
    python -m benchmarks.adapters --batch 10 --networks pools
    python -m benchmarks.adapters --threads 2

All of them run on as many cores as threads, by default one, several steps in one loop, which is where attacks compute.
"""

# pyright: reportMissingImports=false
import argparse
import os

early = argparse.ArgumentParser(add_help=False)
early.add_argument("--threads", type=int, default=1, help="and cores (default: 1)")
if hasattr(os, "sched_setaffinity"):  # before any library counts the cores
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-early.parse_known_args()[0].threads :])

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch import nn

from benchmarks.timing import interleaved, machine, ratio
from cwjax.adapters import from_torch
from cwjax.adapters.pytorch.modules import How
from cwjax.models import Model
from cwjax.runners.fast_convolutions import canonical

STEPS = 3  # in one loop


class Residual(nn.Module):
    """A block of two convolutions with batch norm, as in ResNet-20 and, with the norm first, in a WideResNet."""

    def __init__(self, inputs: int, outputs: int, stride: int, *, first: bool):
        super().__init__()
        self.norms = nn.ModuleList([nn.BatchNorm2d(inputs if first else outputs), nn.BatchNorm2d(outputs)])
        self.convolutions = nn.ModuleList(
            [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)]
        )
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else nn.Conv2d(inputs, outputs, 1, stride, bias=False)
        self.first = first

    def forward(self, x):
        y = x
        for norm, convolution in zip(self.norms, self.convolutions, strict=True):
            y = convolution(torch.relu(norm(y))) if self.first else torch.relu(norm(convolution(y)))
        return y + self.shortcut(x)


class Transformer(nn.Module):
    """A vision transformer: 64 patches of 4×4, 3 layers of width 96, 3 heads."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 96, 4, 4)
        self.places = nn.Parameter(torch.randn(1, 64, 96) * 0.02)
        layer = nn.TransformerEncoderLayer(96, 3, 192, 0.0, "gelu", batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
        self.last = nn.Linear(96, 10)

    def forward(self, x):
        return self.last(self.layers(self.patches(x).flatten(2).transpose(1, 2) + self.places).mean(1))


def residual(widths: tuple[int, ...], blocks: int, *, first: bool) -> nn.Module:
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 3, 1, 1, bias=False)]
    before = 16
    for place, width in enumerate(widths):
        for block in range(blocks):
            layers.append(Residual(before, width, 2 if place and not block else 1, first=first))
            before = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, 10))


def pools() -> nn.Module:
    """A 2×2 convolution and a 4×4 max-pool, as in the networks of the verification competition."""
    return nn.Sequential(nn.Conv2d(1, 32, 2), nn.ReLU(), nn.MaxPool2d(4), nn.Flatten(), nn.Linear(1152, 10))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], tuple[How, ...]]] = {
    "resnet20": (lambda: residual((16, 32, 64), 3, first=False), (3, 32, 32), ("convert", "ask")),
    "transformer": (Transformer, (3, 32, 32), ("convert",)),
    "wide_resnet": (lambda: residual((64, 128), 1, first=True), (3, 32, 32), ("convert",)),
    "pools": (pools, (1, 28, 28), ("convert",)),
}


def in_jax(model: Model, x: np.ndarray) -> Callable[[], jax.Array]:
    def logit(x):
        return jnp.sum(model.of_batch(x)[:, 0])

    @jax.jit
    def run(x):
        step = canonical(lambda x: x - 1e-3 * jnp.sign(jax.grad(logit)(x)))
        return jax.lax.fori_loop(0, STEPS, lambda _, x: step(x), x)

    given = jnp.asarray(x)
    return lambda: run(given)


def in_torch(module: nn.Module, x: np.ndarray) -> Callable[[], torch.Tensor]:
    given = torch.from_numpy(x.transpose(0, 3, 1, 2).copy())

    def run():
        moved = given
        for _ in range(STEPS):
            moved = moved.detach().requires_grad_()
            [slope] = torch.autograd.grad(module(moved)[:, 0].sum(), moved)
            moved = moved - 1e-3 * slope.sign()
        return moved

    return run


def measured(name: str, batch: int, rounds: int) -> dict[str, float]:
    """The ratio of each way to PyTorch's own passes."""
    make, shape, ways = NETWORKS[name]
    torch.manual_seed(0)
    module = make()
    module.eval().requires_grad_(False)
    x = np.random.default_rng(0).uniform(size=(batch, *shape[1:], shape[0])).astype(np.float32)
    contestants: dict[str, Callable[[], object]] = {"torch": in_torch(module, x)}
    contestants |= {how: in_jax(from_torch(module, shape, how=how), x) for how in ways}
    seconds = interleaved(contestants, rounds)
    return {how: ratio(seconds[how], seconds["torch"]) for how in ways}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, parents=[early]
    )
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--batch", nargs="+", type=int, default=[10, 64])
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(f"{machine()}, torch {torch.__version__}, threads: {args.threads}\n")
    print("| network | batch | way | times PyTorch |\n|---|---|---|---|")
    for name in args.networks:
        for batch in args.batch:
            for how, times in measured(name, batch, args.rounds).items():
                print(f"| {name} | {batch} | {how} | {times:.2f} |", flush=True)


if __name__ == "__main__":
    main()
