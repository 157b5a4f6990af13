"""The benchmark of a device, at sizes that a CPU runs in seconds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import device


def test_the_rates_of_a_matrix_product_are_of_every_precision():
    rates = device.matrix_rates(64)
    assert list(rates) == list(device.PRECISIONS)
    assert min(rates.values()) > 0


@pytest.mark.long
def test_a_wide_resnet_has_ten_logits_and_keeps_examples_apart():
    model = device.wide_resnet(depth=10, width=1)
    x = jax.random.uniform(jax.random.key(0), (3, 16, 16, 3))
    logits = model.of_batch(x)
    assert logits.shape == (3, 10)
    np.testing.assert_allclose(model.of_batch(x[1:2])[0], logits[1], rtol=1e-4, atol=1e-5)


def test_the_loop_of_bare_gradients_goes_down_the_margin():
    model = device.subjects(device.Arguments(small=True))[0].model
    x = jax.random.uniform(jax.random.key(1), (2, 28, 28, 1))
    goal = jax.tree.map(jnp.asarray, device.cw.untargeted(model.of_batch(x).argmax(-1)))
    moved = device.gradients(model, 2)(x, goal)
    assert 0 < float(jnp.abs(moved - x).max()) < 1e-3


@pytest.mark.long
def test_its_table_has_a_row_for_every_precision_and_way(capsys):
    device.main(device.Arguments(small=True, steps=2, rounds=1))
    lines = capsys.readouterr().out.splitlines()
    rows = [line for line in lines if line.startswith("| report's CNN")]
    assert len(rows) == len(device.PRECISIONS) * 2
    assert all(float(row.split("|")[5]) > 0 for row in rows)


@pytest.mark.long
def test_what_there_is_no_time_for_is_named(capsys):
    device.main(device.Arguments(small=True, seconds=-1.0))
    assert "Left out, for want of time: report's CNN at 64." in capsys.readouterr().out
