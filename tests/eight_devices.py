"""The same attack on one device and on eight, and over two processes.

`test_devices.py` runs this file, in a process that has eight devices.
"""

import socket
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh

import cwjax as cw
from tests import problems, test_laws

ROOT = Path(__file__).parent.parent
COUNT = 21
MODEL = cw.bind(problems.mlp, problems.mlp_params())
X = jnp.asarray(problems.inputs(COUNT))
GOAL = problems.goals(MODEL, np.asarray(X))
ARGUMENTS = (MODEL, problems.keys(COUNT), X, GOAL)
ATTACK = problems.small_l2()


@pytest.fixture(scope="module")
def expected():
    return jax.jit(cw.batched(ATTACK))(*ARGUMENTS)


def mesh(devices: int) -> Mesh:
    return Mesh(jax.devices()[:devices], ("devices",))


def assert_same(result: cw.Result, expected: cw.Result) -> None:
    np.testing.assert_array_equal(result.success, expected.success)
    np.testing.assert_allclose(result.distance, expected.distance, rtol=1e-4)
    np.testing.assert_allclose(result.x, expected.x, rtol=0, atol=1e-4)
    np.testing.assert_array_equal(result.forwards, expected.forwards)


@pytest.mark.parametrize("devices", [1, 2, 8])
def test_any_number_of_devices_gives_the_same(devices, expected):
    result = jax.jit(cw.sharded(cw.batched(ATTACK), mesh(devices)))(*ARGUMENTS)
    assert_same(result, expected)
    assert result.x.shape == X.shape


def test_other_runners_and_meshes_too(expected):
    result = jax.jit(cw.sharded(cw.chunked(cw.batched(ATTACK), 2), mesh(3)))(*ARGUMENTS)
    assert_same(result, expected)
    explicit = jax.make_mesh((4,), ("devices",), axis_types=(AxisType.Explicit,))
    for run in (jax.jit(cw.sharded(cw.batched(ATTACK), explicit)), cw.streamed(ATTACK, width=8, mesh=explicit)):
        assert_same(run(*ARGUMENTS), expected)
    result, trace = jax.jit(cw.sharded(cw.traced(ATTACK, 200), mesh(4)))(*ARGUMENTS)
    assert_same(result, expected)
    np.testing.assert_array_equal(trace.distance[:, -1], result.distance)


def test_an_input_has_its_own_bounds_on_whatever_device():
    bounds = {"low": jnp.maximum(X - 0.5, 0), "high": 1.0, "mask": np.arange(4) > 0}
    expected = jax.jit(cw.batched(ATTACK))(*ARGUMENTS, **bounds)
    assert expected.success.any()
    np.testing.assert_array_equal(expected.x[..., 0], X[..., 0])
    sharded = jax.jit(cw.sharded(cw.chunked(cw.batched(ATTACK), 2), mesh(3)))
    for run in (sharded, cw.streamed(ATTACK, width=8, mesh=mesh(4))):
        assert_same(run(*ARGUMENTS, **bounds), expected)


def test_each_device_has_its_own_share_and_no_word_for_the_others():
    run = jax.jit(cw.sharded(cw.batched(ATTACK), mesh(8)))
    sixteen = (MODEL, *jax.tree.map(lambda leaf: leaf[:16], ARGUMENTS[1:]))  # equal shares: nothing to fill up
    program = str(run.lower(*sixteen).compile().as_text())
    assert "while(" in program
    assert not any(word in program for word in ("all-reduce", "all-gather", "collective-permute", "all-to-all"))
    assert len(run(*sixteen).forwards.sharding.device_set) == 8


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="keys must have one entry an example"):
        cw.sharded(cw.batched(ATTACK), mesh(8))(MODEL, problems.keys(3), X, GOAL)


@pytest.mark.parametrize("devices", [2, 3, 8])
def test_one_queue_serves_all_devices(devices, expected):
    seen = []
    run = cw.streamed(ATTACK, width=8, every=9, mesh=mesh(devices))
    result = run(*ARGUMENTS, watch=lambda status: seen.append(status))
    assert_same(result, expected)
    assert seen[0].width % devices == 0
    assert seen[-1].found == int(expected.success.sum())
    assert seen[-1].forwards == int(expected.forwards.sum())


def test_lanes_move_between_devices_and_a_stored_run_goes_on(monkeypatch, expected):
    monkeypatch.setattr("cwjax.runners.queue._PATIENCE", 0.0)
    run = cw.streamed(ATTACK, width=16, every=9, mesh=mesh(4))
    seen = []

    def watch(status):
        seen.append(status)
        return status.finished >= 15 and status.width == 8

    stopped = run(*ARGUMENTS, watch=watch)
    assert 15 <= stopped.finished.sum() < COUNT
    result = run(*ARGUMENTS, watch=lambda status: seen.append(status), resume=seen[-1].snapshot())
    assert_same(result, expected)
    assert [status.width for status in seen][-1] == 4
    assert seen[-1].found == int(expected.success.sum())
    assert seen[-1].forwards == int(expected.forwards.sum())


PROCESS = """
import sys
import jax
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_cpu_collectives_implementation", "gloo")
rank, address, folder = int(sys.argv[1]), sys.argv[2], sys.argv[3]
jax.distributed.initialize(address, num_processes=2, process_id=rank)
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, PartitionSpec
import cwjax as cw
from tests import eight_devices, problems
mesh = Mesh(jax.devices(), ("devices",))
assert len(jax.devices()) == 4 and len(jax.local_devices()) == 2
model, *rows = eight_devices.plain_arguments()
given = multihost_utils.host_local_array_to_global_array((model, *rows), mesh, PartitionSpec())
result = jax.jit(cw.sharded(cw.batched(eight_devices.ATTACK), mesh))(*given)
result = multihost_utils.process_allgather(result, tiled=True)
np.savez(f"{folder}/{rank}.npz", **result._asdict())
"""


@test_laws.rows({name: test_laws.ATTACKS[name] for name in ("l0", "linf, best target")})
def test_an_example_of_any_attack_does_not_depend_on_its_shard_lane_or_device(row):
    arguments = (MODEL, test_laws.KEYS, test_laws.X, row.goal)
    grid = Mesh(np.reshape(jax.devices(), (2, 4)), ("hosts", "devices"))
    test_laws.assert_same(jax.jit(cw.sharded(cw.batched(row.make()), grid))(*arguments), test_laws.attacked(row))
    test_laws.assert_same(cw.streamed(row.make(), width=6, every=7, mesh=grid)(*arguments), test_laws.attacked(row))


def plain_arguments():
    """The arguments as NumPy arrays, keys as numbers, the same in every process."""
    model = cw.bind(problems.mlp, problems.mlp_params())
    keys = np.asarray(jax.random.key_data(problems.keys(COUNT)))
    return model, keys, np.asarray(X), jax.tree.map(np.asarray, GOAL)


def test_two_processes_share_one_batch(tmp_path, expected):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(rank), address, str(tmp_path)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        said = [process.communicate(timeout=240)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "".join(said)
    for rank in range(2):
        with np.load(tmp_path / f"{rank}.npz") as arrays:
            assert_same(cw.Result(**arrays), expected)
