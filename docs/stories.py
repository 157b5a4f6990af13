"""Notebooks for the site: Jupytext sources, marked as Python so that their code is coloured without being run."""

import jupytext


def read(text: str):
    """The notebook of a source in the format `py:percent`."""
    notebook = jupytext.reads(text, fmt="py:percent")
    notebook.metadata["language_info"] = {"name": "python", "pygments_lexer": "ipython3"}
    return notebook
