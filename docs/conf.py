"""The site: `make docs` builds it from docs/, benchmarks/, notebooks/ and CHANGELOG.md, where they are.

The root of the sources is the repository, so that a link between two documents is the same here and in a file browser.
Two pages are written on the way, into docs/generated: what each command says to --help, what each experiment claims.
"""

import ast
import os
import subprocess
import sys
from pathlib import Path

import cwjax

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

import docstrings  # noqa: E402 - the module beside this file
from sphinx.ext.autodoc.mock import mock  # noqa: E402
from sphinx.util import logging  # noqa: E402

from tests import public  # noqa: E402

GENERATED = ROOT / "docs" / "generated"
COMMANDS = ("train", "attack", "verify", "sweep", "results", "report", "race", "cover", "generate", "doctor", "demo")

project = "cwjax"
author = "The cwjax maintainers"
version = release = cwjax.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
root_doc = "docs/index"
include_patterns = [
    *("docs/*.md", "docs/**/*.md", "benchmarks/*.md", "notebooks/*.py"),
    *("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "RELEASING.md", "cwjax/lab/zoo/README.md"),
]
exclude_patterns = ["docs/_build", "benchmarks/coverage_golden.md"]

html_theme = "furo"
html_title = f"cwjax {release}"
html_copy_source = False
html_extra_path = ["root"]  # index.html, which leads to docs/index.html

# Notebooks are Jupytext sources. Running all of them takes minutes: `make docs-executed` does, and keeps what came out.
nb_custom_formats = {".py": ["stories.read", {}]}
nb_execution_mode = "cache" if os.environ.get("CWJAX_DOCS_EXECUTE") else "off"
nb_execution_cache_path = str(ROOT / "docs" / "_build" / "notebooks")
nb_execution_timeout = 600
nb_execution_in_temp = True  # the fourth notebook writes a sweep
nb_execution_raise_on_error = True

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 4
myst_links_external_new_tab = False

# Docstrings are plain text with names in single backticks. Frameworks need not be installed for theirs to be read.
default_role = "code"
autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints = "none"
autodoc_preserve_defaults = True

# The adapters are imported here, when their frameworks are first asked for; those that are missing are stood in for.
with mock(["torch", "foolbox", "art", "keras", "equinox", "haiku", "sklearn", "onnx", "eagerpy"]):
    for _name in cwjax.adapters.__all__:
        setattr(cwjax.adapters, _name, getattr(cwjax.adapters, _name))

napoleon_numpy_docstring = False

linkcheck_timeout = 20
linkcheck_retries = 2

suppress_warnings = ["misc.highlighting_failure"]


def _help() -> str:
    """What each command says to --help, as a page."""
    program = (
        "import sys\n"
        "from cwjax.lab.cli import main\n"
        "for command in sys.argv[1:]:\n"
        "    print(f'\\n## cwjax {command}\\n\\n```text', flush=True)\n"
        "    sys.argv = ['cwjax', command, '--help']\n"
        "    try:\n"
        "        main()\n"
        "    except SystemExit:\n"
        "        print('```', flush=True)\n"
    )
    plain = os.environ | {"COLUMNS": "110", "NO_COLOR": "1", "TERM": "dumb"}
    done = subprocess.run(
        [sys.executable, "-c", program, *COMMANDS], cwd=ROOT, env=plain, capture_output=True, text=True, check=True
    )
    return f"# The command line\n\n`cwjax COMMAND --help` prints these texts.\n{done.stdout}"


def _experiments() -> str:
    """What each experiment claims, how it is run, and what to expect: its own first lines, as a page."""
    page = [
        "# Experiments",
        "",
        "Each experiment is one file: a claim, its command, its cost, and the numbers to expect, beside those that",
        "were published. These are the first lines of the files in `experiments/`.",
        "",
    ]
    for file in sorted((ROOT / "experiments").glob("*.py")):
        said = ast.get_docstring(ast.parse(file.read_text("utf-8"))) or ""
        if "Claim" in said:
            page += [f"## {file.stem}", "", said, ""]
    return "\n".join(page)


def _prepared(app, what, name, obj, options, lines: list[str]) -> None:
    lines[:] = docstrings.prepared(lines)


def _written(app) -> None:
    GENERATED.mkdir(exist_ok=True)
    for name, made in (("commands.md", _help), ("experiments.md", _experiments)):
        file, text = GENERATED / name, made()
        if not file.is_file() or file.read_text("utf-8") != text:
            file.write_text(text, "utf-8")


def _complete(app, env) -> None:
    """Warns of every public name that the reference lacks, which `make docs` makes an error."""
    known = env.domains.python_domain.objects
    for where, module in public.modules().items():
        for name in public.names(module):
            if f"{where}.{name}" not in known:
                logging.getLogger(__name__).warning("the reference lacks %s.%s", where, name)


def setup(app) -> None:
    app.connect("builder-inited", _written)
    app.connect("env-check-consistency", _complete)
    app.connect("autodoc-process-docstring", _prepared, priority=400)  # before Napoleon, which comes at 500
