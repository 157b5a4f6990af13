"""Every golden value of coverage beside ours, line by line.

    python -m tests.coverage.golden_table --out benchmarks/coverage_golden.md

Half a minute. The golden values are by definition, written for this purpose in NumPy; tests/golden/README.md says on
which network and digits. Ours are in float32, through the network. `made` counts what is covered.
"""

import dataclasses
from pathlib import Path

import tyro

import cwjax as cw
from tests.coverage import made
from tests.coverage.test_golden import ROUNDING, SPECIAL, criteria


@dataclasses.dataclass(frozen=True)
class Arguments:
    out: Path | None = None  # a Markdown file for the table


class Missed(RuntimeError):  # noqa: N818 - it says what is the matter
    """A value that is not the golden one."""


def main(arguments: Arguments, units: tuple[str, ...] = ("channel mean", "element")) -> list[str]:
    """Prints and returns the lines. Raises Missed where one of them is not held."""
    lines = ["| neurons | inputs | criterion | golden | ours | |", "|---|---|---|---|---|---|"]
    for unit in units:
        neurons = cw.coverage.neurons(made.network(), made.digits(), unit=unit)  # pyright: ignore[reportArgumentType]
        profile = cw.coverage.profiled(neurons, made.digits()[:50])
        several, reference = dict(criteria(profile)), made.golden()[1]["reference"]
        key = unit.split()[0]
        inputs = {key: ("test", slice(50, 100)), f"{key}_test_is_profile": ("test = profile", slice(50))}
        for part, (said, rows) in inputs.items():
            reached = cw.coverage.measure(neurons, several, made.digits()[rows], batch=50)  # the profile's
            for name, value in reference[part].items():
                if name in SPECIAL or name.endswith("ordered"):
                    continue
                wanted = value if isinstance(value, int) else value[1] + value[2] if "NBC" in name else value[1]
                ours = int(sum(reached[name].covered.values()))
                held = abs(ours - wanted) <= (ROUNDING if name.startswith("KMNC") else 0)
                words = "equal" if ours == wanted else f"{ours - wanted:+d}, by rounding" if held else "missed"
                lines.append(f"| {key} | {said} | {name} | {wanted:,} | {ours:,} | {words} |")
    print("\n".join(lines))
    if arguments.out is not None:
        command = "    python -m tests.coverage.golden_table --out benchmarks/coverage_golden.md"
        text = "Counts of what is covered: neurons, sections, corners (NBC: both sides), patterns."
        arguments.out.write_text("\n\n".join(["# Golden values of coverage", command, text, "\n".join(lines)]) + "\n")
    if missed := [line for line in lines if line.endswith("missed |")]:
        raise Missed("\n".join(missed))
    return lines


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
