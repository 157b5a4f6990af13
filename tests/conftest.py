"""Every test runs with shapes and types checked (jaxtyping, beartype), rank promotion an error and warnings errors."""

import jax
from jaxtyping import install_import_hook

jax.config.update("jax_numpy_rank_promotion", "raise")
install_import_hook("cwjax", "beartype.beartype")
