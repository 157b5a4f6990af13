"""The report's optimisers by name, as Optax transformations. An attack takes any other just as well.

For a loss J, a step size eta and a decay gamma, the technical report prints

    gradient descent   theta_t = theta_{t-1} - eta·∇J(theta_{t-1})                       (4)
    momentum           v_t = gamma·v_{t-1} + eta·∇J(theta_{t-1})                         (5)
                       theta_t = theta_{t-1} - v_t                                       (6)
    Nesterov           v_t = gamma·v_{t-1} + eta·∇J(theta_{t-1} - gamma·v_{t-1})         (7)
                       theta_t = theta_{t-1} - v_t                                       (8)

and Adam as Kingma & Ba (2015) have it. Where eta follows a schedule it scales the whole step, as Optax has it: v_t then
adds up plain gradients, and theta moves by eta_t·v_t.
"""

from collections.abc import Callable

import optax
from jaxtyping import Array, Float

from cwjax.arguments import check_number
from cwjax.base import Number

Rate = Number | Callable[..., Float[Array, ""]]


def gradient_descent(learning_rate: Rate) -> optax.GradientTransformation:
    """Plain gradient descent, (4).

    Args:
      learning_rate: eta > 0, which may be traced, or an Optax schedule.

    Example:
      >>> optimizer = cw.optimizers.gradient_descent(0.1)
      >>> print(optimizer.update(jnp.array([2.0]), optimizer.init(jnp.zeros(1)))[0])
      [-0.2]

    References:
      Cauchy 1847, "Méthode générale pour la résolution des systèmes d'équations simultanées", Comptes rendus 25.
    """
    _check(learning_rate)
    return optax.sgd(learning_rate)


def momentum(learning_rate: Rate, decay: Number = 0.9) -> optax.GradientTransformation:
    """Gradient descent with momentum, (5) and (6).

    With a projected box the velocity knows nothing of the projection (the paper's warning, section V-B).

    Args:
      learning_rate: as for `gradient_descent`.
      decay: gamma in [0, 1).

    Example:
      >>> optimizer = cw.optimizers.momentum(0.1, decay=0.5)
      >>> first, state = optimizer.update(jnp.array([2.0]), optimizer.init(jnp.zeros(1)))
      >>> second, state = optimizer.update(jnp.array([2.0]), state)
      >>> print(first, second)
      [-0.2] [-0.3]

    References:
      Polyak 1964, "Some methods of speeding up the convergence of iteration methods", USSR Computational Mathematics
        and Mathematical Physics 4(5).
    """
    _check(learning_rate)
    check_number("decay", decay, least=0, most=1 - 1e-9)
    return optax.sgd(learning_rate, momentum=decay)


def nesterov(learning_rate: Rate, decay: Number = 0.9) -> optax.GradientTransformation:
    """Nesterov's accelerated gradient, (7) and (8).

    The variable here is the point where the printed form takes its gradient, `theta - gamma·v`: that is where the model
    is asked, and so what may be returned. Both forms give the same gradients.

    Args:
      learning_rate: as for `gradient_descent`.
      decay: gamma in [0, 1).

    Example:
      >>> optimizer = cw.optimizers.nesterov(0.1, decay=0.5)
      >>> first, state = optimizer.update(jnp.array([2.0]), optimizer.init(jnp.zeros(1)))
      >>> second, state = optimizer.update(jnp.array([2.0]), state)
      >>> print(first, second)
      [-0.3] [-0.35]

    References:
      Nesterov 1983, "A method for solving the convex programming problem with convergence rate O(1/k²)", Soviet
        Mathematics Doklady 27.
    """
    _check(learning_rate)
    check_number("decay", decay, least=0, most=1 - 1e-9)
    return optax.sgd(learning_rate, momentum=decay, nesterov=True)


def adam(learning_rate: Rate) -> optax.GradientTransformation:
    """Adam with b1 = 0.9, b2 = 0.999, eps = 1e-8, bias-corrected: the paper's choice.

    Args:
      learning_rate: as for `gradient_descent`.

    Example:
      >>> optimizer = cw.optimizers.adam(0.1)
      >>> step, state = optimizer.update(jnp.array([2.0, -50.0]), optimizer.init(jnp.zeros(2)))
      >>> print(np.asarray(step).round(3))  # as long as the rate, whatever the slope
      [-0.1  0.1]

    References:
      Kingma & Ba 2015, "Adam: a method for stochastic optimization", algorithm 1, https://arxiv.org/abs/1412.6980
    """
    _check(learning_rate)
    return optax.adam(learning_rate)


OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "gradient_descent": gradient_descent,
    "momentum": momentum,
    "nesterov": nesterov,
    "adam": adam,
}
"""By name. Each takes a learning rate."""


def _check(learning_rate: Rate) -> None:
    if not callable(learning_rate):
        check_number("learning_rate", learning_rate, least=0, above=True)
