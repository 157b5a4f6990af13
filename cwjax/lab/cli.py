"""The command line: one function for each command, each in a folder of its own."""

import functools
import inspect
import re
import shlex
import sys
from collections.abc import Callable
from typing import Any, NoReturn

import tyro

from cwjax.lab.attacking.attack import attack
from cwjax.lab.attacking.demo import demo
from cwjax.lab.console import parsing, spelling
from cwjax.lab.console.progress import console
from cwjax.lab.covering.cover import cover
from cwjax.lab.data import CorruptData, MissingData
from cwjax.lab.doctor import doctor
from cwjax.lab.files import compiling, store
from cwjax.lab.generating.generate import generate
from cwjax.lab.racing.race import race
from cwjax.lab.reporting.report import report_on
from cwjax.lab.sweeps import commands
from cwjax.lab.training.train import train
from cwjax.lab.verifying.verify import verify

WELCOME = """Find the smallest change of an input that fools a model, and whether the number can be believed. To begin:

    cwjax attack --model zoo:mnist_cnn --attack fast_l2 --steps 100 --examples 20 --out runs/first

attacks 20 digits, which come with a package, on a network that comes with the library, in a few minutes.
Then open runs/first/report.html. `cwjax COMMAND --help` explains a command; `cwjax --version` says the version.
Whether the numbers can be believed (diagnose): the checks of `cwjax attack` say it, and are on by themselves.
"""
COMMANDS = {
    "attack": attack,
    "verify": verify,
    "report": report_on,
    "sweep": commands.sweep,
    "results": commands.answer,
    "race": race,
    "train": train,
    "cover": cover,
    "generate": generate,
    "demo": demo,
    "doctor": doctor,
}
# What the same command does after Ctrl-C; any other begins anew.
RESUMED: dict[str, str] = dict.fromkeys(
    ("train", "sweep", "race", "generate"), "goes on from what is finished, if anything is"
)
RESUMED["demo"] = "goes on with the training, and begins the attacks anew"


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line. A mistake of the user's is one line and exit code 2."""
    given = sys.argv[1:] if arguments is None else arguments
    brief = given[:1] in ([], ["-h"], ["--help"])
    try:
        spelling.check_command(given)
        spelling.check_options(given, COMMANDS)
        command = parsing.read(
            tyro.extras.subcommand_cli_from_dict,
            {name: _later(command, brief) for name, command in COMMANDS.items()},
            prog="cwjax",
            description=WELCOME,
            args=given,
        )
        compiling.keep(compiling.folder())
        command()
    except BrokenPipeError:
        raise  # for `start`: nobody reads on
    except (ValueError, OSError, MissingData, CorruptData, store.CorruptFile) as error:
        _fail(str(error))
    except KeyboardInterrupt as stop:
        console.print()
        what = RESUMED.get(given[0], "begins anew")
        told = f"{stop}. Go on with" if str(stop) else f"nothing half-written is left. The same command {what}"
        print(f"cwjax: stopped: {told}:", file=sys.stderr)
        print(f"cwjax {shlex.join(given)}", file=sys.stderr)
        sys.exit(130)


def _later(command: Callable[..., None], brief: bool) -> Callable[..., Callable[[], None]]:
    """The command, parsed but not yet run: an error of its own is then no error of parsing.

    Where `brief`, it is explained by its first sentence alone, for the list of all commands. Otherwise what is said of
    an argument is one line, because the parser keeps the ends of lines; an example follows without an empty line, of
    which the parser would make two; and a number has no comma, at which the parser would break it.
    """

    def later(*args: Any, **options: Any) -> Any:
        return functools.partial(command, *args, **options)

    parsed: Any = functools.update_wrapper(later, command)
    said = re.sub(r"(?<=\d),(?=\d{3})", "", inspect.getdoc(command) or "")
    text, heading, told = said.partition("\nArgs:\n")
    parsed.__signature__ = inspect.signature(command)
    del parsed.__wrapped__  # whose text the parser would take instead
    whole = re.sub(r"\n+(?=\n {4})", "", text) + heading + re.sub(r"\n {4,}(?=\S)", " ", told)
    parsed.__doc__ = said.split("\n\n")[0] if brief else whole
    return parsed


def _fail(message: str) -> NoReturn:
    print(f"cwjax: error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
