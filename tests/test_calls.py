"""Every mistake that a user can make in calling an attack gives one line that says what came and what to do."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cwjax as cw
from cwjax.arguments import check_batch

B, SHAPE, CLASSES = 4, (3, 3, 1), 5
WEIGHTS = np.random.default_rng(0).normal(size=(9, CLASSES)).astype(np.float32)


pytestmark = pytest.mark.usefixtures("as_users_have_it")


def logits(params, x):
    return x.reshape(len(x), 9) @ params.astype(x.dtype)  # refuses any other shape


def refuses(params, x):
    raise RuntimeError("no such layer\nand much more")


def leaves(params, x):
    sys.exit(3)


def model(apply=logits):
    return cw.bind(apply, jnp.asarray(WEIGHTS))


def images(count=B, dtype=jnp.float32):
    return jnp.asarray(np.random.default_rng(1).uniform(size=(count, *SHAPE)), dtype)


def keys(count=B):
    return jax.random.split(jax.random.key(0), count)


def goal(count=B):
    return cw.untargeted(jnp.arange(count) % CLASSES)


def runners():
    attack = cw.l2(search=cw.search.binary_search(1), steps=2)
    return {
        "batched": cw.batched(attack),
        "chunked": cw.chunked(cw.batched(attack), 3),
        "one chunk": cw.chunked(cw.batched(attack), 64),
        "traced": cw.traced(attack, 2),
    }


every_runner = pytest.mark.parametrize("name", runners())


def refusal(error, words, function, *args, **kwargs):
    with pytest.raises(error, match=words) as caught:
        function(*args, **kwargs)
    assert "\n" not in str(caught.value)
    # Not an error of JAX or NumPy that happens to be of the same class.
    assert str(caught.traceback[-1].path).endswith(
        ("cwjax/arguments.py", "cwjax/base.py", "cwjax/evaluation/validation.py", "cwjax/values.py")
    )


# What shapes and dtypes tell: error, words, and the arguments that are wrong.
WRONG = {
    "a plain function": (
        TypeError,
        r"must come from cwjax.bind\(apply, params\), got function",
        {"model": lambda x: x},
    ),
    "labels for a goal": (
        TypeError,
        r"a goal of labels, from .* got int32 \[\]",
        {"goal": jnp.arange(B)},
    ),
    "a tuple for a goal": (
        TypeError,
        r"a goal of labels, from .* got \(int32 \[\], float32 \[\]\)",
        {"goal": tuple(goal())},
    ),
    "8-bit images": (ValueError, "floating-point, got uint8: .* x / 255", {"x": images().astype(jnp.uint8)}),
    "an empty batch": (
        ValueError,
        r"at least one example along its first axis, got shape \[0, 3, 3, 1\]",
        {"x": images(0), "keys": keys()[:0], "goal": jax.tree.map(lambda leaf: leaf[:0], goal())},
    ),
    "a scalar": (ValueError, r"at least one example along its first axis, got shape \[\]", {"x": jnp.float32(0.5)}),
    "too few keys": (ValueError, r"keys must have one entry an example, 4 of them, got shape \[3\]", {"keys": keys(3)}),
    "one key": (ValueError, r"keys must .*, 4 of them, got shape \[\]", {"keys": jax.random.key(0)}),
    "too many labels": (ValueError, r"goal.label must have one entry an example, 4 of them, got", {"goal": goal(5)}),
    "a column of labels": (
        ValueError,
        r"goal.label must have one entry an example, 4 of them, got shape \[4, 1\]",
        {"goal": goal()._replace(label=jnp.zeros((B, 1), jnp.int32))},
    ),
    "one label": (
        ValueError,
        r"goal.label must have one entry an example, 4 of them, got shape \[\]",
        {"goal": cw.LabelGoal(label=jnp.int32(0), sign=jnp.float32(1))},
    ),
    "one sign": (
        ValueError,
        r"goal.sign must have one entry an example, 4 of them, got shape \[\]",
        {"goal": goal()._replace(sign=jnp.float32(1))},
    ),
    "inputs of another size": (
        ValueError,
        r"model refused an input of shape \[4, 4, 1\] and dtype float32: .*reshape",
        {"x": jnp.zeros((B, 4, 4, 1))},
    ),
    "one image": (ValueError, r"model refused an input of shape \[\] and dtype", {"x": jnp.zeros(B)}),
    "logits of rank 1": (
        ValueError,
        r"reads logits \[K\] with K >= 2 from one input, got float32 \[\]: ",
        {"model": model(lambda params, x: logits(params, x)[:, 0])},
    ),
    "logits of rank 3": (
        ValueError,
        r"logits \[K\] .* got float32 \[1, 5\]",
        {"model": model(lambda params, x: logits(params, x)[:, None])},
    ),
    "a single class": (
        ValueError,
        r"K >= 2.* got float32 \[1\]",
        {"model": model(lambda params, x: logits(params, x)[:, :1])},
    ),
    "class numbers for logits": (
        ValueError,
        r"floating-point logits.* got int32 \[5\]",
        {"model": model(lambda params, x: logits(params, x).astype(jnp.int32))},
    ),
    "a model that is broken": (
        ValueError,
        r"model refused an input of shape \[3, 3, 1\] and dtype float32: no such layer",
        {"model": model(refuses)},
    ),
    "a model that leaves": (
        ValueError,
        r"model refused an input of shape \[3, 3, 1\] and dtype float32: it calls sys.exit\(3\)",
        {"model": model(leaves)},
    ),
    "labels beyond 32 bits": (
        ValueError,
        "goal.label span 0…4294967296, more than 32 bits hold",
        {"goal": goal()._replace(label=np.array([0, 1, 2, 2**32]))},
    ),
}


def arguments(wrong):
    return tuple({"model": model(), "keys": keys(), "x": images(), "goal": goal(), **wrong}.values())


@pytest.mark.parametrize("mistake", WRONG)
def test_a_batch_that_does_not_fit_is_refused(mistake):
    error, words, wrong = WRONG[mistake]
    refusal(error, words, check_batch, *arguments(wrong), objective=cw.objectives.logit_margin())


@every_runner
@pytest.mark.parametrize("mistake", WRONG)
def test_every_runner_refuses_it(name, mistake):
    error, words, wrong = WRONG[mistake]
    refusal(error, words, runners()[name], *arguments(wrong))


# Of labels beyond 32 bits JAX has made other numbers by then.
@pytest.mark.parametrize(
    "mistake", [mistake for mistake in WRONG if mistake not in ("a plain function", "labels beyond 32 bits")]
)
def test_a_runner_refuses_it_under_jit(mistake):
    error, words, wrong = WRONG[mistake]
    refusal(error, words, jax.jit(runners()["batched"]), *arguments(wrong))


@pytest.mark.parametrize(
    "mistake", [mistake for mistake in WRONG if "keys" not in WRONG[mistake][2] or "x" in WRONG[mistake][2]]
)
def test_validate_refuses_it_too(mistake):
    error, words, wrong = WRONG[mistake]
    model, _, x, goal = arguments(wrong)
    refusal(error, words, cw.validate, model, x, goal)


def test_a_batch_of_one_runs():
    leave = cw.untargeted(model().apply(model().params, images(1)).argmax(-1))
    result = jax.jit(runners()["batched"])(model(), keys(1), images(1), leave)
    assert result.x.shape == (1, *SHAPE)
    assert int(result.forwards[0]) == 2
    assert bool(result.finite[0])


def test_keys_of_the_old_kind_are_counted_by_their_rows():
    assert check_batch(model(), jax.random.split(jax.random.PRNGKey(0), B), images(), goal()) is None
    # A single old key has two numbers: with two images it must not pass for two keys.
    refusal(ValueError, "keys must", check_batch, model(), jax.random.PRNGKey(0), images(2), goal(2))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: cw.l2(steps=0), "steps must be at least 1, got 0"),
        (lambda: cw.l2(steps=-5), "steps must be at least 1, got -5"),
        (lambda: cw.search.binary_search(0), "the search's steps must be at least 1"),
        (lambda: cw.search.binary_search(initial_c=0.0), "initial_c must be more than 0"),
        (lambda: cw.search.binary_search(factor=0.5), "factor must be more than 1"),
        (lambda: cw.objectives.logit_margin(-1.0), "confidence must be at least 0"),
        (lambda: cw.objectives.logit_margin(float("nan")), "confidence must be at least 0, got nan"),
        (lambda: cw.aborts.plateau(checks=0), "checks must be at least 1"),
        (lambda: cw.chunked(cw.batched(cw.l2()), 0), "size of a chunk must be at least 1"),
        (lambda: cw.traced(cw.l2(), 0), "num_steps must be at least 1"),
    ],
)
def test_a_number_out_of_range_is_named_where_it_is_given(make, words):
    with pytest.raises(ValueError, match=words):
        make()


ALIKE = [
    pytest.param(name, marks=pytest.mark.long)
    for name in ("chunked", "one chunk", "traced", "discretised", "restored", "verified")
]


@pytest.mark.parametrize("name", ["batched", "streamed", *ALIKE])
def test_numpy_arrays_will_do(name):
    attack = cw.attacks.fmn(steps=2)
    more = {
        "batched": cw.batched(attack),
        "streamed": cw.streamed(attack, width=2),
        "discretised": cw.discretised(cw.batched(attack)),
        "restored": cw.restored(cw.batched(attack)),
        "verified": cw.verified(cw.batched(attack)),
    }
    run = (runners() | more)[name]
    first, second = (run(model(), keys(), x, goal()) for x in (images(), np.asarray(images())))
    jax.tree.map(np.testing.assert_array_equal, first, second)


@pytest.mark.parametrize(
    "wrap", ["batched", "traced", "chunked", "sharded", "streamed", "discretised", "restored", "snapped", "verified"]
)
def test_inputs_outside_the_attacks_box_are_an_error_under_every_runner(wrap):
    attack = cw.fast("l2", steps=2)
    batched = cw.batched(attack)
    run = {
        "batched": lambda: batched,
        "traced": lambda: cw.traced(attack, 2),
        "chunked": lambda: cw.chunked(batched, 3),
        "sharded": lambda: cw.sharded(batched, jax.make_mesh((1,), ("devices",))),
        "streamed": lambda: cw.streamed(attack, width=4),
        "discretised": lambda: cw.discretised(jax.jit(batched)),
        "restored": lambda: cw.restored(jax.jit(batched)),
        "snapped": lambda: cw.runners.snapped(jax.jit(batched), cw.lattices.lattice()),
        "verified": lambda: cw.verified(jax.jit(batched)),
    }[wrap]()
    outside = images().at[3, 1, 1, 0].set(1.25)
    with pytest.raises(
        ValueError, match=r"1 of .* elements of x, in 1 of .* outside the box \[0\.0, 1\.0\].*x\[3, 1, 1, 0\]"
    ):
        run(model(), keys(), outside, goal())


def test_under_jit_an_input_outside_the_box_is_given_up_and_its_neighbours_are_not():
    run = jax.jit(cw.batched(cw.fast("l2", steps=40)))
    given = model()
    expected = run(given, keys(), images(), goal())
    result = run(given, keys(), images().at[3, 1, 1, 0].set(1.25), goal())
    assert not result.finite[3]
    assert not result.success[3]
    assert result.finished[3]
    assert result.forwards[3] == 0
    others = np.arange(B) != 3
    np.testing.assert_array_equal(result.distance[others], expected.distance[others])
    one_ulp = images().at[3, 1, 1, 0].set(np.nextafter(np.float32(1), np.float32(2)))
    assert run(given, keys(), one_ulp, goal()).finite.all()


def test_diagnose_does_not_look_at_inputs_outside_the_box():
    attack = cw.fast("l2", steps=2)
    result = jax.eval_shape(cw.batched(attack), model(), keys(), images(), goal())
    with pytest.raises(ValueError, match=r"outside the box \[0\.0, 1\.0\]"):
        cw.diagnose(model(), attack, 2 * images(), goal(), result, jax.random.key(0))
