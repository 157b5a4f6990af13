"""Runners take an attack on one example to a batch: `(model, keys, x, goal) -> Result`. The caller decides where
`jax.jit` goes.

`keys` is a batched input like `x`, so how examples are grouped cannot change an example's randomness.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Bool, Float

from cwjax.arguments import allowed_of, check_batch, check_count, check_part, check_runner
from cwjax.base import (
    AnyArray,
    Attack,
    Goal,
    Objective,
    Progress,
    Result,
    Runner,
    State,
    Terms,
    carried,
    found,
    narrowed,
    wide,
)
from cwjax.frameworks import as_array
from cwjax.models import Model
from cwjax.problems import ANYWHERE, Allowed, ends, problem
from cwjax.runners.fast_convolutions import canonical

Output = TypeVar("Output")
Tree = TypeVar("Tree")

_ROWS_AT_ONCE = 256


class Trace(NamedTuple):
    """How an attack went; every field has the axes [B, num_steps]."""

    distance: Float[Array, "B T"]  # the best distance after each step; inf before the first success
    c: Float[Array, "B T"]  # the weight of f that the best was found under; inf before the first success


class Lanes(NamedTuple):
    """An attack on a batch, in pieces: for whoever wants to watch it, or to stop and go on. `batched` is made of them.

    Lane i holds the attack on example i. States are pytrees whose arrays have the leading axis B.

    Example:
      >>> lanes = cw.lanes(cw.attacks.fgsm(epsilon=0.3))
      >>> states = lanes.begin(keys, x, goal)
      >>> while not lanes.result(states).finished.all():
      ...     states = lanes.advance(model, x, goal, states, 1)
      >>> lanes.result(states).success.tolist()
      [True, True]
    """

    begin: Callable[..., State]  # (keys, x, goal, allowed) -> states
    advance: Callable[..., State]  # (model, x, goal, states, steps, allowed) -> states, up to `steps` steps on
    result: Callable[[State], Result]  # (states) -> what has been found so far


def on_terms(terms: Callable[..., Terms]) -> Callable[[Callable[..., Output]], Callable[..., Output]]:
    """Marks a runner with the terms of its attack, for whatever wraps it.

    Args:
      terms: from the numbers that the runner takes as keyword arguments to its attack's terms.
    """

    def marked(run: Callable[..., Output]) -> Callable[..., Output]:
        run.terms = terms  # type: ignore
        return run

    return marked


def terms_of(runner: Callable[..., Any], given: Terms | None = None) -> Callable[..., Terms]:
    """The terms of a runner's attack, as a function of the runner's keyword arguments. They are seen through `jax.jit`
    and `functools.partial`.

    Args:
      runner: any.
      given: for a function of one's own, whose terms are not known.

    Raises:
      TypeError: a function whose terms are not known, or given terms for one whose are.
    """
    check_runner(runner)
    known = _known_terms(runner)
    if known is not None:
        if given is not None:
            raise TypeError("terms must be left out here: this runner knows those of its attack")
        return known
    if given is None:
        raise TypeError(
            "the terms of this runner's attack (norm, objective, box) are not known: wrap a runner of cwjax, such as "
            "cwjax.batched(attack), or say terms=attack.terms"
        )
    check_part("terms", given, Terms)
    return lambda **options: given


def _known_terms(runner: Any) -> Callable[..., Terms] | None:
    while runner is not None and not hasattr(runner, "terms"):
        runner = getattr(runner, "__wrapped__", getattr(runner, "func", None))
    return None if runner is None else runner.terms


def _objective_of(runner: Callable[..., Any]) -> Objective | None:
    """What the runner's attack reads goals by; None where that is not known."""
    terms = _known_terms(runner)
    return terms().objective if terms else None


