"""Tests run with shapes and types checked (jaxtyping, beartype), rank promotion an error and warnings errors.

The checks of shapes and types take a sixth of the time. `make test` leaves them out where other tests run the same
functions: in tests/lab, and in the laws of all attacks except a few. `make test-all` has them everywhere.

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

os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
)

import jax
import jaxtyping
import pytest
from jaxtyping import install_import_hook

jax.config.update("jax_numpy_rank_promotion", "raise")
install_import_hook("cwjax", "beartype.beartype")
jax.config.update("jax_disable_most_optimizations", True)  # also for what fixtures compile

if "PYTEST_XDIST_WORKER" in os.environ and hasattr(os, "sched_setaffinity"):
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[int(os.environ["PYTEST_XDIST_WORKER"].removeprefix("gw")) % len(cores)]})

LONG = bool(os.environ.get("CWJAX_LONG"))


def pytest_collection_modifyitems(config, items):
    """What is marked `long` is for `make test-all`."""
    if not LONG:
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("long")])
        items[:] = [item for item in items if not item.get_closest_marker("long")]


CHECKED_LAWS = ("l2", "l0", "lbfgs", "fast_l2", "fast_l0", "alternating_l2", "alma, l2", "linf, best target")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Before the fixtures of the test, also of those it shares with others."""
    group = item.get_closest_marker("xdist_group")
    of_laws = item.path.name == "test_laws.py" and not (group and group.args[0] in CHECKED_LAWS)
    in_lab = item.path.is_relative_to(item.config.rootpath / "tests" / "lab")
    jaxtyping.config.update("jaxtyping_disable", not LONG and (of_laws or in_lab))


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
