"""Where the command `cwjax` begins: it says what is missing where the package was installed without its lab."""

import importlib.metadata
import os
import sys

from cwjax.lab.console import spelling


def main() -> None:
    """The command line of `cwjax.lab.cli`, or one line that says how to install it. `--version` prints the version."""
    if sys.argv[1:] == ["--version"]:
        print(f"cwjax {importlib.metadata.version('cwjax')}")
        return
    try:
        spelling.check_command(sys.argv[1:])
    except ValueError as error:
        print(f"cwjax: error: {error}", file=sys.stderr)
        sys.exit(2)
    try:
        from cwjax.lab.cli import main as run
    except ModuleNotFoundError as error:
        if not error.name or error.name.partition(".")[0] == "cwjax":
            raise
        sys.exit(f'cwjax: the command line needs {error.name}, which is not installed: pip install "cwjax[demo]"')
    try:
        try:
            run()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # whoever reads, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)  # as if SIGPIPE had ended it
