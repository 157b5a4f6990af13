"""Nine trained networks by name; README.md beside this file has their figures. Three of them are in a package of their
own, because they are large: `pip install "cwjax[zoo]"`.

from cwjax.lab import data, zoo

trained = zoo.load("mnist_cnn")
digits = data.load("mnist5k", "test")          # none of them was trained on
logits = trained.model.apply(trained.model.params, digits.images)

trained = zoo.load("cifar_resnet")
photographs = data.load("cifar10_sample", "test")  # 100 test images of CIFAR-10, which come along
"""

from pathlib import Path

from cwjax.lab.console.spelling import choices
from cwjax.lab.files import store
from cwjax.lab.training import training

HERE = Path(__file__).parent
NAMES = (
    *("mnist_cnn", "mnist_distilled", "mnist_robust"),
    *("mnist_squared", "mnist_certified", "mnist_winners", "mnist_lenet"),
    *("cifar_cnn", "cifar_resnet"),
)
LARGE = ("mnist_distilled", "mnist_robust", "cifar_cnn")  # those of the package cwjax-zoo


def folder_of(name: str) -> Path:
    """Where the network's files are.

    Raises:
      ValueError: no network of the zoo has this name, or it is large and cwjax-zoo is not installed.
    """
    if name not in NAMES:
        raise ValueError(f"no network of the zoo is called {name!r}: {choices(name, NAMES)}")
    if name not in LARGE:
        return HERE / name
    try:
        import cwjax_zoo
    except ModuleNotFoundError as error:
        raise ValueError(
            f'zoo:{name} is in the package cwjax-zoo, which is not installed: pip install "cwjax[zoo]"'
        ) from error
    return Path(next(iter(cwjax_zoo.__path__))) / name


def load(name: str) -> training.Trained:
    """The network, its card and its folder; weights are float32, rounded to float16.

    Raises:
      ValueError: see `folder_of`.
      store.CorruptFile: its files are damaged.
    """
    folder = folder_of(name)
    try:
        return training.load(folder)
    except (store.CorruptFile, FileNotFoundError) as error:
        package = "cwjax-zoo" if name in LARGE else "cwjax"
        raise store.CorruptFile(
            f"zoo:{name}, which comes with {package}, is damaged: install {package} again ({error})"
        ) from error
