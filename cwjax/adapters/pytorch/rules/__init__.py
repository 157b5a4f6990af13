"""Rules of PyTorch's operators in jax.numpy: one function of arrays for each, by the operator's name in ATen.

A rule takes what the operator takes, in its order, with keywords where its schema has them; dtypes are texts such as
"torch.float32". It computes an example in a batch of 1, so every shape is known.
"""

from collections.abc import Callable
from typing import Any

from cwjax.adapters.pytorch.rules import (
    aten_elementwise,
    aten_normalisation,
    aten_reductions,
    aten_shapes,
    constants,
    convolutions,
    pooling,
    products,
    resizing,
)

KINDS: dict[str, dict[str, Callable[..., Any]]] = {
    "convolutions": convolutions.RULES,
    "products and attention": products.RULES,
    "normalisation": aten_normalisation.RULES,
    "pooling": pooling.RULES,
    "resizing": resizing.RULES,
    "element by element": aten_elementwise.RULES,
    "along axes": aten_reductions.RULES,
    "shapes and places": aten_shapes.RULES,
    "constants, casts and no-ops": constants.RULES,
}
RULES = {name: rule for kind in KINDS.values() for name, rule in kind.items()}

_BY_DATA = "the shape of its result depends on the values of its input, and a compiled program has fixed shapes"
_SAMPLED = "it samples at places that the network computes"
_RANDOM = "its result depends on chance, so that no two passes agree"
REFUSED = {  # an operator that no rule will ever cover -> why
    "nonzero": _BY_DATA,
    "masked_select": _BY_DATA,
    "unique": _BY_DATA,
    "_unique2": _BY_DATA,
    "unique_consecutive": _BY_DATA,
    "bincount": _BY_DATA,
    "nms": _BY_DATA,
    "deform_conv2d": _SAMPLED,
    "grid_sampler": _SAMPLED,
    "grid_sampler_2d": _SAMPLED,
    "roi_align": _SAMPLED,
    "as_strided": "it reads the memory of an array, of which JAX arrays have none to show",
    "rand": _RANDOM,
    "randn": _RANDOM,
    "rand_like": _RANDOM,
    "randn_like": _RANDOM,
    "randint": _RANDOM,
    "randperm": _RANDOM,
    "bernoulli": _RANDOM,
    "multinomial": _RANDOM,
}


def table() -> str:
    """The operators and what becomes of them, as docs/adapters.md shows them.

    Example:
      >>> from cwjax.adapters.pytorch import rules
      >>> rules.table().splitlines()[0]
      '| kind | operators of ATen |'
    """
    rows = [(f"{kind} ({len(names)})", names) for kind, names in KINDS.items()]
    reasons: dict[str, list[str]] = {}
    for name, reason in REFUSED.items():
        reasons.setdefault(reason, []).append(name)
    rows += [(f"refused: {reason}", names) for reason, names in reasons.items()]
    lines = [f"| {kind} | {', '.join(f'`{name}`' for name in sorted(names))} |" for kind, names in rows]
    return "\n".join(["| kind | operators of ATen |", "|---|---|", *lines])
