"""The coverage of Carlini-Wagner examples, of PGD's and FGSM's, and of equally many natural images.

Claim: at equal numbers, C&W examples cover what natural images cover, by channels' means, in every criterion within a
few points. PGD's and FGSM's cover fewer sections, and some of them leave the range that neurons have in training. Where
the neurons are the elements of the first convolution, C&W examples leave it too, half as often as PGD's. Coverage
describes these suites. It does not say that one of them tests better.

Command:

    python -m experiments.coverage_of_attacks                                       # the zoo's LeNet and CNN, mnist5k
    python -m experiments.coverage_of_attacks --weights FILE --models zoo:mnist_cnn --data mnist --data-folder FOLDER

Cost: three and a half minutes of one core for four networks.

Expect: 24 examples of each suite on DeepXplore's LeNets, 17 on the zoo's CNN. KMNC with 10 sections on LeNet-5:
natural 0.53 and 0.53, C&W L2, L∞ and L0 0.49, 0.48 and 0.49, PGD 0.43, FGSM 0.39. Natural images and C&W examples cross
no boundary of a profile of 60,000 images. PGD and FGSM cross 1.3 and 1.8 % of the CNN's (NBC), at most 0.3 % of the
LeNets'. NC (0.7), TKNC and TKNP differ by what two natural suites differ by.
With `--counted first-and-outputs`, 300 examples: NBC of natural images at most 0.3 %, C&W L2 3 %, PGD 5 to 6 %.

The attacks are the paper's three with fewer steps, FGSM and PGD at 0.3. Every success is looked at again. All suites of
a network are cut to the same number of examples, because coverage grows with it. Two of them are natural: the images
that the attacks started from, and others. The profile is of the training images.

CovTesting (Yan et al. 2020, "Correlations between deep neural network model coverage criteria and model quality")
published such a table. `--counted first-and-outputs` has its neurons: the elements of the first convolution and the
outputs; but its networks and its suites are others, and it scales NC by the range over a data set.

Writes OUT/coverage_of_attacks.md, .csv and .png.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro
from matplotlib.figure import Figure

import cwjax as cw
from cwjax.coverage import Criterion, Profile
from cwjax.lab.console.progress import say
from cwjax.lab.files import store
from cwjax.lab.reporting.pictures import COLORS, INK
from experiments import coverage_subjects as subjects
from experiments import shown

PUBLISHED = {  # CovTesting, Correlation/result_mnist/coverage_result.txt: NC, KMNC, NBC, SNAC, TKNC, TKNP
    "lenet1, C&W": (0.661, 0.964, 0.235, 0.249, 0.430, 8162),
    "lenet1, PGD": (0.644, 0.945, 0.102, 0.099, 0.451, 8025),
    "lenet4, C&W": (0.764, 0.965, 0.248, 0.250, 0.337, 7591),
    "lenet4, PGD": (0.739, 0.942, 0.177, 0.177, 0.374, 8161),
    "lenet5, C&W": (0.802, 0.966, 0.280, 0.286, 0.323, 7553),
    "lenet5, PGD": (0.792, 0.951, 0.195, 0.234, 0.398, 8557),
}


@dataclasses.dataclass(frozen=True)
class Arguments(subjects.Common):
    attacks: tuple[Literal["l2", "linf", "l0", "pgd", "fgsm"], ...] = ("l2", "linf", "l0", "pgd", "fgsm")
    examples: int = 24  # images that each attack is given, the first that the network gets right
    epsilon: float = 0.3  # of PGD and FGSM
    steps: int = 150  # gradients of L2 in each of 3 rounds; a fifth of them at each weight c of L0 and L∞
    counted: Literal["all", "first-and-outputs"] = "all"  # the neurons of the LeNets in the weights' file
    sections: tuple[int, ...] = (10, 1000)
    out: Path = Path("runs/coverage_of_attacks")  # where the results go


def main(arguments: Arguments) -> list[dict[str, Any]]:
    """Runs the experiment; one row for each network and suite."""
    store.make_folder(arguments.out)
    rows: list[dict[str, Any]] = []
    for network in subjects.networks(arguments):
        if arguments.counted == "first-and-outputs":
            network = network._replace(neurons=first_and_outputs(network))
        profile = cw.coverage.profiled(network.neurons, network.train.images, batch=250)
        criteria = criteria_of(profile, arguments)
        for name, images in suites(network, arguments).items():
            said = cw.coverage.measure(network.neurons, criteria, images, batch=200)
            numbers = {each: coverage.value for each, coverage in said.items()}
            rows.append({"network": network.name, "suite": name, "inputs": len(images)} | numbers)
            say(f"{network.name}, {name}: {len(images)} inputs")
        write(rows, arguments)  # after each network: what is done is kept
    return rows


def write(rows: list[dict[str, Any]], arguments: Arguments) -> None:
    """The table and the picture."""
    told = ["Coverage describes these suites; it is no measure of quality. Compare equal inputs of one network."]
    if arguments.counted == "first-and-outputs":
        told += [f"Published by CovTesting for {name}: {', '.join(map(str, row))}." for name, row in PUBLISHED.items()]
    shown.write("coverage_of_attacks", "Coverage of attacks' examples", rows, figure(rows), arguments, told=told)


def suites(network: subjects.Network, arguments: Arguments) -> Mapping[str, np.ndarray]:
    """Natural images and each attack's examples, equally many of each."""
    images = subjects.right(network, arguments.examples)
    found = {"natural, attacked": images.images}
    others = network.test.take(np.flatnonzero(~network.wrong)[arguments.examples :])
    found["natural, others"] = others.images[: arguments.examples]
    for name in arguments.attacks:
        found[name] = subjects.attacked(network, attack_of(name, arguments), images, seed=arguments.seed)
    least = min(map(len, found.values()))
    if not least:
        empty = [name for name, some in found.items() if not len(some)]
        raise RuntimeError(f"{', '.join(empty)} has no example for {network.name}: take more examples or steps")
    return {name: some[:least] for name, some in found.items()}


