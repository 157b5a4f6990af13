"""What only values tell of a model and its inputs is found before an attack, and said in one line."""

import inspect
import re
import warnings

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

import cwjax as cw
from tests.test_calls import CLASSES, SHAPE, WEIGHTS, B, goal, images, logits, model, refusal

pytestmark = pytest.mark.usefixtures("as_users_have_it")


def changed(x, index, value):
    return x.at[index].set(value)


OFF = jnp.array([[0, 0, 0, 0, -jnp.inf]])


def called_back(x):
    shape = jax.ShapeDtypeStruct((len(x), CLASSES), jnp.float32)
    return jax.pure_callback(lambda x: np.reshape(x, (-1, 9)) @ WEIGHTS, shape, x, vmap_method="sequential")


def root(x):
    """A term with an infinite slope at 0, and a NaN where 0 times it is asked for."""
    return jnp.sqrt(jnp.abs(x[:, 0, 0, :])) * jnp.arange(CLASSES)[None]


# What only values tell: words, and the arguments that are wrong.
WRONG_VALUES = {
    "NaN": (
        r"^6 of 36 elements of x are NaN or infinite, first x\[1, 0, 0, 0\]: leave such examples out$",
        {"x": changed(images(), (slice(1, 3), 0), jnp.nan)},
    ),
    "infinite": (
        r"^1 of 36 elements of x are NaN or infinite, first x\[3, 2, 2, 0\]",
        {"x": changed(images(), (3, 2, 2, 0), jnp.inf)},
    ),
    "NaN in bfloat16": (
        r"^1 of 36 elements of x are NaN or infinite, first x\[2, 0, 0, 0\]",
        {
            "x": changed(images(dtype=jnp.bfloat16), (2, 0, 0, 0), jnp.nan),
            "model": model(lambda w, x: logits(w, jnp.nan_to_num(x))),
        },
    ),
    "below the box": (
        r"^1 of 36 elements of x, in 1 of 4 examples, are outside the box \[0.0, 1.0\], by up to 0.25 where "
        r"x\[0, 0, 0, 0\] is -0.25: clip x, or give the runner the bounds that x has \(low=, high=\)$",
        {"x": changed(images(), (0, 0, 0, 0), -0.25)},
    ),
    "above the box": (
        r"^2 of 36 elements of x, in 2 of 4 examples, .* by up to 0.5 where x\[3, 0, 2, 0\] is 1.5:",
        {"x": changed(changed(images(), (1, 0, 0, 0), 1.25), (3, 0, 2, 0), 1.5)},
    ),
    "above it by two units in the last place": (
        r"^1 of 36 elements .* by up to 2.38e-07 where x\[2, 1, 0, 0\] is 1.0000002: clip",
        {"x": changed(images(), (2, 1, 0, 0), 1 + 2.4e-7)},
    ),
    "above it in bfloat16": (
        r"^1 of 36 elements .* by up to 0.0156 where x\[2, 1, 0, 0\] is 1.01562: clip",
        {"x": changed(images(dtype=jnp.bfloat16), (2, 1, 0, 0), 1.0156)},
    ),
    "0 to 255": (
        r"outside the box .* by up to 2\d\d where .*: 8-bit images must be divided by 255",
        {"x": images() * 255},
    ),
    "another box": (r"outside the box \[-0.5, 0.5\], by up to 0.4", {"low": -0.5, "high": 0.5}),
    "one channel's box": (r"outside the box \[0.0, 0.125\], by up to 0.8", {"high": np.array([0.125])}),
    "each element's box": (
        r"outside the box \[0.0, 0.125…1\], by up to",
        {"high": np.linspace(0.125, 1, 9).reshape(SHAPE)},
    ),
    "a label too large": (
        r"labels span 0…5, but the model has classes 0…4",
        {"goal": cw.untargeted(np.array([0, 5, 1, 2]))},
    ),
    "a target too large": (
        r"labels span 0…7, but the model has classes 0…4",
        {"goal": cw.targeted(np.array([0, 7, 1, 2]))},
    ),
    "a negative label": (
        r"labels span -1…3, but the model has classes 0…4",
        {"goal": cw.untargeted(np.array([3, -1, 1, 2]))},
    ),
    "probabilities": (
        r"model returns probabilities .*: return logits, without the softmax",
        {"model": model(lambda params, x: jax.nn.softmax(logits(params, x)))},
    ),
    "sharp probabilities": (
        r"model returns probabilities .*: return logits, without the softmax",
        {"model": model(lambda params, x: jax.nn.softmax(1e4 * logits(params, x)))},
    ),
    "bfloat16 probabilities": (
        r"model returns probabilities .*: return logits, without the softmax",
        {"model": model(lambda params, x: jax.nn.softmax(logits(params, x)).astype(jnp.bfloat16))},
    ),
    "percentages": (
        r"model returns percentages \(each row is >= 0 and sums to 100\): return logits, without the softmax",
        {"model": model(lambda params, x: 100 * jax.nn.softmax(logits(params, x)))},
    ),
    "bfloat16 percentages": (
        r"model returns percentages",
        {"model": model(lambda params, x: 100 * jax.nn.softmax(logits(params, x)).astype(jnp.bfloat16))},
    ),
    "a model that gives +inf": (
        r"model gives NaN or infinite logits for 4 clean examples, first 0",
        {"model": model(lambda params, x: logits(params, x) - OFF)},
    ),
    "a target that is switched off": (
        r"the logit that an attack has to raise is -inf in 2 examples, first 1: .* choose another target",
        {"model": model(lambda params, x: logits(params, x) + OFF), "goal": cw.targeted(np.array([0, 4, 4, 1]))},
    ),
    "no class but the label's": (
        r"the logit that an attack has to raise is -inf in 1 examples, first 2",
        {"model": model(lambda params, x: logits(params, x) + jnp.where(jnp.arange(CLASSES) == 2, 0, -jnp.inf)[None])},
    ),
    "a model without a gradient": (
        r"the model does not give the gradient in its input, .* Pure callbacks do not support JVP.*jax.custom_vjp",
        {"model": model(lambda params, x: called_back(x))},
    ),
    "slopes that are NaN": (
        "the model's slopes are NaN or infinite at every clean example: attacks would give them all up",
        {"model": model(lambda params, x: logits(params, x) + root(0 * x))},
    ),
    "tiny slopes": (
        r"slopes of the model's logits come to \de-25 at most, and the squares .* in float32. Multiply .* by 1e\+25",
        {"model": model(lambda params, x: 1e-25 * logits(params, x))},
    ),
    "huge slopes": (
        r"slopes of the model's logits come to \de\+25 at most, .* Multiply the logits by 1e-25: no answer changes",
        {"model": model(lambda params, x: 1e25 * logits(params, x))},
    ),
    "a model that gives NaN": (
        r"model gives NaN or infinite logits for 4 clean examples, first 0",
        {"model": model(lambda params, x: logits(params, x) * jnp.nan)},
    ),
}


