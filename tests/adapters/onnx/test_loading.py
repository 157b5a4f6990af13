"""Whole ONNX graphs as models: found and refused, with the words of each refusal."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cwjax as cw
from cwjax.adapters import NotConvertible
from tests.adapters.onnx import made

RNG = np.random.default_rng(5)


def draw(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def convolutional(scale=1.0, *, end=(), shape=("N", 2, 6, 6), seed=0):
    """A small network as an exporter writes it: the shape of the flattened features is computed from the input's."""
    rng = np.random.default_rng(seed)
    weights = {
        "kernel": scale * rng.normal(size=(3, 2, 3, 3)).astype(np.float32),
        "bias": rng.normal(size=3).astype(np.float32),
        "dense": rng.normal(size=(12, 4)).astype(np.float32),
        "first": np.asarray([0], np.int64),
        "rest": np.asarray([-1], np.int64),
    }
    nodes = [
        made.node("Conv", ["x", "kernel", "bias"], ["convolved"]),
        made.node("Relu", ["convolved"], ["active"]),
        made.node("AveragePool", ["active"], ["pooled"], kernel_shape=[2, 2], strides=[2, 2]),
        made.node("Shape", ["pooled"], ["sizes"]),
        made.node("Gather", ["sizes", "first"], ["batch"]),
        made.node("Concat", ["batch", "rest"], ["flat"], axis=0),
        made.node("Reshape", ["pooled", "flat"], ["features"]),
        made.node("MatMul", ["features", "dense"], ["logits" if end else "y"]),
        *end,
    ]
    return made.model(nodes, shape, weights)


SOFTMAX = [made.node("Softmax", ["logits"], axis=-1)]


def saved(model, path):
    made.onnx.save(model, path)
    return path


