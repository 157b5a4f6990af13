"""What a result was made with: a result without its device and versions is not a result."""

import importlib.metadata
import os
import platform

import jax

PACKAGES = ("cwjax", "jax", "jaxlib", "optax", "flax", "numpy")


def describe() -> dict[str, str]:
    """Versions of Python and of the packages that compute, the device, and the machine."""
    device = jax.devices()[0]
    return {
        "device": f"{device.device_kind} ({device.platform}, {jax.device_count()} in all)",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}",
        "python": platform.python_version(),
    } | {name: importlib.metadata.version(name) for name in PACKAGES}
