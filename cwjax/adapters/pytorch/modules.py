"""`from_torch`: a PyTorch module as a cwjax model, converted to jax.numpy or asked at every step."""

# pyright: reportMissingImports=false
import copy
import functools
import warnings
from collections.abc import Sequence
from typing import Any, Literal

import jax
import numpy as np
import torch

from cwjax.adapters.checking import TOLERANCE, Gradient, GradientsDiffer, NotConvertible, Original, confirmed, kind_of
from cwjax.adapters.inputs import Inputs, Layout, Scale, adapted, inputs_of, logits_of
from cwjax.adapters.pytorch.asked import Asked, fingerprint
from cwjax.adapters.pytorch.exported import converted
from cwjax.models import Model

How = Literal["convert", "ask", "auto"]
_STRICT = (torch.nn.modules.batchnorm._BatchNorm, torch.nn.modules.dropout._DropoutNd)  # named first where they train


def from_torch(
    module: torch.nn.Module,
    shape: Sequence[int],
    *,
    how: How = "auto",
    layout: Layout | None = None,
    mean: Scale | None = None,
    std: Scale | None = None,
    low: float = 0.0,
    high: float = 1.0,
    tolerance: float = TOLERANCE,
) -> Model:
    """A PyTorch classifier as a cwjax model of images [H, W, C] in a box, or of vectors [F].

    The model is compared with the module before it is returned: logits and input gradients, on inputs drawn from the
    box. A converted model has the module's weights as its params: the same network with other weights compiles nothing.

    Args:
      module: in evaluation mode; from a batch [B, *shape] to logits [B, K], or to a tuple, a dictionary or an object
        with `.logits`. It is not changed.
      shape: of one input as the module takes it, such as (3, 32, 32).
      how: "convert" makes jax.numpy of the module by torch.export and our own rules (docs/adapters.md lists them), and
        runs without PyTorch, on any device; "ask" calls the module itself at every step, and takes any module; "auto"
        converts, and asks where that does not work, with a warning that says why.
      layout: "NCHW" or "NHWC", how the module takes images. None: by the axis of `shape` that has 1, 3 or 4 channels.
      mean: what the module's images are normalised by, one number or one a channel. None: the module takes images as
        they are, or normalises them itself.
      std: likewise.
      low: the lower end of the box of our images, before they are normalised; attacks are told by their runner.
      high: the upper end.
      tolerance: by how much of the largest logit, and of the largest slope, the model may differ from the module.

    Raises:
      TypeError, ValueError: no module, such as a state_dict; a layer in training mode; arguments that do not fit.
      NotConvertible: a ValueError: an operator without a rule, a module that torch.export refuses, outputs that are no
        logits, or a difference above the tolerance.

    Warns:
      UserWarning: `how="auto"` could not convert the module.

    Example:
      >>> import torch
      >>> net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2)).eval()
      >>> model = cw.adapters.from_torch(net, (3,))
      >>> theirs = net(torch.tensor(np.asarray(x))).detach().numpy()
      >>> bool(np.allclose(model.of_batch(x), theirs, atol=1e-5))
      True
    """
    if not isinstance(module, torch.nn.Module):
        raise TypeError(_no_module(module))
    if how not in ("convert", "ask", "auto"):
        raise ValueError(f'how must be "convert", "ask" or "auto", got {how!r}')
    inputs = inputs_of(shape, layout=layout, mean=mean, std=std, low=low, high=high)
    name = f"the PyTorch module {kind_of(module)}"
    _check_evaluating(module, name)
    classes = _classes(module, inputs, name)
    original, gradient = in_torch(module, inputs)
    check = functools.partial(
        confirmed, original=original, x=inputs.drawn(), name=name, gradient=gradient, tolerance=tolerance
    )
    if how != "ask":
        try:
            program, weights = converted(module, _example(module, inputs), name)
            model = adapted(program, weights, inputs, dtype=_dtype(module), name=name)
            try:
                return check(model)
            except GradientsDiffer as error:
                _check_in_double(module, inputs, name, error)
                return model
        except NotConvertible as error:
            if how == "convert":
                raise
            warnings.warn(
                f'{name} is asked at every step, and not converted, because {error}. Say how="ask" to be told no more',
                stacklevel=2,
            )
    return check(adapted(Asked(module, inputs.shape, classes, name), fingerprint(module), inputs, name=name))


