"""The engine: an attack on a queue of examples, driven from the host. Finished examples stop costing.

A number of *lanes* runs in one compiled program, a *turn*: every lane whose example has ended takes the next one from
the queue, all lanes do some steps of the attack, and each stores what it has found. Queue, lanes and results stay on
the device, and the host only says "once more": it reads what came of one turn while the next one runs. When the queue
is empty and lanes fall idle, those still at work are moved together into half as many.

This is the one runner that calls `jax.jit` itself: there is no compiled program around it.
"""

import functools
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array

from cwjax.arguments import check_batch, check_count, check_maker, check_part, sorted_out
from cwjax.base import AnyArray, Attack, Goal, Result
from cwjax.frameworks import as_array
from cwjax.models import Model
from cwjax.problems import Allowed
from cwjax.runners import memory
from cwjax.runners.batch import on_terms, own_and_shared
from cwjax.runners.turn import Pool, Queue, Tally, empty_pool, merged, take_turn
from cwjax.values import known

WIDTH = {"cpu": 64}
"""What width="auto" takes by the kind of a device, and on the kinds that are not named `WIDTH_ELSEWHERE`."""
WIDTH_ELSEWHERE = 4096

_SHARE = 0.8  # of the available memory that a program may plan with
_PATIENCE = 1.0  # seconds that lanes have been idle, for each second of compiling, before they are moved together
_PATIENT_STEPS = 100  # the same in steps of all lanes: about what compiling a small CNN takes on a CPU


class Status(NamedTuple):
    """What `watch` is told after a turn.

    Example:
      >>> seen = []
      >>> run = cw.streamed(cw.attacks.fgsm(epsilon=0.3), width=1, every=2)
      >>> result = run(model, keys, x, goal, watch=lambda status: seen.append(status.finished))
      >>> seen  # examples that have ended, after each turn
      [1, 2]
    """

    finished: int  # examples whose attack has come to its end
    total: int  # examples in all
    found: int  # examples fooled so far
    forwards: int  # forward passes spent so far, to seven digits
    width: int  # lanes
    lane_steps: int  # steps of all lanes so far, idle ones included
    snapshot: Callable[
        [], list[np.ndarray]
    ]  # how far the run has come, to store; see `resume`. Good until the next turn