def lanes(attack: Attack) -> Lanes:
    """The attack on a batch as three functions to jit: begin it, advance it by some steps, read off its result.

    For instance:

        begin, advance, result = map(jax.jit, cw.lanes(attack))
        states = begin(keys, x, goal)
        while not result(states).finished.all():
            states = advance(model, x, goal, states, 100)

    The last argument of the first two may be left out: see `Allowed`.

    Args:
      attack: on one example.

    Example:
      >>> begin, advance, result = cw.lanes(cw.attacks.fgsm(epsilon=0.3))
      >>> states = advance(model, x, goal, begin(keys, x, goal), 1)
      >>> result(states).forwards.tolist(), result(states).finished.tolist()
      ([1, 1], [False, False])
    """
    init, step = looped(attack)[:2]

    def begin(keys, x, goal, allowed=ANYWHERE):
        def one(key, x, goal, allowed):
            state, given_up = init(key, problem(x, goal, allowed)), ~inside(x, allowed)
            progress = state.progress
            progress = progress._replace(finite=progress.finite & ~given_up, done=progress.done | given_up)
            return state._replace(progress=progress)

        return each(one, x, allowed)(keys, x, goal)

    def advance(model, x, goal, states, steps, allowed=ANYWHERE):
        def one(x, goal, state, allowed):
            given = problem(x, goal, allowed)
            _, state = lax.while_loop(
                lambda carry: (carry[0] < steps) & ~carry[1].progress.done,
                lambda carry: (carry[0] + 1, step(model, given, carry[1])),
                (jnp.zeros((), jnp.int32), state),
            )
            return state

        return each(one, x, allowed)(x, goal, states)

    return Lanes(begin=begin, advance=advance, result=jax.vmap(lambda state: result_of(state.progress)))


def looped(attack: Attack) -> Attack:
    """The attack as a loop can run it: its step is `canonical`, and its state keeps its dtypes.

    The input's dtype alone decides how precise a state is: no float in it is wider than `wide(x)`, whatever numbers the
    attack was given and whatever dtype the model answers in. With `jax_enable_x64` too, only a float64 input is
    attacked in float64.
    """
    check_part("attack", attack, Attack)
    step = canonical(attack.step)
    return attack._replace(
        init=lambda key, problem: narrowed(attack.init(key, problem), wide(problem.x)),
        step=lambda model, problem, state: carried(state, step(model, problem, state)),
    )


def each(function: Callable[..., Output], x: AnyArray, allowed: Allowed) -> Callable[..., Output]:
    """The function of one example, whose last argument is what is allowed for it, on a batch like x."""
    own, shared = own_and_shared(allowed._asdict(), x)

    def one(own, *row):
        return function(*row, Allowed(**own, **shared))

    return lambda *rows: jax.vmap(one)(own, *rows)


def inside(x: Float[Array, "*S"], allowed: Allowed) -> Bool[Array, ""]:
    """Whether no element of x lies outside its bounds by more than a unit in the last place of the larger one."""
    low, high = ends(allowed, x)
    ulp = jnp.finfo(x.dtype).eps * jnp.maximum(jnp.abs(low), jnp.abs(high))
    outside = (x.astype(wide(x)) < low - ulp) | (x.astype(wide(x)) > high + ulp)
    return ~outside.any()  # NaN is not outside: the model tells


