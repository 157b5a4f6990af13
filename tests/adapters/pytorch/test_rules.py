"""Each rule computes what PyTorch's operator of that name computes, and has its slope."""

# pyright: reportMissingImports=false
import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra torch")

from cwjax.adapters.pytorch.rules import KINDS, REFUSED, RULES  # noqa: E402

pytestmark = pytest.mark.usefixtures("as_users_have_it")


class Of:
    """An array of this shape: drawn with both signs, or as told."""

    def __init__(self, *shape, positive=False, whole=None, flags=False, values=None):
        self.shape, self.positive, self.whole, self.flags, self.values = shape, positive, whole, flags, values

    def made(self, generator):
        if self.values is not None:
            return np.array(self.values)
        if self.whole is not None:
            return generator.integers(0, self.whole, self.shape)
        if self.flags:
            return generator.random(self.shape) < 0.5
        values = generator.normal(size=self.shape) * 1.5
        return (np.abs(values) + 0.1 if self.positive else values).astype(np.float32)


IMAGES, ROWS, SQUARE = Of(2, 4, 6, 5), Of(3, 8), Of(4, 4)
CHANNEL = Of(4)
MEAN, VARIANCE = (
    np.array([0.5, -1, 0, 2], np.float32),
    np.array([0.5, 1, 2, 0.1], np.float32),
)  # fixed: PyTorch has no slope in them
EDGES = Of(values=np.array([[-1, 0, 0.5, 1, 2, 6]], np.float32))  # at the ends of a clamp the slope is whole
F32, I64 = "torch.float32", "torch.int64"
NO = None


def of(*args, **kwargs):
    return args, kwargs


