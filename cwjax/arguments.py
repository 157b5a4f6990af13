"""Input checks at the public boundary: one error that says what came and what to do.

What shapes and dtypes tell is checked by the runners, also under jit. What only values tell is asked for outside jit,
where there are values: see `values.py`, and `validate`.
"""

import contextlib
import sys
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, PyTree

from cwjax.base import Attack, Goal, LabelGoal, Objective, shapes
from cwjax.frameworks import as_array, described
from cwjax.models import Model
from cwjax.problems import ANYWHERE, Allowed
from cwjax.values import check_goals, check_values, known


def check_number(
    name: str, value: Any, *, least: int | float, above: bool = False, most: int | float = float("inf")
) -> None:
    """Raises TypeError unless it is one number, and ValueError unless that is finite, at least `least` (or above it),
    and at most `most`. Traced numbers pass.
    """
    if not known(value):
        return
    if not isinstance(value, int | float | np.generic | np.ndarray | jax.Array) or np.ndim(value):
        raise TypeError(f"{name} must be one number, got {_came(value)}")
    number = float(value)
    if not np.isfinite(number) or number < least or (above and number == least):
        raise ValueError(f"{name} must be {'more than' if above else 'at least'} {least:g}, got {value}")
    if number > most:
        raise ValueError(f"{name} must be at most {most}, got {value}")


def check_count(name: str, value: Any, *, least: int = 1, most: int | float = float("inf")) -> None:
    """As `check_number`, and raises ValueError unless the number is whole."""
    check_number(name, value, least=least, most=most)
    if known(value) and float(value) % 1:
        raise ValueError(f"{name} must be a whole number, got {value}")


def check_part(name: str, value: Any, kind: type) -> None:
    """Raises TypeError unless a part of an attack is what it has to be."""
    if not isinstance(value, kind):
        package = kind.__module__.partition(".")[0]
        hidden = package == "cwjax" and not hasattr(sys.modules[package], kind.__name__)
        place = kind.__module__ if hidden else package
        raise TypeError(f"{name} must be of the type {place}.{kind.__name__}, got {_came(value)}")


def check_channel_axis(per_pixel: bool, axis: int | None) -> None:
    """Raises TypeError unless the axis is None or a whole number, and ValueError if elements are counted all the
    same.
    """
    if axis is not None and (not isinstance(axis, int) or isinstance(axis, bool)):
        raise TypeError(f"channel_axis must be a whole number such as -1 or 0, got {_came(axis)}")
    if axis is not None and not per_pixel:
        raise ValueError(f"per_pixel=False counts elements: leave out channel_axis={axis}")


def check_cost(cost: Any) -> None:
    """Raises TypeError unless costs are numbers, and ValueError unless all are finite and at least 0, and one is above
    it.
    """
    values = np.asarray(cost)
    if not np.issubdtype(values.dtype, np.number):
        raise TypeError(f"cost must be a number or an array of numbers, got {_came(cost)}")
    if not (np.isfinite(values) & (values >= 0)).all():
        bad = values[~(np.isfinite(values) & (values >= 0))].ravel()[0]
        raise ValueError(f"every cost must be finite and at least 0, got {bad}")
    if not (values > 0).any():
        raise ValueError("every cost is 0, so that nothing is to be kept small: give some element a cost above 0")


def check_model(model: Any) -> None:
    """Raises TypeError for anything that `bind` did not make."""
    if not isinstance(model, Model):
        raise TypeError(f"the model must come from cwjax.bind(apply, params), got {described(model)}")


def check_maker(attack: Any) -> None:
    """Raises TypeError unless it is an attack, or may be a function that makes one."""
    if not isinstance(attack, Attack) and not callable(attack):
        raise TypeError(f"the attack must be a cwjax.Attack or a function that makes one, got {attack!r}")


def check_runner(runner: Any) -> None:
    """Raises TypeError for an attack where a runner has to be."""
    if not callable(runner):
        raise TypeError(f"the runner must be a function such as cwjax.batched(attack), got {_came(runner)}")


def _came(value: Any) -> str:
    """What came, for an error: "the text 'adam'", "the function l2, and not what it returns"."""
    if isinstance(value, str):
        return f"the text {value!r}"
    if isinstance(value, np.ndarray | jax.Array) and np.ndim(value):
        return f"an array of shape {list(value.shape)}"
    if callable(value) and hasattr(value, "__name__"):
        return f"the function {value.__name__}, and not what it returns"
    return repr(value) if isinstance(value, int | float | None) else type(value).__name__


