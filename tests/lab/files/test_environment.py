"""What a result was made with."""

import importlib.metadata
import platform

import jax

from cwjax.lab.files import environment


def test_the_device_the_machine_and_every_package_that_computes_are_named():
    told = environment.describe()
    assert set(told) == {"device", "machine", "python", *environment.PACKAGES}
    assert told["python"] == platform.python_version()
    assert told["jax"] == jax.__version__
    assert told["cwjax"] == importlib.metadata.version("cwjax")
    assert f"({jax.devices()[0].platform}, {jax.device_count()} in all)" in told["device"]
    assert all(isinstance(value, str) and value for value in told.values())
