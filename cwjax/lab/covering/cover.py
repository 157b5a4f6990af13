"""`cwjax cover`."""

from pathlib import Path
from typing import Annotated

from cwjax import coverage
from cwjax.arguments import check_count
from cwjax.coverage.convention import Unit, Value
from cwjax.lab.attacking import presets
from cwjax.lab.console.parsing import DataFolder, optional
from cwjax.lab.console.progress import progress, say, show
from cwjax.lab.console.tables import drawn
from cwjax.lab.covering import coverage_page, covering
from cwjax.lab.data import Dataset, MissingData, load
from cwjax.lab.files import environment, outputs, store
from cwjax.lab.subjects import AUTO, model_and_data


def cover(
    *,
    model: str,
    out: Path,
    suite: Annotated[tuple[Path, ...], optional("[PATH ...]", "none")] = (),
    data: str = AUTO,
    layers: tuple[str, ...] = ("activation",),
    value: Value = "after",
    unit: Unit = "channel mean",
    sections: int = 1000,
    training: Annotated[str | None, optional("DATA", "the training images of --data")] = None,
    overwrite: bool = False,
    data_folder: DataFolder = None,
) -> None:
    """Say which neurons the test images reach, and the examples of attacks, beside equally many test images.

    Coverage describes inputs; it is no measure of quality. Ranges of neurons are those of the data's training images.

    Writes OUT/report.html, report.md, a figure, and coverage.json (every number, with what a neuron was). For instance:

        cwjax cover --model zoo:mnist_cnn --suite runs/first --out runs/cover

    Args:
      model: see `cwjax attack`; how a model of another framework is taken stands behind its name:
        net.onnx,layout=NCHW,mean=0.5.
      out: the folder to write to.
      suite: folders that `cwjax attack` wrote: the examples that succeeded, by attack; that `cwjax sweep` wrote: by
        configuration, so that coverage is seen along every axis; or that `cwjax generate` wrote: the tests found.
      data: whose images; auto: see `cwjax attack`.
      layers: which are counted: activation, convolution, dense, pool, or names such as relu_0.
      value: of activation functions: what comes out of them, or what goes in.
      unit: what a neuron is: the mean of a channel over its positions, its maximum, or each element.
      sections: of each neuron's range, for KMNC.
      training: whose images give the ranges of neurons; for data that has no training images, such as FILE.npz.
      overwrite: see `cwjax attack`.
      data_folder: where data is kept (by default $CWJAX_DATA, or else ~/.cache/cwjax/data).
    """
    check_count("--sections", sections)
    outputs.check(out, "cover", overwrite=overwrite)
    covering.check_suites(suite)
    network, _, data, dataset = model_and_data(model, data, data_folder)
    test = dataset.images
    suites = [covering.Suite(covering.NATURAL, test), *covering.suites_of(suite, test.shape[1:], model)]
    seen = load(training, "test", data_folder) if training else _training(data, data_folder)
    neurons = coverage.neurons(network, test, layers=layers, value=value, unit=unit)
    say(f"Ranges of neurons: from {len(seen.images):,} training images.")
    profile = coverage.profiled(neurons, seen.images)
    criteria = covering.criteria_of(profile, sections)
    ends = [len(each.images) for each in suites]
    with progress("suites covered", len(suites), first="compiling") as advance:
        points = covering.measured(neurons, criteria, suites, ends, advance)
    about = {
        "model": model,
        "data": data,
        "training images": profile.count,
        "neurons": str(profile.convention),
        "suites": [str(folder) for folder in suite],
        "weights": neurons.network(),
        "environment": environment.describe(),
    }
    measurements = [
        {
            "suite": point.suite,
            "inputs": point.inputs,
            "criterion": name,
            "value": said.value,
            "covered": dict(said.covered),
        }
        for point in points
        for name, said in point.coverages.items()
    ]
    outputs.forget(out, presets.PRESETS)
    store.write_json(out / "coverage.json", about | {"measurements": measurements})
    rows = covering.table(points, list(criteria))
    notes = covering.moved(suite, model)
    path = coverage_page.write(out, points, list(criteria), about, f"Coverage of {model} on {data}", notes)
    show(drawn(rows[0], (row.values() for row in rows)))
    say(coverage_page.LEGEND)
    for note in notes:
        say(note)
    say("Coverage describes inputs; it is no measure of quality.")
    say(f"Report: {path}")
    if not suite:
        say(f"Next:   the same command with --suite FOLDER, of an attack on {model}, and another --out")
    else:
        say(f"Next:   cwjax generate --system deepconcolic --model {model} --out {out}-tests  # tests that reach more")


def _training(data: str, folder: Path | None) -> Dataset:
    """The training images of that name. Raises MissingData where there are none."""
    try:
        return load(data, "train", folder)
    except MissingData as error:
        raise MissingData(
            f"{error}: the ranges of neurons need training images; name others with --training"
        ) from error