def check_labels(name: str, labels: ArrayLike | Sequence[int]) -> jax.Array | np.ndarray:
    """Raises ValueError unless `labels` are integers of shape [B] that fit into 32 bits; returns them as an array."""
    labels = labels if isinstance(labels, jax.Array) else np.asarray(as_array(labels))
    hint = ", not one-hot rows: labels.argmax(-1)" if labels.ndim == 2 else ""
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(f"{name} must be integers, got {labels.dtype}: pass class numbers 0…K-1{hint}")
    if labels.ndim != 1:
        raise ValueError(f"{name} must have shape [B], got {list(labels.shape)}: pass class numbers{hint}")
    _check_fits(name, labels)
    return labels


def _check_fits(name: str, labels: jax.Array | np.ndarray) -> None:
    """Raises ValueError where int32, in which goals keep labels, would make other numbers of them. Traced ones pass."""
    if not known(labels) or np.can_cast(labels.dtype, np.int32) or not labels.size:
        return
    least, most, kept = int(labels.min()), int(labels.max()), np.iinfo(np.int32)
    if least < kept.min or most > kept.max:
        raise ValueError(f"{name} span {least}…{most}, more than 32 bits hold: pass class numbers 0…K-1")


def check_targets(labels: jax.Array | np.ndarray, targets: jax.Array | np.ndarray) -> None:
    """Raises ValueError if a target equals its label. Traced values pass."""
    if np.shape(labels) != np.shape(targets):
        raise ValueError(f"labels {list(np.shape(labels))} and targets {list(np.shape(targets))} differ in shape")
    if not known(labels, targets):
        return
    same = np.flatnonzero(np.asarray(labels) == np.asarray(targets))
    if same.size:
        raise ValueError(
            f"the target equals the label in {same.size} of {np.size(labels)} examples, first in example {same[0]}: "
            "target another class, or use untargeted(labels)"
        )


def check_batch(
    model: Model,
    keys: jax.Array,
    x: jax.Array | np.ndarray,
    goal: Goal,
    allowed: Allowed = ANYWHERE,
    objective: Objective | None = None,
) -> None:
    """Raises TypeError or ValueError unless model, keys [B], x [B, *S] and goal [B] fit together, the objective can
    read what the model returns and the goal, and x lies where examples may. Values may be traced: runners call it.
    """
    check_examples(model, x, goal, allowed.context, objective)
    check_allowed(x, allowed)
    if not isinstance(keys, np.ndarray | jax.Array):
        raise TypeError(f"keys must be an array, got {type(keys).__name__}")
    typed = jnp.issubdtype(keys.dtype, jax.dtypes.prng_key)
    _check_count("keys", keys.shape if typed else keys.shape[:-1], x)


def allowed_of(bounds: dict[str, Any]) -> Allowed:
    """What a runner's keyword arguments allow. TypeError where one is none of them."""
    allowed, others = sorted_out(bounds)
    if others:
        raise TypeError(f"a runner takes {', '.join(Allowed._fields)} by name, got {', '.join(others)}")
    return allowed


def sorted_out(options: dict[str, Any]) -> tuple[Allowed, dict[str, Any]]:
    """What a runner's keyword arguments allow, and the others."""
    bounds = {name: options[name] for name in Allowed._fields if name in options}
    return Allowed(**bounds), {name: value for name, value in options.items() if name not in bounds}


def check_allowed(x: jax.Array | np.ndarray, allowed: Allowed) -> None:
    """Raises TypeError or ValueError unless the bounds, the mask and the start fit x [B, *S], leave some example an
    element with room, and have x, which is finite, inside them; warns of examples that have no room. What is traced
    passes where only its values could tell.
    """
    for name, value in allowed._asdict().items():
        if name != "context" and (value is not None or name not in ("mask", "start")):
            _check_one_allowed(name, value, x)
    if allowed.context is not None:
        _check_rows("context", allowed.context, x)
    check_values(x, allowed)


def _check_one_allowed(name: str, value: Any, x: jax.Array | np.ndarray) -> None:
    """Raises TypeError unless a mask is boolean, and whatever else is allowed a number or an array of numbers; and
    ValueError where it fits neither one input nor the batch.
    """
    wanted = "a number or an array of numbers" if name != "mask" else "boolean, True where an element may change"
    if not isinstance(value, int | float | np.generic | np.ndarray | jax.Array):
        raise TypeError(f"{name} must be {wanted}, got {_came(value)}")
    dtype = value.dtype if isinstance(value, np.generic | np.ndarray | jax.Array) else np.asarray(value).dtype
    if not jnp.issubdtype(dtype, bool if name == "mask" else np.number):
        raise TypeError(f"{name} must be {wanted}, got {dtype if np.ndim(value) else repr(value)}")
    if not broadcasts(np.shape(value), x.shape[1:]) and not broadcasts(np.shape(value), x.shape):
        raise ValueError(
            f"{name} of shape {list(np.shape(value))} broadcasts neither to one input {list(x.shape[1:])} nor to the "
            f"batch {list(x.shape)}"
        )


