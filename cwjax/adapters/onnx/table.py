"""One table of all rules by operator, and of the operators that are refused, with the reason."""

from cwjax.adapters.onnx import elementwise, linear, normalisation, reductions, shapes, windows
from cwjax.adapters.onnx.node import Rule

KINDS: dict[str, dict[str, Rule]] = {
    "Element by element": elementwise.RULES,
    "Matrix products and linear models": linear.RULES,
    "Convolutions, pools, resizing": windows.RULES,
    "Normalisation and softmax": normalisation.RULES,
    "Reductions, and along an axis": reductions.RULES,
    "Shapes, moves and constants": shapes.RULES,
}
RULES: dict[str, Rule] = {operator: rule for rules in KINDS.values() for operator, rule in rules.items()}

_CONTROL = "its control flow depends on data: export the model without it, or write it in JAX"
_QUANTISED = "quantised numbers have no gradient: convert the model before it is quantised"
_TREES = "decision trees have no gradient, and the attacks here need one"
_RECURRENT = "recurrent layers are not covered: convert the model from its own framework"
_RANDOM = "it draws at random: export the model in evaluation mode"
_DATA = "the shape of its result depends on data, which JAX cannot compile"
REFUSED: dict[str, str] = {
    **dict.fromkeys(("Loop", "Scan"), _CONTROL),
    **dict.fromkeys(
        (
            "QuantizeLinear",
            "DequantizeLinear",
            "DynamicQuantizeLinear",
            "QLinearConv",
            "QLinearMatMul",
            "ConvInteger",
            "MatMulInteger",
        ),
        _QUANTISED,
    ),
    **dict.fromkeys(("TreeEnsemble", "TreeEnsembleClassifier", "TreeEnsembleRegressor"), _TREES),
    **dict.fromkeys(("GRU", "LSTM", "RNN"), _RECURRENT),
    **dict.fromkeys(
        ("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"), _RANDOM
    ),
    **dict.fromkeys(("Compress", "NonMaxSuppression", "NonZero", "Unique"), _DATA),
}


def in_markdown() -> str:
    """The table of operators for the documentation."""
    rows = [f"| {kind} | {', '.join(f'`{each}`' for each in sorted(rules))} |" for kind, rules in KINDS.items()]
    refused = ", ".join(f"`{each}`" for each in sorted(REFUSED))
    return "\n".join(["| kind | operators |", "|---|---|", *rows, f"| refused by name | {refused} |"])
