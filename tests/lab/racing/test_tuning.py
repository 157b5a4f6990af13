"""A step length is found on images that are not judged."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from cwjax.lab.racing import entries, racing, tuning
from tests.lab.racing.made import MINE, a_large_subject, a_task


@pytest.mark.long
def test_a_step_length_is_found_on_images_that_are_not_judged(tmp_path, capsys):
    settings = racing.Race(attack=("fast_l2", MINE), budgets=(80,), examples=6, tune=(MINE,), tuning=5)
    subject, kinds = a_large_subject(), entries.OURS | entries.own([MINE])
    racing.race([subject], kinds, settings, tmp_path)
    said = capsys.readouterr().out
    told = json.loads((tmp_path / "race.json").read_text())
    [tuned] = told["tuned"]
    assert tuned["images"] == [110, 111, 112, 113, 114]  # after the four that are wrong and the six that are judged
    assert tuned["own"] == {"step": 1e-3}
    # What is tried goes on where its end is the best, and ends beside the best.
    lengths = [trial["numbers"]["step"] for trial in tuned["trials"]]
    assert lengths == sorted(lengths)
    assert lengths[:9] == pytest.approx([1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1])
    assert 1e-3 < tuned["chosen"]["step"] < lengths[-1]
    results = {trial["numbers"]["step"]: (trial["median"] or np.inf, -trial["successes"]) for trial in tuned["trials"]}
    assert results[tuned["chosen"]["step"]] == min(results.values())

    # That is what it ran at, and every table says so.
    chosen = tuning.shown(tuned["chosen"])
    table = pq.read_table(tmp_path / "race.parquet").to_pandas()
    assert set(table.settings[table.attack == MINE]) == {f"{chosen} (tuned)"}
    assert set(table.settings[table.attack == "fast_l2"]) == {""}
    [row] = [row for row in told["rows"] if row["attack"] == MINE]
    assert row["settings"] == f"{chosen} (tuned)"
    text = (tmp_path / "race.md").read_text()
    assert f"| {MINE} | {chosen} (tuned) |" in text
    assert "## Step lengths found on other images" in text
    assert f"Chosen {chosen}: " in said
    judged = slice(4, 10)
    task = a_task(x=subject.dataset.images[judged], label=subject.dataset.labels[judged], budget=80)
    task = task._replace(target=np.full(6, -1, np.int32), settings=tuned["chosen"])
    found = task.distance(kinds[MINE].run(task).x)
    np.testing.assert_allclose(table.distance[table.attack == MINE], found, rtol=1e-5)

    # What was found is kept.
    racing.race([subject], kinds, settings, tmp_path)
    assert capsys.readouterr().out.count("(kept)") == 2
    assert json.loads((tmp_path / "race.json").read_text())["tuned"] == [tuned]


def test_a_length_that_is_set_is_where_the_search_begins():
    own = {"gamma": 0.5, "first_step": 1.0, "last_step": 0.01}
    assert tuning.scaled("a", own, {}) == {"first_step": 1.0, "last_step": 0.01}
    assert tuning.scaled("a", own, {"first_step": 0.1}) == {"first_step": 0.1, "last_step": 0.01}
    assert tuning.scaled("a", own, {"last_step": 0.5}) == {"first_step": 1.0}
    assert tuning.scaled("a", {"learning_rate": 0.1}, {}) == {"learning_rate": 0.1}
    with pytest.raises(ValueError, match="its relative_step has no value to begin at: give it one"):
        tuning.scaled("a", {"relative_step": None}, {})
    assert tuning.scaled("a", {"relative_step": None}, {"relative_step": 0.2}) == {"relative_step": 0.2}
