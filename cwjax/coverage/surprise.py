"""Surprise adequacy: how far an input's activations lie from those of the inputs that a network was trained on."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from cwjax.arguments import check_count, check_labels, check_number
from cwjax.base import AnyArray


def distance_surprise(
    reference: Float[AnyArray, "M N"],
    classes: Int[AnyArray, "M"],
    values: Float[AnyArray, "B N"],
    predicted: Int[AnyArray, "B"],
    *,
    batch: int = 256,
) -> Float[np.ndarray, "B"]:
    """DSA, distance-based surprise: the distance to an input's own class, over that of this class to the others.

    `|a - a_x| / |a_x - a_y|` (Kim et al. 2019, equations 3 to 5).

    a_x is the nearest reference input of the class that is predicted for a, and a_y the nearest one to a_x of any other
    class. Above 1, the input lies farther from its own class than that class from the others.

    Args:
      reference: activations of the training inputs, of the chosen layers: `units(x)[1].values`.
      classes: that the network predicts for them.
      values: activations of the inputs asked about.
      predicted: the class that the network predicts for each.
      batch: how many inputs are compared with the reference at once: `batch·M` distances.

    Returns:
      A number for each input. Where the distance of the classes is 0 it is inf, and 0 if the first distance is 0 too.

    Raises:
      ValueError: a predicted class that no reference input has, only one class, or activations that are not finite.

    Example:
      >>> reference, classes = np.array([[0.0, 0.0], [4.0, 0.0]]), np.array([0, 1])
      >>> print(cw.coverage.surprise.distance_surprise(reference, classes, np.array([[1.0, 0.0]]), np.array([0])))
      [0.25]

    References:
      Kim et al. 2019, "Guiding deep learning system testing using surprise adequacy", equations 3 to 5,
        https://arxiv.org/abs/1808.08444
    """
    check_count("batch", batch)
    reference, values = _finite("reference", reference), _finite("values", values)
    known, asked = (np.asarray(check_labels("classes", each)) for each in (classes, predicted))
    if missing := sorted(set(asked.tolist()) - set(known.tolist())):
        raise ValueError(f"no reference input is predicted as class {missing[0]}: its surprise has no meaning")
    if len(set(known.tolist())) < 2:
        raise ValueError(f"distance surprise compares classes, and all reference inputs are of class {known[0]}")
    told = jnp.asarray(reference), jnp.asarray(known)
    parts = [slice(first, first + batch) for first in range(0, len(values), batch)]
    return np.concatenate([np.zeros(0), *(_distance_surprise(*told, values[p], asked[p]) for p in parts)])


@jax.jit  # the one program of `distance_surprise`, which loops over batches on the host
def _distance_surprise(reference, classes, values, predicted):
    same = predicted[:, None] == classes[None]
    first = _nearest(values, reference, same)
    other = _nearest(reference[first], reference, ~same)
    near = jnp.linalg.norm(values - reference[first], axis=1)
    apart = jnp.linalg.norm(reference[first] - reference[other], axis=1)
    return jnp.where(near == 0, 0, near / apart)


def _nearest(points: Float[Array, "B N"], reference: Float[Array, "M N"], among: Bool[Array, "B M"]) -> Int[Array, "B"]:
    """The place of the nearest reference among those allowed. One matrix product; what is near is measured afresh."""
    products = jnp.einsum("bn,mn->bm", points, reference, precision="highest")
    squares = jnp.square(reference).sum(1)[None] - 2 * products
    return jnp.where(among, squares, jnp.inf).argmin(1)


class Density(NamedTuple):
    """A kernel density of activations; make it with `density`."""

    columns: Int[np.ndarray, "D"]  # the neurons that are kept
    whitened: Float[np.ndarray, "M D"]  # the reference, in units of the kernel
    inverse: Float[np.ndarray, "D D"]  # of the kernel's Cholesky factor
    log_scale: float  # of the kernel's normalisation and the count


def density(
    reference: Float[AnyArray, "M N"], *, columns: int | None = None, least_variance: float | int = 1e-5
) -> Density:
    """A Gaussian kernel density with Scott's factor, `M^(-1/(D+4))`, times the covariance of the reference.

    Args:
      reference: activations of training inputs. Kim et al. take those of one class: make a density of each.
      columns: how many neurons to keep, those of the largest variance. None: all that vary.
      least_variance: leave out neurons that vary less; 1e-5 is that of the paper's code, coinse/sadl.

    Raises:
      ValueError: a covariance without an inverse: keep fewer columns, or take more inputs.

    Example:
      >>> reference = np.array([[0.0, 1.0], [1.0, 0.0], [2.0, 2.0], [3.0, 1.0]])
      >>> cw.coverage.surprise.density(reference, columns=1).columns.tolist()  # the first varies most
      [0]

    References:
      Kim et al. 2019, "Guiding deep learning system testing using surprise adequacy", https://arxiv.org/abs/1808.08444
    """
    check_number("least_variance", least_variance, least=0)
    reference = np.asarray(_finite("reference", reference), np.float64)
    variance = reference.var(0)
    kept = np.flatnonzero(variance >= least_variance)
    if columns is not None:
        check_count("columns", columns)
        kept = np.sort(kept[np.argsort(-variance[kept], kind="stable")[:columns]])
    count, size = len(reference), len(kept)
    kernel = np.atleast_2d(np.cov(reference[:, kept].T)) * count ** (-2 / (size + 4)) if size and count > 1 else None
    rank = 0 if kernel is None else np.linalg.matrix_rank(kernel, hermitian=True)
    if kernel is None or rank < size:
        raise ValueError(
            f"{count} inputs say how {rank} of {size} neurons vary together: keep fewer columns, or take more inputs"
        )
    factor = np.linalg.cholesky(kernel)
    inverse = np.linalg.inv(factor)
    scale = np.log(count) + size / 2 * np.log(2 * np.pi) + np.log(np.diag(factor)).sum()
    return Density(kept, reference[:, kept] @ inverse.T, inverse, float(scale))


def likelihood_surprise(fitted: Density, values: Float[AnyArray, "B N"], *, batch: int = 256) -> Float[np.ndarray, "B"]:
    """LSA, likelihood-based surprise: minus the logarithm of the density, in float64.

    It is summed as logarithms, so that it stays finite far away.

    Args:
      fitted: from `density`, of the class that is predicted for these inputs, or of all classes.
      values: activations of the inputs asked about, of the same neurons as the reference.
      batch: how many at once.

    Example:
      >>> fitted = cw.coverage.surprise.density(np.array([[0.0], [1.0], [2.0]]))
      >>> near, far = cw.coverage.surprise.likelihood_surprise(fitted, np.array([[1.0], [9.0]]))
      >>> bool(near < far)
      True

    References:
      Kim et al. 2019, "Guiding deep learning system testing using surprise adequacy", equations 1 and 2,
        https://arxiv.org/abs/1808.08444
    """
    check_count("batch", batch)
    points = np.asarray(_finite("values", values), np.float64)[:, fitted.columns] @ fitted.inverse.T
    squares = np.square(fitted.whitened).sum(1)
    scores = [np.zeros(0)]
    for first in range(0, len(points), batch):
        some = points[first : first + batch]
        apart = np.square(some).sum(1)[:, None] + squares[None] - 2 * some @ fitted.whitened.T
        exponents = -np.maximum(apart, 0) / 2
        top = exponents.max(1)
        scores.append(fitted.log_scale - top - np.log(np.exp(exponents - top[:, None]).sum(1)))
    return np.concatenate(scores)


def mahalanobis_surprise(reference: Float[AnyArray, "M N"], values: Float[AnyArray, "B N"]) -> Float[np.ndarray, "B"]:
    """MDSA, Mahalanobis surprise: the squared Mahalanobis distance to the mean of the reference, in float64.

    The covariance is divided by the count, and its pseudo-inverse is taken: neurons that never vary do not matter.

    Args:
      reference: activations of training inputs, of one class or of all.
      values: activations of the inputs asked about.

    Example:
      >>> reference = np.array([[-1.0], [1.0]])  # mean 0, variance 1
      >>> print(np.asarray(cw.coverage.surprise.mahalanobis_surprise(reference, np.array([[3.0]]))).round(2))
      [9.]

    References:
      Kim et al. 2020, "Reducing DNN labelling cost using surprise adequacy: an industrial case study for autonomous
        driving", https://arxiv.org/abs/2006.00894
    """
    reference, values = (np.asarray(_finite("activations", each), np.float64) for each in (reference, values))
    mean = reference.mean(0)
    inverse = np.linalg.pinv(np.atleast_2d(np.cov(reference.T, ddof=0)), hermitian=True)
    apart = values - mean
    return np.maximum(np.einsum("bi,ij,bj->b", apart, inverse, apart, optimize=True), 0)


def surprise_coverage(scores: Float[AnyArray, "B"], *, upper: float | int, buckets: int = 1000) -> float:
    """Surprise coverage (Kim et al. 2019, equation 6): the share of the buckets of (0, upper] that some score is in.

    Bucket i of n is `(upper·(i - 1)/n, upper·i/n]`. A score of 0, or above `upper`, is in none.

    Args:
      scores: of any surprise.
      upper: the end of the last bucket; the paper's code has 2 for DSA and 2,000 for LSA.
      buckets: n; the paper has 1,000.

    Example:
      >>> cw.coverage.surprise.surprise_coverage(np.array([0.1, 0.2, 1.9]), upper=2.0, buckets=4)  # two of four
      0.5

    References:
      Kim et al. 2019, "Guiding deep learning system testing using surprise adequacy", equation 6,
        https://arxiv.org/abs/1808.08444
    """
    check_number("upper", upper, least=0, above=True)
    check_count("buckets", buckets)
    scores = np.asarray(scores, np.float64)
    within = scores[(scores > 0) & (scores <= upper)]
    return len(np.unique(np.ceil(within / upper * buckets))) / buckets


def _finite(name: str, values: Float[AnyArray, "B N"]) -> AnyArray:
    values = values if isinstance(values, jax.Array) else np.asarray(values)
    if values.ndim != 2:
        raise ValueError(f"{name} must be activations [B, N], got {list(values.shape)}")
    if not np.isfinite(np.asarray(values)).all():
        raise ValueError(f"{name} has a NaN or an infinity: leave that input out")
    return values
