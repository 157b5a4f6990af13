"""The types that everything else is made of. Every array here belongs to ONE example; runners make the batch.

`*S` is the shape of an input, `K` the number of classes, `[]` a scalar.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

Outputs: TypeAlias = PyTree
"""What a model returns of one input: K logits, or any pytree of floating-point arrays. Only objectives read it."""

Network: TypeAlias = Callable[[Float[Array, "*S"]], Outputs]
"""From one input to its outputs. It is also a pytree (`cwjax.bind` makes one), so new weights never recompile."""

Goal: TypeAlias = PyTree
"""What counts as fooled: any pytree of arrays. Data, not a Python flag: one program serves them all. A `LabelGoal`
where the model is a classifier; only objectives read it.
"""

AnyArray: TypeAlias = Array | np.ndarray

Number: TypeAlias = float | int | Float[Array, ""] | Int[Array, ""]
"""A number, perhaps traced."""

Count: TypeAlias = int | Int[Array, ""]
"""A whole number, perhaps traced."""

Bound: TypeAlias = float | int | np.ndarray | Float[Array, "..."]
"""Of inputs: a number, an array that broadcasts to one input, or one with the axis of the batch in front."""

State: TypeAlias = Any
"""What an attack carries from step to step: a NamedTuple with a field `progress`."""

Knob: TypeAlias = Any
"""What a search carries from round to round."""


class LabelGoal(NamedTuple):
    """The goal of a classifier. One program serves targeted and untargeted, and may mix them."""

    label: Int[Array, "..."]  # int32 []
    sign: Float[Array, "..."]  # float32 []: +1 reach `label`, -1 leave it


class Problem(NamedTuple):
    """One example's optimisation problem: minimise `D(x' - x) + c·f(x')`. A transform turns one knob of it."""

    x: Float[Array, "*S"]  # the clean input
    goal: Goal
    start: Float[Array, "*S"]  # where the descent starts
    low: Float[Array, "*S"]  # the least value of each element, at least float32
    high: Float[Array, "*S"]  # the largest; an element that has both in one place does not move
    mask: Bool[Array, "*S"]  # which elements may move: a knob, within the bounds
    tau: Float[Array, ""]  # L-infinity: change below it is free; in the unit of x, as distances are
    c: Float[Array, ""]  # the weight of the objective f, against a distance in widths of the box [low, high]
    scale: Float[Array, ""]  # what an attack multiplies its steps or its radius by; 1 for the paper's attacks
    widths: Float[Array, "*S"]  # how wide the box is, by element
    span: Float[Array, ""]  # the same as one length for all elements: the geometric mean of the widths
    live: Bool[Array, "*S"]  # which elements have shown a slope so far; others do not move once any have
    context: PyTree = None  # inputs of the model that are not attacked


class Candidate(NamedTuple):
    """An input that meets the goal, or the clean input at distance inf while none has been found."""

    x: Float[Array, "*S"]
    distance: Float[Array, ""]  # in the attack's own norm; inf: none found
    c: Float[Array, ""]  # the weight of f under which it was found; inf: none found


class Evaluation(NamedTuple):
    """What an attack saw of the last point that it asked the model about. Searches decide by it."""

    loss: Float[Array, ""]  # what the attack goes down: D + c·f, or f alone
    distance: Float[Array, ""]  # measured, whether or not the goal is met
    met: Bool[Array, ""]
    gradient: Float[Array, "*S"]  # of the loss: of D + c·f in the box's variable, in widths; of f alone in x


class Progress(NamedTuple):
    """What every attack reports after every step."""

    best: Candidate
    last: Evaluation
    forwards: Int[Array, ""]  # int32: forward passes spent
    backwards: Int[Array, ""]  # int32: backward passes spent
    finite: Bool[Array, ""]  # False: the example was given up, for a NaN or an infinity, or being outside the box
    live: Bool[Array, "*S"]  # which elements have shown a slope, at any point that was asked about
    done: Bool[Array, ""]


def check_labels_read(outputs: Outputs, goal: Goal) -> None:
    """Raises ValueError unless the outputs are K >= 2 logits, and TypeError unless the goal is of labels.

    Args:
      outputs: of one example; arrays, or their shapes.
      goal: likewise.

    Example:
      >>> cw.base.check_labels_read(jnp.zeros(3), goal) is None  # logits and a goal of labels: nothing to say
      True
    """
    if not isinstance(goal, LabelGoal):
        raise TypeError(
            "this objective reads a goal of labels, from cwjax.targeted or cwjax.untargeted, got "
            f"{shapes(goal)}: choose an objective of the goal's own task"
        )
    if not hasattr(outputs, "shape") or len(outputs.shape) != 1 or outputs.shape[0] < 2:
        raise ValueError(
            f"this objective reads logits [K] with K >= 2 from one input, got {shapes(outputs)}: choose an objective "
            "of the model's own task"
        )


class Objective(NamedTuple):
    """The f of the paper, from what the model returns of one example.

    `loss` falls until the goal is met, and has a slope. `met` says whether it is met, and is True only where any other
    look at the same outputs would say so: of logits, ask for a lead of `cwjax.objectives.rounding_margin(logits)`. A
    runner wants a goal also where both ignore it: pass `cwjax.untargeted(labels)`.

    The outputs and the goal may be any pytrees; what is written here alone knows what they mean.

    Example:
      >>> f6 = cw.objectives.logit_margin()
      >>> target = cw.LabelGoal(label=jnp.int32(0), sign=jnp.float32(1))
      >>> logits = jnp.array([1.0, 3.0])
      >>> round(float(f6.loss(logits, target)), 3), bool(f6.met(logits, target))
      (2.0, False)

    References:
      Carlini & Wagner 2017, "Towards evaluating the robustness of neural networks", section V-A,
        https://arxiv.org/abs/1608.04644
    """

    loss: Callable[[Outputs, Goal], Float[Array, ""]]  # differentiable; falls until the goal is met
    met: Callable[[Outputs, Goal], Bool[Array, ""]]  # True only where the saved input would meet it again
    confidence: float | Float[Array, ""] = 0.0  # the margin that `met` asks for, in logits or the unit of the outputs
    # (outputs, goal) of one example, as shapes and dtypes; raises ValueError or TypeError where it cannot read them
    check: Callable[[Outputs, Goal], None] = check_labels_read
    # (goal) -> whether it is to reach one place, as a target is, or to leave one, in whatever direction
    reaches: Callable[[Goal], Bool[Array, ""]] = lambda goal: goal.sign > 0
    # (outputs) -> the logits [K] of the classes that a `LabelGoal` is about; None where there are none to choose from
    logits: Callable[[Outputs], Float[Array, "K"]] | None = lambda outputs: outputs
    # (outputs, goal): outputs as `check` has them, and the goals of a batch as NumPy arrays; raises ValueError where a
    # goal names what there is not in them. Of classes that is done by `logits`
    check_goals: Callable[[Outputs, Goal], None] = lambda outputs, goal: None


class Distance(NamedTuple):
    """How far a perturbation goes: what the descent minimises and what is reported.

    Example:
      >>> distance = cw.distances.l2()
      >>> float(distance.measure(jnp.array([3.0, 4.0]))), float(distance.penalty(jnp.array([3.0, 4.0]), 0.0))
      (5.0, 25.0)
    """

    penalty: Callable[[Float[Array, "*S"], Float[Array, ""]], Float[Array, ""]]  # (delta, tau), differentiable
    measure: Callable[[Float[Array, "*S"]], Float[Array, ""]]  # (delta): the norm itself
    norm: str = "other"  # its name: "l0", "l1", "l2", "linf"
    channels: Callable[[tuple[int, ...]], int | None] = lambda shape: None  # which axis, if any, it counts as one
    cost: float | np.ndarray = 1.0  # what a change of each element costs, of a shape that broadcasts to one input


class Decoded(NamedTuple):
    """The two images behind one variable w. They differ in clipped descent only."""

    inside: Float[Array, "*S"]  # what the model sees and the attack returns: within the box
    penalised: Float[Array, "*S"]  # where the distance is penalised


class Box(NamedTuple):
    """How a perturbed input is kept within its bounds: functions of a point and of `low` and `high`, all [*S].

    Example:
      >>> box = cw.boxes.change_of_variables()
      >>> low, high = jnp.zeros(3), jnp.ones(3)
      >>> w = box.encode(x[0], low, high)
      >>> print(np.asarray(box.decode(w + 1, low, high).inside).round(2))  # always within the box
      [0.92 0.83 0.45]

    References:
      Carlini & Wagner 2017, "Towards evaluating the robustness of neural networks", section V-B,
        https://arxiv.org/abs/1608.04644
    """

    encode: Callable[..., Float[Array, "*S"]]  # (image, low, high) -> the variable w that the optimiser moves
    decode: Callable[..., Decoded]  # (w, low, high) -> images
    project: Callable[..., Float[Array, "*S"]]  # (w, low, high) -> w, after every update
    in_variable: Callable[..., Float[Array, "*S"]]  # (a length of each element, low, high) -> what it is in w


class Abort(NamedTuple):
    """When a descent stops before its steps run out.

    Example:
      >>> abort = cw.aborts.never()
      >>> seen = cw.base.Evaluation(loss=1.0, distance=0.2, met=True, gradient=x[0])
      >>> state, stop = abort.update(cw.problems.problem(x[0], goal), abort.init(), seen, step=3, steps=10)
      >>> bool(stop)
      False
    """

    init: Callable[[], Any]
    update: Callable[..., tuple[Any, Bool[Array, ""]]]  # (problem, state, evaluation, *, step, steps) -> (state, stop)


class Terms(NamedTuple):
    """What an attack's results are held to. Whatever wraps a runner reads it here, so that nobody says it twice."""

    objective: Objective  # with one loss; `met` says what a success is, confidence included
    distance: Distance  # what is reported
    box: Box  # how inputs stay within their bounds


class Attack(NamedTuple):
    """An attack on one example.

    `step` costs one forward and one backward pass of the model, or as many backward passes as its objective has losses
    (DeepFool, JSMA-Z), or forward passes besides (VFGA); `Progress` counts them. `init` costs none.

    Example:
      >>> attack = cw.attacks.fgsm(epsilon=0.3)
      >>> problem = cw.problems.problem(x[0], cw.LabelGoal(jnp.int32(0), jnp.float32(-1)))
      >>> state = attack.init(keys[0], problem)
      >>> while not state.progress.done:
      ...     state = attack.step(model, problem, state)
      >>> print(np.asarray(state.progress.best.x).round(1))
      [0.3 0.7 0.4]
    """

    init: Callable[[PRNGKeyArray, Problem], State]
    step: Callable[[Network, Problem, State], State]
    terms: Terms

    # By identity, because an attack's confidence may be an array, which has no hash.
    def __hash__(self) -> int:
        return hash((self.init, self.step))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Attack) and all(mine is its for mine, its in zip(self, other, strict=True))

    def __ne__(self, other: object) -> bool:
        return not self == other


