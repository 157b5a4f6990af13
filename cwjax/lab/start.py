"""Where the command `cwjax` begins: it says what is missing where the package was installed without its lab."""

import sys


def main() -> None:
    """The command line of `cwjax.lab.cli`, or one line that says how to install it."""
    try:
        from cwjax.lab.cli import main as run
    except ModuleNotFoundError as error:
        if not error.name or error.name.partition(".")[0] == "cwjax":
            raise
        sys.exit(f'cwjax: the command line needs {error.name}, which is not installed: pip install "cwjax[demo]"')
    run()
