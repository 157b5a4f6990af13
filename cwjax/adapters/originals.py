"""The function of a model file as its own framework runs it, to confirm adversarial examples by."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from cwjax.adapters.checking import NotConvertible

_KERAS = (".keras", ".h5", ".hdf5")


def original(path: str | os.PathLike[str], **how: Any) -> Callable[[np.ndarray], np.ndarray]:
    """The function of a file as its own framework runs it: ONNX by onnxruntime, Keras by Keras.

    Args:
      path: of a file .onnx, .keras or .h5.
      how: the arguments that `from_onnx` or `from_keras` was called with: layout, mean, std, softmax and others.

    Returns:
      x [B, *S] in the box, as the model of `from_onnx` or `from_keras` takes it -> logits [B, K], NumPy arrays.

    Raises:
      NotConvertible: a file of another kind, or one that is refused.

    Example:
      >>> import pathlib, tempfile, onnx
      >>> from onnx import helper
      >>> sides = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None, 3]) for name in ("x", "logits")]
      >>> graph = helper.make_graph([helper.make_node("Neg", ["x"], ["logits"])], "net", sides[:1], sides[1:])
      >>> file = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     onnx.save(file, pathlib.Path(folder) / "net.onnx")
      ...     print(cw.adapters.original(pathlib.Path(folder) / "net.onnx")(np.ones((1, 3), np.float32)))
      [[-1. -1. -1.]]
    """
    kind = Path(path).suffix.lower()
    if kind == ".onnx":
        from cwjax.adapters.onnx.loading import onnx_original

        return onnx_original(path, **how)
    if kind in _KERAS:
        from cwjax.adapters.keras import keras_original

        return keras_original(path, **how)
    raise NotConvertible(f"{Path(path).name} is no model file that can be asked: .onnx, .keras or .h5 is wanted")
