"""Every test runs with shapes and types checked (jaxtyping, beartype), rank promotion an error, warnings errors, and
eight devices to choose from.
"""

import jax
from jaxtyping import install_import_hook

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_num_cpu_devices", 8)
install_import_hook("cwjax", "beartype.beartype")