@pytest.mark.parametrize("mistake", WRONG_VALUES)
def test_validate_sees_what_only_values_tell(mistake):
    words, wrong = WRONG_VALUES[mistake]
    refusal(ValueError, words, cw.validate, **{"model": model(), "x": images(), "goal": goal(), **wrong})


def missed(x, goal):
    """How many are misclassified, or answered as the target: by NumPy in float64."""
    answers = (np.asarray(x, np.float64).reshape(-1, 9) @ WEIGHTS.astype(np.float64)).argmax(1)
    return int(((answers == np.asarray(goal.label)) == (np.asarray(goal.sign) > 0)).sum())


@pytest.mark.filterwarnings("ignore:the model answers")  # labels are drawn
@pytest.mark.parametrize("count", [1, 4, 300])
@pytest.mark.parametrize("kind", [np.asarray, jnp.asarray, lambda x: jnp.asarray(x, jnp.bfloat16)])
def test_validate_counts_what_is_right(kind, count):
    assert cw.validate(model(), kind(images(count)), goal(count)) == (count, missed(images(count), goal(count)), 0, 0)


# float32(0.1) is more than 0.1 and float32(-0.3) less than -0.3.
@pytest.mark.parametrize(
    ("low", "high"),
    [
        (-0.3, 0.1),
        (np.array([-0.3]), np.array([0.1])),
        (0.0, 1.0),
        (-3.0, 7.0),
        (np.array([0.0]), np.array([1.0])),
        (jnp.zeros(1), 1.0),
        (0, 255),
        (jnp.bfloat16(0), jnp.array([2], jnp.bfloat16)),
    ],
)
def test_validate_takes_any_box_and_pixels_on_its_bounds(low, high):
    least, most = np.min(low), np.max(high)
    x = jnp.asarray(least + (most - least) * np.random.default_rng(0).integers(0, 2, (B, *SHAPE)), jnp.float32)
    found = cw.validate(model(), x, goal(), low=low, high=high)
    assert found == (B, missed(x, goal()), 0, 0)