class Search(NamedTuple):
    """How one knob of the problem is turned from round to round.

    Example:
      >>> search, problem = cw.search.binary_search(initial_c=0.5), cw.problems.problem(x[0], goal)
      >>> float(search.ask(problem, search.init(problem)).c)  # the weight of the first round
      0.5
    """

    init: Callable[[Problem], Knob]
    ask: Callable[[Problem, Knob], Problem]
    tell: Callable[[Problem, Knob, Progress], Knob]  # given the progress of the attack it steers
    done: Callable[[Knob], Bool[Array, ""]]


class Spread(NamedTuple):
    """Several versions of one problem.

    Example:
      >>> spread = cw.Spread(  # from the input itself, and from a brighter one
      ...     init=lambda key, problem: jnp.array([0.0, 0.1]),
      ...     ask=lambda problem, shift: problem._replace(start=problem.start + shift),
      ... )
      >>> result = cw.batched(cw.best_of(cw.attacks.fgsm(epsilon=0.3), spread))(model, keys, x, goal)
      >>> result.success.tolist(), result.forwards.tolist()
      ([True, True], [4, 4])
    """

    init: Callable[[PRNGKeyArray, Problem], Knob]  # knobs: a pytree of arrays with one entry a version, n of them
    ask: Callable[[Problem, Knob], Problem]  # one version of the problem, given its entry


