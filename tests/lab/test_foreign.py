"""Models of other frameworks by name: options, adapters, and what is said of those that cannot be had."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import cwjax as cw
from cwjax.lab import foreign, subjects

HERE = "tests.lab.test_foreign"


class Net(nnx.Module):
    def __init__(self):
        self.dense = nnx.Linear(12, 3, rngs=nnx.Rngs(0))

    def __call__(self, x):
        return self.dense(x.reshape(len(x), -1))


def flax() -> Net:
    return Net()


def bound() -> cw.Model:
    return cw.bind(lambda params, x: jnp.stack([x.sum((1, 2, 3)), -x.sum((1, 2, 3))], 1))


BOUND = bound()


def logits(x):
    return x.sum((2, 3))


def apply(params, x):
    return params * logits(x)


def unbound():
    return logits


def of_one() -> cw.Model:
    return cw.bind(logits)


def torch_net():
    torch = pytest.importorskip("torch", reason="needs the extra torch")
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3)).eval()


def text() -> str:
    return "no model"


def test_options_are_the_arguments_of_an_adapter():
    named = foreign.Named.of("net.onnx,layout=NCHW,mean=0.5/0.25/0.5,std=0.5,shape=3/32/32")
    assert named.file
    told = named.adapting("layout", "mean", "std", "shape")
    assert told == {"layout": "NCHW", "mean": [0.5, 0.25, 0.5], "std": 0.5, "shape": (3, 32, 32)}
    with pytest.raises(ValueError, match="takes no layout and mean and std and shape"):
        named.adapting()
    with pytest.raises(ValueError, match="mean is numbers with / between them, got x"):
        foreign.Named.of("net.onnx,mean=x").adapting("mean")


def test_a_module_becomes_a_model_of_the_images_it_is_asked_about():
    model, card = subjects.model_of(f"{HERE}:flax", (2, 2, 3))
    assert card == {"function": f"{HERE}:flax"}
    assert model.of_batch(jnp.zeros((4, 2, 2, 3))).shape == (4, 3)
    assert subjects.original_of(f"{HERE}:flax", (2, 2, 3)) is None  # it is JAX itself
    with pytest.raises(ValueError, match=r"takes none of the images \[28, 28, 1\].*shape=3/32/32"):
        subjects.model_of(f"{HERE}:flax")
    assert subjects.model_of(f"{HERE}:flax,shape=2/2/3")[0].of_batch(jnp.zeros((1, 2, 2, 3))).shape == (1, 3)


def test_a_model_of_jax_may_be_normalised():
    model, _ = subjects.model_of(f"{HERE}:bound,mean=0.5,std=0.25")
    assert model.of_batch(jnp.ones((1, 2, 2, 1)))[0, 0] == 8


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (f"{HERE}:text", "must return what cwjax.bind returns, a module, or a cwjax.Task, got str"),
        (
            f"{HERE}:unbound",
            r"got function: return cwjax.bind\(lambda params, x: logits\(x\)\) if logits is a ",
        ),
        (
            f"{HERE}:of_one",
            r"a function apply\(params, x\) -> logits, got logits\(x\); if it has no params: ",
        ),
        (f"{HERE}:logits", r"logits must be a function without arguments that returns the model, got logits\(x\)"),
        (
            f"{HERE}:apply",
            r"got apply\(params, x\); if that is the network: def model\(\): return cwjax.bind\(apply, params\)",
        ),
        (f"{HERE}:BOUND", r"that returns the model, got a Model: write def model\(\): return BOUND, and name model"),
        (f"{HERE}:bound,std=0", "^--std must be above 0, got 0$"),
        (f"{HERE}:bound,mean=0.5/nan", "^--mean must be finite, got 0.5/nan$"),
        ("none.onnx", "there is no file none.onnx"),
        ("zoo:mnist_cnn,mean=0.5", "takes no mean"),
        (f"{HERE}:bound,how=ask", "takes no how"),
    ],
)
def test_what_is_no_model_is_said_in_one_line(name, words):
    with pytest.raises(ValueError, match=words):
        subjects.model_of(name)


def test_a_module_of_pytorch_is_asked_by_itself_too():
    torch = pytest.importorskip("torch", reason="needs the extra torch")
    model, _ = subjects.model_of(f"{HERE}:torch_net,mean=0.5", (2, 2, 3))
    way = subjects.original_of(f"{HERE}:torch_net,mean=0.5", (2, 2, 3))
    assert way is not None
    x = np.random.default_rng(0).random((4, 2, 2, 3), np.float32)
    np.testing.assert_allclose(model.of_batch(jnp.asarray(x)), way(x), atol=1e-5)
    with torch.no_grad():
        expected = torch_net()(torch.from_numpy((x - 0.5).transpose(0, 3, 1, 2).copy()))
    np.testing.assert_allclose(way(x), expected, atol=1e-5)


def test_images_that_do_not_go_with_the_model_are_named(tmp_path):
    np.savez(tmp_path / "four.npz", images=np.zeros((4, 2, 2, 1), np.uint8), labels=np.arange(4))
    with pytest.raises(ValueError, match=r"has the label 3, and --model .*bound has 2 classes"):
        subjects.model_and_data(f"{HERE}:bound", str(tmp_path / "four.npz"))
    model = subjects.model_of(f"{HERE}:channels_first")[0]
    photographs = subjects.dataset_of("cifar10_sample")
    with pytest.raises(ValueError, match=r"does not take the images \[32, 32, 3\].*channels first\?"):
        subjects.check_suits("mine", model, "cifar10_sample", photographs)
    with pytest.raises(ValueError, match=r"does not take the images .* it takes \[28, 28, 1\]$"):
        subjects.check_suits("mine", subjects.model_of("zoo:mnist_cnn")[0], "cifar10_sample", photographs)


def channels_first() -> cw.Model:
    def apply(params, x):
        if x.shape[1:] != (3, 32, 32):
            raise ValueError("three channels first")
        return x.mean((2, 3))

    return cw.bind(apply)