def check_examples(
    model: Model,
    x: jax.Array | np.ndarray,
    goal: Goal,
    context: PyTree = None,
    objective: Objective | None = None,
) -> None:
    """Raises TypeError or ValueError unless model, x [B, *S], goal [B] and context [B] fit together, and the objective,
    if one is given, can read what the model returns and the goal.
    """
    check_model(model)
    if not isinstance(x, np.ndarray | jax.Array):
        raise TypeError(f"x must be an array, got {type(x).__name__}")
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"x must be floating-point, got {x.dtype}: for 8-bit images pass x / 255")
    if x.ndim == 0 or x.shape[0] == 0:
        raise ValueError(f"x must hold at least one example along its first axis, got shape {list(x.shape)}")
    _check_rows("goal", goal, x)
    if isinstance(goal, LabelGoal) and jnp.issubdtype(goal.label.dtype, jnp.integer):
        _check_fits("goal.label", goal.label)
    outputs = check_outputs(model, x, context)
    if objective is not None:
        objective.check(outputs, _of_one(goal))
        check_goals(objective, outputs, goal)


def _check_rows(name: str, tree: PyTree, x: jax.Array | np.ndarray) -> None:
    """Raises TypeError or ValueError unless every part of it is an array with an entry for each example."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    if not leaves:
        raise TypeError(f"the {name} must be an array, or a pytree of arrays, with an entry an example, got {tree!r}")
    for path, leaf in leaves:
        place = f"{name}{jax.tree_util.keystr(path)}"
        if not isinstance(leaf, np.ndarray | jax.Array):
            raise TypeError(f"{place} must be an array, got {_came(leaf)}")
        _check_count(place, leaf.shape[:1], x)
    if isinstance(tree, LabelGoal):
        for field, leaf in tree._asdict().items():
            _check_count(f"{name}.{field}", leaf.shape, x)


def _of_one(tree: PyTree) -> PyTree:
    """The shapes and dtypes of one example's part of what has the axis of the batch in front."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), tree)


def _check_count(name: str, shape: tuple[int, ...], x: jax.Array | np.ndarray) -> None:
    if shape != x.shape[:1]:
        raise ValueError(f"{name} must have one entry an example, {x.shape[0]} of them, got shape {list(shape)}")


def reason_of(error: BaseException) -> str:
    """The first line of what an error of a user's own code says, or its name."""
    if isinstance(error, SystemExit):
        return f"it calls sys.exit({'' if error.code is None else error.code!r})"
    return str(error).strip().split("\n")[0] or type(error).__name__


def check_outputs(model: Model, x: jax.Array | np.ndarray, context: PyTree = None) -> PyTree:
    """Raises ValueError unless the model returns floating-point arrays for an input of x's shape; returns what they are
    for one example, as shapes and dtypes.
    """
    told = () if context is None else (_of_one(context),)
    try:
        outputs = jax.eval_shape(model, jax.ShapeDtypeStruct(x.shape[1:], x.dtype), *told)
    except (Exception, SystemExit) as error:
        raise ValueError(
            f"the model refused an input of shape {list(x.shape[1:])} and dtype {x.dtype}: {reason_of(error)}"
            f"{_hint_of_layout(model, x, told)}"
        ) from error
    leaves = jax.tree.leaves(outputs)
    if not leaves or not all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves):
        raise ValueError(
            f"the model must return floating-point logits, or a pytree of floating-point arrays, got {shapes(outputs)} "
            "from one input"
        )
    return outputs


def _hint_of_layout(model: Model, x: jax.Array | np.ndarray, told: tuple[PyTree, ...]) -> str:
    """For an error: whether the model takes the images with their channels on the other side."""
    if x.ndim != 4:
        return ""
    size = x.shape[1:]
    for which, shape, axes in (
        ("first", (*size[1:], size[0]), "0, 2, 3, 1"),
        ("last", (size[2], *size[:2]), "0, 3, 1, 2"),
    ):
        with contextlib.suppress(Exception, SystemExit):
            jax.eval_shape(model, jax.ShapeDtypeStruct(shape, x.dtype), *told)
            return f". Are its channels {which}? The model takes {list(shape)}: pass x.transpose({axes})"
    return ""


def check_logits(model: Model, x: jax.Array | np.ndarray, context: PyTree = None) -> int:
    """Raises ValueError unless the model gives at least two logits for an input of x's shape; returns how many."""
    logits = check_outputs(model, x, context)
    if not hasattr(logits, "shape") or logits.ndim != 1 or logits.shape[0] < 2:
        raise ValueError(
            f"the model must map [B, *S] to floating-point logits [B, K] with K >= 2, got {shapes(logits)} from one of "
            f"the inputs of shape {list(x.shape)}"
        )
    return logits.shape[0]


def broadcasts(given: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Whether an array of the shape `given` broadcasts to one input of this shape."""
    try:
        return np.broadcast_shapes(given, shape) == shape
    except ValueError:
        return False
