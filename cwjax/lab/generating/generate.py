"""`cwjax generate`."""

import functools
from pathlib import Path
from typing import Annotated

import tyro

from cwjax.arguments import check_count
from cwjax.lab.console.parsing import DataFolder
from cwjax.lab.console.progress import say, show
from cwjax.lab.console.tables import drawn
from cwjax.lab.files import outputs
from cwjax.lab.generating import generated, generating, tests_page
from cwjax.lab.generating.plans import Asked
from cwjax.lab.generating.settings import Settings, resolved
from cwjax.lab.generating.subject import check_solver, subject_of, training_images
from cwjax.lab.generating.systems import SYSTEMS
from cwjax.lab.subjects import AUTO


def generate(
    settings: tyro.conf.OmitArgPrefixes[Settings] = Settings(),
    *,
    system: str,
    model: Annotated[tuple[str, ...], tyro.conf.UseAppendAction],
    out: Path,
    data: str = AUTO,
    count: int = 20,
    batch: int = 16,
    seed: int = 0,
    data_folder: DataFolder = None,
) -> None:
    """Generate tests for a network, or for several on which they disagree, as a system of the literature does.

    The same command goes on where a run was stopped, and ends with the same bytes.

    Writes OUT/report.html, report.md, tests.parquet (a row for each test that was asked for, also where none was
    found), tests.npz (the tests and their seeds), generate.json, and OUT/units, what is done so far. `cwjax verify
    OUT` looks at every test again; `cwjax cover --suite OUT` says which neurons they reach.

    The table at the end counts tests: asked (for), met (found), met by a seed (which does it before any change), not
    met, and another answer (a model says something else than of the seed). For instance:

        cwjax generate --system deeptest --model zoo:mnist_lenet --count 10 --out runs/tests

    Args:
      settings: the system's.
      system: deepxplore: inputs on which several models disagree; deeptest: transforms of an image, such as brightness
        or rotation, that break its label; deeproad: weathers that do; deepct: inputs that activate combinations of
        neurons; deepconcolic: inputs that activate single neurons, or change their sign; deepfault: inputs that raise
        the neurons suspected of errors; fuzzing: random mutants, kept where they reach something new.
      model: see `cwjax attack`. For deepxplore two or more, each with a --model of its own.
      out: the folder to write to, such as runs/NAME.
      data: see `cwjax attack`. Seeds are its first test images that all models classify rightly.
      count: how many tests to ask for. deepxplore, deepfault, fuzzing: this number of seeds, one test from each;
        deeptest, deeproad: this number of seeds, one test from each under every transform or weather; deepct,
        deepconcolic: this number of requirements, one test for each.
      batch: tests at once. They are kept as soon as they are done.
      seed: of everything that is drawn.
      data_folder: where data is kept (by default $CWJAX_DATA, or else ~/.cache/cwjax/data).
    """
    told = resolved(system, settings)
    for flag, value, least in (("--count", count, 1), ("--batch", batch, 1), ("--seed", seed, 0)):
        check_count(flag, value, least=least, most=2**31 - 1)
    check_solver(told.get("solver", "none"))
    outputs.check(out, "generate", resumed=True)
    asks = ("--seeds", told["seeds"]) if "seeds" in told else ("--count", count)
    subject = subject_of(system, model, data, asks[1], data_folder, asked=asks[0])
    training = functools.cache(lambda: training_images(subject, data_folder))
    asked = Asked(system, subject, told, count, batch, seed, training)
    made = generating.run(asked, SYSTEMS[system](asked), out)
    outputs.forget_what_followed(out)
    generated.write(made, out)
    path = tests_page.write(made, out)
    rows = tests_page.summary(made)
    show(drawn(rows[0], (row.values() for row in rows)))
    say(tests_page.COLUMNS)
    say(tests_page.sentence(made))
    if subject.misread:
        say(tests_page.passed_over(made))
    say(f"Report: {path}")
    say(f"Next:   cwjax verify {out}")
