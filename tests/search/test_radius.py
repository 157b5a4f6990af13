"""The least radius that succeeds is found: on affine models it is the closed form."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cwjax as cw
from cwjax.attacks.fgsm import fgsm
from cwjax.attacks.pgd import pgd
from cwjax.base import problem, untouched
from cwjax.search.radius import minimised, search_scale

DUAL = {"l2": 2, "linf": 1}


def affine():
    """Two classes, eight points in the middle of the box, the answers, and how far each leads."""
    rng = np.random.default_rng(0)
    normal = rng.normal(size=10).astype(np.float32)
    weights = np.stack([normal, np.zeros_like(normal)], axis=1)
    x = rng.uniform(0.4, 0.6, size=(8, 10)).astype(np.float32)
    lead = (x - 0.5).astype(np.float64) @ normal
    bias = np.array([-0.5 * normal.sum(), 0], np.float32)
    model = cw.bind(lambda params, x: x @ params[0] + params[1][None], (weights, bias))
    return model, x, (lead < 0).astype(np.int64), np.abs(lead), normal.astype(np.float64)


@pytest.mark.parametrize("norm", DUAL)
@pytest.mark.parametrize("attack", ["fgsm", "pgd"])
def test_it_is_the_closed_form_on_an_affine_model(norm, attack):
    model, x, labels, lead, normal = affine()
    inner = (
        fgsm(epsilon=0.3, norm=norm) if attack == "fgsm" else pgd(epsilon=0.01, norm=norm, relative_step=0.5, steps=24)
    )
    run = jax.jit(cw.batched(minimised(inner, steps=22)))
    result = run(model, jax.random.split(jax.random.key(0), 8), jnp.asarray(x), cw.untargeted(labels))
    assert result.success.all()
    np.testing.assert_allclose(result.distance, lead / np.linalg.norm(normal, DUAL[norm]), rtol=5e-3)


def scales(threshold, steps, **settings):
    """What is tried where every scale from the threshold up succeeds."""
    given = problem(jnp.zeros(2), cw.Goal(jnp.asarray(0, jnp.int32), jnp.asarray(1.0)))
    search = search_scale(steps, **settings)
    knob, tried = search.init(given), []
    while not search.done(knob):
        scale = float(search.ask(given, knob).scale)
        tried.append(scale)
        clean = untouched(given)
        distance = jnp.asarray(0.0 if scale >= threshold else jnp.inf)
        knob = search.tell(given, knob, clean._replace(best=clean.best._replace(distance=distance)))
    return tried


def test_it_doubles_or_halves_until_it_has_both_and_then_bisects():
    assert scales(5.5, 7) == [1, 2, 4, 8, 6, 5, 5.5]
    assert scales(0.2, 6) == [1, 0.5, 0.25, 0.125, 0.1875, 0.21875]
    assert scales(2.0, 4, factor=10.0) == [1, 10, 5.5, 3.25]


def test_a_round_ends_at_its_first_success():
    model, x, labels, _, _ = affine()
    inner = pgd(epsilon=2.0, relative_step=1.0, steps=50, random_start=False)
    run = jax.jit(cw.batched(minimised(inner, steps=1)))
    result = run(model, jax.random.split(jax.random.key(0), 8), jnp.asarray(x), cw.untargeted(labels))
    assert (result.forwards == 2).all()
    assert result.finished.all()


def test_numbers_that_make_no_sense():
    cases: list[dict[str, Any]] = [{"steps": 0}, {"factor": 1.0}]
    for wrong in cases:
        with pytest.raises(ValueError, match="must be"):
            minimised(fgsm(epsilon=0.1), **wrong)
