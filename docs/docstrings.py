"""Docstrings for the site. They are plain text with names in single backticks, and Sphinx reads reStructuredText."""

import re

_SECTION = re.compile(r"^(Args|Returns|Raises|Example|References|Yields):")


def prepared(lines: list[str]) -> list[str]:
    """The lines with what reStructuredText would misread made plain: `*S`, `|x|`, and indented formulas and programs.

    Indented blocks of the text before `Args:` become literal; stars and bars outside backticks are escaped. Each
    of the references becomes an item of a list.
    """
    out: list[str] = []
    section, literal, quoted = "", False, False
    for number, line in enumerate(lines):
        found = _SECTION.match(line)
        section = found.group(1) if found else section
        indented = line.startswith("    ") and not section
        begins = indented and not literal and (number == 0 or not lines[number - 1].strip())
        literal = (indented and (literal or begins)) or (literal and not line.strip())
        if begins:
            out += ["::", ""]
        if literal or section == "Example":
            out.append(line)
            continue
        plain, quoted = _escaped(line, quoted)
        out.append(re.sub(r"^  (?=\S)", "  - ", plain) if section == "References" else plain)
    return out


def _escaped(line: str, quoted: bool) -> tuple[str, bool]:
    """The line with stars and bars escaped outside backticks; whether a backtick is open before it, and after."""
    parts = line.split("`")
    for place, part in enumerate(parts):
        if (place % 2 == 1) == quoted:  # outside
            parts[place] = _plain(part, at_start=place == 0)
    return "`".join(parts), quoted ^ (len(parts) % 2 == 0)


def _plain(part: str, *, at_start: bool) -> str:
    """The stars of an argument `**bounds:` stay, because Napoleon knows them."""
    stars = re.match(r"^\s*\*{1,2}(?=\w+:)", part) if at_start else None
    kept = stars.group() if stars else ""
    return kept + re.sub(r"([*|])", r"\\\1", part[len(kept) :])