def streamed(
    attack: Attack | Callable[..., Attack],
    *,
    width: int | Literal["auto"] = "auto",
    every: int = 25,
    mesh: Mesh | None = None,
    repeatable: bool = False,
) -> Callable[..., Result]:
    """The attack on any number of examples, `width` of them at a time, none waiting for another.

    It is driven from the host: do not put it under `jax.jit`. It compiles once for inputs of the same shapes, and once
    more for each smaller number of lanes at the end, at most log2(width) times; those only when idle lanes have cost as
    much time as the compiler took.

    Args:
      attack: an attack; or a function that makes one from numbers, which become keyword arguments of the runner and are
        traced, so that a sweep over them compiles once.
      width: lanes. "auto": 64 on a CPU, 4096 on other devices, times the devices of the mesh. Never more than there
        are examples; and half as many, and half again, until the memory holds them: with a warning, if a number was
        asked for.
      every: steps in a turn. A lane whose example has ended waits for the end of the turn, half a turn on average.
      mesh: devices to spread the lanes over, along all axes of the mesh, with one queue for all. They must belong to
        this process. None: the default device.
      repeatable: idle lanes are moved together after a number of steps and not by the clock, so that two runs on one
        machine execute the same programs and agree in every bit (as long as memory allows the same width).

    Returns:
      A function `(model, keys, x, goal, *, watch=None, resume=None, **bounds, **numbers) -> Result`, with arguments
      and errors as for `batched`. An attack that no longer calls the model and is not done is a RuntimeError.

      `watch` is called with a Status after every turn. If it returns True the run stops: `Result.finished` tells which
      examples came to their end, and the others have the best that was found so far. `resume` takes the arrays that
      `Status.snapshot()` gave in a run with the same attack, arguments and number of devices, and goes on from there.

    Example:
      >>> run = cw.streamed(cw.attacks.fgsm(epsilon=0.3), width=1, every=2)
      >>> run(model, keys, x, goal).success.tolist()
      [True, True]
    """
    check_maker(attack)
    if width != "auto":
        check_count("width", width)
    check_count("every, the steps in a turn,", every)
    make = (lambda: attack) if isinstance(attack, Attack) else attack
    programs: dict[Any, _Program] = {}

    @on_terms(lambda watch=None, resume=None, **options: make(**sorted_out(options)[1]).terms)
    def run(
        model: Model,
        keys: Array,
        x: AnyArray,
        goal: Goal,
        *,
        watch: Callable[[Status], bool | None] | None = None,
        resume: Sequence[np.ndarray] | None = None,
        **options: Any,
    ) -> Result:
        if not known(model, keys, x, goal, options):
            raise ValueError("streamed is driven from the host: call it outside jax.jit, jax.vmap and the like")
        allowed, numbers = sorted_out(options)
        made = make(**jax.tree.map(_number, numbers))
        check_part("what the attack makes of its numbers", made, Attack)
        x = as_array(x)
        check_batch(model, keys, x, goal, allowed, made.terms.objective)
        devices = _mesh(mesh)
        own, shared = own_and_shared(allowed._asdict(), x)
        queue = Queue(*jax.tree.map(jnp.asarray, (keys, x, goal, Allowed(**own, **shared))))
        work = (jax.tree.map(_number, numbers), model, queue)
        work = jax.device_put(work, NamedSharding(devices, PartitionSpec()))

        def program(size: int) -> _Program:
            shapes = jax.tree.map(jax.typeof, work)
            settings = (size, devices, jax.config.jax_default_matmul_precision)  # type: ignore
            signature = (*settings, jax.tree.structure(shapes), *jax.tree.leaves(shapes))
            if signature not in programs:
                programs[signature] = _compiled(make, every, devices, shapes, size)
            return programs[signature]

        if resume is not None:
            pool = _restored(resume, make, work, devices)
            return _served(program, every, work, pool, devices, watch, repeatable)
        size = wanted = _wanted(width, len(x), devices)
        while True:
            try:
                if size <= devices.size or _fits(program(size), work, devices):
                    if size < wanted and width != "auto":
                        warnings.warn(f"a width of {wanted} does not fit into memory: it is {size} now", stacklevel=2)
                    return _served(program, every, work, program(size).empty(work), devices, watch, repeatable)
            except jax.errors.JaxRuntimeError as error:
                if "RESOURCE_EXHAUSTED" not in str(error) or size <= devices.size:
                    raise
            size = _half(size, devices)  # out here, where the error no longer holds on to memory

    return run


def _served(program, every: int, work, pool: Pool, devices: Mesh, watch, repeatable: bool) -> Result:
    """Turn after turn, until every row has its result."""
    total, width = len(work[2].x), len(pool.row)
    turn, _, _, compiling = program(width)
    pool, count = turn(*work, pool)
    lane_steps, idle, began, before = 0, 0.0, time.monotonic(), 0
    while True:
        pool, following = turn(*work, pool)
        count = jax.device_get(count)  # waits for the turn before
        finished, found, forwards = (int(each.sum()) for each in (count.finished, count.found, count.forwards))
        lane_steps, left = lane_steps + every * width, total - finished
        status = Status(
            finished=finished,
            total=total,
            found=found,
            forwards=forwards,
            width=width,
            lane_steps=lane_steps,
            snapshot=functools.partial(_stored, pool),
        )
        if (watch is not None and watch(status)) or not left:
            return merged(pool.results, devices.size)
        _check_turn(count, before)
        count, before = following, finished

        now = time.monotonic()
        spent, began = every if repeatable else now - began, now
        idle += spent * max(1 - left / width, 0)
        patience = _PATIENT_STEPS if repeatable else _PATIENCE * compiling
        if left <= _half(width, devices) < width and idle >= patience:
            width, idle = _half(width, devices), 0.0
            turn, _, moved, compiling = program(width)
            order = np.argsort(np.asarray(pool.states.progress.done), kind="stable")  # those at work first
            states, row = moved((pool.states, pool.row), order[:width])
            pool = pool._replace(states=states, row=row)


def _check_turn(count: Tally, before: int) -> None:
    """Raises RuntimeError where the next turns would be like this one for ever; `before` had finished until it."""
    finished, running, head = int(count.finished.sum()), int(count.running.sum()), int(count.head[0])
    if finished + running != head:
        raise RuntimeError(
            f"streamed lost examples: {head} were begun, {finished} have ended and {running} are being attacked. "
            "This is a fault of cwjax: please report it"
        )
    if finished == before and not count.spent.any():
        raise RuntimeError(
            f"streamed makes no progress: a turn ended none of {running} examples and did not call the model. Each "
            "step of an attack must call the model, until it reports `progress.done`"
        )


