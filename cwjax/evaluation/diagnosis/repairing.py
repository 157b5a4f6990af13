"""A result as an 8-bit image, repaired: by programs that hold no network (`asking`)."""

import functools

import jax
import numpy as np

from cwjax.base import Result, select
from cwjax.evaluation.diagnosis.asking import GIVEN, MARGIN, puller, told
from cwjax.evaluation.diagnosis.programs import made
from cwjax.runners import rounding as repair
from cwjax.runners.rounding import Rounding, discretised


def rounded(model, attack, numbers, x, goal, allowed, hull, result) -> tuple[Result, Rounding, int]:
    """A result with 8-bit values between the bounds of the hull, repaired; and how often the model was asked about all
    of it. The model returns logits. It is asked twice about an image: for its answer, and for the slope of the
    objective's loss there.
    """
    context, asked = allowed.context, 0
    pulled = puller(model, x, context)
    states = _rounded(x, allowed, hull, result)
    while not np.asarray(states.done).all():
        answer = pulled(states.x, goal, context, MARGIN)
        weights = _weighed(attack, numbers, answer.logits, goal)
        slope = pulled(states.x, goal, context, GIVEN, weights=weights).slope
        states = _repaired(attack, numbers, goal, states, answer.logits, slope)
        asked += 2
    return *_settled(attack, numbers, x, result, states), asked


@jax.jit
def _rounded(x, allowed, hull, result):
    bounds = allowed._replace(context=None, start=None)
    return jax.vmap(lambda x, bounds, result: repair.begun(result, x, bounds, between=hull))(x, bounds, result)


@functools.partial(jax.jit, static_argnums=0)
def _weighed(attack, numbers, logits, goal):
    objective = made(attack, numbers).terms.objective
    return jax.vmap(jax.grad(functools.partial(repair.loss_of, objective)))(logits, goal)


@functools.partial(jax.jit, static_argnums=0)
def _repaired(attack, numbers, goal, states, logits, slopes):
    objective = made(attack, numbers).terms.objective

    def one(goal, state, logits, slope):
        after = repair.repaired(objective, repair.STEPS, functools.partial(told, logits, slope), goal, state)
        return select(state.done, state, after)

    return jax.vmap(one)(goal, states, logits, slopes)


@functools.partial(jax.jit, static_argnums=0)
def _settled(attack, numbers, x, result, states):
    return jax.vmap(functools.partial(repair.settled_on, made(attack, numbers).terms.distance))(x, result, states)


@functools.partial(jax.jit, static_argnames="attack")
def rounded_outputs(model, attack, numbers, keys, x, goal, allowed, hull, result) -> tuple[Result, Rounding]:
    """The same of a model that returns anything, in a program of its own."""
    run = discretised(lambda *_, **bounds: result, between=hull, terms=made(attack, numbers).terms)
    return run(model, keys, x, goal, **allowed._asdict())
