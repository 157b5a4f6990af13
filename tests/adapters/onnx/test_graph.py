"""What of a graph is a weight, what is known while tracing, and what is not run."""

import jax
import jax.numpy as jnp
import numpy as np

from cwjax.adapters.onnx.graph import needed, program_of
from tests.adapters.onnx import made

WEIGHT = np.arange(6, dtype=np.float32).reshape(3, 2)


def constant(name, value):
    return made.node("Constant", [], [name], value=made.numpy_helper.from_array(np.asarray(value)))


def test_floats_are_weights_and_what_shapes_need_is_fixed():
    nodes = [
        constant("w", WEIGHT),
        constant("low", np.float32(0)),
        constant("zero", np.int64(0)),
        constant("one", np.int64(1)),
        made.node("Shape", ["x"], ["sizes"]),
        made.node("Gather", ["sizes", "one"], ["three"], axis=0),
        made.node("Range", ["zero", "three", "one"], ["places"]),
        made.node("Gather", ["x", "places"], ["same"], axis=1),
        made.node("Clip", ["same", "low"], ["positive"]),
        made.node("MatMul", ["positive", "w"]),
        made.node("Neg", ["y"], ["unused"]),
    ]
    graph = made.model(nodes, ("N", 3))
    assert [node.op_type for node in needed(graph.graph, "places")] == [
        "Constant",
        "Constant",
        "Shape",
        "Gather",
        "Range",
    ]
    program, params = program_of(graph, "x", "y", (1, 3))
    assert set(params) == {"w"}
    assert set(program.constants) == {"low", "zero", "one"}
    assert "unused" not in {name for node in program.nodes for name in node.outputs}
    x = jnp.asarray([[1.0, -2.0, 3.0], [0.5, 0.0, -1.0]])
    np.testing.assert_allclose(program(params, x), np.maximum(x, 0) @ WEIGHT)


def test_the_input_decides_how_precisely_is_computed():
    nodes = [constant("k", np.ones((2, 1, 1, 1), np.float32)), made.node("Conv", ["x", "k"])]
    program, params = program_of(made.model(nodes, (1, 1, 2, 2)), "x", "y", (1, 1, 2, 2))
    for dtype in (jnp.float64, jnp.bfloat16):
        with jax.enable_x64(True):
            assert program(params, jnp.ones((1, 2, 2, 1), dtype)).dtype == dtype


def test_programs_are_equal_where_their_graphs_are():
    def program(bound, weight):
        nodes = [constant("w", weight), constant("low", np.float32(bound)), made.node("Clip", ["x", "low"], ["h"])]
        return program_of(made.model([*nodes, made.node("MatMul", ["h", "w"])], ("N", 3)), "x", "y", (1, 3))[0]

    assert program(0, WEIGHT) == program(0, 2 * WEIGHT)
    assert hash(program(0, WEIGHT)) == hash(program(0, 2 * WEIGHT))
    assert program(0, WEIGHT) != program(1, WEIGHT)
