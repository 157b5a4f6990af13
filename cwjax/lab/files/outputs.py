"""Folders that commands write to: each holds one run, and nothing of another stays beside it.

A command that goes on where it was stopped (`sweep`, `generate`, `race`) may write to its own folder again: what it has
done is kept by what decided it. Any other refuses a folder that holds a run, unless it is told to overwrite.
"""

import shutil
from collections.abc import Iterable
from pathlib import Path

from cwjax.lab.console.progress import say
from cwjax.lab.files import store

OF_COMMAND = {
    "run.json": "attack",
    "sweep.json": "sweep",
    "generate.json": "generate",
    "race.json": "race",
    "coverage.json": "cover",
}
"""A file that a run leaves -> the command that wrote it."""

_PAGES = dict.fromkeys(OF_COMMAND.values(), "report.html") | {"race": "race.md", "sweep": "results.parquet"}
_AFTERWARDS = ("report.html", "report.md", "verification.parquet")  # written of a run that is there
_FIGURES = "figures/*.png"
_ROWS = ("results.parquet", "adversarial.npz", "diagnosis.json", "tests.parquet", "tests.npz", "race.parquet")
_UNFINISHED = {"units", "quarantine", "leases", "events", "slurm", "kept"}  # what a run that was stopped leaves
_SAVED = "images"  # of `cwjax attack --save`


def commands_of(folder: Path) -> list[str]:
    """The commands of which the folder holds a run."""
    return [command for file, command in OF_COMMAND.items() if (folder / file).is_file()]


def check(folder: Path, command: str, *, resumed: bool = False, overwrite: bool | None = None) -> None:
    """Whether the command may write to the folder, before anything is done.

    Args:
      folder: to write to.
      command: that will write to it.
      resumed: whether the command may write to its own folder again.
      overwrite: whether another run may be replaced; None: the command has no such option.

    Raises:
      ValueError: the folder holds another run.
      OSError: it cannot be made or written to.
    """
    store.check_folder(folder)
    others = [each for each in commands_of(folder) if not (resumed and each == command)]
    if others and not overwrite:
        more = "" if overwrite is None else ", or say --overwrite to replace that run"
        raise ValueError(f"--out {folder} holds a run of `cwjax {others[0]}`: name another folder{more}")
    strange = sorted({each.name for each in folder.iterdir()} - _UNFINISHED) if folder.is_dir() else []
    if strange and not commands_of(folder):
        some = ", ".join(strange[:3]) + (", …" if len(strange) > 3 else "")
        say(f"{folder} holds other files ({some}): they stay.")


def none_there(folder: Path, command: str, what: str) -> FileNotFoundError:
    """The error where a folder holds no run of a command.

    Args:
      folder: where it was looked for.
      command: that would have written it.
      what: it would be: "run".
    """
    if not folder.is_dir():
        return FileNotFoundError(f"there is no folder {folder}")
    [file] = (file for file, each in OF_COMMAND.items() if each == command)
    others = commands_of(folder)
    held = f"{folder} is of `cwjax {others[0]}`: see {folder / _PAGES[others[0]]}" if others else ""
    if others[:1] == ["attack"] and command == "sweep":
        held += "; to compare several models or settings in one table, give them to `cwjax sweep`"
    return FileNotFoundError(
        f"no {what} in {folder} ({file} is missing): {held or f'run `cwjax {command} … --out {folder}` first'}"
    )


def forget_what_followed(folder: Path) -> None:
    """Removes what was made of the folder's run afterwards: its report and its verification."""
    if commands_of(folder):
        _remove(*(folder / name for name in _AFTERWARDS), *folder.glob(_FIGURES))


def forget(folder: Path, saved: Iterable[str]) -> None:
    """Removes all files of an earlier run. Files that none left stay, as does everything where there was no run.

    Args:
      folder: that is to be written to.
      saved: the attacks whose examples an earlier run may have saved besides.
    """
    if commands_of(folder):
        forget_what_followed(folder)
        some = [folder / place for attack in saved for place in (f"{attack}.npz", f"{_SAVED}/{attack}")]
        _remove(*some, *(folder / name for name in (*_ROWS, *OF_COMMAND)))


def _remove(*paths: Path) -> None:
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