def batched(attack: Attack) -> Runner:
    """The attack on every example of a batch at once, each at its own pace, until all are done.

    One compiled loop, as long as the slowest example takes; an example that is done keeps its state. Its result does
    not depend on the others.

    Args:
      attack: on one example.

    Returns:
      A function `(model, keys, x, goal, *, low=0.0, high=1.0, mask=None, start=None, context=None) -> Result`: model
      from `bind`; keys [B] from `jax.random.split`; x, floating-point [B, *S]; goal from `targeted` or `untargeted`, or
      what else the attack's objective reads: a pytree of arrays with the axis B in front.

      `context` is what the model is told besides x and no attack changes, such as a length or an attention mask: a
      pytree of arrays with the axis B in front. Each of the others is one for all inputs, of a shape that broadcasts to
      [*S], or has one for each, [B, *S]. `low` and `high` bound what is valid, x included. `mask` is boolean: where it
      is False an element keeps its clean value. `start` is where the search begins, moved inside the bounds; the clean
      input, if left out. Where `low` is x, elements can only rise.

      The result has x's dtype, and the attack computes in it, or in float32 where that is wider. It raises TypeError or
      ValueError where shapes or dtypes do not fit; where x is not finite, leaves its bounds, or has no element that may
      change in any example; and where a goal names what the model does not say, such as a class or a symbol that it
      does not have. Where only some examples have no element that may change, they end as failures, with a warning.
      Under `jit`, where no values are known, any such example ends as a failure. `validate` tells what else only values
      tell.

    Example:
      >>> run = jax.jit(cw.batched(cw.attacks.fgsm(epsilon=0.3)))
      >>> result = run(model, keys, x, goal, mask=jnp.array([False, True, True]))  # the first element stays
      >>> print(np.asarray(result.x).round(1))
      [[0.6 0.7 0.4]
       [0.2 0.5 0.8]]
    """
    begin, advance, result = lanes(attack)

    @on_terms(lambda: attack.terms)
    def run(model: Model, keys: Array, x: AnyArray, goal: Goal, **bounds: Any) -> Result:
        allowed = allowed_of(bounds)
        x = as_array(x)
        check_batch(model, keys, x, goal, allowed, attack.terms.objective)
        return result(advance(model, x, goal, begin(keys, x, goal, allowed), jnp.iinfo(jnp.int32).max, allowed))

    return run


def traced(attack: Attack, num_steps: int) -> Callable[..., tuple[Result, Trace]]:
    """As `batched`, for exactly `num_steps` steps, with the best distance after each of them.

    Args:
      attack: on one example.
      num_steps: of the attack, >= 1.

    Returns:
      A function `(model, keys, x, goal, **bounds) -> (Result, Trace)`, with arguments and errors as for `batched`.
      `Result.finished` tells which examples were done in time; those that were spend nothing in the steps that remain.

    Example:
      >>> result, trace = cw.traced(cw.attacks.fgsm(epsilon=0.3), 2)(model, keys, x, goal)
      >>> print(np.asarray(trace.distance).round(1))  # after each step; inf: nothing was found yet
      [[inf 0.3]
       [inf 0.3]]
    """
    check_count("num_steps", num_steps)
    begin, advance, result = lanes(attack)

    def run(model: Model, keys: Array, x: AnyArray, goal: Goal, **bounds: Any) -> tuple[Result, Trace]:
        allowed = allowed_of(bounds)
        x = as_array(x)
        check_batch(model, keys, x, goal, allowed, attack.terms.objective)

        def step(states, _):
            states = advance(model, x, goal, states, 1, allowed)
            best = states.progress.best
            return states, Trace(distance=best.distance, c=best.c)

        states, trace = lax.scan(step, begin(keys, x, goal, allowed), length=num_steps)
        return result(states), jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, 1), trace)

    return run


def chunked(runner: Callable[..., Output], size: int) -> Callable[..., Output]:
    """The runner on `size` examples at a time, so that memory stays bounded.

    One chunk follows the other in the same program.

    A last chunk that is not full is filled up with the first examples again, whose second results are dropped.

    Args:
      runner: `batched(attack)`, or any other that returns arrays with a leading batch axis: `traced`, `discretised`.
      size: examples in a chunk, >= 1.

    Returns:
      A function with the runner's own arguments and results.

    Example:
      >>> run = cw.chunked(jax.jit(cw.batched(cw.attacks.fgsm(epsilon=0.3))), size=1)
      >>> run(model, keys, x, goal).success.tolist()
      [True, True]
    """
    check_runner(runner)
    check_count("the size of a chunk", size)

    @functools.wraps(runner)
    def run(model: Model, keys: Array, x: AnyArray, goal: Goal, **bounds: Any) -> Output:
        x = as_array(x)
        check_batch(model, keys, x, goal, allowed_of(bounds), _objective_of(runner))
        count = x.shape[0]
        if count <= size:
            return runner(model, keys, x, goal, **bounds)
        own, shared = own_and_shared(bounds, x)
        filled = _filled_up((keys, x, goal, own), size)
        chunks = jax.tree.map(lambda leaf: leaf.reshape(-1, size, *leaf.shape[1:]), filled)
        results = lax.map(lambda chunk: runner(model, *chunk[:3], **chunk[3], **shared), chunks)
        return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:count], results)

    return run


