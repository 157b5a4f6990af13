"""The attacks of Carlini & Wagner (2017), put together from their parts."""

import jax.numpy as jnp
import optax

from cwjax.base import Abort, Attack, Box, Count, Distance, Number, Objective, Search
from cwjax.descent import descend
from cwjax.parts import distances
from cwjax.parts.aborts import first_success, never, plateau, within_tau
from cwjax.parts.boxes import change_of_variables
from cwjax.parts.objectives import logit_margin
from cwjax.search.mask import shrink_mask
from cwjax.search.radius import shrink_tau
from cwjax.search.rounds import searched, tracked
from cwjax.search.weight import binary_search, grow_c


def l2(
    *,
    objective: Objective = logit_margin(),
    box: Box = change_of_variables(),
    optimizer: optax.GradientTransformation = optax.adam(1e-2),
    search: Search = binary_search(steps=9),
    steps: Count = 10_000,
    abort: Abort = plateau(),
) -> Attack:
    """The L2 attack (section VI-A): minimise `|x' - x|₂² + c·f(x')`, with the smallest c that works.

    The defaults are those of the released code (`l2_attack.py`): f6 at confidence 0, the change of variables, Adam at
    0.01, 10,000 steps a round with early abort, 9 rounds over c from 0.001 up. Distances are reported as the L2 norm,
    not its square.

    They are made for thousands of gradients. With the change of variables a pixel on a bound, as most of a digit's are,
    hardly moves at first: for some hundred gradients take `projected`, or `fast`.

    The released code's box is one wide. In any other, lengths are in widths of it, and so are weights c: the distances
    are those of a box one wide, rescaled.

    Args:
      objective: f.
      box: how the iterate stays valid.
      optimizer: any Optax transformation; its steps are in widths of the box.
      search: over c.
      steps: the largest number of gradient steps in a round; may be traced.
      abort: when a round ends sooner.

    Example:
      >>> attack = cw.l2(steps=100, box=cw.boxes.projected(), search=cw.search.binary_search(4, initial_c=1.0))
      >>> result = jax.jit(cw.batched(attack))(model, keys, x, goal)
      >>> print(np.asarray(result.distance).round(2))  # the least is 0.14 and 0.21
      [0.14 0.21]

    References:
      Carlini & Wagner 2017, "Towards evaluating the robustness of neural networks", section VI-A,
        https://arxiv.org/abs/1608.04644
    """
    return _weighed(distances.l2(), objective, box, optimizer, search, steps, abort)


def l1(
    *,
    objective: Objective = logit_margin(),
    box: Box = change_of_variables(),
    optimizer: optax.GradientTransformation = optax.adam(1e-2),
    search: Search = binary_search(steps=9),
    steps: Count = 10_000,
    abort: Abort = plateau(),
    distance: Distance = distances.l1(),
) -> Attack:
    """The L2 attack with the L1 norm in its place: minimise `|x' - x|₁ + c·f(x')`, with the smallest c that works.

    Not in the paper, which has no L1 attack. The penalty's slope does not fade near the clean pixel, so the iterate
    jitters about it by the optimiser's step: let the step size decay (`optax.adam(optax.cosine_decay_schedule(...))`)
    where the last per cent matters. A round at too small a c may pass an example by accident, and the search then never
    tries the c that is better; on affine models that cost more than 1 % in one example of a hundred.

    Args: as for `l2`, and
      distance: what is made small; `distances.l1(cost=…)` gives every element a cost.

    Example:
      >>> attack = cw.l1(steps=100, box=cw.boxes.projected(), search=cw.search.binary_search(4, initial_c=1.0))
      >>> result = jax.jit(cw.batched(attack))(model, keys, x, goal)
      >>> print(np.asarray(result.distance).round(1))  # the least is 0.2 and 0.3
      [0.2 0.3]

    References:
      Carlini & Wagner 2017, "Towards evaluating the robustness of neural networks", https://arxiv.org/abs/1608.04644
    """
    return _weighed(distance, objective, box, optimizer, search, steps, abort)


