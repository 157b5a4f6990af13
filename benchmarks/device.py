"""What a step of an attack costs over the bare gradient of the model on this device, by precision, way and batch.

Claim: on a GPU the attack adds next to nothing to the gradient, in one compiled loop and in a stream; and TF32 or
bfloat16, whose results are looked at again in float32, give several times as many image-gradients a second. The bar is
489 image-gradients a second on a WideResNet-28-10, which AttackBench publishes for DDN, C&W, ALMA and FMN alike.

    python -m benchmarks.device            # at most 8 minutes on a GPU; stops in time, rows left out are named
    python -m benchmarks.device --small    # a minute on a CPU: one small network, one batch

Rows come in the order of their worth, and each is printed as soon as it is measured. "step / gradient" is the median
of rounds in which both take turns. "of the matrix rate" is the gradient's floating-point operations, as the compiler
counts them, over what this device does in a product of two large matrices in the same precision.

It has not run on a GPU yet.

Where PyTorch and adv-lib are installed and see a GPU, their DDN and C&W run on convolutions of the same width and
number.
"""

import dataclasses
import functools
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import tyro
from flax import nnx
from jax import lax

import cwjax as cw
from benchmarks.timing import interleaved, machine, ratio
from cwjax.lab.training import nets

BAR = 489  # image-gradients a second, WideResNet-28-10: AttackBench (arXiv 2404.19460), from its published times
FLAG = "--xla_gpu_enable_command_buffer=+WHILE"
PRECISIONS = ("highest", "tensorfloat32", "bfloat16")
HEADINGS = ("network", "batch", "precision", "way", "step / gradient", "image-gradients / s", "of the matrix rate")


@dataclasses.dataclass(frozen=True)
class Arguments:
    small: bool = False  # one small network and one batch, for a CPU
    seconds: float = 460.0  # no row is begun later than this
    steps: int = 20  # of an attack
    rounds: int = 3  # timed calls of each contestant
    flagged: bool = False  # only the row that is run once more with command buffers


class Subject(NamedTuple):
    """A network to be timed."""

    name: str
    model: cw.Model
    shape: tuple[int, ...]
    batches: tuple[int, ...]


