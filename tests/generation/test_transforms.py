"""Transforms: neutral parameters, known answers, slopes, and attacks on parameters."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cwjax as cw
from cwjax.generation import metamorphic, transforms
from cwjax.generation.transforms import TRANSFORMS

IMAGE = np.random.default_rng(0).random((8, 9, 2)).astype(np.float32)


def applied(name, *parameters, image=IMAGE):
    return np.asarray(TRANSFORMS[name].apply(image, jnp.asarray(parameters, jnp.float32)))


@pytest.mark.parametrize("name", TRANSFORMS)
def test_laws(name):
    each = TRANSFORMS[name]
    assert all(low <= neutral <= high for low, neutral, high in zip(each.low, each.neutral, each.high, strict=True))
    assert len(each.grid) == 10
    drawn = np.concatenate([np.asarray(each.drawn(jax.random.key(1), 5)), each.start(1)])
    assert ((drawn >= np.array(each.low, np.float32)) & (drawn <= np.array(each.high, np.float32))).all()
    made = jax.jit(jax.vmap(each.apply))(np.stack([IMAGE] * 6), drawn)
    assert made.shape == (6, *IMAGE.shape)
    assert made.min() >= -1e-6
    assert made.max() <= 1 + 1e-6
    np.testing.assert_allclose(made[5], IMAGE, atol=1e-5)
    slope = jax.jit(jax.grad(lambda parameters: each.apply(IMAGE, parameters)[2:6, 2:7].sum()))(drawn[0])
    assert (np.asarray(slope) != 0).all()


def test_shares_are_parameters_in_their_own_range():
    rain = TRANSFORMS["rain"]
    shares = transforms.in_shares(rain)
    np.testing.assert_allclose(shares.neutral, [0, 0.5])
    np.testing.assert_allclose(shares.apply(IMAGE, jnp.array([0.5, 0.75])), applied("rain", 0.3, 1.5), atol=1e-6)
    np.testing.assert_allclose(transforms.shares_of(rain, [[0.3, 1.5], rain.high]), [[0.5, 0.75], [1, 1]], rtol=1e-6)


def test_known_answers():
    np.testing.assert_allclose(applied("brightness", 0.1), np.clip(IMAGE + 0.1, 0, 1), rtol=1e-6)
    np.testing.assert_allclose(applied("contrast", 1.5), np.clip(1.5 * IMAGE, 0, 1), rtol=1e-6)
    np.testing.assert_allclose(applied("fog", 0.25), 0.75 * IMAGE + 0.25, rtol=1e-6)
    moved = applied("translation", 2, -1)
    np.testing.assert_allclose(moved[2:, :-1], IMAGE[:-2, 1:], atol=1e-5)
    assert not moved[:2].any()
    square = IMAGE[:, :8]
    np.testing.assert_allclose(applied("rotation", 90, image=square), np.rot90(square), atol=1e-4)
    larger = applied("scale", 2, 2, image=np.ones((9, 9, 1), np.float32))
    np.testing.assert_allclose(larger, 1)
    column = np.zeros((9, 9, 1), np.float32)
    column[:, 4] = 1
    leaned = applied("shear", 1.0, image=column)[..., 0]
    np.testing.assert_array_equal(leaned.argmax(1), np.arange(9)[::-1])
    assert (applied("rain", 0.5, 0) >= IMAGE - 1e-6).all()


def test_a_blur_is_scipys():
    from scipy import ndimage

    wanted = ndimage.gaussian_filter(IMAGE, (1.2, 1.2, 0), mode="nearest", radius=(9, 9, 0))
    np.testing.assert_allclose(applied("blur", 1.2), wanted, atol=1e-5)


def test_transforms_one_after_the_other():
    both = transforms.composed([TRANSFORMS["rotation"], TRANSFORMS["brightness"]])
    one = applied("brightness", 0.05, image=applied("rotation", 5))
    np.testing.assert_allclose(both.apply(IMAGE, jnp.array([5, 0.05])), one, atol=1e-6)
    assert both.low == (-15, -20 / 255)
    with pytest.raises(ValueError, match="at least one transform"):
        transforms.composed([])


def test_an_attack_finds_the_least_parameters():
    """The network asks whether the mean is above a half: the shift that it takes is known."""

    def apply(params, x):
        mean = x.reshape(len(x), -1).mean(-1, keepdims=True) - 0.5
        return jnp.concatenate([-mean, mean], -1)

    shift = dataclasses.replace(TRANSFORMS["brightness"], low=(-0.5,), high=(0.5,))
    x = np.stack([np.full((4, 4, 1), 0.4), np.full((4, 4, 1), 0.7)]).astype(np.float32)
    relation = metamorphic.label_kept(np.array([0, 1]))
    attack = cw.attacks.ddn(steps=60)
    result = jax.jit(cw.batched(attack))(
        transforms.parametrised(cw.bind(apply), shift),
        jax.random.split(jax.random.key(0), 2),
        shift.start(2),
        relation.goal,
        low=np.array(shift.low, np.float32),
        high=np.array(shift.high, np.float32),
        context=x,
    )
    assert result.success.all()
    np.testing.assert_allclose(result.x[:, 0], [0.1, -0.2], atol=0.02)
