"""`cwjax attack`."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from rich.table import Table

from cwjax.arguments import check_count
from cwjax.lab import defending, options
from cwjax.lab.attacking import advising, attacking, presets, rows, runs, saving, selection
from cwjax.lab.attacking.request import Request
from cwjax.lab.attacking.rows import Targets
from cwjax.lab.console.parsing import DataFolder, optional
from cwjax.lab.console.progress import say, show
from cwjax.lab.data import Dataset
from cwjax.lab.files import environment, outputs, store
from cwjax.lab.reporting import findings, run_report, verdicts
from cwjax.lab.subjects import AUTO, model_and_data
from cwjax.models import Model

_UNSHOWN = ("history", "environment", "classes")  # of a model's card


def attack(
    settings: tyro.conf.OmitArgPrefixes[presets.Settings] = presets.Settings(),
    *,
    model: str,
    out: Path,
    attack: tuple[str, ...] = ("l2",),
    examples: int = 100,
    targets: Annotated[Targets, optional(rows.METAVAR, "untargeted")] = "untargeted",
    data: str = AUTO,
    only_correct: bool = False,
    checks: bool = True,
    overwrite: bool = False,
    defence: Annotated[str | None, optional("NAME", "none")] = None,
    seed: int = 0,
    rounded: bool = False,
    restored: bool = False,
    mask: Annotated[Path | None, optional("FILE.npy")] = None,
    save: Annotated[tuple[Literal["png", "npz"], ...], optional("[{png,npz} ...]", "none")] = (),
    width: int | Literal["auto"] = "auto",
    precision: Literal["bfloat16", "tensorfloat32", "highest"] = "highest",
    how: Annotated[Literal["auto", "convert", "ask"] | None, optional("{auto,convert,ask}", "auto")] = None,
    layout: Annotated[Literal["NHWC", "NCHW"] | None, optional("{NHWC,NCHW}", "found")] = None,
    mean: Annotated[tuple[float, ...], optional("[FLOAT ...]", "0")] = (),
    std: Annotated[tuple[float, ...], optional("[FLOAT ...]", "1")] = (),
    softmax: Annotated[Literal["refuse", "cut"] | None, optional("{refuse,cut}", "refuse")] = None,
    resize: Annotated[str | None, optional("HxW", "never")] = None,
    data_folder: DataFolder = None,
) -> None:
    """Attack the first test images of a data set, with one attack or several, and write a report.

    The first are those of its own fixed order, which may be shuffled: the index of a row is the image's place in the
    source.

    Writes OUT/report.html, report.md, results.parquet (one row an attack, example and target), adversarial.npz,
    diagnosis.json (whether the numbers can be believed) and run.json (what `cwjax report` needs).

    A setting that is left out is the attack's own, that of the paper's released code; the report shows the numbers.
    For instance, 20 digits on a network that comes along:

        cwjax attack --model zoo:mnist_cnn --attack fast_l2 fast_linf --steps 100 --examples 20 --out runs/first

    And your own images on your own PyTorch network, which the function net of mynet.py returns:

        cwjax attack --model mynet:net --data mine.npz --mean 0.5 --std 0.25 --attack fast_l2 --out runs/mine

    The file mynet.py lies in the folder where you give the command:

        import torch

        def net():
            network = MyNet()
            network.load_state_dict(torch.load("net.pt"))
            return network.eval()

    Of a function of JAX, of weights and a batch of images [B, H, W, C] to logits [B, K], mynet.py is:

        import cwjax

        def net():
            return cwjax.bind(lambda params, x: x.reshape(len(x), -1) @ params, weights)

    And in Python, numpy.savez("mine.npz", images=x, labels=y) writes the images.

    Args:
      settings: of the attack. Left out, they are its own, so nobody needs them to begin. To compare several values of
        one, or several models, in one table: `cwjax sweep`.
      model: zoo:NAME, a network that comes along. Of digits (mnist5k): mnist_cnn, the paper's; mnist_distilled, the
        same by defensive distillation; mnist_robust, the same trained on adversarial images in L-infinity; mnist_lenet,
        trained on those in L2; mnist_certified, by interval bounds; mnist_squared, by squared loss; mnist_winners, in
        which few units are active. Of photographs (cifar10_sample): cifar_cnn, the paper's; cifar_resnet. Or a folder
        that `cwjax train` wrote; net.onnx, net.keras or net.h5; or MODULE:FUNCTION, a function without arguments in
        MODULE.py, which is looked for in this folder first. It returns a module of PyTorch, Flax NNX, Equinox, Keras or
        scikit-learn; cwjax.bind(apply, params), where apply(params, x) is a function of JAX; or a cwjax.Task: a model
        that need not be a classifier, with its own inputs and goals.
      out: the folder to write to, such as runs/NAME.
      attack: by the norm that it makes small: l2, l1, l0 and linf as in the paper, and lbfgs; and fast_l2, fast_l1,
        fast_linf and fast_l0, which spend exactly --steps gradients. Begin with a fast one: it takes minutes. l2 may
        take 10,000 steps in each of 9 rounds by itself, hours on a CPU, unless --steps and --search-steps are fewer.
        Several, such as l2 l0 linf, go to the same examples. `cwjax race --help` lists the others, such as fmn, which
        are for Python and `cwjax race`.
      examples: how many test images.
      targets: what each image is to be taken for. untargeted: any wrong class; random: one wrong class, drawn for each
        image, which is the paper's average case, and also called average; best, worst: every wrong class is tried, and
        each image's easiest or hardest is kept; all: every wrong class is tried, and all are kept; the number of a
        class, such as 7: that one. Images that are of this class are left out, and the next ones taken.
      data: mnist5k, mnist, fashion_mnist, cifar10, or cifar10_sample (100 images that come with the zoo); FILE.npz with
        the arrays images [N, H, W, C], uint8 or floats in [0, 1] (or between those of the array bounds), and labels,
        integers from 0; a folder of PNG and JPEG files by class; tfds:NAME or hf:NAME. auto: what
        the network was trained on, as its card says, the file card.json that `cwjax train` writes beside the weights;
        for zoo:NAME and MODULE:FUNCTION that of mnist5k and cifar10_sample whose images the model takes; of a task its
        own inputs.
      only_correct: leave out images that the model gets wrong before any attack, and take the next ones.
      checks: ask whether the numbers can be believed (cwjax.diagnose). It costs a sixth of an attack on many images;
        on ten, more than the attack. To ask later, give the same command once more, with --overwrite.
      overwrite: replace the run that OUT holds, once the new one has ended. Otherwise such a folder is refused.
      defence: put before the network or beside it; the attack knows of it. What a defence brings: `cwjax sweep
        --defence none NAME`. Nothing is trained for mean_filter, feature_squeezing, kernel_density,
        dropout_uncertainty and last_components; a network is, once, in minutes, for first_components, magnet,
        distilled, bounded_relu, extra_class, second_network and inner_layer. All but mean_filter, first_components,
        distilled and bounded_relu have a detector: an image is to be misread and not refused. They learn from the first
        10,000 training images of the data; what they learnt is kept under runs/models/defences.
      seed: of the targets drawn, and of the attack.
      rounded: round the adversarial images to 8-bit pixels. Of those that this breaks, single values are moved until
        they are adversarial again.
      restored: undo the changes that the goal does not need, the smallest first; after rounding.
      mask: change only some elements: a file that numpy.save wrote, of booleans that broadcast to an image [H, W, C],
        True where an element may change. Left out: all may.
      save: the successes, besides: png, one file each, looked at again as they are on disk, in 8 bits; npz, a file that
        --data takes.
      width: how many rows to attack at once; auto: 64 on a CPU, 4096 on a GPU, and less if memory is short.
      precision: of the search. Whatever it is, an example counts only if it stands in float32: those that just miss are
        lengthened by up to an eighth.
      how: of a PyTorch module: convert it to JAX, or ask it at every step; auto: convert it if that works.
      layout: how a model of another framework takes images.
      mean: what images are normalised by before the model, one number or one a channel.
      std: likewise.
      softmax: at the end of an ONNX or Keras model: refuse it, or cut it off.
      resize: images of a folder, tfds: or hf: to this height and width, such as 224x224. Other sizes are refused.
      data_folder: where data is kept (by default $CWJAX_DATA, or else ~/.cache/cwjax/data).
    """
    chosen = presets.resolved(attack, settings)
    check_count("--examples", examples)
    rows.check_targets(targets)
    outputs.check(out, "attack", overwrite=overwrite)
    if mask is not None and not mask.is_file():
        raise ValueError(f"--mask {mask}: there is no such file: write the booleans with numpy.save('{mask}', …)")
    taken = {"how": how, "layout": layout, "mean": _numbers(mean), "std": _numbers(std), "softmax": softmax}
    model, data = options.joined(model, taken), options.joined(data, {"resize": resize})
    saving.check(save)
    both = ""
    if defence is not None:
        axes = {"model": model, "data": data, "targets": targets, "examples": examples, "seed": seed}
        on = {"only-correct": only_correct, "rounded": rounded, "restored": restored}
        both = _sweep_of(defence, attack, axes | presets.given(settings) | {"precision": precision}, on, out)
        model, data = defending.named(model, defence, None if data == AUTO else data), AUTO
    network, card, data, dataset = model_and_data(model, data, data_folder)
    saving.check_pictures(save, dataset)
    if dataset.task:
        chosen = presets.resolved(attack, settings, dataset.task)
    presets.check_features(attack, dataset.features, data, rounded=rounded, restored=restored)
    dataset = rows.aimed_at(dataset, targets)
    selection.check_enough(examples, dataset, targets)
    allowed = selection.mask_of(mask, dataset) if mask else None
    some = dataset.take(selection.first_right(network, dataset, examples) if only_correct else np.arange(examples))
    attacked = [
        attacking.run(
            network,
            some,
            Request(name, own, targets, seed, precision, rounded, restored),
            width=width,
            checks=checks,
            mask=allowed,
        )
        for name, own in chosen.items()
    ]
    configuration = {"data": data, "model": model, "examples": examples, "targets": targets, "rounded": rounded}
    configuration |= {"targets": "goals of the task"} if some.task else {}
    configuration |= {
        "restored": restored,
        "only_correct": only_correct,
        "seed": seed,
        "width": width,
        "precision": precision,
    }
    if allowed is not None:
        free = np.broadcast_to(allowed, some.images.shape[1:])
        what = "a vector" if dataset.features else "an image"
        configuration["mask"] = f"{mask}: {free.sum():,} of {free.size:,} elements of {what} may change"
    finish(out, attacked, some, configuration, card | _defence(network, some, card))
    for kind in save:
        for line in saving.save(kind, attacked, some, network, out):
            say(line)
    if more := advising.options(attacked, examples, len(dataset.labels)):
        say(f"Next:   the same command with {more} --overwrite, as the checks advise")
    say(f"Next:   cwjax verify {out}")
    if both and mask is None:
        say(f"Next:   {both}  # with and without the defence")


def finish(
    out: Path, attacked: list[rows.Attacked], dataset: Dataset, configuration: dict[str, Any], card: dict[str, Any]
) -> Path:
    """Writes everything, prints the table and says where the report lies. Returns the report's path.

    What an earlier run left in the folder is removed.
    """
    outputs.forget(out, presets.PRESETS)
    rows.write(attacked, out)
    found = runs.runs_of(attacked, dataset)
    names = [run.name for run in found]
    which = f"{', '.join(names[:-1])} and {names[-1]} attacks" if len(names) > 1 else f"{names[0]} attack"
    behind = f" behind {card['defence']}" if "defence" in card and not dataset.task else ""  # a task's name says it
    about = run_report.About(
        title=f"{which} on {dataset.name}{behind}",
        configuration=configuration,
        environment=environment.describe(),
        history=card.get("history"),
        model={key: value for key, value in card.items() if key not in _UNSHOWN},
    )
    runs.record(found, about, out)
    diagnoses = {each.attack: each.diagnosis for each in attacked if each.diagnosis}
    if diagnoses:
        store.write_json(out / verdicts.FILE, {name: diagnosis.to_json() for name, diagnosis in diagnoses.items()})
    path = run_report.write(found, about, out, believed=verdicts.read(out))
    show(_summary(found, about.title))
    for sentence in findings.before_any_attack(found):
        say(sentence)
    if not diagnoses:
        say(verdicts.UNCHECKED)
    for name, diagnosis in diagnoses.items():
        say(f"{name} attack: {diagnosis}")
    say(f"Report: {path}")
    return path


def _defence(network: Model, some: Dataset, card: Mapping[str, Any]) -> dict[str, str]:
    """What the report says of a defence; empty where there is none. The console tells what it does to clean images."""
    if "defence" not in card:
        return {}
    found = defending.on_clean(network, some)
    counts = "; ".join(f"{heading}: {count}" for heading, count in found.items())
    say(f"Behind {card['defence']}, which the attack knows: {counts}.")
    found = {"what the attack knows": "the network and the defence"} | found
    others = ", ".join(name for name in card if name not in (*defending.OPTIONS, "task", *_UNSHOWN))
    return found | ({"of the network before the defence": others} if others else {})


def _sweep_of(defence: str, attack: Sequence[str], axes: Mapping[str, Any], on: Mapping[str, bool], out: Path) -> str:
    """The command that attacks in the same way with the defence and without it."""
    own = {"data": AUTO, "targets": "untargeted", "seed": 0, "precision": "highest"}  # of a sweep
    words = ["cwjax", "sweep", "--defence", defending.NONE, defence, "--attack", *attack]
    for name, value in axes.items():
        words += [] if own.get(name) == value else [f"--{name.replace('_', '-')}", str(value)]
    return shlex.join([*words, *(f"--{name}" for name, asked in on.items() if asked), "--out", f"{out}-defence"])


def _numbers(values: tuple[float, ...]) -> str:
    return "/".join(f"{value:g}" for value in values)


def _summary(found: list[findings.Run], title: str) -> Table:
    """The table of a run on the terminal."""
    rows = findings.headed([row for run in found for row in findings.summary_rows(run)], task=bool(found[0].task))
    left_out = {"forwards", "backwards", *(f"mean {norm}" for norm, _ in findings.NORMS.values())}
    left_out -= {f"mean {findings.norm_name(found[0].norm)}"} if "norm" not in rows[0] else set()
    left_out |= {"case"} if len(rows) == len(found) else set()
    headings = [heading for heading in rows[0] if heading not in left_out]
    called = {"seconds": "seconds without compiling"}
    table = Table(*(called.get(heading, heading) for heading in headings), title=title)
    table.caption = findings.of_successes(rows) or None
    for row in map(findings.shown, rows):
        table.add_row(*(row[heading] for heading in headings))
    return table
