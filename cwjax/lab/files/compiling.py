"""Compiled programs: kept from one run to the next, in a folder that is nobody else's; and how long compiling takes."""

import contextlib
import os
import platform
import stat
from collections.abc import Iterator
from pathlib import Path

import jax
from jax.experimental.compilation_cache import compilation_cache

VARIABLE = "JAX_COMPILATION_CACHE_DIR"


def folder() -> Path:
    """Where programs are kept: $JAX_COMPILATION_CACHE_DIR, or else ~/.cache/cwjax/programs/HOST, for a program of one
    processor may crash on another, and machines may share a home.
    """
    named = os.environ.get(VARIABLE)
    return Path(named) if named else Path.home() / ".cache" / "cwjax" / "programs" / platform.node()


def keep(path: Path) -> None:
    """From now on, programs that took half a second to compile are kept in the folder, and read from it.

    Raises:
      PermissionError: see `check`.
    """
    check(path)
    compilation_cache.reset_cache()  # JAX looks at the folder's name once, when it compiles first
    jax.config.update("jax_compilation_cache_dir", str(path))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    if jax.default_backend() == "cpu":
        # XLA logs an error for every program it reads back: "prefer-no-gather", which it set itself, is no feature of
        # the processor. What goes wrong still raises.
        jax.config.update("jax_logging_level", "CRITICAL")


@contextlib.contextmanager
def not_kept() -> Iterator[None]:
    """While the block runs, programs are compiled as if none were kept, and none is."""
    before = jax.config.values["jax_enable_compilation_cache"]
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()  # JAX looks at its settings once, when it compiles first
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", before)
        compilation_cache.reset_cache()


def check(path: Path) -> None:
    """A program that is read is run: so the folder must be this user's, and nobody else may write to it. It is made
    with mode 0700 where it is not there.

    Raises:
      PermissionError: it belongs to another user, or others may write to it.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = path.stat()
    own = not hasattr(os, "getuid") or status.st_uid == os.getuid()
    if not own or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(
            f"{path} holds compiled programs, and others may write to it: chmod 700 {path}, or set {VARIABLE}"
        )


def crowded() -> bool:
    """Whether this process holds more than half of the memory maps that Linux allows it. Every program compiled for a
    CPU holds some, and where none is left the compiler crashes.
    """
    maps, most = Path("/proc/self/maps"), Path("/proc/sys/vm/max_map_count")
    return maps.exists() and maps.read_bytes().count(b"\n") > int(most.read_text()) / 2


@contextlib.contextmanager
def timed() -> Iterator[list[float]]:
    """While the block runs, every program that is compiled, or read from the folder, adds its seconds to the list."""
    seconds: list[float] = []

    def listen(event: str, duration_secs: float, **kwargs: str | int) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            seconds.append(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield seconds
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
