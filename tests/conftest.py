"""Tests run with rank promotion an error and warnings errors; some of them with shapes and types checked (jaxtyping,
beartype).

The checks are made anew for every function that a function returns, which takes a fifth of the time. `make test` has
them in one process alone, that of tests/test_x64.py, which runs every family of attacks, every runner and the
command `attack`; `make test-all` has them everywhere.

Compiling is most of what the tests cost, and XLA's optimisations are half of that: programs that run for seconds are
worth them (`@pytest.mark.optimized`), and the small ones of the laws are not. Nor is its newer way to write a fused
loop, which takes longer than all the rest, nor its splitting of a program among threads, which is for large ones; so
what the tests see of rounding is not always what users see.

Each of pytest-xdist's workers keeps to a core of its own. XLA's threads would share programs this small among all
cores, and those of several workers in each other's way spend half of their time on waiting.
"""

import gc
import itertools
import os
from importlib.metadata import version

os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_cpu_parallel_codegen_split_count=1"
if version("jaxlib").startswith("0.10."):  # newer compilers know no other way, and refuse the flag
    os.environ["XLA_FLAGS"] += " --xla_cpu_use_fusion_emitters=false"

import jax
import jaxtyping
import pytest
from jaxtyping import install_import_hook

LONG = bool(os.environ.get("CWJAX_LONG"))

jax.config.update("jax_numpy_rank_promotion", "raise")
if LONG or os.environ.get("CWJAX_CHECKED"):
    install_import_hook("cwjax", "beartype.beartype")
jax.config.update("jax_disable_most_optimizations", True)  # also for what fixtures compile
jax.config.update("jax_traceback_in_locations_limit", 0)  # the calls behind each operation, which nobody reads here

if "PYTEST_XDIST_WORKER" in os.environ and hasattr(os, "sched_setaffinity"):
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[int(os.environ["PYTEST_XDIST_WORKER"].removeprefix("gw")) % len(cores)]})


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """What is marked `long` is for `make test-all`. The tests of a file go to one worker, which compiles once what they
    share; the laws go row by row, and last, so that all workers end together.
    """
    if not LONG:
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("long")])
        items[:] = [item for item in items if not item.get_closest_marker("long")]
    for item in items:
        if not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group(str(item.path.relative_to(config.rootpath))))
    items.sort(key=lambda item: item.path.name == "test_laws.py")


gc.set_threshold(100_000)  # tracing makes many objects, and few that are garbage

_TESTS = itertools.count(1)  # of this process


@pytest.fixture(autouse=True)
def optimizations(request):
    jax.config.update("jax_disable_most_optimizations", request.node.get_closest_marker("optimized") is None)
    yield
    assert jax.config.values["jax_compilation_cache_dir"] is None, "this test leaves a folder of compiled programs"


@pytest.fixture(autouse=True)
def forgotten():
    """Compiled programs are let go now and then: each holds some memory maps, of which Linux allows a process 65,530,
    and the compiler crashes where it gets no more.
    """
    from cwjax.lab.files import compiling

    yield
    if next(_TESTS) % 20 == 0 and compiling.crowded():
        jax.clear_caches()


@pytest.fixture
def as_users_have_it(monkeypatch):
    """Without the checks of annotations that tests add, which would refuse much before the library does."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
