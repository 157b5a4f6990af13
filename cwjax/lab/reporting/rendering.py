"""Templates made into pages: either format escapes every value that it is given, and a page needs no other file."""

import base64
import hashlib
import html
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from cwjax.lab.files import store

_FIGURES = (
    r"(\w+-){0,2}(examples|success|ablation|gradients)\.png|training\.png"  # what an earlier report may have drawn
)


def pages(template: str, content: Mapping[str, Any]) -> dict[str, bytes]:
    """report.html and report.md, from `templates/TEMPLATE.html.jinja` and `templates/TEMPLATE.md.jinja`."""
    script = (Path(__file__).parent / "templates" / "page.js").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    own = {"html": {"script": Markup(script), "script_source": f"sha256-{digest}"}, "md": {}}
    return {
        f"report.{kind}": _environment(kind).get_template(f"{template}.{kind}.jinja").render(content, **more).encode()
        for kind, more in own.items()
    }


def put(files: Mapping[str, bytes], folder: Path) -> Path:
    """Writes the files of a report, each whole or not at all, and removes figures that only an earlier one had.

    Returns:
      The path of report.html.

    Raises:
      OSError: `folder`, which the message names, cannot be made or written to.
    """
    for name, content in files.items():
        with store.atomically(folder / name) as temporary:
            temporary.write_bytes(content)
    for old in (folder / "figures").glob("*.png"):
        if f"figures/{old.name}" not in files and re.fullmatch(_FIGURES, old.name):
            old.unlink()
    return folder / "report.html"


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings on one level: {"a": {"b": [1, 2]}} is {"a.b": "1, 2"}. A list of nothing says "none"."""
    found: dict[str, str] = {}
    for key, value in settings.items():
        if isinstance(value, dict) and value:
            found |= flat(value, f"{prefix}{key}.")
        elif isinstance(value, (list, tuple)):
            found[f"{prefix}{key}"] = ", ".join(map(str, value)) or "none"
        else:
            found[f"{prefix}{key}"] = str(value)
    return found


def _environment(kind: str) -> Environment:
    settings: dict[str, Any] = {"trim_blocks": True, "lstrip_blocks": True, "keep_trailing_newline": True}
    settings |= {"autoescape": True} if kind == "html" else {"finalize": _markdown}
    return Environment(loader=PackageLoader("cwjax.lab.reporting"), undefined=StrictUndefined, **settings)


def _markdown(value: Any) -> str:
    """Text in which neither Markdown nor HTML sees anything to interpret, on one line."""
    plain = html.escape(" ".join(str(value).split()), quote=False)
    return re.sub(r"[\\`*\[\]|~]|(?<!\w)_|_(?!\w)", r"\\\g<0>", plain)
