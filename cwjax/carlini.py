"""The attacks of Carlini & Wagner (2017), put together from their parts."""

import optax
from jaxtyping import Array, Int

from cwjax import distances
from cwjax.aborts import plateau
from cwjax.base import Abort, Attack, Box, Objective, Search
from cwjax.boxes import change_of_variables
from cwjax.descent import descend
from cwjax.objectives import logit_margin
from cwjax.searches import binary_search, searched


def l2(
    *,
    objective: Objective = logit_margin(),
    box: Box = change_of_variables(),
    optimizer: optax.GradientTransformation = optax.adam(1e-2),
    search: Search = binary_search(steps=9),
    steps: int | Int[Array, ""] = 10_000,
    abort: Abort = plateau(),
) -> Attack:
    """The L2 attack (section VI-A): minimise `|x' - x|₂² + c·f(x')`, with the smallest c that works.

    The defaults are those of the released code (`l2_attack.py`): f6 at confidence 0, the change of variables, Adam at
    0.01, 10,000 steps a round with early abort, 9 rounds over c from 0.001 up. Distances are reported as the L2 norm,
    not its square.

    Args:
      objective: f.
      box: how the iterate stays valid; its bounds are the bounds of the inputs.
      optimizer: any Optax transformation.
      search: over c.
      steps: the largest number of gradient steps in a round; may be traced.
      abort: when a round ends sooner.
    """
    descent = descend(
        objective=objective,
        distance=distances.l2(),
        box=box,
        optimizer=optimizer,
        steps=steps,
        abort=abort,
    )
    return searched(descent, search)