SAME = [of(ROWS)]  # one array
PAIR = [of(ROWS, ROWS), of(ROWS, 0.5)]
TRUTHS = [of(Of(3, 8, flags=True), Of(3, 8, flags=True))]
CASES = {
    "convolution": [
        of(IMAGES, Of(6, 2, 3, 3), Of(6), (2, 1), (1, 0), (1, 2), False, (0, 0), 2),
        of(IMAGES, Of(4, 3, 3, 2), NO, (2, 3), (1, 0), (1, 1), True, (1, 0), 2),
    ],
    "conv1d": [of(Of(2, 4, 9), Of(6, 4, 3), Of(6), (2,), (1,), (2,), 1)],
    "conv2d": [of(IMAGES, Of(6, 4, 3, 3)), of(IMAGES, Of(4, 1, 3, 3), CHANNEL, (1, 1), "same", (1, 1), 4)],
    "conv3d": [of(Of(1, 2, 4, 5, 6), Of(3, 2, 2, 2, 2), NO, (1, 2, 1))],
    "conv_transpose1d": [of(Of(2, 4, 5), Of(4, 3, 3), Of(3), (2,), (1,), (1,))],
    "conv_transpose2d": [of(IMAGES, Of(4, 3, 3, 3), NO, (2, 2), (1, 1), (1, 1), 2, (1, 1))],
    "conv_transpose3d": [of(Of(1, 2, 3, 3, 3), Of(2, 3, 2, 2, 2), NO, (2, 2, 2))],
    "linear": [of(ROWS, Of(5, 8)), of(IMAGES, Of(3, 5), Of(3))],
    "addmm": [of(Of(5), ROWS, Of(8, 5)), of(Of(5), ROWS, Of(8, 5), beta=0.5, alpha=2)],
    "baddbmm": [of(Of(2, 3, 5), Of(2, 3, 4), Of(2, 4, 5), beta=0.5)],
    "mm": [of(ROWS, Of(8, 5))],
    "bmm": [of(Of(2, 3, 4), Of(2, 4, 5))],
    "mv": [of(ROWS, Of(8))],
    "dot": [of(Of(8), Of(8))],
    "matmul": [of(Of(2, 3, 4), Of(4, 5))],
    "outer": [of(Of(3), Of(4))],
    "bilinear": [of(ROWS, Of(3, 4), Of(5, 8, 4), Of(5))],
    "einsum": [of("bchw,kc->bkhw", (IMAGES, Of(3, 4)))],
    "scaled_dot_product_attention": [
        of(Of(1, 2, 4, 8), Of(1, 2, 5, 8), Of(1, 2, 5, 8)),
        of(Of(1, 2, 4, 8), Of(1, 2, 4, 8), Of(1, 2, 4, 8), NO, 0.0, True, scale=0.2),
        of(Of(1, 2, 4, 8), Of(1, 2, 4, 8), Of(1, 2, 4, 8), Of(4, 4)),
        of(Of(1, 2, 2, 4), Of(1, 2, 2, 4), Of(1, 2, 2, 4), Of(values=[[True, False], [True, True]])),
        of(Of(1, 4, 2, 4), Of(1, 2, 2, 4), Of(1, 2, 2, 4), enable_gqa=True),
    ],
    "batch_norm": [of(IMAGES, CHANNEL, CHANNEL, MEAN, VARIANCE, False, 0.1, 1e-5, False)],
    "_native_batch_norm_legit_no_training": [of(IMAGES, CHANNEL, NO, MEAN, VARIANCE, 0.1, 1e-3)],
    "_native_batch_norm_legit": [of(IMAGES, CHANNEL, CHANNEL, True, 0.1, 1e-3), of(IMAGES, NO, NO, True, 0.1, 1e-3)],
    "layer_norm": [of(IMAGES, (6, 5), Of(6, 5), Of(6, 5), 1e-3), of(ROWS, (8,))],
    "native_layer_norm": [of(ROWS, (8,), Of(8), NO, 1e-5)],
    "group_norm": [of(IMAGES, 2, CHANNEL, CHANNEL, 1e-3)],
    "native_group_norm": [of(IMAGES, NO, NO, 2, 4, 30, 2, 1e-5)],
    "instance_norm": [
        of(IMAGES, CHANNEL, CHANNEL, NO, NO, True, 0.1, 1e-3, False),
        of(IMAGES, NO, NO, MEAN, VARIANCE, False, 0.1, 1e-3, False),
    ],
    "rms_norm": [of(ROWS, (8,), Of(8), 1e-3), of(ROWS, (8,))],
    "max_pool1d": [of(Of(2, 4, 9), (3,), (2,), (1,))],
    "max_pool2d": [of(IMAGES, (2, 2)), of(IMAGES, (3,), (2,), (1,), (1,), True), of(IMAGES, (2,), (1,), (0,), (2,))],
    "max_pool3d": [of(Of(1, 2, 4, 4, 4), (2, 2, 2))],
    "max_pool2d_with_indices": [of(IMAGES, (2, 2))],
    "avg_pool1d": [of(Of(2, 4, 9), (3,), (2,), (1,))],
    "avg_pool2d": [
        of(IMAGES, (2, 2)),
        of(IMAGES, (3, 3), (2, 2), (1, 1), True),
        of(IMAGES, (3, 3), (2, 2), (1, 1), True, False),
        of(IMAGES, (3, 3), (2, 2), (1, 1), False, False),
        of(IMAGES, (2,), (), (0,), False, True, 3),
    ],
    "avg_pool3d": [of(Of(1, 2, 4, 4, 4), (2, 2, 2))],
    "adaptive_avg_pool1d": [of(Of(2, 4, 9), (3,))],
    "adaptive_avg_pool2d": [of(IMAGES, (1, 1)), of(IMAGES, (4, 3))],
    "_adaptive_avg_pool2d": [of(IMAGES, (3, 5))],
    "adaptive_avg_pool3d": [of(Of(1, 2, 4, 4, 4), (2, 3, 1))],
    "adaptive_max_pool1d": [of(Of(2, 4, 9), (3,))],
    "adaptive_max_pool2d": [of(IMAGES, (4, 3))],
    "adaptive_max_pool3d": [of(Of(1, 2, 4, 4, 4), (2, 3, 1))],
    "upsample_linear1d": [of(Of(2, 4, 9), (13,), False)],
    "upsample_bilinear2d": [
        of(IMAGES, (9, 12), False),
        of(IMAGES, (9, 3), True),
        of(IMAGES, NO, False, (1.7, 0.6)),
        of(IMAGES, (13, 9), False, 2.2, 1.9),
    ],
    "upsample_trilinear3d": [of(Of(1, 2, 3, 4, 5), (5, 6, 7), False)],
    "upsample_bicubic2d": [of(IMAGES, (9, 3), False), of(IMAGES, (9, 12), True), of(IMAGES, NO, False, (1.7, 0.6))],
    "_upsample_bilinear2d_aa": [of(IMAGES, (3, 9), False)],
    "_upsample_bicubic2d_aa": [of(IMAGES, (3, 9), False)],
    "upsample_nearest1d": [of(Of(2, 4, 9), (13,))],
    "upsample_nearest2d": [of(IMAGES, (9, 3)), of(IMAGES, NO, (2.0, 1.3))],
    "upsample_nearest3d": [of(Of(1, 2, 3, 4, 5), (5, 6, 7))],
    "_upsample_nearest_exact1d": [of(Of(2, 4, 9), (13,))],
    "_upsample_nearest_exact2d": [of(IMAGES, (9, 3))],
    "_upsample_nearest_exact3d": [of(Of(1, 2, 3, 4, 5), (5, 6, 7))],
    "relu": [of(ROWS), of(EDGES)],
    "relu6": [of(EDGES)],
    "hardtanh": [of(ROWS), of(ROWS, 0.0, 1.0)],
    "sigmoid": SAME,
    "log_sigmoid": SAME,
    "tanh": SAME,
    "silu": SAME,
    "gelu": [of(ROWS), of(ROWS, approximate="tanh")],
    "elu": [of(ROWS), of(ROWS, 0.5, 2.0, 3.0)],
    "celu": [of(ROWS, 0.5)],
    "selu": SAME,
    "leaky_relu": [of(ROWS, 0.2)],
    "prelu": [of(IMAGES, CHANNEL), of(ROWS, Of(1))],
    "hardsigmoid": SAME,
    "hardswish": SAME,
    "hardshrink": [of(ROWS, 0.3)],
    "softshrink": [of(ROWS, 0.3)],
    "mish": SAME,
    "softplus": [of(ROWS), of(ROWS, 3.0, 2.0)],
    "threshold": [of(ROWS, 0.3, -2.0)],
    "glu": [of(ROWS), of(IMAGES, 1)],
    "softmax": [of(ROWS, -1), of(ROWS, 0, F32)],
    "_softmax": [of(ROWS, -1, False)],
    "log_softmax": [of(ROWS, -1)],
    "_log_softmax": [of(ROWS, -1, False)],
    "add": [*PAIR, of(ROWS, ROWS, alpha=2), of(Of(3, 8), Of(8))],
    "sub": [*PAIR, of(ROWS, 2.0, alpha=3)],
    "rsub": [of(ROWS, 1.0), of(ROWS, ROWS, alpha=2)],
    "mul": PAIR,
    "div": [of(ROWS, Of(3, 8, positive=True)), of(ROWS, 0.7, rounding_mode="floor")],
    "true_divide": [of(Of(3, whole=9), 2)],
    "floor_divide": [of(Of(3, whole=9), 2)],
    "remainder": [of(ROWS, 0.7)],
    "fmod": [of(ROWS, 0.7)],
    "pow": [of(ROWS, 3), of(Of(3, 8, positive=True), 0.4), of(ROWS, 2)],
    "float_power": [of(Of(3, 8, positive=True), 2)],
    "addcmul": [of(ROWS, ROWS, ROWS, value=0.5)],
    "lerp": [of(ROWS, ROWS, 0.3)],
    "neg": SAME,
    "abs": [of(ROWS), of(EDGES)],
    **dict.fromkeys(("exp", "expm1", "exp2", "square", "erf", "sin", "cos", "tan", "atan", "sinh", "cosh"), SAME),
    **{
        name: [of(Of(3, 8, positive=True))] for name in ("log", "log1p", "log2", "log10", "sqrt", "rsqrt", "reciprocal")
    },
    "logit": [of(Of(values=np.array([0.1, 0.5, 0.9], np.float32)), 1e-3)],
    "atan2": [of(ROWS, ROWS)],
    **dict.fromkeys(("sign", "floor", "ceil", "trunc", "round", "frac", "isnan", "isinf"), SAME),
    "clamp": [of(EDGES, 0.0, 1.0), of(EDGES, NO, 0.5), of(EDGES, 0, 1), of(ROWS, Of(8), Of(8, positive=True))],
    "clip": [of(EDGES, 0.0, 1.0)],
    "clamp_min": [of(EDGES, 0.0)],
    "clamp_max": [of(EDGES, 1.0)],
    "maximum": [of(ROWS, ROWS)],
    "minimum": [of(ROWS, ROWS)],
    "where": [of(Of(3, 8, flags=True), ROWS, ROWS), of(Of(3, 8, flags=True), ROWS, 0.0)],
    "masked_fill": [of(ROWS, Of(3, 8, flags=True), -100.0)],
    "nan_to_num": [of(Of(values=np.array([1, np.nan, np.inf], np.float32)), 0.5, 9.0)],
    **{name: [of(EDGES, 0.5), of(ROWS, ROWS)] for name in ("gt", "ge", "lt", "le", "eq", "ne")},
    "logical_not": [of(Of(3, 8, flags=True))],
    "bitwise_not": [of(Of(3, 8, flags=True))],
    **dict.fromkeys(("logical_and", "logical_or", "logical_xor", "bitwise_and", "bitwise_or"), TRUTHS),
    "mean": [of(ROWS), of(IMAGES, (2, 3)), of(IMAGES, (-1,), True)],
    "sum": [of(ROWS), of(IMAGES, (2, 3), True), of(Of(3, 8, flags=True), dtype=F32)],
    "prod": [of(ROWS, 1)],
    "amax": [of(IMAGES, (2, 3)), of(ROWS, (-1,), True)],
    "amin": [of(IMAGES, (2, 3))],
    "any": [of(Of(3, 8, flags=True), 1)],
    "all": [of(Of(3, 8, flags=True), 1, True)],
    "max": [of(ROWS), of(ROWS, 1), of(ROWS, 0, True), of(ROWS, ROWS)],
    "min": [of(ROWS), of(ROWS, 1)],
    "argmax": [of(ROWS), of(ROWS, 1, True)],
    "argmin": [of(ROWS, 1)],
    "var": [of(ROWS), of(ROWS, (1,), False), of(IMAGES, (2, 3), correction=0, keepdim=True), of(ROWS, False)],
    "std": [of(ROWS, (1,)), of(ROWS, (1,), correction=1)],
    "var_mean": [of(ROWS, (1,), correction=0, keepdim=True), of(ROWS, True)],
    "norm": [of(ROWS), of(ROWS, 2, (1,)), of(Of(values=np.zeros((2, 3), np.float32)), 2, (1,), True)],
    "linalg_vector_norm": [of(ROWS, 2, (1,), True), of(ROWS, 1, (1,)), of(ROWS, 3), of(ROWS, float("inf"), (1,))],
    "logsumexp": [of(ROWS, (1,))],
    "cumsum": [of(ROWS, 1), of(Of(3, whole=5), 0, dtype=F32)],
    "topk": [of(ROWS, 3), of(ROWS, 2, 0, False)],
    "sort": [of(ROWS), of(ROWS, 0, True)],
    "argsort": [of(ROWS, -1, True)],
    **{name: [of(IMAGES, (2, 4, 30))] for name in ("view", "_unsafe_view", "reshape")},
    "view_as": [of(SQUARE, Of(2, 8))],
    "flatten": [of(IMAGES, 1), of(IMAGES, 1, 2), of(IMAGES)],
    "unflatten": [of(ROWS, 1, (2, 4)), of(ROWS, -1, (2, -1))],
    "permute": [of(IMAGES, (0, 2, 3, 1))],
    "transpose": [of(IMAGES, 1, -1)],
    "movedim": [of(IMAGES, (1,), (3,))],
    "t": [of(ROWS)],
    "numpy_T": [of(ROWS)],
    "unsqueeze": [of(ROWS, -1)],
    "squeeze": [of(Of(1, 3, 1)), of(Of(1, 3, 1), 0), of(Of(1, 3, 1), (0, 1)), of(Of(3, 2), 1)],
    "expand": [of(Of(1, 8), (3, -1)), of(Of(8), (2, 3, 8))],
    "expand_as": [of(Of(1, 8), ROWS)],
    "broadcast_to": [of(Of(1, 8), (3, 8))],
    "repeat": [of(ROWS, (2, 1, 3))],
    "tile": [of(ROWS, (2, 3))],
    "repeat_interleave": [of(ROWS, 2, 1), of(ROWS, 3)],
    "cat": [of((ROWS, Of(2, 8))), of((ROWS, Of(3, 2)), -1)],
    "concat": [of((ROWS, Of(2, 8)), 0)],
    "stack": [of((ROWS, ROWS), 1)],
    "slice": [of(IMAGES, 2, 1, 2**63 - 1, 2), of(IMAGES, -1, 0, -1)],
    "slice_scatter": [of(IMAGES, Of(2, 4, 2, 5), 2, 1, 4, 2)],
    "select": [of(IMAGES, 1, -1)],
    "select_scatter": [of(IMAGES, Of(2, 6, 5), 1, 2)],
    "narrow": [of(IMAGES, -1, 1, 3)],
    "split": [of(ROWS, 3, 1)],
    "split_with_sizes": [of(ROWS, (3, 4, 1), 1)],
    "chunk": [of(ROWS, 3, 1)],
    "unbind": [of(ROWS)],
    "pad": [of(IMAGES, (1, 2)), of(IMAGES, (1, 0, 2, -1), "constant", 0.5)]
    + [of(IMAGES, (1, 2, 0, 1), mode) for mode in ("reflect", "replicate", "circular")],
    "constant_pad_nd": [of(IMAGES, (0, 0, 0, 0, 1, 1), 0.5)],
    "flip": [of(IMAGES, (2, 3))],
    "roll": [of(IMAGES, (1, -2), (2, 3)), of(ROWS, (1,))],
    "rot90": [of(IMAGES, 1, (2, 3))],
    "index": [of(ROWS, (NO, Of(values=[1, 0, 1]))), of(ROWS, (Of(values=[[2], [0]]),))],
    "index_put": [
        of(ROWS, (Of(values=[0, 2]),), Of(2, 8)),
        of(ROWS, (NO, Of(values=[1, 1])), Of(3, 2), True),
    ],
    "index_select": [of(ROWS, 1, Of(values=[1, 7, 1]))],
    "gather": [of(ROWS, 1, Of(values=[[1, 7], [0, 0]]))],
    "scatter": [of(ROWS, 1, Of(values=[[1, 7], [2, 0]]), Of(2, 2)), of(ROWS, 1, Of(values=[[1], [2]]), 0.5)],
    "embedding": [of(ROWS, Of(values=[[0, 2], [1, 1]]))],
    "pixel_shuffle": [of(IMAGES, 2)],
    "pixel_unshuffle": [of(Of(2, 3, 4, 6), 2)],
    "channel_shuffle": [of(IMAGES, 2)],
    "unfold": [of(IMAGES, 2, 3, 2)],
    "im2col": [of(IMAGES, (3, 2), (1, 2), (1, 0), (2, 1))],
    "tril": [of(SQUARE), of(SQUARE, -1)],
    "triu": [of(SQUARE, 1)],
    "diagonal": [of(IMAGES, 1, 2, 3)],
    "meshgrid": [of((Of(3), Of(4)))],
    "full": [of((2, 3), 0.5), of((2,), 1, dtype=I64)],
    "zeros": [of((2, 3)), of((2,), dtype=I64)],
    "ones": [of((2, 3))],
    "new_full": [of(ROWS, (2,), 0.5)],
    "new_zeros": [of(ROWS, (2, 3))],
    "new_ones": [of(ROWS, (2, 3))],
    "full_like": [of(ROWS, 0.5)],
    "zeros_like": [of(ROWS), of(ROWS, dtype=I64)],
    "ones_like": [of(ROWS)],
    "fill": [of(ROWS, 0.5)],
    "scalar_tensor": [of(0.5)],
    "arange": [of(5), of(1, 5), of(1, 9, 2, dtype=F32)],
    "linspace": [of(0, 1, 5)],
    "eye": [of(3)],
    "one_hot": [of(Of(3, whole=4), 4)],
    "to": [of(Of(3, whole=5), F32)],
    "_to_copy": [of(ROWS, dtype=I64), of(ROWS)],
    "type_as": [of(Of(3, whole=5), ROWS)],
    "dropout": [of(ROWS, 0.5, False)],
    "feature_dropout": [of(IMAGES, 0.5, False)],
    "alpha_dropout": [of(ROWS, 0.5, False)],
    **dict.fromkeys(("contiguous", "clone", "alias", "lift_fresh_copy", "detach"), SAME),
    "copy": [of(Of(3, 8, whole=9), Of(8, whole=9))],
}
ONE_ALONE = {
    name for name in CASES if name.startswith(("adaptive_max_pool", "native_", "_native_")) or "indices" in name
}
SILENT = {"_assert_tensor_metadata", "_assert_scalar"}  # say nothing about numbers


