"""Modules of other frameworks, known by the names of their classes: none of these frameworks is imported here."""

from typing import Any, NamedTuple


class Framework(NamedTuple):
    name: str
    packages: tuple[str, ...]  # that its base classes are defined in, or below
    bases: frozenset[str]  # the names of these classes
    note: str  # what else there is to know of the recipe
    first: str  # a line of Python
    second: str  # and another, that make a model of a module `net`


_MODULE = frozenset({"Module"})
FRAMEWORKS = (
    Framework(
        "Flax NNX",
        ("flax.nnx", "flax.experimental.nnx"),
        _MODULE,
        "shape is that of one input, such as (28, 28, 1)",
        "from cwjax.adapters import from_nnx",
        "model = from_nnx(net, shape)",
    ),
    Framework(
        "Flax Linen",
        ("flax.linen",),
        _MODULE,
        "and batch_stats beside params, if it has them",
        'variables = {"params": params}',
        "model = cw.adapters.from_linen(net, variables, shape)",
    ),
    Framework(
        "Equinox",
        ("equinox",),
        _MODULE,
        "shape is that of one input, such as (1, 28, 28)",
        "from cwjax.adapters import from_equinox",
        "model = from_equinox(net, shape)",
    ),
    Framework(
        "Haiku",
        ("haiku",),
        _MODULE | {"Transformed", "TransformedWithState"},
        "params are what net.init gave, trained",
        "net = hk.transform(forward)",
        "model = cw.adapters.from_haiku(net, params, shape)",
    ),
    Framework(
        "Keras",
        ("keras", "tf_keras", "tensorflow"),
        _MODULE | {"Layer", "Model"},
        "Keras 3 on JAX: KERAS_BACKEND=jax",
        "from cwjax.adapters import from_keras",
        "model = from_keras(net)",
    ),
    Framework(
        "PyTorch",
        ("torch",),
        _MODULE,
        "shape is that of one input, such as (3, 32, 32)",
        "from cwjax.adapters import from_torch",
        "model = from_torch(net.eval(), shape)",
    ),
)


def framework_of(value: Any) -> Framework | None:
    """The framework that a module, or a class of modules, belongs to. A function that a framework has compiled belongs
    to none.
    """
    if hasattr(value, "__wrapped__"):
        return None
    for kind in (value if isinstance(value, type) else type(value)).__mro__:
        for framework in FRAMEWORKS:
            inside = any(f"{kind.__module__}.".startswith(f"{package}.") for package in framework.packages)
            if inside and kind.__name__ in framework.bases:
                return framework
    return None


def described(value: Any, *, between: str = "\n    ") -> str:
    """What came, for an error: its type; and of a module of another framework how to make a model of it.

    Args:
      value: that came.
      between: what stands before each of the two lines of Python.
    """
    name = value.__name__ if isinstance(value, type) else type(value).__name__
    if (framework := framework_of(value)) is None:
        return name
    what = "class of modules" if isinstance(value, type) else "module"
    told = f"{name}, a {what} of {framework.name}. Make a model of it ({framework.note}):"
    return f"{told}{between}{framework.first}{between}{framework.second}"


def as_array(value: Any) -> Any:
    """A tensor of PyTorch as an array of NumPy; whatever else it is as it came."""
    if not any(f"{kind.__module__}.{kind.__name__}" == "torch.Tensor" for kind in type(value).__mro__):
        return value
    return value.detach().cpu().numpy()