class Result(NamedTuple):
    """What a runner returns; every field has the batch as its leading axis B."""

    x: Float[Array, "B *S"]  # adversarial where `success`, else the clean input
    success: Bool[Array, "B"]
    distance: Float[Array, "B"]  # in the attack's own norm, of the returned x; inf where it failed
    c: Float[Array, "B"]  # the weight of f that found it; inf where it failed
    forwards: Int[Array, "B"]
    backwards: Int[Array, "B"]
    finite: Bool[Array, "B"]  # False: given up, because the model gave a NaN or an infinity, or x is outside the box
    finished: Bool[Array, "B"]  # the attack came to its own end (`traced` may stop it before)


Runner: TypeAlias = Callable[..., Result]
"""`(model, keys, x, goal, *, low, high, mask, start) -> Result`: keys [B], x [B, *S], goal with fields [B]; see
`Allowed` for the others, which may be left out.
"""


def untouched(problem: Problem) -> Progress:
    """The progress of an attack that has not yet called the model.

    Args:
      problem: of one example.

    Example:
      >>> progress = cw.base.untouched(cw.problems.problem(x[0], goal))
      >>> int(progress.forwards), float(progress.best.distance)
      (0, inf)
    """
    none = jnp.full((), jnp.inf, wide(problem.x))
    zero = jnp.zeros((), jnp.int32)
    flat = jnp.zeros(problem.x.shape, none.dtype)
    return Progress(
        best=Candidate(x=problem.x, distance=none, c=none),
        last=Evaluation(loss=none, distance=none, met=jnp.array(False), gradient=flat),
        forwards=zero,
        backwards=zero,
        finite=jnp.array(True),
        live=problem.live,
        done=jnp.array(False),
    )


