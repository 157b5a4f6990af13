"""One attack run as a page to read: `report.html`, which needs no other file, and its Markdown twin `report.md`.

    from cwjax.lab import report

    report.write(run, Path("runs/l2"))  # -> runs/l2/report.html, runs/l2/report.md, runs/l2/figures/*.png

The words that do not depend on the run are in `templates/`.
"""

import html
import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from cwjax.lab import pictures, store
from cwjax.lab.findings import NORMS, Run, columns_of, median_of, number, shown, summary_rows, verdict

__all__ = ["Run", "shown", "summary_rows", "write"]


def write(run: Run, folder: Path) -> Path:
    """Write report.html, report.md and figures/ into `folder`, replacing what an earlier call wrote there.

    Each file appears whole or not at all, and none is touched before all of them are drawn.

    Returns:
      The path of report.html.

    Raises:
      ValueError: the run has no rows, lacks a column, or has another number of images than of rows.
      OSError: `folder`, which the message names, cannot be made or written to.
    """
    columns = columns_of(run)
    drawn = {
        "examples": pictures.examples(run, columns),
        "success": pictures.curve(run, columns),
        "training": pictures.training(run),
    }
    shots = {name: picture for name, picture in drawn.items() if picture is not None}
    headings = {"examples": "Examples", "success": "Success within a distance"}
    headings |= {"training": "Training"} if "training" in shots else {}
    how = run.environment | {f"{stage} (seconds)": number(spent) for stage, spent in run.seconds.items()}
    tables = {"Configuration": _flat(run.configuration), "Model": _flat(run.model), "How it was run": _flat(how)}
    content = {
        "run": run,
        "result": verdict(run, columns),
        "broken": columns["index"][~columns["finite"]].tolist(),
        "rows": [shown(row) for row in summary_rows(run)],
        "headings": headings,
        "pictures": shots,
        "tables": {heading: rows for heading, rows in tables.items() if rows},
        "norms": NORMS,
        "median": {name: number(median_of(columns, name)) for name in ("c", "margin")},
    }
    files = {picture.file: picture.png for picture in shots.values()}
    for name in ("report.md", "report.html"):
        files[name] = _template(name).render(content).encode()
    for name, data in files.items():
        with store.atomically(folder / name) as temporary:
            temporary.write_bytes(data)
    for name in drawn.keys() - shots.keys():
        (folder / "figures" / f"{name}.png").unlink(missing_ok=True)
    return folder / "report.html"


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings on one level: {"a": {"b": [1, 2]}} is {"a.b": "1, 2"}."""
    flat: dict[str, str] = {}
    for key, value in settings.items():
        if isinstance(value, dict) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    return flat


def _template(name: str) -> Template:
    """Of report.html or report.md. Either escapes every value that it is given."""
    settings: dict[str, Any] = {"trim_blocks": True, "lstrip_blocks": True, "keep_trailing_newline": True}
    settings |= {"autoescape": True} if name.endswith(".html") else {"finalize": _markdown}
    environment = Environment(loader=PackageLoader("cwjax.lab"), undefined=StrictUndefined, **settings)
    return environment.get_template(f"{name}.jinja")


def _markdown(value: Any) -> str:
    """Text in which neither Markdown nor HTML sees anything to interpret, on one line."""
    plain = html.escape(" ".join(str(value).split()), quote=False)
    return re.sub(r"[\\`*\[\]|~]|(?<!\w)_|_(?!\w)", r"\\\g<0>", plain)
