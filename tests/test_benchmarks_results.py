"""The stored results of the races, and the command that prints them."""

import pyarrow.parquet as pq
import pytest

from benchmarks import results


def test_every_row_says_how_it_came_to_be():
    table = pq.read_table(results.FILE)
    assert table.num_rows == 5978
    for column in ("commit", "changed", "seed", "device", "machine", "jax"):
        assert table[column].null_count == 0


@pytest.mark.parametrize(
    ("arguments", "line"),
    [  # lines of the tables that the races wrote
        (
            {"races": ("mnist-untargeted-l2",), "budget": (300,)},
            "| 1 | fast_l2 | 100.0 | 1.015 | 0.9551 | 1.064 | 0.9671 | 150.0 | 150.0 | 0.000 | – | – | 1.291 |",
        ),
        (
            {"races": ("mnist-untargeted-l2",), "budget": (300,)},
            "| 2 | alma_fixed_rate | 0.6789 | 0.8509 | 0.3142 | 0.8714 |",
        ),
        ({"races": ("mnist-",), "summary": True}, "| digits | L2 | fast_l2 | each model | 21 of 24 | fmn (9 of 24) |"),
    ],
)
def test_the_command_prints_the_tables(arguments, line, capsys):
    results.main(**arguments)
    assert line in capsys.readouterr().out.splitlines()


def test_without_arguments_it_says_which_races_there_are(capsys):
    results.main()
    assert len(capsys.readouterr().out.splitlines()) == 2 + 30