def linf(
    *,
    objective: Objective = logit_margin(),
    box: Box = change_of_variables(),
    optimizer: optax.GradientTransformation = optax.adam(5e-3),
    search: Search = shrink_tau(),
    steps: Count = 1000,
    largest_c: Number = 20.0,
    abort: Abort = within_tau(),
    raise_c: Abort = never(),
) -> Attack:
    """The L-infinity attack (section VI-C): minimise `c·f(x') + Σ_i max(|x'_i - x_i| - tau, 0)`, with ever smaller tau.

    The defaults are those of the released code (`li_attack.py`): c from 0.00001, doubled every 1000 steps while below
    20; tau times 0.9 after each success; Adam at 0.005. It returns the closest example of all its rounds, where the
    released code returns the last.

    Args:
      objective: f.
      box: how the iterate stays valid.
      optimizer: any Optax transformation; its steps are in widths of the box.
      search: over tau.
      steps: gradient steps at one weight c; may be traced.
      largest_c: weights c from here up are not tried; may be traced.
      abort: when a round is a success.
      raise_c: when c is doubled before its steps are over; see `grow_c`.

    Example:
      >>> attack = cw.linf(steps=100, search=cw.search.shrink_tau(initial_c=0.1))
      >>> result = jax.jit(cw.batched(attack))(model, keys, x, goal)
      >>> print(np.asarray(result.distance).round(1))
      [0.1 0.2]

    References:
      Carlini & Wagner 2017, "Towards evaluating the robustness of neural networks", section VI-C,
        https://arxiv.org/abs/1608.04644
    """
    return _shrunk(distances.linf(), objective, box, optimizer, search, steps, largest_c, abort, raise_c)


def l0(
    *,
    objective: Objective = logit_margin(0.01),
    box: Box = change_of_variables(),
    optimizer: optax.GradientTransformation = optax.adam(1e-2),
    search: Search = shrink_mask(),
    steps: Count = 1000,
    largest_c: Number = 2e6,
    abort: Abort = first_success(),
    raise_c: Abort = never(),
    distance: Distance = distances.l0(),
) -> Attack:
    """The L0 attack (section VI-B): L2 attacks on fewer and fewer pixels, until one fails.

    The defaults are those of the released code (`l0_attack.py`): c from 0.001, doubled every 1000 steps while below
    2,000,000; a margin of 0.01 logits in f; Adam at 0.01; and its rule for the pixels to freeze. An example that cannot
    be fooled is a failure like any other, where the released code crashes.

    To count every channel as a pixel of its own: `distance=distances.l0(per_pixel=False)` together with
    `search=shrink_mask(per_pixel=False)`. For images [C, H, W]: `channel_axis=0` likewise, in both.

    Args:
      objective: f.
      box: how the iterate stays valid.
      optimizer: any Optax transformation; its steps are in widths of the box.
      search: over the mask.
      steps: gradient steps at one weight c; may be traced.
      largest_c: weights c from here up are not tried; may be traced.
      abort: when a round is a success.
      raise_c: when c is doubled before its steps are over; see `grow_c`.
      distance: how pixels are counted.

    Example:
      >>> attack = cw.l0(steps=100, box=cw.boxes.projected(), search=cw.search.shrink_mask(initial_c=0.1))
      >>> print(jax.jit(cw.batched(attack))(model, keys, x, goal).distance)
      [1. 1.]

    References:
      Carlini & Wagner 2017, "Towards evaluating the robustness of neural networks", section VI-B,
        https://arxiv.org/abs/1608.04644
    """
    return _shrunk(distance, objective, box, optimizer, search, steps, largest_c, abort, raise_c)


def _weighed(distance, objective, box, optimizer, search, steps, abort) -> Attack:
    """One descent a round, each at the weight c that the search asks for."""
    descent = descend(objective=objective, distance=distance, box=box, optimizer=optimizer, steps=steps, abort=abort)
    return searched(descent, search)


def _shrunk(distance, objective, box, optimizer, search, steps, largest_c, abort, raise_c) -> Attack:
    """One descent a round, with c doubled on the way, until it succeeds or c is too large."""
    unlimited = jnp.iinfo(jnp.int32).max
    descent = descend(
        objective=objective, distance=distance, box=box, optimizer=optimizer, steps=unlimited, abort=abort
    )
    return searched(tracked(descent, grow_c(every=steps, largest=largest_c, abort=raise_c)), search)
