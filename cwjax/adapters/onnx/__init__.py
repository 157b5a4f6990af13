"""ONNX graphs as cwjax models, run by jax.numpy. The package `onnx` reads the file; it is imported when it is used."""
