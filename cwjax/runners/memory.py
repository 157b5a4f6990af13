"""How much memory a compiled program needs, and how much a device has."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
from jax.stages import Compiled

_CONTAINER = Path("/sys/fs/cgroup")  # what Linux allows a container, which the machine's own figure does not know of


def needed(program: Compiled) -> int:
    """Bytes on one device while the program runs: its arguments, its results, and all that lies between."""
    sizes = program.memory_analysis()
    if sizes is None:
        return 0
    kept = sizes.argument_size_in_bytes + sizes.output_size_in_bytes - sizes.alias_size_in_bytes
    return kept + sizes.temp_size_in_bytes


def available(devices: Sequence[Any]) -> int:
    """Bytes that each of the devices can still give. Devices on the CPU share the machine's memory."""
    statistics = [device.memory_stats() for device in devices]
    if all(statistics):
        return min(each["bytes_limit"] - each["bytes_in_use"] for each in statistics if each)
    return min(psutil.virtual_memory().available, _left_to_the_container()) // len(devices)


def _left_to_the_container() -> int:
    try:
        limit, used = ((_CONTAINER / name).read_text() for name in ("memory.max", "memory.current"))
        return int(limit) - int(used)
    except (OSError, ValueError):  # no container, another system, or "max"
        return 2**63
