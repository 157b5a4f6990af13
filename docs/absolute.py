"""Makes the links and pictures of a document absolute, in place: a package index shows the README alone.

    python docs/absolute.py README.md https://github.com/OWNER/NAME v0.1.0

The workflow `release` does this before it builds.
"""

import re
import sys
from pathlib import Path

_RELATIVE = re.compile(r"(!?)(\[[^\]]*\])\((?!https?:|mailto:|#)([^)\s]+)\)")


def absolute(text: str, repository: str, tag: str) -> str:
    """The Markdown with every relative link led to that repository at that tag."""

    def led(found: re.Match[str]) -> str:
        picture, words, path = found.groups()
        return f"{picture}{words}({repository}/{'raw' if picture else 'blob'}/{tag}/{path})"

    return _RELATIVE.sub(led, text)


if __name__ == "__main__":
    document, repository, tag = sys.argv[1:]
    Path(document).write_text(absolute(Path(document).read_text("utf-8"), repository, tag), "utf-8")
