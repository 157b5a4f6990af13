"""The stored results of the races, and the command that prints them."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from benchmarks import renew, results
from cwjax.lab.racing import standings
from cwjax.lab.racing.contestants import Outcome


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


def test_a_race_that_ran_again_takes_the_place_of_its_old_rows():
    rows = [row(model, attack, place) for model in ("all", "a", "b") for place, attack in ((1, "fast_l2"), (2, "fmn"))]
    rows.append(row("a", "fmn", 1) | {"race": "another"})
    heats = {("race", model, 100): heat(model, fast_l2=[2.0, 2.0], fmn=[1.0, np.inf]) for model in ("a", "b")}
    heats["race", "b", 100].entries["fmn"] = entry([1.0, 1.5])
    new = renew.replaced(rows, heats, {"commit": "new", "changed": "new"})
    assert [(each["model"], each["attack"], each["place"]) for each in new[2:6]] == [
        ("a", "fmn", 1),
        ("a", "fast_l2", 2),
        ("b", "fmn", 1),
        ("b", "fast_l2", 2),
    ]
    assert (new[2]["success %"], new[2]["mean"], new[3]["mean"]) == (50.0, 1.0, 2.0)
    assert new[0]["model"] == "all"
    assert new[0]["optimality"] == pytest.approx((new[2]["optimality"] + 1) / 2, rel=1e-3)
    assert {each["commit"] for each in new[:6]} == {"new"}
    assert new[6] == rows[6]


def test_rows_are_replaced_only_if_all_attacks_ran_again():
    rows = [row("a", "fast_l2", 1), row("a", "fmn", 2)]
    with pytest.raises(ValueError, match="not run again: fmn"):
        renew.replaced(rows, {("race", "a", 100): heat("a", fast_l2=[1.0, 2.0])}, {})


def row(model, attack, place):
    course = {"race": "race", "norm": "l2", "model": model, "budget": 100, "attack": attack, "place": place}
    return dict.fromkeys(renew.MEASURED) | course | {"commit": "old", "changed": "old", "seconds": 1.0}


def entry(distance):
    passes = np.full(len(distance), 50)
    known = {"forwards": passes, "backwards": passes, "refused": 0 * passes, "seconds": np.nan, "compiling": np.nan}
    found = {"x": np.zeros(len(distance)), "watched": np.zeros(0, int), "queried": np.zeros(0), "curve": np.zeros(0)}
    return standings.Entry(np.array(distance), Outcome(**known, **found))


def heat(model, **distances):
    entries = {attack: entry(distance) for attack, distance in distances.items()}
    return standings.Heat(model, "l2", 100, np.arange(2), 0, entries, {})