def continued(
    total: Progress, before: Progress, after: Progress, *, best: Candidate, over: Bool[Array, ""]
) -> Progress:
    """The progress of an attack that runs another one several times, after a step of the inner one.

    Args:
      total: of all runs before this step.
      before: of the run at hand, before its step.
      after: of the same run, after it.
      best: of all runs.
      over: whether this was the last step of them all.

    Example:
      >>> none = cw.base.untouched(cw.problems.problem(x[0], goal))
      >>> five, two, three = (none._replace(forwards=jnp.int32(count)) for count in (5, 2, 3))
      >>> int(cw.base.continued(five, two, three, best=none.best, over=jnp.array(False)).forwards)
      6
    """
    return Progress(
        best=best,
        last=after.last,
        forwards=total.forwards + after.forwards - before.forwards,
        backwards=total.backwards + after.backwards - before.backwards,
        finite=after.finite,
        live=after.live,
        done=over | ~after.finite,
    )


def found(candidate: Candidate) -> Bool[Array, "..."]:
    """Whether the candidate is an adversarial example at all; of several, which are.

    Args:
      candidate: one, or several with an axis in front.

    Example:
      >>> cw.base.found(cw.base.Candidate(x, jnp.array([0.5, jnp.inf]), jnp.ones(2))).tolist()
      [True, False]
    """
    return jnp.isfinite(candidate.distance)


def closer(first: Candidate, second: Candidate) -> Candidate:
    """The candidate at the smaller distance; the first on a tie.

    Args:
      first: a candidate.
      second: likewise.

    Example:
      >>> near, far = (cw.base.Candidate(x[0], jnp.float32(size), jnp.float32(1)) for size in (0.1, 0.5))
      >>> print(cw.base.closer(far, near).distance)
      0.1
    """
    return select(second.distance < first.distance, second, first)


def select(flag: Bool[Array, ""], yes: PyTree, no: PyTree) -> PyTree:
    """`yes` where the flag holds, else `no`, leaf by leaf.

    Args:
      flag: of one example.
      yes: a pytree.
      no: of the same structure.

    Example:
      >>> [float(each) for each in cw.base.select(jnp.array(True), (1.0, 2.0), (3.0, 4.0))]
      [1.0, 2.0]
    """
    return jax.tree.map(lambda a, b: jnp.where(flag, a, b), yes, no)


def seldom(
    flag: Bool[Array, ""], make: Callable[..., PyTree], arguments: tuple[PyTree, ...], otherwise: PyTree
) -> PyTree:
    """`make(*arguments)` where the flag holds, else `otherwise`: `select`, for what is dear and seldom asked for.

    In a batch it is computed in those steps alone in which some example's flag holds. It is a loop of one turn or none,
    because `vmap` computes both sides of a `lax.cond`. The barrier keeps the compiler from computing it ahead of that.

    Args:
      flag: of one example.
      make: what is computed.
      arguments: for it.
      otherwise: a pytree as `make` returns it.

    Example:
      >>> print(cw.base.seldom(jnp.array(True), lambda value: 2 * value, (x[0],), x[0]))
      [1.2 0.8 0.2]
    """

    def turn(carry):
        flag, given = lax.optimization_barrier((carry[0], arguments))
        return flag & False, carried(otherwise, make(*given))

    return lax.while_loop(lambda carry: carry[0], turn, (flag, otherwise))[1]


