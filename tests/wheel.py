"""Runs the Python of a document with the cwjax that is installed, and not that of this folder; and weighs the wheel.

    python -m build && python -m venv empty && empty/bin/python -m pip install dist/cwjax-*.whl
    empty/bin/python -P tests/wheel.py README.md dist/cwjax-*.whl

It stands alone: the environment has nothing but the wheel and what the wheel needs.
"""

import re
import sys
from pathlib import Path

import cwjax

LARGEST = 3_000_000  # bytes of a wheel


def main(document: Path, wheel: Path) -> None:
    """Raises whatever the document's code raises, and SystemExit where an example fails or the wheel is too large."""
    if (size := wheel.stat().st_size) > LARGEST:
        sys.exit(f"{wheel} has {size:,} bytes, and must not have more than {LARGEST:,}: move a network to cwjax_zoo/")
    if Path(__file__).parents[1] in Path(cwjax.__file__).parents:
        sys.exit(
            f"this is the cwjax of the folder, {cwjax.__file__}: run it with python -P in an environment of its own"
        )
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", document.read_text("utf-8"), re.DOTALL):
        exec(block, names)
    if not names["result"].success.all():
        sys.exit("not every example was fooled")
    fooled = len(names["result"].x)
    print(f"{document.name} runs with {cwjax.__file__}: {fooled} examples fooled, py.typed is there: {typed()}")
    print(f"{wheel.name}: {size:,} bytes")


def typed() -> bool:
    """Whether the package says that it has types."""
    return Path(cwjax.__file__).with_name("py.typed").is_file()


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
