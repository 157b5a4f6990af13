"""Runs the Python of a document with the cwjax that is installed, and not that of this folder.

    python -m build && python -m venv empty && empty/bin/python -m pip install dist/*.whl
    empty/bin/python -P tests/wheel.py README.md

It stands alone: the environment has nothing but the wheel and what the wheel needs.
"""

import re
import sys
from pathlib import Path

import cwjax


def main(document: Path) -> None:
    """Raises whatever the document's code raises, and SystemExit where it finds no examples."""
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


def typed() -> bool:
    """Whether the package says that it has types."""
    return Path(cwjax.__file__).with_name("py.typed").is_file()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