def test_every_rule_has_a_case():
    assert set(CASES) | SILENT == set(RULES)
    assert sum(map(len, KINDS.values())) == len(RULES), "no operator has two rules"
    assert not set(RULES) & set(REFUSED)


def drawn(part, generator):
    if isinstance(part, Of):
        return part.made(generator)
    return tuple(drawn(each, generator) for each in part) if isinstance(part, tuple) else part


def to_torch(part):
    if isinstance(part, np.ndarray):
        return torch.from_numpy(part.copy())
    if isinstance(part, tuple):
        return [to_torch(each) for each in part]
    return getattr(torch, part[6:]) if isinstance(part, str) and part.startswith("torch.") else part


def listed(outputs):
    """The arrays among what an operator returns, without those that nobody may use."""
    return [each for each in (outputs if isinstance(outputs, list | tuple) else [outputs]) if each is not None]


def in_torch(name, args, kwargs):
    """What PyTorch returns, and the slopes in its floating-point inputs, in their order."""
    given = to_torch(args)
    moved = [leaf for leaf in jax.tree.leaves(given) if isinstance(leaf, torch.Tensor) and leaf.is_floating_point()]
    moved = [leaf for leaf in moved if not any(np.array_equal(leaf, fixed) for fixed in (MEAN, VARIANCE))]
    for leaf in moved:
        leaf.requires_grad_()
    outputs = listed(getattr(torch.ops.aten, name)(*given, **{key: to_torch(value) for key, value in kwargs.items()}))
    outputs = outputs[:1] if name in ONE_ALONE else outputs
    smooth = [each for each in outputs if each.requires_grad]
    ups = [torch.from_numpy(up(each.shape)) for each in smooth]
    slopes = torch.autograd.grad(smooth, moved, ups, allow_unused=True) if smooth else [None] * len(moved)
    return [each.detach().numpy() for each in outputs], [0 if each is None else each.numpy() for each in slopes]