def in_torch(module: torch.nn.Module, inputs: Inputs) -> tuple[Original, Gradient]:
    """The module's own answers to inputs of the cwjax model: logits, and input gradients."""

    def rows(x: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(inputs.to_module(x)).to(_like(module))

    def original(x: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return logits_of(module(rows(x))).float().cpu().numpy()

    def gradient(x: np.ndarray, cotangent: np.ndarray) -> np.ndarray:
        given = rows(x).requires_grad_()
        with torch.enable_grad():
            logits = logits_of(module(given))
        up = torch.from_numpy(cotangent).to(logits)
        [slope] = torch.autograd.grad(logits, given, up, allow_unused=True)
        return inputs.from_module((torch.zeros_like(given) if slope is None else slope).float().cpu().numpy())

    return original, gradient


def _check_in_double(module: torch.nn.Module, inputs: Inputs, name: str, error: GradientsDiffer) -> None:
    """Raises the error of 32 bits unless the gradients agree in 64.

    A deep network has many rectifiers, and the input of some is within rounding of 0. Its sign may then differ between
    PyTorch and JAX, and with it the slope; neither is wrong. In 64 bits the signs agree.
    """
    double = copy.deepcopy(module).double()
    original, gradient = in_torch(double, inputs)
    with jax.enable_x64(True):
        program, weights = converted(double, _example(double, inputs), name)
        model = adapted(program, weights, inputs, name=name)
        x = inputs.drawn().astype(np.float64)
        try:
            confirmed(model, original, x, name=name, gradient=gradient, tolerance=TOLERANCE**2)
        except NotConvertible:
            raise error from None


def _check_evaluating(module: torch.nn.Module, name: str) -> None:
    training = [(place, each) for place, each in module.named_modules() if each.training]
    if not training:
        return
    place, layer = next((pair for pair in training if isinstance(pair[1], _STRICT)), training[-1])
    where = f"{place} ({kind_of(layer)})" if place else kind_of(layer)
    raise NotConvertible(
        f"{name} is in training mode, in {len(training)} of its layers such as {where}: call module.eval() first"
    )


def _classes(module: torch.nn.Module, inputs: Inputs, name: str) -> int:
    """How many logits it gives. Raises ValueError where it refuses inputs of that shape."""
    example = _example(module, inputs)
    try:
        with torch.no_grad():
            logits = logits_of(module(example), name)
    except NotConvertible:
        raise
    except Exception as error:  # of a user's own code
        said = str(error).strip().partition("\n")[0]
        turned = (*inputs.shape[1:], inputs.shape[0])
        hint = f" Is its layout another, such as {turned} or {(inputs.shape[-1], *inputs.shape[:-1])}?"
        raise ValueError(
            f"{name} refuses inputs of the shape {list(inputs.shape)}: {said}. shape is that of one input as the "
            f"module takes it, such as (3, 32, 32).{hint if len(inputs.shape) == 3 else ''}"
        ) from error
    if logits.ndim != 2:
        raise NotConvertible(
            f"{name} gives {list(logits.shape)} for one input, and not logits [1, K]: wrap it in a module that returns "
            "them"
        )
    return logits.shape[1]


def _example(module: torch.nn.Module, inputs: Inputs) -> torch.Tensor:
    return torch.from_numpy(inputs.to_module(inputs.drawn(1))).to(_like(module))


def _like(module: torch.nn.Module) -> torch.Tensor:
    """A tensor on the module's device, in its dtype."""
    floating = (tensor for tensor in (*module.parameters(), *module.buffers()) if tensor.is_floating_point())
    return next(floating, torch.zeros(()))


def _dtype(module: torch.nn.Module) -> str | None:
    """That the module computes in, where it is not that of the inputs."""
    dtype = _like(module).dtype
    return None if dtype in (torch.float32, torch.float64) else str(dtype).removeprefix("torch.")


def _no_module(value: Any) -> str:
    if isinstance(value, type) and issubclass(value, torch.nn.Module):
        return f"from_torch takes a module, got the class {value.__name__}: make one, {value.__name__}(...)"
    if isinstance(value, dict):
        return (
            "from_torch takes a module, got a dictionary, which has weights alone: build the network, "
            "net.load_state_dict(it), and hand over net.eval()"
        )
    return f"from_torch takes a torch.nn.Module, got {kind_of(value)}"
