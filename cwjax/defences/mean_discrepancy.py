"""Maximum mean discrepancy (Gretton et al. 2012): are two sets of inputs from one distribution?

It describes a set, and refuses no input. Grosse et al. (2017) tell sets of adversarial inputs from clean ones by it.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from cwjax.arguments import check_count, check_number
from cwjax.base import AnyArray


class TwoSampleTest(NamedTuple):
    """What the test says."""

    discrepancy: float  # the square of it, unbiased: about 0 where the sets are alike, and it may be below
    p_value: float  # the share of the drawn partitions whose discrepancy is at least as large


def mean_discrepancy(
    first: Float[AnyArray, "N *S"],
    second: Float[AnyArray, "M *S"],
    key: Array,
    *,
    bandwidth: float | None = None,
    partitions: int = 1000,
) -> TwoSampleTest:
    """A test whether two sets are from one distribution, by a Gaussian kernel and random partitions.

        MMD² = mean k(a, a') + mean k(b, b') - 2·mean k(a, b),    k(a, b) = exp(-|a - b|² / 2σ²)

    Args:
      first: at least two inputs.
      second: likewise, of the same shape.
      key: of the partitions.
      bandwidth: σ; by default the median distance between inputs of the two sets together.
      partitions: of the union into two sets of these sizes, drawn at random.

    Raises:
      ValueError: fewer than two inputs in a set, or inputs of two shapes.

    Example:
      >>> import jax, cwjax as cw
      >>> one, other, key = (jax.random.split(jax.random.key(0), 3))
      >>> near, far = jax.random.normal(one, (40, 3)), 1 + jax.random.normal(other, (40, 3))
      >>> cw.defences.mean_discrepancy(near, far, key).p_value < 0.01
      True

    References:
      Gretton et al. 2012, "A kernel two-sample test", https://jmlr.org/papers/v13/gretton12a.html
      Grosse et al. 2017, "On the (statistical) detection of adversarial examples", https://arxiv.org/abs/1702.06280
    """
    check_count("partitions", partitions)
    sizes = len(first), len(second)
    if min(sizes) < 2 or first.shape[1:] != second.shape[1:]:
        raise ValueError(
            f"mean_discrepancy compares two sets of at least two inputs of one shape, got {list(first.shape)} and "
            f"{list(second.shape)}"
        )
    flat = np.concatenate([np.asarray(each, np.float64).reshape(len(each), -1) for each in (first, second)])
    squares = np.square(flat).sum(1)
    apart = np.maximum(squares[:, None] + squares[None] - 2 * flat @ flat.T, 0)
    if bandwidth is None:
        bandwidth = float(np.sqrt(np.median(apart[np.triu_indices(len(flat), 1)]))) or 1.0
    check_number("bandwidth", bandwidth, least=0, above=True)
    kernel = jnp.asarray(np.exp(-apart / (2 * bandwidth**2)) - np.eye(len(flat)), jnp.float32)
    seen = np.repeat([True, False], sizes)
    drawn = jax.vmap(lambda one: jax.random.permutation(one, jnp.asarray(seen)))(jax.random.split(key, partitions))
    own, *others = np.asarray(_discrepancies(kernel, jnp.concatenate([jnp.asarray(seen)[None], drawn])))
    return TwoSampleTest(float(own), float((1 + np.sum(np.array(others) >= own)) / (1 + partitions)))


def _discrepancies(kernel: Float[Array, "T T"], first: Array) -> Float[Array, "P"]:
    """Of several partitions [P, T], each given by who is in the first set; the kernel has no diagonal."""
    one, other = first.astype(kernel.dtype), (~first).astype(kernel.dtype)
    n, m = one.sum(1), other.sum(1)
    with_one = jnp.matmul(one, kernel, precision="highest")
    with_other = jnp.matmul(other, kernel, precision="highest")
    within = (with_one * one).sum(1) / (n * (n - 1)) + (with_other * other).sum(1) / (m * (m - 1))
    return within - 2 * (with_one * other).sum(1) / (n * m)