def attack_of(name: str, arguments: Arguments) -> Any:
    """The attack by its name."""
    few = max(arguments.steps // 5, 1)
    makes = {
        "l2": lambda: subjects.l2(arguments.steps),
        "linf": lambda: subjects.short(cw.linf, cw.search.shrink_tau, few),
        "l0": lambda: subjects.short(cw.l0, cw.search.shrink_mask, few),
        "pgd": lambda: cw.attacks.pgd(epsilon=arguments.epsilon),
        "fgsm": lambda: cw.attacks.fgsm(epsilon=arguments.epsilon),
    }
    return makes[name]()


def first_and_outputs(network: subjects.Network) -> cw.coverage.Neurons:
    """CovTesting's neurons: the elements of the first convolution and the outputs."""
    params = network.model.params
    if not isinstance(params, Mapping) or "block1_conv1" not in params:
        raise ValueError(f"first-and-outputs is for the LeNets of --weights, and {network.name} is another network")

    def function(params, x):
        logits, kept = subjects.activations_of(params, x)
        wanted = [name for name in kept if name.endswith(("block1_conv1", "predictions"))]
        return logits, {name: kept[name] for name in wanted}

    return cw.coverage.from_function(function, params, network.test.images, unit="element")


def criteria_of(profile: Profile, arguments: Arguments) -> dict[str, Criterion]:
    """Those of CovTesting's table, and finer sections."""
    of = profile.convention
    found = [cw.coverage.neuron_coverage(of, threshold=0.7)]
    found += [cw.coverage.section_coverage(profile, sections=k) for k in arguments.sections]
    found += [cw.coverage.boundary_coverage(profile), cw.coverage.strong_activation_coverage(profile)]
    found += [cw.coverage.top_neuron_coverage(of, k=2), cw.coverage.top_pattern_count(of, k=2)]
    return {criterion.name: criterion for criterion in found}


def figure(rows: list[dict[str, Any]]) -> Figure:
    """A panel for each criterion: networks, and a bar for each suite."""
    criteria, networks = list(rows[0])[3:], list(dict.fromkeys(row["network"] for row in rows))
    names = list(dict.fromkeys(row["suite"] for row in rows))
    drawn = Figure(figsize=(13, 6.2), dpi=110, layout="constrained")
    for place, criterion in enumerate(criteria):
        axes = drawn.add_subplot(2, -(-len(criteria) // 2), place + 1)
        for number, name in enumerate(names):
            heights = [row[criterion] for row in rows if row["suite"] == name]
            at = np.arange(len(networks)) + 0.8 * (number - (len(names) - 1) / 2) / len(names)
            colour = ("#9a9a9a", "#c9c9c9")[number] if number < 2 else COLORS[number % len(COLORS)]
            axes.bar(at, heights, 0.8 / len(names), label=name, color=colour)
        axes.set_xticks(range(len(networks)), networks, fontsize=8)
        axes.set_title(criterion, fontsize=9, color=INK, parse_math=False)
        shown.plain(axes, "", "")
    handles, labels = drawn.axes[0].get_legend_handles_labels()
    drawn.legend(handles, labels, loc="outside lower center", ncols=len(names), fontsize=8, frameon=False)
    drawn.suptitle("Coverage of equally many natural images (grey) and adversarial examples: a description, no quality")
    return drawn


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