class Wide(nnx.Module):
    """A WideResNet (Zagoruyko & Komodakis 2016) for photographs. Its group normalisation keeps examples apart."""

    def __init__(self, depth: int, width: int, rngs: nnx.Rngs):
        each = (depth - 4) // 6
        channels = [16, 16 * width, 32 * width, 64 * width]
        self.stem = nnx.Conv(3, channels[0], (3, 3), use_bias=False, rngs=rngs)
        blocks, before = [], channels[0]
        for stage, after in enumerate(channels[1:]):
            for place in range(each):
                stride = 2 if stage and not place else 1
                blocks.append(_Block(before, after, stride, rngs))
                before = after
        self.blocks, self.norm = nnx.List(blocks), nnx.GroupNorm(before, num_groups=8, rngs=rngs)
        self.dense = nnx.Linear(before, 10, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.dense(jax.nn.relu(self.norm(x)).mean((1, 2)))


class _Block(nnx.Module):
    def __init__(self, before: int, after: int, stride: int, rngs: nnx.Rngs):
        self.norms = nnx.List([nnx.GroupNorm(n, num_groups=8, rngs=rngs) for n in (before, after)])
        self.convolutions = nnx.List(
            [
                nnx.Conv(before, after, (3, 3), strides=stride, use_bias=False, rngs=rngs),
                nnx.Conv(after, after, (3, 3), use_bias=False, rngs=rngs),
            ]
        )
        same = before == after and stride == 1
        self.shortcut = None if same else nnx.Conv(before, after, (1, 1), strides=stride, use_bias=False, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        inside = jax.nn.relu(self.norms[0](x))
        kept = x if self.shortcut is None else self.shortcut(inside)
        return kept + self.convolutions[1](jax.nn.relu(self.norms[1](self.convolutions[0](inside))))


def wide_resnet(depth: int = 28, width: int = 10) -> cw.Model:
    """With random weights: what it says is of no matter here."""
    graph, params = nnx.split(Wide(depth, width, nnx.Rngs(0)))
    return cw.bind(functools.partial(_apply, graph), params)


def _apply(graph, params, x):
    return nnx.merge(graph, params)(x)


def subjects(arguments: Arguments) -> list[Subject]:
    """The networks, the most telling first."""
    cnn = nets.as_model(nets.build("mnist_cnn", shape=(28, 28, 1), classes=10, seed=0))
    small = Subject("report's CNN", cnn, (28, 28, 1), (64,) if arguments.small else (1024, 8192, 256))
    if arguments.small:
        return [small]
    return [Subject("WideResNet-28-10", wide_resnet(), (32, 32, 3), (256, 1024)), small]


def gradients(model: cw.Model, steps: int) -> Callable[..., jax.Array]:
    """So many gradients of the margin in one compiled loop, each at another point."""

    @jax.jit
    def loop(x, goal):
        def one(x, goal):
            return cw.runners.canonical(jax.grad(lambda x: cw.objectives.margin(model(x), goal)))(x)

        def move(_, x):
            return x - 1e-6 * jax.vmap(one)(x, goal)

        return lax.fori_loop(0, steps, move, x)

    return loop


def rows(subject: Subject, batch: int, arguments: Arguments, rates: dict[str, float]) -> Iterator[tuple[str, ...]]:
    """The rows of one network and batch."""
    x = jax.random.uniform(jax.random.key(1), (batch, *subject.shape))
    goal = cw.untargeted(subject.model.of_batch(x).argmax(-1))
    keys, attack = jax.random.split(jax.random.key(0), batch), cw.fast("l2", steps=arguments.steps)
    for precision in PRECISIONS:
        searched = cw.in_precision(subject.model, precision)
        bare = gradients(searched, arguments.steps)
        work = _compiled(searched, x, goal)
        once, stream = jax.jit(cw.batched(attack)), cw.streamed(attack, width=batch)
        if precision == "bfloat16":  # and each result is looked at again in float32
            once, stream = (
                jax.jit(cw.verified(cw.batched(attack), precision=precision)),
                cw.verified(stream, precision=precision),
            )
        model = subject.model if precision == "bfloat16" else searched
        ways = {
            "one loop": functools.partial(once, model, keys, x, goal),
            "streamed": functools.partial(stream, model, keys, x, goal),
        }
        calls = {"gradient": functools.partial(bare, x, goal)} | ways
        seconds = interleaved(calls, arguments.rounds)
        for way in ways:
            rate = batch * arguments.steps / statistics.median(seconds[way])
            share = (work.cost_analysis() or {}).get("flops", float("nan")) / batch * rate / rates[precision]
            cells = (f"{ratio(seconds[way], seconds['gradient']):.3f}", f"{rate:,.0f}", f"{share:.1%}")
            yield (subject.name, f"{batch:,}", precision, way, *cells)


def _compiled(model: cw.Model, x: jax.Array, goal: cw.LabelGoal) -> Any:
    """The program of one gradient."""

    def slope(x, goal):
        return jax.grad(lambda x: cw.objectives.margin(model(x), goal))(x)

    return jax.jit(jax.vmap(slope)).lower(x, goal).compile()


def matrix_rates(size: int) -> dict[str, float]:
    """Floating-point operations a second in a product of square matrices, by precision."""
    found = {}
    for precision in PRECISIONS:
        dtype = jnp.bfloat16 if precision == "bfloat16" else jnp.float32
        a = jax.random.normal(jax.random.key(0), (size, size), dtype)
        chosen = None if precision == "bfloat16" else precision

        def product(a, chosen=chosen):
            return lax.fori_loop(0, 5, lambda _, b: jnp.matmul(a, b, precision=chosen) / size, a)

        call = jax.jit(product)
        seconds = interleaved({"product": functools.partial(call, a)}, 3)["product"]
        found[precision] = 5 * 2 * size**3 / min(seconds)
    return found


def of_torch(arguments: Arguments) -> str:
    """What adv-lib's DDN and C&W do on this card, in a sentence; or why not."""
    try:
        import torch  # pyright: ignore[reportMissingImports]

        from benchmarks.libraries import attacks_of

        attacks = attacks_of("adv_lib")
    except ImportError as error:
        return f"adv-lib was not run: {error}."
    if not torch.cuda.is_available():
        return "adv-lib was not run: PyTorch sees no GPU."
    net = torch.nn.Sequential(*_torch_blocks(torch)).cuda().eval()
    x = torch.rand(256, 3, 32, 32, device="cuda")
    labels, told = net(x).argmax(1), []
    for name, steps in (("ddn", arguments.steps), ("carlini_wagner_l2", arguments.steps)):
        more = {"steps": steps} if name == "ddn" else {"max_iterations": steps, "binary_search_steps": 1}
        attack = getattr(attacks, name)
        attack(net, x, labels, **more)
        torch.cuda.synchronize()
        began = time.perf_counter()
        attack(net, x, labels, **more)
        torch.cuda.synchronize()
        told.append(f"{name} {256 * steps / (time.perf_counter() - began):,.0f}")
    return f"adv-lib on a plain convolutional net of the same width, image-gradients a second: {', '.join(told)}."


def _torch_blocks(torch: Any) -> list[Any]:
    """Convolutions with the multiply-adds of a WideResNet-28-10, one after the other."""
    layers, before = [], 3
    for after, count, stride in ((160, 8, 1), (320, 8, 2), (640, 8, 2)):
        for place in range(count):
            layers += [torch.nn.Conv2d(before, after, 3, stride if not place else 1, 1), torch.nn.ReLU()]
            before = after
    return [*layers, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(before, 10)]


def with_command_buffers(arguments: Arguments) -> str:
    """The first row of the smallest batch in a process of its own with XLA's flag, as a table row."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} {FLAG}".strip()
    told = [sys.executable, "-m", "benchmarks.device", "--flagged", *(["--small"] if arguments.small else [])]
    done = subprocess.run(told, env=os.environ | {"XLA_FLAGS": flags}, capture_output=True, text=True, timeout=200)
    line = done.stdout.strip().splitlines()[-1] if done.returncode == 0 and done.stdout.strip() else ""
    return line or f"not measured: {(done.stderr.strip().splitlines() or ['no output'])[-1]}"


def main(arguments: Arguments) -> None:
    """Prints the table as Markdown."""
    began, on_gpu = time.monotonic(), jax.default_backend() == "gpu"
    rates = matrix_rates(4096 if on_gpu else 512)
    if arguments.flagged:
        subject = subjects(arguments)[-1]
        row = next(rows(subject, min(subject.batches), arguments, rates))
        print("| " + " | ".join(row) + " |")
        return
    told = ", ".join(f"{name} {rate / 1e12:.3g}" for name, rate in rates.items())
    print(f"{machine()}\nMatrix rate, TFLOP/s: {told}. {arguments.steps} steps of `fast_l2`.\n")
    print("| " + " | ".join(HEADINGS) + " |\n" + "|---" * len(HEADINGS) + "|", flush=True)
    left_out = []
    for subject in subjects(arguments):
        for batch in subject.batches:
            if time.monotonic() - began > arguments.seconds:
                left_out.append(f"{subject.name} at {batch:,}")
                continue
            for row in rows(subject, batch, arguments, rates):
                print("| " + " | ".join(row) + " |", flush=True)
    print(f"\nAttackBench's bar on a WideResNet-28-10: {BAR} image-gradients a second.")
    if left_out:
        print(f"Left out, for want of time: {', '.join(left_out)}.")
    if on_gpu:
        print(f"\nWith {FLAG}:\n{with_command_buffers(arguments)}\n\n{of_torch(arguments)}")


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
