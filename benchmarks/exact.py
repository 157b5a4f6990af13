"""How far attacks end from the exact minimum, on two networks that are small enough for it to be known.

Claim: with 300 gradients (600 propagations) `fast_linf` and `fast_l1` are within 0.5 % of the minimum on half of the
images, and with 1,000 within 8 % on all. Expected numbers: `benchmarks/exact.md`.

    python -m benchmarks.exact --budgets 200 600 2000    # 12 images of each network, two norms: ten minutes on one core
    python -m benchmarks.exact --examples 3 --norm linf --budgets 100

Networks: 196-24-24-10 with ReLU, on digits of mnist5k whose 2×2 pixels are averaged. `standard` is trained as usual,
`certified` by interval bounds. Images: the first of the test split that a network gets right, away from their labels.

All attacks spend the same number of propagations (forward or backward passes, a gradient is two), at the numbers that
they have in a race (`cwjax race`). The nearest example that any of them found then bounds the search for the minimum
(`benchmarks/minima.py`). Each minimum is checked: the label does not lead there by more than 1e-6, and a proof of its
own says that no example is 1 % nearer. Everything is kept in `--out`, so a run that was stopped goes on.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro
from flax import nnx

import cwjax as cw
from benchmarks.dense import ROUNDING, Layer, Minimum, Norm, lead
from benchmarks.minima import excluded, nearest_example
from cwjax.lab import data
from cwjax.lab.attacking.selection import first_right
from cwjax.lab.console import tables
from cwjax.lab.console.progress import say
from cwjax.lab.files import store
from cwjax.lab.racing import entries, keeping
from cwjax.lab.racing.contestants import Task
from cwjax.lab.training import nets
from cwjax.lab.training.epochs import epoch
from cwjax.lab.training.layered import LayeredNet, Layers
from cwjax.lab.training.recipes import RECIPES, optimizer_of

HIDDEN = (24, 24)
RECIPE = {"standard": RECIPES["zoo_mnist"]._replace(shift=1), "certified": RECIPES["certified"]}
ATTACKS: Mapping[Norm, tuple[str, ...]] = {
    "linf": ("fast_linf", "fmn", "apgd", "pdpgd"),
    "l1": ("fast_l1", "fmn", "pdpgd", "ead"),
}
NEARER = 0.01  # share of the distance by which an example would have to be nearer to contradict a minimum


@dataclasses.dataclass(frozen=True)
class Arguments:
    networks: tuple[str, ...] = tuple(RECIPE)
    norm: tuple[Norm, ...] = ("linf", "l1")
    budgets: tuple[int, ...] = (100, 300, 1000)  # propagations an example
    examples: int = 12  # of each network
    seconds: float = 60.0  # for the minimum of an image, and for each program of its check
    data: str = "mnist5k"
    seed: int = 0  # of the networks and the attacks
    out: Path = Path("runs/exact")


def pooled(dataset: data.Dataset) -> data.Dataset:
    """The images at half the height and width: means of 2×2 pixels."""
    count, height, width, _ = dataset.images.shape
    blocks = dataset.images[:, : height // 2 * 2, : width // 2 * 2].reshape(count, height // 2, 2, width // 2, 2, -1)
    return dataset._replace(images=blocks.mean((2, 4)))


def trained(name: str, arguments: Arguments) -> cw.Model:
    """The network of a name, trained if it is not in the folder yet."""
    recipe, dataset = RECIPE[name], pooled(data.load(arguments.data, "train"))
    plan = Layers((), dense=HIDDEN)
    net = LayeredNet(plan, shape=dataset.images.shape[1:], classes=len(dataset.classes), seed=arguments.seed)
    file = arguments.out / f"{name}-{arguments.data}-{arguments.seed}.safetensors"
    if not file.exists():
        per_epoch = len(dataset.labels) // recipe.batch
        optimizer = optimizer_of(recipe, per_epoch=per_epoch, epochs=recipe.epochs)
        run = epoch(net, recipe, optimizer, updates=per_epoch * recipe.epochs)
        params, state = nnx.state(net), optimizer.init(nnx.state(net))
        for done in range(recipe.epochs):
            key = jax.random.fold_in(jax.random.key(arguments.seed), done)
            params, state, *_ = run(params, state, key, dataset.images, dataset.labels)
        nnx.update(net, params)
        store.write_arrays(file, nets.as_model(net).params)
    like = nets.as_model(net)
    return dataclasses.replace(like, params=store.read_arrays(file, like.params))


def layers_of(model: cw.Model) -> list[Layer]:
    """The weights of a dense network."""
    net: Any = nets.as_net(model)
    return [Layer(*(np.asarray(part.get_value(), float) for part in (each.kernel, each.bias))) for each in net.layers]


@dataclasses.dataclass(frozen=True)
class Heat:
    """A network and a norm: what every attack reached at every budget, and the minima."""

    network: str
    norm: Norm
    distances: dict[tuple[str, int], np.ndarray]  # float64 [B]; inf where no example was found
    minima: list[dict[str, Any]]  # the fields of `Minimum`, and `checked`: whether it passed its check

    def ratios(self, attack: str, budget: int) -> np.ndarray:
        """Distances over the exact minima, float64 [B]."""
        return self.distances[attack, budget] / np.array([each["distance"] for each in self.minima])


def heat(network: str, norm: Norm, arguments: Arguments) -> Heat:
    """The attacks of a norm on a network, and then its minima."""
    model, dataset = trained(network, arguments), pooled(data.load(arguments.data, "test"))
    chosen = dataset.take(first_right(model, dataset, arguments.examples))
    count = len(chosen.labels)
    untargeted = np.full(count, -1, np.int32)
    distances, tried = {}, []
    for budget in arguments.budgets:
        for attack in ATTACKS[norm]:
            given = (chosen.images, chosen.labels, untargeted, norm, budget, len(chosen.classes), arguments.seed)
            task, path = Task(model, *given), arguments.out / "kept" / f"{network}-{norm}-{budget}-{attack}.npz"
            outcome, _ = keeping.outcome(path, task, entries.OURS[attack], again=False)
            distances[attack, budget] = task.distance(outcome.x)
            tried.append(outcome.x)
    examples, reached = np.stack(tried), np.stack(list(distances.values()))
    answers = np.asarray(model.apply(model.params, dataset.images)).argmax(1)
    minima = []
    for place, label in enumerate(chosen.labels):
        nearest = examples[reached[:, place].argmin(), place]
        if np.isinf(reached[:, place]).all():  # then an image that the network takes for something else
            others = dataset.images[answers != label]
            nearest = others[np.abs(others - chosen.images[place]).sum((1, 2, 3)).argmin()]
        minima.append(minimum(model, chosen, place, nearest, norm, arguments, network))
    return Heat(network, norm, distances, minima)


def minimum(
    model: cw.Model, dataset: data.Dataset, place: int, example: np.ndarray, norm: Norm, arguments: Arguments, name: str
) -> dict[str, Any]:
    """The minimum of one image with its check, from the folder if it is there."""
    layers, label = layers_of(model), int(dataset.labels[place])
    x, near = (np.asarray(image, float).reshape(-1) for image in (dataset.images[place], example))
    asked = store.fingerprint(
        [norm, *(store.fingerprint(array) for array in (x, *(array for layer in layers for array in layer)))]
    )
    path = arguments.out / "minima" / f"{name}-{norm}-{dataset.index[place]}-{asked[:12]}.json"
    if path.exists():
        return store.read_json(path)
    known = nearest_example(layers, x, label, near, norm=norm, seconds=arguments.seconds)
    radius = known.distance * (1 - NEARER)
    level = bool(lead(layers, known.x, label) <= ROUNDING)
    checked = level and excluded(layers, x, label, norm=norm, radius=radius, seconds=arguments.seconds)
    kept = known._asdict() | {"x": known.x.tolist(), "checked": checked}
    store.write_json(path, kept)
    say(f"{name}, {norm}, image {dataset.index[place]}: {shown(known)}{'' if checked else ', the check failed'}")
    return kept


def shown(known: Minimum) -> str:
    """A minimum in words."""
    proved = known.bound / known.distance
    return f"{known.distance:.4f} in {known.seconds:.1f} s, {proved:.2%} of it proved"


def table(raced: Heat, arguments: Arguments) -> list[str]:
    """The ratios of a heat in Markdown: median / worst for each attack and budget."""

    def cell(ratios: np.ndarray) -> str:
        missed = int(np.isinf(ratios).sum())
        worst = f"{missed} missed" if missed else f"{ratios.max():.3f}"
        return f"{np.median(ratios):.4f} / {worst}"

    rows = [
        [attack, *(cell(raced.ratios(attack, budget)) for budget in arguments.budgets)]
        for attack in ATTACKS[raced.norm]
    ]
    known, bounds, checked, seconds = (
        np.array([each[key] for each in raced.minima]) for key in ("distance", "bound", "checked", "seconds")
    )
    proved = np.maximum(bounds / known, checked * (1 - NEARER))
    about = (
        f"`{raced.network}`, {raced.norm}: {len(known)} images, {sum(checked)} of them checked. Minima from "
        f"{known.min():.3g} to {known.max():.3g}, at least {proved.min():.2%} of each proved; "
        f"{np.median(seconds):.1f} s an image, at most {max(seconds):.1f}."
    )
    headings = ["attack", *(f"{budget} propagations" for budget in arguments.budgets)]
    return [about, "", *tables.markdown(headings, rows), ""]


def main(arguments: Arguments) -> list[Heat]:
    """Prints the tables as Markdown: distance over the exact minimum, median / worst."""
    heats = []
    for network in arguments.networks:
        for norm in arguments.norm:
            heats.append(heat(network, norm, arguments))
            print("\n".join(["", *table(heats[-1], arguments)]), flush=True)
    return heats


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
