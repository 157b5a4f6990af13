"""`cwjax report`."""

from pathlib import Path
from typing import Annotated

import tyro

from cwjax.lab.attacking import runs
from cwjax.lab.console.parsing import DataFolder, optional
from cwjax.lab.console.progress import say
from cwjax.lab.files import outputs, store
from cwjax.lab.generating import generated, tests_page
from cwjax.lab.reporting import run_report, verdicts
from cwjax.lab.sweeps import results, sweep_report


def report_on(
    folder: tyro.conf.Positional[Path],
    *,
    out: Annotated[Path | None, optional("PATH", "that of the run or the sweep")] = None,
    data_folder: DataFolder = None,
) -> None:
    """Write the report of a run that `cwjax attack` or `cwjax generate` wrote, or of a whole sweep, which may still be
    running.

    Writes OUT/report.html, which needs no other file, and OUT/report.md with OUT/figures. For instance:

        cwjax report runs/grid

    Args:
      folder: of the run or the sweep, such as runs/NAME.
      out: the folder to write to.
      data_folder: where data is kept (by default $CWJAX_DATA, or else ~/.cache/cwjax/data): a sweep's clean images.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}")
    if out is None:
        out = folder
    elif out.resolve() != folder.resolve():
        outputs.check(out, "report")
    if (folder / results.PLAN).is_file():
        path = sweep_report.write(folder, out, data_folder)
    elif generated.is_one(folder):
        store.check_folder(out)
        path = tests_page.write(generated.read(folder), out)
    elif (folder / runs.FILE).is_file():
        store.check_folder(out)
        path = run_report.write(*runs.read(folder), out, verdicts.read(folder))
    else:
        raise FileNotFoundError(
            f"no run or sweep in {folder}: none of {runs.FILE}, {results.PLAN} and {generated.FILE} is there, which "
            "`cwjax attack`, `cwjax sweep` and `cwjax generate` write"
        )
    say(f"Report: {path}")
