"""Nine trained networks that come with the library, by name; README.md beside this file has their figures.

from cwjax.lab import data, zoo

trained = zoo.load("mnist_cnn")
digits = data.load("mnist5k", "test")          # none of them was trained on
logits = trained.model.apply(trained.model.params, digits.images)

trained = zoo.load("cifar_resnet")
photographs = data.load("cifar10_sample", "test")  # 100 test images of CIFAR-10, which come along
"""

from pathlib import Path

from cwjax.lab.files import store
from cwjax.lab.training import training

HERE = Path(__file__).parent
NAMES = (
    *("mnist_cnn", "mnist_distilled", "mnist_robust"),
    *("mnist_squared", "mnist_certified", "mnist_winners", "mnist_lenet"),
    *("cifar_cnn", "cifar_resnet"),
)


def load(name: str) -> training.Trained:
    """The network, its card and its folder; weights are float32, rounded to float16.

    Raises:
      ValueError: no network of the zoo has this name.
      store.CorruptFile: its files are damaged.
    """
    if name not in NAMES:
        raise ValueError(f"no network of the zoo is called {name!r}: choose one of {', '.join(NAMES)}")
    try:
        return training.load(HERE / name)
    except (store.CorruptFile, FileNotFoundError) as error:
        raise store.CorruptFile(
            f"zoo:{name}, which comes with cwjax, is damaged: install cwjax again ({error})"
        ) from error