def test_logits_that_are_positive_are_not_probabilities():
    assert cw.validate(model(lambda params, x: jnp.abs(logits(params, x)) + 1), images(), goal()).examples == B
    sharp = model(lambda params, x: jax.nn.log_softmax(logits(params, x)))
    assert cw.validate(sharp, images(), goal()) == (B, missed(images(), goal()), 0, 0)


def test_validate_finds_the_one_bad_example_of_a_large_batch():
    x = changed(images(300), (299, 0, 0, 0), 1.0) * 0.5

    def breaks(params, x):
        return jnp.where(x[:, 0, 0, :] == 0.5, jnp.nan, logits(params, x))

    refusal(ValueError, "logits for 1 clean examples, first 299", cw.validate, model(breaks), x, goal(300))


def labelled(right, count, classes=CLASSES):
    """So many of `count` labels as the model answers, and the others not."""
    answers = np.asarray(logits(WEIGHTS, images(count))).argmax(1)
    return cw.untargeted(np.where(np.arange(count) < right, answers, (answers + 1) % classes))


@pytest.mark.parametrize(("right", "count", "warned"), [(0, 7, True), (4, 20, True), (5, 20, False), (0, 6, False)])
def test_a_model_that_guesses_is_a_warning(right, count, warned):
    """5 of 20 are guesses too, but a good network may have so little luck."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        cw.validate(model(), images(count), labelled(right, count))
    words = f"the model answers {right} of {count} clean examples as their labels say, .* guessing among 5 classes"
    assert [bool(re.match(words, str(each.message))) for each in caught] == [True] * warned
    # Where shapes and types are checked, the checker calls in between.
    assert not warned or caught[0].filename in (__file__, inspect.getfile(jaxtyping.jaxtyped))


def test_a_model_that_misses_its_targets_does_not_guess():
    cw.validate(model(), images(20), labelled(0, 20)._replace(sign=jnp.ones(20)))


@pytest.mark.parametrize("first", [True, False])
def test_channels_on_the_other_side_are_a_hint(first):
    wanted, given = ((5, 4, 3), (3, 5, 4)) if first else ((3, 5, 4), (5, 4, 3))
    weights = np.ones((*wanted, CLASSES), np.float32)
    net = cw.bind(lambda weights, x: jnp.einsum("bijk,ijkc->bc", x, weights), weights)
    words = (
        rf"refused an input of shape .*\. Are its channels {'first' if first else 'last'}\? The model takes "
        rf"\[{', '.join(map(str, wanted))}\]: pass x\.transpose\({'0, 2, 3, 1' if first else '0, 3, 1, 2'}\)"
    )
    refusal(ValueError, words, cw.validate, net, np.full((2, *given), 0.5, np.float32), goal(2))
    with pytest.raises(ValueError, match=r"refused an input of shape \[7, 7, 7\](?!.*channels)"):
        cw.validate(net, np.full((2, 7, 7, 7), 0.5, np.float32), goal(2))


def test_it_says_how_many_meet_their_goal_already():
    x = images()
    answers = cw.targeted(np.asarray(logits(WEIGHTS, x)).argmax(1))
    assert repr(cw.validate(model(), x, answers)) == (
        "Validation(examples=4, met=4, flat=0, undefined=0): 4 of 4 meet their goal before any attack, so their "
        "distance is 0"
    )
    assert cw.validate(model(), x, answers._replace(sign=-answers.sign)).met == 0
    one = answers._replace(sign=answers.sign.at[1:].multiply(-1))
    assert cw.validate(model(), x, one).met == 1
    tie = model(lambda params, x: logits(params, x)[:, [0, 0, 1]])
    assert cw.validate(tie, x, cw.targeted(np.zeros(B, int))).met == 0


@pytest.mark.parametrize("off", [-jnp.inf, float(jnp.finfo(jnp.float32).min), -1e4])
def test_a_class_that_is_switched_off_is_accepted(off):
    switched = model(lambda params, x: jnp.where(jnp.arange(CLASSES) == 4, off, logits(params, x)))
    x = images()
    answers = np.asarray(logits(WEIGHTS, x))[:, :4].argmax(1)
    assert cw.validate(switched, x, cw.untargeted(answers)) == (B, 0, 0, 0)
    assert cw.validate(switched, x, cw.targeted(answers)) == (B, B, 0, 0)
    # A label that is off is no label that the model gives.
    assert cw.validate(switched, x, cw.untargeted(np.full(B, 4))) == (B, B, 0, 0)


@pytest.mark.parametrize("excess", [0.0, 1.1e-7, -1.1e-7])
def test_a_pixel_beyond_a_bound_by_rounding_is_within(excess):
    for place, bound in ((0, 0.0), (1, 1.0)):
        x = images().at[place, 0, 0, 0].set(bound + excess)
        assert cw.validate(model(), x, goal()).examples == B
    x = images(dtype=jnp.bfloat16).at[0, 0, 0, 0].set(1 + 1 / 128)
    assert cw.validate(model(), x, goal()).examples == B
    x = 255 * images().at[0, 0, 0, 0].set(1 + 5e-8)
    assert cw.validate(model(), x, goal(), high=255).examples == B


def test_the_farthest_pixel_is_found_in_a_large_batch():
    x = images(300).at[7, 2, 1, 0].set(-0.5).at[299, 1, 2, 0].set(2.0)
    words = r"^2 of 2700 elements of x, in 2 of 300 examples, .* by up to 1 where x\[299, 1, 2, 0\] is 2.0:"
    refusal(ValueError, words, cw.validate, model(), x, goal(300))


@pytest.mark.parametrize("blind", [jax.lax.stop_gradient, jnp.round, lambda x: 0 * x])
def test_a_model_without_a_slope_is_a_warning(blind):
    # Not an error: a network may have none where all of its units are dead or saturated.
    with pytest.warns(UserWarning, match="no slope at any of the 4 examples: .* will not know where to go"):
        found = cw.validate(model(lambda params, x: logits(params, blind(x))), images(), goal())
    assert (found.examples, found.flat, found.undefined) == (B, B, 0)
    assert "4 have no slope" in repr(found)


def test_a_few_examples_without_a_slope_are_counted():
    x = images().at[1].set(0).at[3].set(0)
    dead = model(lambda params, x: jax.nn.relu(x.sum((1, 2, 3)) - 1)[:, None] * params[:1])
    found = cw.validate(dead, x, goal())
    assert (found.flat, found.undefined) == (2, 0)


def test_a_few_slopes_that_are_no_numbers_are_a_warning():
    with pytest.warns(UserWarning, match="slope is NaN or infinite at 2 of 4 examples, first 1: attacks give these up"):
        found = cw.validate(
            model(lambda params, x: logits(params, x) + root(x)), images().at[1:3, 0, 0, 0].set(0), goal()
        )
    assert (found.flat, found.undefined) == (0, 2)
    assert "2 have a slope that is NaN or infinite" in repr(found)


@pytest.mark.parametrize("power", [-18, -10, 10, 18])
def test_slopes_that_published_attacks_are_not_made_for_are_a_warning(power):
    with pytest.warns(UserWarning, match=re.escape(f"end far off. Multiply the logits by 1e{-power:+d}: no")):
        cw.validate(model(lambda params, x: 10.0**power * logits(params, x)), images(), goal())


@pytest.mark.parametrize("power", [-5, 5])
def test_slopes_of_a_usual_size_are_none(power):
    found = cw.validate(model(lambda params, x: 10.0**power * logits(params, x)), images(), goal())
    assert found == (B, missed(images(), goal()), 0, 0)


def test_it_costs_a_forward_and_a_backward_pass():
    passes = {"forward": 0, "backward": 0}

    def count(kind, value):
        jax.debug.callback(lambda _: passes.update({kind: passes[kind] + 1}), value)

    @jax.custom_vjp
    def watched(answers):
        return answers

    def backward(_, slope):
        count("backward", slope)
        return (slope,)

    watched.defvjp(lambda answers: (answers, None), backward)

    def apply(params, x):
        count("forward", x)
        return watched(logits(params, x))

    cw.validate(model(apply), images(), goal())
    jax.effects_barrier()
    assert passes == {"forward": B, "backward": B}