def up(shape):
    return np.random.default_rng(1).normal(size=tuple(shape)).astype(np.float32)


def in_jax(name, args, kwargs, count, smooth):
    """The same by the rule, in one program."""
    leaves, structure = jax.tree.flatten(args)
    moved = [i for i, leaf in enumerate(leaves) if isinstance(leaf, np.ndarray) and leaf.dtype == np.float32]
    moved = [i for i in moved if not any(leaves[i] is fixed for fixed in (MEAN, VARIANCE))]

    @jax.jit
    def both(arrays):
        def rule(arrays):
            filled = [jnp.asarray(leaf) if isinstance(leaf, np.ndarray) else leaf for leaf in leaves]
            for place, array in zip(moved, arrays, strict=True):
                filled[place] = array
            with jax.numpy_rank_promotion("allow"):
                outputs = listed(RULES[name](*jax.tree.unflatten(structure, filled), **kwargs))[:count]
            return [outputs[i] for i in smooth], outputs

        _, pull, outputs = jax.vjp(rule, arrays, has_aux=True)
        return outputs, pull([jnp.asarray(up(outputs[i].shape)) for i in smooth])[0]

    return both([leaves[i] for i in moved])


@pytest.mark.parametrize(("name", "number"), [(name, i) for name in CASES for i in range(len(CASES[name]))])
def test_the_rule_is_the_operator(name, number):
    args, kwargs = drawn(CASES[name][number][0], np.random.default_rng(0)), CASES[name][number][1]
    theirs, their_slopes = in_torch(name, args, kwargs)
    smooth = [i for i, each in enumerate(theirs) if np.issubdtype(each.dtype, np.floating)]
    ours, slopes = in_jax(name, args, kwargs, len(theirs), smooth)
    assert len(ours) == len(theirs)
    for mine, its in zip(ours, theirs, strict=True):
        assert mine.shape == its.shape
        assert mine.dtype.kind == its.dtype.kind
        np.testing.assert_allclose(mine, its, rtol=2e-5, atol=2e-5)
    for mine, its in zip(slopes, their_slopes, strict=True):
        np.testing.assert_allclose(mine, its, rtol=1e-4, atol=2e-4)