class _Program(NamedTuple):
    """A turn of some width, compiled."""

    turn: jax.stages.Compiled  # (numbers, model, queue, pool) -> (pool, count)
    empty: Callable[..., Pool]  # ((numbers, model, queue)) -> the pool to begin with
    moved: Callable[..., Any]  # (the lanes of a wider pool, the places of some) -> these alone
    seconds: float  # that compiling it took


def _compiled(make, every: int, devices: Mesh, shapes, width: int) -> _Program:
    began = time.monotonic()
    specs, given = _layout(devices.axis_names), (PartitionSpec(),) * 3
    placed = _placed(devices, specs)
    turn = jax.jit(
        jax.shard_map(
            functools.partial(take_turn, make, every, devices.axis_names),
            mesh=devices,
            in_specs=(*given, specs),
            out_specs=(specs, specs.row),
            check_vma=False,
        ),
        in_shardings=(*_placed(devices, given), placed),
        donate_argnums=3,
    )
    empty = jax.jit(lambda work: empty_pool(make, work, width, devices.size), out_shardings=placed)
    moved = jax.jit(
        lambda wider, lanes: jax.tree.map(lambda leaf: leaf[lanes], wider), out_shardings=(placed.states, placed.row)
    )
    compiled = turn.lower(*shapes, jax.eval_shape(empty, shapes)).compile()
    return _Program(turn=compiled, empty=empty, moved=moved, seconds=time.monotonic() - began)


def _number(value: Any) -> Any:
    """One number as a Python number, which takes the dtype of what it meets; an array as it is."""
    array = np.asarray(value)
    return array if array.ndim else array.item()


def _layout(axes: tuple[str, ...]) -> Pool:
    """Where the parts of a pool lie: all side by side, but for the head of the queue, which every device has."""
    split = PartitionSpec(axes)
    return Pool._make([split, split, PartitionSpec(), split])


def _placed(devices: Mesh, specs: Any) -> Any:
    return jax.tree.map(functools.partial(NamedSharding, devices), specs)


def _mesh(mesh: Mesh | None) -> Mesh:
    """The mesh, or the default device, with axes that the compiler may shard along as it likes."""
    devices, axes = (mesh.devices, mesh.axis_names) if mesh else (list(jnp.zeros(()).devices()), ("lanes",))
    return Mesh(devices, axes)


def _wanted(width: int | Literal["auto"], total: int, devices: Mesh) -> int:
    """Lanes to begin with, before memory has its say: as many on every device."""
    kind = devices.devices.flat[0].platform
    wanted = WIDTH.get(kind, WIDTH_ELSEWHERE) * devices.size if width == "auto" else width
    return -(-min(wanted, total) // devices.size) * devices.size


def _half(width: int, devices: Mesh) -> int:
    return max(-(-width // (2 * devices.size)), 1) * devices.size


def _fits(program: _Program, work, devices: Mesh) -> bool:
    held = sum(leaf.nbytes for leaf in jax.tree.leaves(work))
    return memory.needed(program.turn) - held <= _SHARE * memory.available(list(devices.devices.flat))


def _stored(pool: Pool) -> list[np.ndarray]:
    def plain(leaf):
        return jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf

    return [np.asarray(plain(leaf)) for leaf in jax.tree.leaves(pool)]


def _restored(arrays: Sequence[np.ndarray], make, work, devices: Mesh) -> Pool:
    """The pool of which these are the arrays."""

    def like(width):
        return jax.eval_shape(lambda: empty_pool(make, work, width, devices.size))

    def typed(leaf, array):
        keys = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return jax.random.wrap_key_data(array, impl=jax.random.key_impl(work[2].keys)) if keys else array

    leaves, structure = jax.tree.flatten(like(devices.size))
    if len(arrays) == len(leaves):
        pool = jax.tree.unflatten(structure, map(typed, leaves, arrays))
        given, wanted = ([(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(p)] for p in (pool, like(len(pool.row))))
        if given == wanted:
            return jax.device_put(pool, _placed(devices, _layout(devices.axis_names)))
    raise ValueError("the run to resume had another attack, other arguments or another number of devices")