def test_a_file_becomes_a_model_of_images(tmp_path):
    path = saved(convolutional(), tmp_path / "net.onnx")
    with pytest.raises(ValueError, match="does not tell where the channels are"):
        cw.adapters.from_onnx(path)
    mean, std = (0.4, 0.5), (0.2, 0.3)
    model = cw.adapters.from_onnx(path, layout="NCHW", mean=mean, std=std)
    ask = cw.adapters.original(path, layout="NCHW", mean=mean, std=std)
    x = RNG.uniform(size=(4, 6, 6, 2)).astype(np.float32)
    np.testing.assert_allclose(model.of_batch(jnp.asarray(x)), ask(x), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(ask(x[:1]), ask(x)[:1], rtol=1e-4, atol=1e-4)
    assert {"kernel", "bias", "dense"} == set(model.params[0]["weights"])


def test_another_file_of_the_same_network_compiles_nothing():
    models = [cw.adapters.from_onnx(convolutional(seed=seed), layout="NCHW") for seed in (1, 2)]
    assert models[0].apply == models[1].apply
    np.testing.assert_array_equal(models[0].params["program"], models[1].params["program"])
    compiled: Any = jax.jit(lambda model, x: model.of_batch(x))
    x = RNG.uniform(size=(1, 6, 6, 2)).astype(np.float32)
    first, second = (compiled(model, x) for model in models)
    assert compiled._cache_size() == 1
    assert np.abs(first - second).max() > 0.1
    assert (
        cw.adapters.from_onnx(convolutional(end=[made.node("Neg", ["logits"])]), layout="NCHW").apply != models[0].apply
    )


@pytest.mark.usefixtures("as_users_have_it")
@pytest.mark.parametrize("end", ["Softmax", "Sigmoid"])
def test_a_softmax_at_the_end_is_refused_or_cut(end):
    graph = convolutional(end=[made.node(end, ["logits"], ["p"]), made.node("Identity", ["p"])])
    with pytest.raises(NotConvertible, match=rf"ends in the {end.lower()} of node 'my_{end}'.*say softmax=\"cut\""):
        cw.adapters.from_onnx(graph, layout="NCHW")
    with pytest.raises(ValueError, match='softmax must be "refuse" or "cut", got \'keep\''):
        cw.adapters.from_onnx(graph, layout="NCHW", softmax="keep")  # pyright: ignore[reportArgumentType]
    model = cw.adapters.from_onnx(graph, layout="NCHW", softmax="cut")
    x = RNG.uniform(size=(2, 6, 6, 2)).astype(np.float32)
    logits = cw.adapters.from_onnx(convolutional(), layout="NCHW").of_batch(jnp.asarray(x))
    np.testing.assert_allclose(model.of_batch(jnp.asarray(x)), logits, rtol=1e-5)


def test_probabilities_that_are_not_a_softmax_are_refused():
    end = [
        made.node("Exp", ["logits"], ["e"]),
        made.node("ReduceL1", ["e"], ["s"], axes=[1], keepdims=1),
        made.node("Div", ["e", "s"]),
    ]
    with pytest.raises(NotConvertible, match="returns probabilities"):
        cw.adapters.from_onnx(convolutional(0.1, end=end), layout="NCHW")


def dense(*nodes, weights=None, shape=("N", 3), **how):
    given = {"w": np.eye(3, 2, dtype=np.float32), "three": np.asarray([3], np.int64), "one": np.asarray(1, np.int64)}
    return made.model(nodes, shape, given | (weights or {}), **how)


HEAD = made.node("MatMul", ["h", "w"])


def test_one_output_is_two_logits():
    model = cw.adapters.from_onnx(dense(made.node("MatMul", ["x", "w"]), weights={"w": draw(3, 1)}))
    x = RNG.uniform(size=(2, 3)).astype(np.float32)
    scores = x @ np.asarray(model.params["weights"]["w"])
    np.testing.assert_allclose(model.of_batch(jnp.asarray(x)), scores * np.asarray([[-0.5, 0.5]]), rtol=1e-5)


def test_outputs_that_are_not_asked_for_are_not_run():
    graph = dense(made.node("MatMul", ["x", "w"]), made.node("NonZero", ["y"], ["label"]))
    graph.graph.output.append(made.helper.make_tensor_value_info("label", made.INT, None))
    assert cw.adapters.from_onnx(graph).of_batch(jnp.ones((1, 3))).shape == (1, 2)
    two = dense(made.node("MatMul", ["x", "w"]), made.node("Neg", ["y"], ["z"]), outputs=("y", "z"))
    with pytest.raises(NotConvertible, match=r"has 2 outputs of floating-point numbers \(y, z\): say output=NAME"):
        cw.adapters.from_onnx(two)
    np.testing.assert_allclose(cw.adapters.from_onnx(two, output="z")(jnp.ones(3)), [-1, -1])
    with pytest.raises(NotConvertible, match="has no output 'a': it has y, z"):
        cw.adapters.from_onnx(two, output="a")


def test_a_branch_that_shapes_decide_is_taken():
    def branch(operator):
        return made.helper.make_graph(
            [made.node(operator, ["x"], ["h2"])],
            operator,
            [],
            [made.helper.make_tensor_value_info("h2", made.FLOAT, None)],
        )

    nodes = [
        made.node("Shape", ["x"], ["sizes"]),
        made.node("Gather", ["sizes", "one"], ["width"], axis=0),
        made.node("Equal", ["width", "three"], ["is_three"]),
        made.node("If", ["is_three"], ["h"], then_branch=branch("Neg"), else_branch=branch("Abs")),
        HEAD,
    ]
    np.testing.assert_allclose(cw.adapters.from_onnx(dense(*nodes))(jnp.ones(3)), [-1, -1])
    nodes[0] = made.node("Greater", ["x", "w0"], ["more"])
    nodes[1] = made.node("Cast", ["more"], ["numbers"], to=made.INT)
    nodes[2] = made.node("ReduceMax", ["numbers"], ["most"], keepdims=0)
    nodes.insert(3, made.node("Cast", ["most"], ["is_three"], to=made.TensorProto.BOOL))
    graph = dense(*nodes, weights={"w0": draw(3)}, shape=(1, 3), opset=12)
    with pytest.raises(NotConvertible, match=r"If \(node 'my_If'\): which branch it takes depends on the values"):
        cw.adapters.from_onnx(graph)


REFUSED = {
    "Dropout .*: it is in training mode": lambda: dense(
        made.node("Dropout", ["x", "r", "t"], ["h"]), HEAD, weights={"r": np.float32(0.5), "t": np.asarray(True)}
    ),
    "BatchNormalization .*: it is in training mode": lambda: dense(
        made.node("BatchNormalization", ["x", *"abcd"], ["h", "m", "v"], training_mode=1),
        HEAD,
        weights={name: np.ones(3, np.float32) for name in "abcd"},
    ),
    r"LSTM \(node 'my_LSTM'\) cannot be converted: recurrent": lambda: dense(made.node("LSTM", ["x"], ["h"]), HEAD),
    "QuantizeLinear .* quantised numbers have no gradient": lambda: dense(
        made.node("QuantizeLinear", ["x", "w"], ["h"]), HEAD
    ),
    "Loop .* control flow depends on data": lambda: dense(made.node("Loop", ["x"], ["h"]), HEAD),
    "NonZero .* the shape of its result depends on data": lambda: dense(made.node("NonZero", ["x"], ["h"]), HEAD),
    "Det .* has no rule": lambda: dense(made.node("Det", ["x"], ["h"]), HEAD),
    "is of the domain 'com.microsoft'": lambda: dense(made.node("Gelu", ["x"], ["h"], domain="com.microsoft"), HEAD),
    "takes 2 inputs \\(x, z\\)": lambda: _two_inputs(),
    r"\['N', 3, 'height', 'width'\], and leaves sizes open: say shape=": lambda: convolutional(
        shape=("N", 3, "height", "width")
    ),
    "takes exactly 5 inputs at once": lambda: dense(made.node("MatMul", ["x", "w"]), shape=(5, 3)),
    "takes FLOAT16 and not FLOAT": lambda: dense(
        made.node("MatMul", ["x", "w"]), kind=made.TensorProto.FLOAT16, weights={"w": np.eye(3, dtype=np.float16)}
    ),
    "version 6, and 7 is the oldest": lambda: dense(made.node("MatMul", ["x", "w"]), opset=6),
    "Reshape .* depend on the values of the input": lambda: dense(
        made.node("Cast", ["x"], ["i"], to=made.INT),
        made.node("Reshape", ["x", "i"], ["h"]),
        HEAD,
    ),
}


def _two_inputs():
    graph = dense(made.node("Add", ["x", "z"], ["h"]), HEAD)
    graph.graph.input.append(made.helper.make_tensor_value_info("z", made.FLOAT, [1]))
    return graph


@pytest.mark.parametrize("words", REFUSED)
def test_what_cannot_be_converted_is_named(words):
    with pytest.raises(NotConvertible, match=words):
        cw.adapters.from_onnx(REFUSED[words]())


def test_files_that_are_none(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        cw.adapters.from_onnx(tmp_path / "none.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"no graph at all")
    with pytest.raises(NotConvertible, match=r"the ONNX file bad\.onnx"):
        cw.adapters.from_onnx(tmp_path / "bad.onnx")


def test_a_rule_with_another_gradient_is_refused(monkeypatch):
    from cwjax.adapters.onnx.table import RULES

    def graph(inside):
        """Programs that differ in a name are other programs for JAX's cache."""
        return dense(made.node("Tanh", ["x"], [inside]), made.node("MatMul", [inside, "w"]))

    cw.adapters.from_onnx(graph("h"))
    monkeypatch.setitem(RULES, "Tanh", lambda node, x: jax.lax.stop_gradient(jnp.tanh(x) - 0.2 * x) + 0.2 * x)
    with pytest.raises(NotConvertible, match="the slopes of the model made of the ONNX graph 'made' differ"):
        cw.adapters.from_onnx(graph("h1"))
    monkeypatch.setitem(RULES, "Tanh", lambda node, x: 1.01 * jnp.tanh(x))
    with pytest.raises(NotConvertible, match="the logits of the model made of the ONNX graph 'made' differ"):
        cw.adapters.from_onnx(graph("h2"))
