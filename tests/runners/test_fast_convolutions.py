"""The rewritten program computes what the plain one does, everywhere; on CPU it says so in other words, elsewhere not.

The reference is the same function without the rewrite, compiled on its own.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

from cwjax.runners.fast_convolutions import canonical


def conv(x, kernel, strides=(1, 1), padding: str | list = "VALID", layout=("NHWC", "HWIO", "NHWC"), **options):
    return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=layout, **options)


def pool(x, window, strides, padding):
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, *window, 1), (1, *strides, 1), padding)


def in_scan(x, kernel):
    def layer(carry, factor):
        return jnp.tanh(conv(carry, kernel, padding="SAME")) * factor, carry.sum()

    return lax.scan(layer, x, jnp.array([1.0, 0.5]))


def in_fori_loop(x, kernel):
    return lax.fori_loop(0, 2, lambda i, carry: jnp.tanh(conv(carry, kernel, padding="SAME")), x)


def in_cond(x, kernel):
    return lax.cond(x.sum() > 1e6, lambda x, k: conv(x, 2 * k), lambda x, k: conv(jnp.abs(x), k), x, kernel)


def in_checkpoint(x, kernel):
    return jax.checkpoint(lambda x, k: pool(jnp.sin(conv(x, k)), (2, 2), (2, 2), "VALID"))(x, kernel)


def network(x, kernel):
    hidden = jax.nn.relu(conv(x, kernel, padding="SAME"))
    hidden = pool(hidden, (2, 2), (2, 2), "VALID")
    return pool(jax.nn.relu(conv(hidden, kernel, padding="SAME")), (3, 3), (2, 2), "SAME").mean((1, 2))


# Name: function of an image batch and a kernel, and their shapes.
IMAGES, KERNEL = (2, 9, 8, 5), (3, 3, 5, 5)
FUNCTIONS = {
    "valid": (conv, IMAGES, (3, 2, 5, 6)),
    "stride 2, same": (lambda x, k: conv(x, k, (2, 2), "SAME"), IMAGES, (3, 3, 5, 6)),
    "uneven padding": (lambda x, k: conv(x, k, (1, 2), [(2, 0), (0, 1)]), IMAGES, (2, 3, 5, 6)),
    "NCHW": (lambda x, k: conv(x, k, (1, 2), layout=("NCHW", "OIHW", "NCHW")), (2, 3, 7, 6), (4, 3, 3, 3)),
    "mixed layout": (lambda x, k: conv(x, k, layout=("HNWC", "IHOW", "CNHW")), (9, 2, 8, 6), (6, 3, 5, 2)),
    "dilated kernel": (lambda x, k: conv(x, k, rhs_dilation=(2, 2)), IMAGES, (3, 2, 5, 6)),
    "dilated input": (lambda x, k: conv(x, k, (1, 3), [(1, 1), (0, 1)], lhs_dilation=(2, 1)), IMAGES, (3, 2, 5, 6)),
    "grouped": (lambda x, k: conv(x, k, feature_group_count=5), IMAGES, (3, 3, 1, 10)),
    "1-D": (lambda x, k: conv(x, k, (2,), "SAME", ("NWC", "WIO", "NWC")), (2, 9, 3), (3, 3, 4)),
    "3-D": (
        lambda x, k: conv(x, k, (1, 2, 1), "SAME", ("NDHWC", "DHWIO", "NDHWC")),
        (1, 4, 5, 3, 2),
        (2, 3, 2, 2, 3),
    ),
    "jit": (lambda x, k: jax.jit(lambda x: jax.jit(conv)(x, k))(x), IMAGES, KERNEL),
    "custom_jvp": (lambda x, k: jax.nn.relu(conv(jax.nn.relu(x), k)), IMAGES, KERNEL),
    "scan": (in_scan, IMAGES, KERNEL),
    "fori_loop": (in_fori_loop, IMAGES, KERNEL),
    "cond": (in_cond, IMAGES, KERNEL),
    "checkpoint": (in_checkpoint, IMAGES, KERNEL),
    "network": (network, (2, 8, 8, 5), KERNEL),
}
every_function = pytest.mark.parametrize("name", FUNCTIONS)


@functools.cache  # so that the plain function compiles once
def question(name):
    """The function, with its gradients in image and kernel, and random arguments."""
    function, images, kernel = FUNCTIONS[name]
    generator = np.random.default_rng(0)
    x, k = (jnp.asarray(generator.normal(size=shape), jnp.float32) for shape in (images, kernel))

    def loss(x, k):
        value = function(x, k)
        return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(value)), value

    return jax.value_and_grad(loss, argnums=(0, 1), has_aux=True), x, k


def assert_same(got, want, tolerance=1e-6):
    """Equal structures of arrays, each to a fraction of its largest element."""
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert one.dtype == other.dtype
        size = np.abs(np.asarray(other, np.float64)).max()
        assert size > 0
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * size)


@every_function
def test_values_and_gradients_are_the_plain_ones(name):
    step, x, k = question(name)
    assert_same(jax.jit(canonical(step))(x, k), jax.jit(step)(x, k))


SOME = ("valid", "dilated kernel", "grouped", "scan", "network")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.long] * (name not in SOME)) for name in FUNCTIONS]
)
def test_under_vmap_too(name):
    step, x, k = question(name)
    xs = jnp.stack([x, -x, x[::-1]])
    want = jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(jax.jit(step), xs, [k] * 3))
    assert_same(jax.jit(jax.vmap(canonical(step), (0, None)))(xs, k), want)


@pytest.mark.parametrize("name", ["valid", "network"])
def test_under_vmap_over_kernels_and_of_a_vmapped_function(name):
    step, x, k = question(name)
    xs, ks = jnp.stack([x, -x]), jnp.stack([k, k[::-1]])
    want = jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(jax.jit(step), xs, ks))
    assert_same(jax.jit(jax.vmap(canonical(step)))(xs, ks), want)
    assert_same(jax.jit(canonical(jax.vmap(step)))(xs, ks), want)


@pytest.mark.parametrize("name", ["valid", "scan", "cond", "checkpoint"])
def test_the_rewritten_function_can_itself_be_differentiated(name):
    function, *_ = FUNCTIONS[name]
    step, x, k = question(name)

    def loss(x, k):
        value = canonical(function)(x, k)
        return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(value)), value

    assert_same(jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(x, k), jax.jit(step)(x, k))


def test_a_descent_inside_a_while_loop():
    step, x, k = question("network")

    def descent(x, k):
        def body(carry):
            x, norm = carry
            _, (slope, _) = step(x, k)
            return x - 0.1 * slope, norm + jnp.abs(slope).sum()

        return lax.while_loop(lambda carry: carry[1] < 20.0, body, (x, jnp.zeros(())))

    # A pool's winner may change with the last bit, but not in these few steps.
    assert_same(jax.jit(canonical(descent))(x, k), jax.jit(descent)(x, k), 1e-5)


def test_a_flax_network():
    class Net(nnx.Module):
        def __init__(self, rngs):
            self.first = nnx.Conv(3, 8, (3, 3), rngs=rngs)
            self.last = nnx.Linear(8, 5, rngs=rngs)

        def __call__(self, x):
            x = nnx.max_pool(nnx.relu(self.first(x)), (2, 2), (2, 2))
            return self.last(x.mean((1, 2)))

    with jax.numpy_rank_promotion("allow"):  # flax adds biases by it
        graph, weights = nnx.split(Net(nnx.Rngs(0)))
        x = jnp.asarray(np.random.default_rng(1).uniform(size=(3, 8, 8, 3)), jnp.float32)

        def step(weights, x):
            return jax.value_and_grad(lambda w, x: jnp.sum(nnx.merge(graph, w)(x) ** 2), argnums=(0, 1))(weights, x)

        assert_same(jax.jit(canonical(step))(weights, x), jax.jit(step)(weights, x), 2e-6)


@pytest.mark.parametrize("features", [1, 3])
@pytest.mark.parametrize(("window", "padding"), [((3, 3), "VALID"), ((5, 4), "SAME"), ((2, 3), [(3, 0), (0, 1)])])
def test_a_convolution_to_few_features_is_a_matrix_product(features, window, padding):
    generator = np.random.default_rng(0)
    x, k = (generator.normal(size=shape).astype(np.float32) for shape in ((2, 9, 8, 6), (*window, 6, features)))
    program = text(functools.partial(conv, padding=padding), x, k, canonically=True)
    assert counts(program)["convolution"] == 0
    assert "dot_general" in program

    got = jax.jit(canonical(functools.partial(conv, padding=padding)))(x, k)
    plain = jax.jit(functools.partial(conv, padding=padding))(x, k)
    with jax.enable_x64():
        exact = np.asarray(conv(jnp.asarray(x, jnp.float64), jnp.asarray(k, jnp.float64), padding=padding))
    assert got.shape == exact.shape
    assert np.abs(got - exact).max() < 4 * np.abs(plain - exact).max()


def test_the_gradient_in_the_pixels_has_few_features_and_no_convolution():
    def gradient(x, k):
        return jax.grad(lambda x: jnp.sin(conv(x, k)).sum())(x)

    x, k = jnp.ones((2, 9, 8, 3)), jnp.ones((3, 3, 3, 16))
    assert counts(text(gradient, x, k, canonically=True))["convolution"] == 1  # the forward one
    half = jax.jit(canonical(gradient))(x.astype(jnp.bfloat16), k.astype(jnp.bfloat16))
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(half.astype(np.float32), jax.jit(gradient)(x, k), rtol=0.2, atol=0.5)


# Window, strides, padding: as lax.reduce_window takes them, over [H, W].
POOLS = {
    "2x2": ((2, 2), (2, 2), "VALID"),
    "2x2 with a padded edge": ((2, 2), (2, 2), "SAME"),
    "3x3 stride 2 same": ((3, 3), (2, 2), "SAME"),
    "3x3 stride 1 same": ((3, 3), (1, 1), "SAME"),
    "uneven": ((3, 2), (1, 2), [(0, 0), (1, 0), (0, 2), (0, 0)]),
    "stride beyond the window": ((2, 2), (3, 3), "VALID"),
    "one row": ((1, 4), (1, 4), "SAME"),
    "nothing": ((1, 1), (1, 1), "VALID"),
    "largest": ((4, 4), (2, 2), "SAME"),
    "5x5 stride 5": ((5, 5), (5, 5), "SAME"),
    "too large": ((17, 1), (2, 1), "SAME"),
}


@pytest.mark.parametrize(
    ("name", "dtype"),
    [*((name, jnp.float32) for name in POOLS), ("2x2", jnp.bfloat16), ("3x3 stride 2 same", jnp.bfloat16)],
)
def test_max_pool_and_its_gradient_are_exactly_xlas_at_ties(name, dtype):
    window, strides, padding = POOLS[name]
    generator = np.random.default_rng(0)
    x = jnp.asarray(generator.integers(-1, 2, (2, 7, 9, 2)), dtype)  # three values: nearly every window has a tie
    shape = jax.eval_shape(lambda x: pool(x, window, strides, padding), x).shape
    slope = jnp.asarray(generator.integers(1, 8, shape), dtype)  # integers: sums are exact in any order

    def both(x, slope):
        value, pull = jax.vjp(lambda x: pool(x, window, strides, padding), x)
        return value, pull(slope)[0]

    for got, want in zip(jax.jit(canonical(both))(x, slope), jax.jit(both)(x, slope), strict=True):
        assert got.dtype == want.dtype == dtype
        np.testing.assert_array_equal(got, want)
    if name == "too large":  # left as it is
        assert "select_and_scatter" in text(both, x, slope, canonically=True)


def test_max_pool_of_equal_pixels_gives_each_slope_once_to_the_first():
    def gradient(x, slope):
        return jax.vjp(lambda x: pool(x, (2, 2), (2, 2), "VALID"), x)[1](slope)[0]

    slope = jnp.array([[1.0, 2.0], [3.0, 4.0]]).reshape(1, 2, 2, 1)
    got = jax.jit(canonical(gradient))(jnp.zeros((1, 4, 4, 1)), slope)
    expected = np.zeros((4, 4))
    expected[::2, ::2] = [[1, 2], [3, 4]]
    np.testing.assert_array_equal(got[0, :, :, 0], expected)


def test_max_pool_of_integers():
    x = jnp.asarray(np.random.default_rng(0).integers(-9, 9, (6, 6)), jnp.int32)

    def function(x):
        return lax.reduce_window(x, jnp.iinfo(jnp.int32).min, lax.max, (3, 3), (2, 2), "SAME")

    padded = np.pad(x, ((0, 1), (0, 1)), constant_values=-99)
    expected = [[padded[i : i + 3, j : j + 3].max() for j in (0, 2, 4)] for i in (0, 2, 4)]
    np.testing.assert_array_equal(canonical(function)(x), expected)


@pytest.mark.parametrize("kind", ["min", "sum"])
def test_other_pools_are_right_too(kind):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 6, 6, 3)), jnp.float32)
    k = jnp.ones((2, 2, 3, 3))
    initial, reducer = {"min": (jnp.inf, lax.min), "sum": (0.0, lax.add)}[kind]

    def step(x, k):
        return jax.value_and_grad(
            lambda x: jnp.sum(
                jnp.sin(lax.reduce_window(conv(x, k), initial, reducer, (1, 2, 2, 1), (1, 2, 2, 1), "SAME"))
            )
        )(x)

    assert_same(jax.jit(canonical(step))(x, k), jax.jit(step)(x, k))


def text(function, *args, canonically: bool, platform: str = "cpu") -> str:
    """The program as it goes to the compiler of a platform."""
    jitted = jax.jit(canonical(function) if canonically else function)
    return jitted.trace(*args).lower(lowering_platforms=(platform,)).as_text()


def counts(program: str) -> dict[str, int]:
    words = ("optimization_barrier", "stablehlo.convolution", "stablehlo.select_and_scatter", "stablehlo.reduce_window")
    return {word.split(".")[-1]: program.count(word) for word in words}


def looped(name, canonically: bool):
    """A jitted loop of gradient steps, as an attack makes it."""
    step, x, k = question(name)
    step = canonical(step) if canonically else step
    return lambda x, k: lax.fori_loop(0, 3, lambda i, x: x - 0.1 * step(x, k)[1][0], x), x, k


@every_function
def test_on_another_platform_the_program_has_the_plain_ones_operations(name):
    programs = []
    for canonically in (True, False):
        loop, x, k = looped(name, canonically)
        programs.append(counts(text(loop, x, k, canonically=False, platform="cuda")))
    rewritten, plain = programs
    barriers = (program.pop("optimization_barrier") for program in programs)
    assert rewritten == plain
    assert plain["convolution"] > 0
    assert len(set(barriers)) == 1  # none, but those of jax.checkpoint


def test_on_cpu_the_loops_convolutions_stand_behind_barriers_and_pools_are_gone():
    loop, x, k = looped("network", True)
    program = counts(text(loop, x, k, canonically=False))
    loop, x, k = looped("network", False)
    plain = counts(text(loop, x, k, canonically=False))
    assert plain["optimization_barrier"] == 0
    assert plain["select_and_scatter"] == 2
    assert program["convolution"] == plain["convolution"] > 2
    assert program["optimization_barrier"] == 2 * program["convolution"]
    assert program["select_and_scatter"] == program["reduce_window"] == 0


def test_on_cuda_the_network_has_no_barrier_and_keeps_its_pools():
    loop, x, k = looped("network", True)
    program = counts(text(loop, x, k, canonically=False, platform="cuda"))
    assert program["optimization_barrier"] == 0
    assert program["select_and_scatter"] == 2


@pytest.mark.parametrize("name", ["valid", "scan", "fori_loop", "cond", "checkpoint", "jit"])
def test_on_cpu_every_convolution_is_rewritten_however_deep(name):
    function, *_ = FUNCTIONS[name]
    _, x, k = question(name)
    program, plain = (counts(text(function, x, k, canonically=canonically)) for canonically in (True, False))
    assert program["convolution"] == plain["convolution"] > 0
    assert program["optimization_barrier"] == plain["optimization_barrier"] + 2 * plain["convolution"]


def test_grouped_convolutions_are_left_alone():
    function, *_ = FUNCTIONS["grouped"]
    _, x, k = question("grouped")
    assert counts(text(function, x, k, canonically=True)) == counts(text(function, x, k, canonically=False))


def test_a_function_without_convolutions_is_the_same_program():
    def function(x, factor):
        return {"scaled": x * factor, "same": x}

    x = jnp.arange(3.0)
    got = canonical(function)(x, 2.0)
    assert got["same"] is x
    np.testing.assert_array_equal(got["scaled"], [0, 2, 4])
    assert text(function, x, 2.0, canonically=True) == text(function, x, 2.0, canonically=False)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_is_traced_once(name):
    function, *_ = FUNCTIONS[name]
    calls = []
    for given in (function, lambda x, k: x.sum() * k):
        calls.clear()
        jax.jit(canonical(lambda *of, given=given: calls.append(1) or given(*of))).trace(*question(name)[1:])
        assert len(calls) == 1


class Pair(NamedTuple):
    image: jax.Array
    extras: dict


def test_pytrees_keys_constants_and_closures_pass_through():
    _, x, k = question("valid")
    table = jnp.arange(4.0)

    def function(pair: Pair, k, key):
        noise = jax.random.uniform(key, (2, 7, 7, 6))
        return Pair(conv(pair.image, k) + noise, {"k": k, "none": None, "one": 1.0, "key": key, "t": table[:2]})

    k, key = k[:, :2], jax.random.key(3)
    got = jax.jit(canonical(function))(Pair(x, {"unused": jnp.zeros(2)}), k, key)
    assert isinstance(got, Pair)
    assert got.extras["none"] is None
    assert float(got.extras["one"]) == 1.0
    assert got.extras["key"] == key
    np.testing.assert_array_equal(got.extras["t"], [0, 1])
    want = np.asarray(conv(x, k)) + np.asarray(jax.random.uniform(key, (2, 7, 7, 6)))
    np.testing.assert_allclose(got.image, want, rtol=0, atol=1e-5)


def test_its_name_and_docstring_are_the_functions_own():
    assert canonical(network).__name__ == "network"


def test_a_convolution_inside_a_linear_solve_is_rewritten():
    kernel = jnp.zeros((3, 3, 1, 1)).at[1, 1].set(2.0).at[0, 1].set(0.1)

    def solve(x):
        def apply(v):
            return lax.conv_general_dilated(v, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

        return jax.scipy.sparse.linalg.bicgstab(apply, x, maxiter=5)[0].sum()

    x = jax.random.normal(jax.random.key(0), (1, 6, 6, 1))
    np.testing.assert_allclose(canonical(solve)(x), solve(x), rtol=1e-5)


def test_a_convolution_inside_shard_map_is_left_alone():
    mesh = jax.make_mesh((1,), ("b",), axis_types=(jax.sharding.AxisType.Auto,))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 1, 2))
    spec = jax.sharding.PartitionSpec("b")

    @functools.partial(jax.shard_map, mesh=mesh, in_specs=spec, out_specs=jax.sharding.PartitionSpec())
    def total(x):
        y = lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return lax.psum(y.sum(), "b")

    x = jax.random.normal(jax.random.key(0), (2, 6, 6, 1))
    np.testing.assert_allclose(canonical(total)(x), total(x), rtol=1e-6)
