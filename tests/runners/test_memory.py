"""How much memory a program needs, and how much a device has."""

import jax
import jax.numpy as jnp

from cwjax.runners import memory


def test_memory_is_known_to_some_extent():
    program = jax.jit(lambda x: jnp.sort(x).sum()).lower(jax.ShapeDtypeStruct((10**6,), jnp.float32)).compile()
    assert 4e6 <= memory.needed(program) < 4e7
    one = memory.available(jax.devices()[:1])
    assert 2**20 < one <= 2**50
    assert memory.available(jax.devices()[:1] * 4) <= one / 3  # they share the machine


def test_a_containers_limit_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_CONTAINER", tmp_path)
    free = memory.available(jax.devices()[:1])
    (tmp_path / "memory.max").write_text("5000000\n")
    (tmp_path / "memory.current").write_text("1000000\n")
    assert memory.available(jax.devices()[:1]) == 4_000_000
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.available(jax.devices()[:1]) >= free / 2


class Device:
    """A device that tells of its memory, or does not."""

    def __init__(self, limit: int = 0, used: int = 0):
        self.told = {"bytes_limit": limit, "bytes_in_use": used} if limit else None

    def memory_stats(self):
        return self.told


def test_the_fullest_device_decides():
    assert memory.available([Device(10_000, 1_000), Device(8_000, 3_000), Device(9_000)]) == 5_000


def test_a_device_that_does_not_tell_shares_the_machine_with_the_others():
    alone, beside = (memory.available([Device(1), *[Device()] * count]) for count in (1, 7))
    assert alone > 2**20
    assert beside < alone / 2


def test_arguments_results_and_what_lies_between_are_counted():
    shape = jax.ShapeDtypeStruct((1000,), jnp.float32)
    program = jax.jit(lambda x, y: (x + y, x - y)).lower(shape, shape).compile()
    assert 4 * 4000 <= memory.needed(program) < 4 * 4000 + 1000