def answered(outputs: Outputs) -> Bool[Array, ""]:
    """Whether the outputs can be compared: no NaN and no +inf among them. A class at -inf is switched off.

    Args:
      outputs: of one example.

    Example:
      >>> bool(cw.base.answered(jnp.array([1.0, -jnp.inf]))), bool(cw.base.answered(jnp.array([1.0, jnp.nan])))
      (True, False)
    """
    return jnp.stack([(leaf < jnp.inf).all() for leaf in jax.tree.leaves(outputs)]).all()


def shapes(tree: PyTree) -> str:
    """For an error: what the arrays of a pytree are, "float32 [10]" or "(float32 [10], float32 [1])".

    Args:
      tree: of arrays.

    Example:
      >>> cw.base.shapes((jnp.zeros(10), jnp.zeros(1)))
      '(float32 [10], float32 [1])'
    """
    return str(jax.tree.map(_Shown, tree)).replace("'", "")


class _Shown:
    def __init__(self, leaf: Any):
        self.leaf = leaf

    def __repr__(self) -> str:
        return f"{getattr(self.leaf, 'dtype', type(self.leaf).__name__)} {list(getattr(self.leaf, 'shape', ()))}"


def wide(x: Float[AnyArray, "..."]) -> jnp.dtype:
    """The dtype to compute with: x's own, but at least float32. Steps of 1e-2 are lost in bfloat16.

    Args:
      x: of any floating-point dtype.

    Example:
      >>> str(cw.base.wide(jnp.zeros(2, jnp.bfloat16)))
      'float32'
    """
    return jnp.promote_types(x.dtype, jnp.float32)


def narrowed(tree: PyTree, dtype: jnp.dtype) -> PyTree:
    """The same numbers, with no float wider than `dtype`, no integer wider than int32, and no weak type.

    With `jax_enable_x64` much has 64 bits without being asked: `jnp.zeros(())`, `jnp.arange(3)`, an np.float64. Where
    a loop begins with a weak type, JAX traces it again, and compiles it again for the state that comes out.

    Args:
      tree: of arrays and numbers.
      dtype: the widest float.

    Example:
      >>> [str(each.dtype) for each in cw.base.narrowed((np.float64(0.5), 3), jnp.dtype("float32"))]
      ['float32', 'int32']
    """

    def narrow(leaf):
        leaf = jnp.asarray(leaf)
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            return leaf.astype(min(leaf.dtype, jnp.dtype(dtype), key=lambda each: each.itemsize))
        if jnp.issubdtype(leaf.dtype, jnp.integer):
            return leaf.astype(jnp.int32 if leaf.dtype == jnp.int64 else leaf.dtype)
        return leaf

    return jax.tree.map(narrow, tree)


def carried(before: PyTree, after: PyTree) -> PyTree:
    """`after` in the dtypes of `before`, leaf by leaf: what a loop carries keeps the dtypes that it began with.

    Floats become floats and integers become integers, none of a weak type. Any other change of a dtype is a mistake,
    which the loop refuses.

    Args:
      before: a pytree.
      after: of the same structure.

    Example:
      >>> str(cw.base.carried(jnp.float32(1), jnp.bfloat16(2)).dtype)
      'float32'
    """

    def kept(old, new):
        given, wanted = jnp.result_type(new), jnp.result_type(old)
        alike = any(all(jnp.issubdtype(each, kind) for each in (given, wanted)) for kind in (jnp.floating, jnp.integer))
        other = given != wanted or getattr(new, "weak_type", False)
        return jnp.asarray(new, wanted) if alike and other else new

    return jax.tree.map(kept, before, after)


def settled(
    result: Result, clean: Float[Array, "*S"], x: Float[Array, "*S"], met: Bool[Array, ""], distance: Distance
) -> Result:
    """One example's result with x in the place of what the attack found; a failure where x does not meet the goal.

    Args:
      result: of one example.
      clean: its input.
      x: what is looked at in the place of the attack's own.
      met: whether it meets the goal.
      distance: of the attack.

    Example:
      >>> one = jax.tree.map(lambda leaf: leaf[0], result)
      >>> again = cw.base.settled(one, x[0], x[0] + 0.25, jnp.array(True), cw.distances.linf())
      >>> float(again.distance)
      0.25
    """
    size = distance.measure(x.astype(wide(x)) - clean.astype(wide(x)))
    return result._replace(
        x=jnp.where(met, x, clean),
        success=met,
        distance=jnp.where(met, size, jnp.inf),
        c=jnp.where(met, result.c, jnp.inf),
    )
