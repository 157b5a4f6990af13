"""Options behind a name on the command line: "net.onnx,layout=NCHW", "photos,resize=32x32"."""

from collections.abc import Collection


def split(flag: str, name: str, known: Collection[str]) -> tuple[str, dict[str, str]]:
    """The name alone, and its options. They are part of the name, so that whoever reads a run knows them.

    Args:
      flag: of the command line, for the error.
      name: NAME,OPTION=VALUE,OPTION=VALUE. A comma that no option follows belongs to the name.
      known: the options there are.

    Raises:
      ValueError: an option that is not known, or one without a value.
    """
    first, *parts = name.split(",")
    options: dict[str, str] = {}
    while parts and "=" in parts[-1]:
        option, _, value = parts.pop().partition("=")
        if option not in known:
            some = f"one of {', '.join(known)}" if known else "none"
            raise ValueError(f"{flag} {name} has the option {option!r}, which is not known here: choose {some}")
        if not value or option in options:
            raise ValueError(f"{flag} {name} must give {option} one value")
        options[option] = value
    return ",".join([first, *parts]), dict(reversed(options.items()))


def joined(name: str, options: dict[str, str | None]) -> str:
    """The name with these options behind it; None: left out."""
    return ",".join([name, *(f"{option}={value}" for option, value in options.items() if value)])
