"""A PyTorch module becomes a model that answers as it does, or is refused by the name of what stands in the way."""

# pyright: reportMissingImports=false
import subprocess
import sys
import textwrap
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cwjax as cw
from cwjax.adapters import NotConvertible

torch = pytest.importorskip("torch", reason="needs the extra torch")

from cwjax.adapters import from_torch  # noqa: E402
from cwjax.adapters.checking import GradientsDiffer, confirmed  # noqa: E402
from cwjax.adapters.inputs import adapted, inputs_of  # noqa: E402
from cwjax.adapters.pytorch.asked import Asked  # noqa: E402
from cwjax.adapters.pytorch.exported import Program, converted  # noqa: E402
from cwjax.adapters.pytorch.modules import in_torch  # noqa: E402
from cwjax.adapters.pytorch.rules import RULES  # noqa: E402
from cwjax.lab.sweeps import units  # noqa: E402

nn = torch.nn
pytestmark = pytest.mark.usefixtures("as_users_have_it")

SHAPE, MEAN, STD = (3, 6, 5), [0.4, 0.5, 0.6], [0.2, 0.3, 0.4]


class Net(nn.Module):
    """Writes in place, to arrays and to pieces of them, and is narrow."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.5)
        self.last = nn.Linear(4, 7)

    def forward(self, x):
        y = self.convolution(x)
        kept = y
        torch.relu_(y)
        z = self.norm(y) + kept
        z[:, 0] += 1
        return self.last(self.drop(z.mean((2, 3))))


def net(seed=0, kind=Net, **arguments):
    torch.manual_seed(seed)
    made = kind(**arguments).eval()
    for tensor in made.buffers():
        if tensor.is_floating_point():
            tensor.uniform_(0.5, 1.5)
    return made


@pytest.fixture(scope="module")
def both():
    return {how: from_torch(net(), SHAPE, how=how, mean=MEAN, std=STD) for how in ("convert", "ask")}


def by_torch(module, x):
    scaled = (torch.from_numpy(np.array(x)) - torch.tensor(MEAN)) / torch.tensor(STD)
    with torch.no_grad():
        return module(scaled.permute(0, 3, 1, 2)).numpy()


X = np.random.default_rng(0).uniform(size=(4, 6, 5, 3)).astype(np.float32)


@pytest.mark.parametrize("how", ["convert", "ask"])
def test_the_model_answers_as_the_module_does(both, how):
    np.testing.assert_allclose(both[how].of_batch(jnp.asarray(X)), by_torch(net(), X), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(both[how](jnp.asarray(X[1])), by_torch(net(), X)[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("how", ["convert", "ask"])
def test_an_attack_succeeds_also_in_torch(both, how):
    labels = by_torch(net(), X).argmax(1)
    run = jax.jit(cw.batched(cw.fast("l2", steps=20)))
    result = run(both[how], jax.random.split(jax.random.key(0), 4), X, cw.untargeted(labels))
    moved = by_torch(net(), result.x).argmax(1) != labels
    assert moved.any()
    np.testing.assert_array_equal(moved, result.success)
    assert cw.validate(both[how], X, cw.untargeted(labels)).flat == 0


def test_tensors_are_taken_as_inputs_and_labels(both):
    x, labels = torch.from_numpy(X).requires_grad_(), torch.from_numpy(by_torch(net(), X)).argmax(1)
    assert cw.validate(both["convert"], x, cw.untargeted(labels)).met == 0
    run, keys = cw.batched(cw.fast("l2", steps=2)), jax.random.split(jax.random.key(0), 4)
    result = run(both["convert"], keys, x, cw.untargeted(labels))
    assert result.x.shape == X.shape


def test_other_weights_compile_nothing(both):
    first, second = both["convert"], from_torch(net(1), SHAPE, how="convert", mean=MEAN, std=STD)
    traced = []

    @jax.jit
    def asked(model, x):
        traced.append(model)
        return model.of_batch(x)

    one, other = asked(first, X), asked(second, X)
    assert len(traced) == 1
    assert np.abs(one - other).max() > 0.01
    np.testing.assert_allclose(other, by_torch(net(1), X), rtol=1e-4, atol=1e-5)


class Other(Net):
    def forward(self, x):
        return super().forward(x) * 2


def test_another_network_is_another_program(both):
    other = from_torch(net(0, Other), SHAPE, how="convert", mean=MEAN, std=STD)
    assert jax.tree.structure(other) != jax.tree.structure(both["convert"])
    assert jax.tree.structure(other.params) == jax.tree.structure(both["convert"].params)


@pytest.mark.parametrize("how", ["convert", "ask"])
def test_a_sweep_sees_another_checkpoint(monkeypatch, how):
    """As its units are named: models of one name that differ in their weights alone, or in what is done with them."""
    digests = []
    for made in (net(), net(), net(1), net(0, Other))[: 3 if how == "ask" else 4]:
        model = from_torch(made, SHAPE, how=how)
        monkeypatch.setattr(units, "_known", lambda name, model=model: (model, {"net": "net"}))
        units.model_named.cache_clear()
        digests.append(units.model_named("mine:net").digest)
    units.model_named.cache_clear()
    assert digests[0] == digests[1]
    assert len(set(digests)) == len(digests) - 1


def test_weights_that_change_under_a_model_are_noticed():
    module = net()
    model = from_torch(module, SHAPE, how="ask")
    module.load_state_dict(net(1).state_dict())
    with pytest.raises(Exception, match="the weights of the PyTorch module Net have changed since from_torch"):
        jax.block_until_ready(model.of_batch(jnp.asarray(X)))


def test_the_graph_of_the_forward_pass_serves_the_backward_pass():
    class Counted(Net):
        passes = 0

        def forward(self, x):
            Counted.passes += 1
            return super().forward(x)

    model = from_torch(net(0, Counted), SHAPE, how="ask")
    Counted.passes = 0
    slope = jax.jit(jax.grad(lambda x: jnp.sum(model.of_batch(x)[:, 0])))
    for scale in (1, 0.5, 0.25):
        jax.block_until_ready(slope(scale * jnp.asarray(X)))
    assert Counted.passes == 3
    assert not inner(model)._kept, "no graph is left behind"


def inner(model) -> Any:
    """What answers, below layout and normalisation."""
    return model.apply.apply


class Ends(nn.Module):
    """Ends with whatever it is told to."""

    def __init__(self, end, **parts):
        super().__init__()
        self.line, self.end = nn.Linear(6, 3), end
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x):
        return self.end(self, x)


OUTPUTS = {
    "a tuple": lambda self, x: (self.line(x), x.sum()),
    "a dictionary": lambda self, x: {"loss": x.sum(), "logits": self.line(x)},
    "without gradients": lambda self, x: self.line(x) + untracked(x),
}


def untracked(x):
    with torch.no_grad():
        return x.mean(1, keepdim=True) * 3


@pytest.mark.parametrize("output", OUTPUTS)
def test_outputs_and_switches(output):
    model = from_torch(net(0, Ends, end=OUTPUTS[output]), (6,), how="convert")
    assert model(jnp.ones(6)).shape == (3,)


@pytest.mark.parametrize("how", ["convert", "ask"])
def test_a_module_in_bfloat16_is_taken(how):
    module = net(0, Ends, end=lambda self, x: self.line(x)).bfloat16()
    model = from_torch(module, (6,), how=how, tolerance=0.05)
    assert model(jnp.ones(6)).dtype == jnp.float32
    assert np.abs(model(jnp.ones(6)) - model(jnp.ones(6) + 1e-4)).max() == 0, "8 bits do not tell these apart"


def by_values(self, x):
    return self.line(x) if x.sum() > 0 else -self.line(x)


def sampled(self, x):
    grid = torch.stack([x, x], -1)[:, None]
    return nn.functional.grid_sample(x[:, None, None], grid, align_corners=False)[:, 0, 0]


REFUSALS = {
    "training": (r"Net is in training mode, in 5 of its layers such as norm \(BatchNorm2d\): call module.eval\(\)",
                 lambda: Net().train(), SHAPE),
    "one layer in training": (r"in 1 of its layers such as drop \(Dropout\)",
                              lambda: trained_in_part(), SHAPE),
    "by values": (r"torch.export refuses the PyTorch module Ends .* use how=\"ask\"",
                  lambda: net(0, Ends, end=by_values), (6,)),
    "sampled": (r"the operator grid_sampler \(it samples at places that the network computes\): use how=\"ask\"",
                lambda: net(0, Ends, end=sampled), (6,)),
    "no rule": (r"the operator fft_rfft \(no rule covers it\)|the operator _fft_r2c \(no rule covers it\)",
                lambda: net(0, Ends, end=lambda self, x: torch.fft.rfft(x).abs()), (6,)),
    "hooks": (r"has hooks, on line, which a converted model would not call", lambda: hooked(), (6,)),
    "one number": (r"gives \[1\] for one input, and not logits",
                   lambda: net(0, Ends, end=lambda self, x: x[:, 0]), (6,)),
    "of the batch": (r"other logits alone than in a batch",
                     lambda: net(0, Ends, end=lambda self, x: self.line(x - x.mean(0))), (6,)),
}  # fmt: skip


def trained_in_part():
    made = net()
    made.drop.train()
    return made


def hooked():
    made = net(0, Ends, end=lambda self, x: self.line(x))
    made.line.register_forward_hook(lambda *_: None)
    return made


@pytest.mark.parametrize("what", REFUSALS)
def test_what_is_refused_says_why_and_what_to_do(what):
    words, made, shape = REFUSALS[what]
    with pytest.raises(NotConvertible, match=words):
        from_torch(made(), shape, how="convert")


@pytest.mark.parametrize("made", [lambda: net(0, Ends, end=by_values), hooked])
def test_what_cannot_be_converted_is_asked_and_says_why(made):
    with pytest.warns(UserWarning, match='Ends is asked at every step, and not converted, because .* Say how="ask"'):
        model = from_torch(made(), (6,))
    assert isinstance(inner(model), Asked)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert isinstance(inner(from_torch(made(), (6,), how="ask")), Asked)
        assert isinstance(inner(from_torch(net(), SHAPE)), Program)


@pytest.mark.parametrize(
    ("words", "module", "options"),
    [
        (r"got a dictionary, which has weights alone: .*load_state_dict", {}, {}),
        (r"got the class Net: make one, Net\(\.\.\.\)", Net, {}),
        (r"takes a torch.nn.Module, got function", by_values, {}),
    ],
)
def test_what_is_no_module_is_refused(words, module, options):
    with pytest.raises(TypeError, match=words):
        from_torch(module, SHAPE, **options)


@pytest.mark.parametrize(
    ("words", "shape", "options"),
    [
        (r"refuses inputs of the shape \[6, 5, 3\]: .* Is its layout another", (6, 5, 3), {}),
        (r"refuses inputs of the shape \[8\]", (8,), {}),
        (r'how must be "convert", "ask" or "auto", got \'try\'', SHAPE, {"how": "try"}),
    ],
)
def test_a_shape_that_does_not_fit_is_refused(words, shape, options: dict[str, Any]):
    with pytest.raises(ValueError, match=words):
        from_torch(net(), shape, **options)


def test_a_wrong_rule_is_noticed(monkeypatch):
    from cwjax.adapters.pytorch.rules import RULES

    monkeypatch.setitem(RULES, "tanh", jnp.sin)
    with pytest.raises(NotConvertible, match=r"logits of the model made of the PyTorch module Ends differ .* by \d"):
        from_torch(net(0, Ends, end=lambda self, x: self.line(x).tanh()), (6,), how="convert")


def test_the_module_is_left_as_it_was():
    module = net()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    from_torch(module, SHAPE, how="convert")
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in module.parameters())


@pytest.mark.long
def test_eight_devices_ask_one_module():
    code = """
        import jax, numpy as np, torch, cwjax as cw
        from cwjax.adapters import from_torch
        torch.manual_seed(0)
        net = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 4)).eval()
        model = from_torch(net, (6,), how="ask")
        x = np.random.default_rng(0).uniform(size=(32, 6)).astype(np.float32)
        labels = net(torch.from_numpy(x)).argmax(1).numpy()
        keys, goal = jax.random.split(jax.random.key(0), 32), cw.untargeted(labels)
        run = cw.batched(cw.fast("l2", steps=20))
        mesh = jax.make_mesh((8,), ("data",))
        alone, spread = jax.jit(run)(model, keys, x, goal), jax.jit(cw.sharded(run, mesh))(model, keys, x, goal)
        np.testing.assert_allclose(alone.distance, spread.distance, rtol=1e-4)
        print(int(alone.success.sum()))
    """
    environment = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True, text=True, timeout=200, env={**__import__("os").environ, **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) > 16


def test_the_modules_own_answers_are_those_in_our_box(both):
    from cwjax.adapters import inputs_of

    original, gradient = in_torch(net(), inputs_of(SHAPE, mean=MEAN, std=STD))
    np.testing.assert_allclose(original(X), by_torch(net(), X), rtol=1e-4, atol=1e-5)
    up = np.random.default_rng(2).normal(size=(4, 7)).astype(np.float32)
    moved = X + 1e-2 * np.random.default_rng(3).normal(size=X.shape).astype(np.float32)
    slope = gradient((X + moved) / 2, up)
    np.testing.assert_allclose((up * (original(moved) - original(X))).sum(), (slope * (moved - X)).sum(), rtol=0.05)


def test_rectifiers_within_rounding_of_zero_do_not_refuse_a_right_conversion():
    """In 32 bits they are on one side in PyTorch and on the other in JAX; in 64 bits both have the same slope."""

    class OnTheEdge(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(784, 200), nn.Linear(200, 3)
            given = torch.from_numpy(inputs_of((784,)).drawn())
            with torch.no_grad():
                self.first.bias.zero_()
                self.first.bias -= self.first(given)[0]  # so that every unit is 0 at the first input, or an ulp away

        def forward(self, x):
            return self.last(torch.relu(self.first(x)))

    made = net(kind=OnTheEdge)
    inputs = inputs_of((784,))
    program, weights = converted(made, torch.from_numpy(inputs.drawn(1)), "it")
    original, gradient = in_torch(made, inputs)
    with pytest.raises(GradientsDiffer):
        confirmed(adapted(program, weights, inputs), original, inputs.drawn(), name="it", gradient=gradient)
    assert isinstance(from_torch(made, (784,), how="convert"), cw.Model)


def test_a_wrong_gradient_is_refused_in_64_bits_too(monkeypatch):
    monkeypatch.setitem(RULES, "relu", lambda x: jax.lax.stop_gradient(jax.nn.relu(x)))
    with pytest.raises(GradientsDiffer, match="input gradients"):
        from_torch(nn.Sequential(nn.Linear(9, 8), nn.ReLU(), nn.Linear(8, 3)).eval(), (9,), how="convert")
