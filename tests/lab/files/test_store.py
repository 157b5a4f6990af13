"""Files are whole or absent."""

import jax.numpy as jnp
import numpy as np
import pytest

from cwjax.lab.files import store


def test_a_write_that_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / "deep" / "file.txt"
    with store.atomically(path) as temporary:
        temporary.write_text("first")

    def fail():
        with store.atomically(path) as temporary:
            temporary.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.read_text() == "first"
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"cannot make the folder .*file/below"):
        store.make_folder(tmp_path / "file" / "below")


def test_arrays_come_back_as_they_were(tmp_path):
    tree = {"a": jnp.arange(6.0).reshape(2, 3), "b": (jnp.int32(3), {"c": jnp.ones((2,), jnp.bfloat16)})}
    store.write_arrays(tmp_path / "x.safetensors", tree)
    again = store.read_arrays(tmp_path / "x.safetensors", tree)
    np.testing.assert_array_equal(again["a"], tree["a"])
    assert again["b"][0] == 3
    assert again["b"][1]["c"].dtype == jnp.bfloat16


@pytest.mark.parametrize("other", [{"a": jnp.zeros(3)}, {"b": jnp.zeros(2)}, {"a": jnp.zeros(2, jnp.int32)}, {}])
def test_other_arrays_are_refused(tmp_path, other):
    store.write_arrays(tmp_path / "x.safetensors", {"a": jnp.zeros(2)})
    with pytest.raises(store.CorruptFile, match="other arrays"):
        store.read_arrays(tmp_path / "x.safetensors", other)


def test_fingerprints_tell_values_apart_and_nothing_else(tmp_path):
    assert store.fingerprint({"a": 1, "b": 2}) == store.fingerprint({"b": 2, "a": 1})
    assert store.fingerprint({"a": 1}) != store.fingerprint({"a": 2})
    assert store.fingerprint(np.zeros((2, 3))) != store.fingerprint(np.zeros((3, 2)))
    assert store.fingerprint(np.zeros(2, np.int32)) != store.fingerprint(np.zeros(1, np.int64))
    strided = np.arange(12).reshape(3, 4)[:, ::2]
    assert store.fingerprint(strided) == store.fingerprint(strided.copy())
