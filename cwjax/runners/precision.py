"""Search in a low precision, believe in a high one: the model in the arithmetic asked for, and a runner whose successes
are those of float32.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PyTree

from cwjax.arguments import check_allowed, check_model, sorted_out
from cwjax.base import AnyArray, Goal, Outputs, Result, Runner, Terms, answered, settled, wide
from cwjax.models import Model
from cwjax.problems import Allowed, ends
from cwjax.runners.batch import by_rows, own_and_shared, terms_of
from cwjax.runners.fast_convolutions import canonical

PRECISIONS = ("bfloat16", "tensorfloat32", "highest")

_STRETCHES = (0.0, *(2.0**-k for k in range(10, 2, -1)))  # by how much a perturbation is lengthened, in turn


def in_precision(model: Model, precision: str) -> Model:
    """The model computed in another precision. Inputs and logits keep their dtype.

    Args:
      model: from `bind`.
      precision: "bfloat16": weights, inputs and all between in bfloat16. "tensorfloat32": the products of matrix
        multiplications and convolutions with ten bits of mantissa on devices that have it, which JAX does by default on
        NVIDIA's since the A100; on others as "highest". "highest": products in full float32.

    Example:
      >>> print(cw.in_precision(model, "bfloat16")(jnp.array([0.25, 1.001, 0.0])))
      [0.25 1.   0.  ]
    """
    check_model(model)
    _check(precision)
    return Model(apply=_InPrecision(model.apply, precision), params=model.params)


@dataclasses.dataclass(frozen=True)
class _InPrecision:  # a class and not a closure: equal when the inner function is, so that it compiles once
    apply: Callable[..., Outputs]
    precision: str

    def __call__(self, params: PyTree, x: Array, *context: PyTree) -> Outputs:
        if self.precision != "bfloat16":
            with jax.default_matmul_precision(self.precision):
                return self.apply(params, x, *context)

        def lowered(leaf):
            leaf = jnp.asarray(leaf)
            return leaf.astype(jnp.bfloat16) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

        outputs = self.apply(*jax.tree.map(lowered, (params, x, *context)))
        return jax.tree.map(lambda leaf: leaf.astype(x.dtype), outputs)


class Verification(NamedTuple):
    """What the second look cost; the Result beside it tells what stood. Every field has the axis B alone."""

    claimed: Bool[Array, "B"]  # a success in the precision of the search
    distance: Float[Array, "B"]  # of the claimed example; inf where there was none
    looks: Int[Array, "B"]  # int32: forward passes at "highest"; 1: it stood as it was, 0: nothing was claimed


class LookState(NamedTuple):
    looks: Int[Array, ""]  # int32
    x: Float[Array, "*S"]
    met: Bool[Array, ""]


def verified(
    runner: Runner,
    *,
    precision: str = "tensorfloat32",
    terms: Terms | None = None,
) -> Callable[..., tuple[Result, Verification]]:
    """The runner with its search in a precision of choice, and no success accepted without a forward pass at "highest".

    An example that the search claims and the second look refuses lies next to the boundary, on the wrong side by the
    rounding of a logit. Its perturbation is lengthened by 2⁻¹⁰, 2⁻⁹, … 2⁻³ of itself, within the box, until the look
    accepts; otherwise it becomes a failure: the clean input at distance inf. Each look is one of the `forwards`.

    Args:
      runner: any that returns a Result: `batched(attack)`, `streamed(attack)`.
      precision: of the search; see `in_precision`.
      terms: as for `discretised`.

    Returns:
      A function as the runner, that returns the Result and a Verification.

    Example:
      >>> result, second = cw.verified(cw.batched(cw.attacks.fgsm(epsilon=0.3)))(model, keys, x, goal)
      >>> result.success.tolist(), second.claimed.tolist()
      ([True, True], [True, True])
    """
    _check(precision)
    agreed = terms_of(runner, terms)

    def look(terms, allowed, model, x, goal, claim, state):
        delta = claim.astype(wide(x)) - x.astype(wide(x))
        longer = claim.astype(wide(x)) + jnp.asarray(_STRETCHES, wide(x))[state.looks] * delta
        image = jnp.where(state.looks == 0, claim, jnp.clip(longer, *ends(allowed, x)).astype(x.dtype))
        outputs = model.given(allowed.context)(image)
        met = terms.objective.met(outputs, goal) & answered(outputs)
        return LookState(looks=state.looks + 1, x=image, met=met)

    def one(terms, shared, model, x, goal, result, own):
        ask = canonical(functools.partial(look, terms, Allowed(**shared, **own)))
        nothing = LookState(looks=jnp.zeros((), jnp.int32), x=result.x, met=jnp.array(False))
        end = lax.while_loop(
            lambda state: result.success & ~state.met & (state.looks < len(_STRETCHES)),
            lambda state: ask(model, x, goal, result.x, state),
            nothing,
        )
        stood = settled(result, x, end.x, end.met, terms.distance)
        stood = stood._replace(forwards=result.forwards + end.looks)
        return stood, Verification(claimed=result.success, distance=result.distance, looks=end.looks)

    def run(model: Model, keys: Array, x: AnyArray, goal: Goal, **options: Any) -> tuple[Result, Verification]:
        allowed, numbers = sorted_out(options)
        held_to, highest = agreed(**numbers), in_precision(model, "highest")
        check_allowed(x, allowed)
        result = runner(in_precision(model, precision), keys, x, goal, **options)
        own, shared = own_and_shared(allowed._asdict(), x)
        return by_rows(functools.partial(one, held_to, shared, highest), jnp.asarray(x), goal, result, own)

    return run


def _check(precision: str) -> None:
    if precision not in PRECISIONS:
        raise ValueError(f"unknown precision {precision!r}: choose one of {', '.join(PRECISIONS)}")