def sharded(runner: Callable[..., Output], mesh: Mesh) -> Callable[..., Output]:
    """The runner on every device of the mesh at once, each with its share of the examples.

    Each device has a loop of its own: they do not talk to each other, and one that is through waits for none.

    Shares are equal; a last one that is not full is filled up with the first examples again, whose second results are
    dropped. With several processes, pass global arrays, as to any program on such a mesh.

    Args:
      runner: `batched(attack)`, `chunked(batched(attack), size)`, or any other that can be compiled.
      mesh: the devices; the examples are spread along all of its axes.

    Returns:
      A function with the runner's own arguments and results.

    Example:
      >>> mesh = jax.make_mesh((1,), ("examples",))
      >>> run = cw.sharded(cw.batched(cw.attacks.fgsm(epsilon=0.3)), mesh)
      >>> run(model, keys, x, goal).success.tolist()
      [True, True]
    """
    check_runner(runner)
    check_part("mesh", mesh, Mesh)
    mesh = Mesh(mesh.devices, mesh.axis_names)  # axes of the compiler's own type, whatever they were
    whole, split = PartitionSpec(), PartitionSpec(mesh.axis_names)

    @functools.wraps(runner)
    def run(model: Model, keys: Array, x: AnyArray, goal: Goal, **bounds: Any) -> Output:
        x = as_array(x)
        check_batch(model, keys, x, goal, allowed_of(bounds), _objective_of(runner))
        own, shared = own_and_shared(bounds, x)
        results = jax.shard_map(
            lambda model, shared, keys, x, goal, own: runner(model, keys, x, goal, **own, **shared),
            mesh=mesh,
            in_specs=(whole, whole, split, split, split, split),
            out_specs=split,
            check_vma=False,
        )(model, jax.tree.map(jnp.asarray, shared), *_filled_up((keys, x, goal, own), mesh.size))
        return jax.tree.map(lambda leaf: leaf[: x.shape[0]], results)

    return run


def own_and_shared(bounds: dict[str, Any], x: AnyArray) -> tuple[dict[str, Any], dict[str, Any]]:
    """Those of the bounds that each input of a batch like x has of its own, and those that all share."""
    given = {name: value for name, value in bounds.items() if value is not None}
    own = {name: given[name] for name in ("context",) if name in given}
    arrays = {name: value for name, value in given.items() if name != "context"}
    own |= {name: jnp.broadcast_to(value, x.shape) for name, value in arrays.items() if jnp.ndim(value) == x.ndim}
    return own, {name: value for name, value in given.items() if name not in own}


def _filled_up(examples: Tree, multiple: int) -> Tree:
    """The examples, and the first ones again, until their number is a multiple."""
    count = jax.tree.leaves(examples)[0].shape[0]
    if not count % multiple:
        return examples
    order = jnp.arange(-(-count // multiple) * multiple) % count
    return jax.tree.map(lambda leaf: leaf[order], examples)


def by_rows(function: Callable[..., Output], *rows: Any) -> Output:
    """The function of one example, on every row; a bounded number at once, so that memory stays bounded."""
    return lax.map(lambda row: function(*row), rows, batch_size=_ROWS_AT_ONCE)


def result_of(progress: Progress) -> Result:
    """What a runner returns of an attack's progress."""
    best = progress.best
    return Result(
        x=best.x,
        success=found(best),
        distance=best.distance,
        c=best.c,
        forwards=progress.forwards,
        backwards=progress.backwards,
        finite=progress.finite,
        finished=progress.done,
    )
