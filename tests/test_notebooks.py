"""The notebooks tell their stories, at a small size, and what they tell is true."""

import re
from pathlib import Path

import jupytext
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"


def ten_lines(told):
    assert all(told["checks"].values())
    assert told["result"].success.all()
    assert told["quick"].forwards.tolist() == [100] * 10
    assert told["quick"].distance.mean() < told["result"].distance.mean()
    assert told["closer"].distance.mean() < told["result"].distance.mean()
    assert told["answers"](told["towards"].x).tolist() == list(range(10))
    assert told["towards"].distance[3] == 0
    assert told["failed"].any()
    assert np.isinf(told["hasty"].distance[told["failed"]]).all()


def watch_the_search(told):
    for name in ("slow", "quick"):
        result, best = told[name], np.asarray(told[f"{name}_trace"].distance)
        assert result.success.all()
        assert (best[:, 1:] <= best[:, :-1]).all()
        np.testing.assert_array_equal(best[:, -1], result.distance)
        # What was watched in the lanes is what `traced` told, as nearly as two programs agree over hundreds of steps.
        seen = np.where(told[f"{name}_met"], told[f"{name}_distance"], np.inf)
        np.testing.assert_allclose(seen.min(0), result.distance, rtol=0.02)
    bracket = told["bracket"]
    assert (bracket.lower <= bracket.value).all()
    assert (bracket.value <= bracket.upper).all()
    for where in told["crossings"].values():
        assert (where <= 1.05).all()
    for logits in told["slices"]:
        assert (logits.argmax(-1)[told["inside"]] == told["labels"][told["DIGIT"]]).all()


def write_an_objective_and_an_attack(told):
    assert all(told["laws"].values())
    assert all(told["laws_of_runs"].values())
    distances = [told["pushed"][k].distance.mean() for k in told["ks"]]
    assert distances == sorted(distances)
    assert told["radius"] == pytest.approx(told["truth"], rel=0.05)
    assert told["calls"] == {"forward": told["STEPS"], "backward": told["STEPS"]}
    assert (told["results"]["restarted, 3 starts"].forwards == 3 * told["STEPS"]).all()
    assert (told["results"]["best of 9 targets"].backwards == 9 * told["STEPS"]).all()


def a_sweep_and_its_table(told):
    plan, table = told["plan"], told["table"]
    assert told["kept"] == 5
    assert told["again"] == len(plan.all) - 5
    assert told["third"] == 0
    assert told["missing"].units == 0
    assert len(table) == len(plan.configurations) * told["EXAMPLES"]
    frame = told["frame"]
    np.testing.assert_allclose(told["by_sql"]["mean"], frame[frame.success].groupby(told["axes"]).distance.mean(), 1e-6)
    assert (told["grid_of"].loc["projected"] < told["grid_of"].loc["change_of_variables"]).all()
    assert told["page"].is_file()


def attack_anything(told):
    for name in ("flips", "leaves", "mislabels"):
        assert told[name].success.all()
        assert (told[name].distance > 0).all()
    assert (told["flipped"] >= 2).all()
    assert (abs(told["moved"] - told["lean"]) >= 10).all()
    assert (told["wrong"] >= 0.5).all()


# By name: its numbers as they stand, the small ones, and what has to hold of what it leaves behind.
STORIES = {
    "01_ten_lines": (
        "cw.search.binary_search(steps=5, initial_c=0.1)",
        "cw.search.binary_search(steps=2, initial_c=10.0)",
        ten_lines,
    ),
    "02_watch_the_search": ("ROUNDS, STEPS = 7, 100", "ROUNDS, STEPS = 4, 60", watch_the_search),
    "03_write_an_objective_and_an_attack": (
        "EXAMPLES, STEPS = 8, 30",
        "EXAMPLES, STEPS = 6, 20",
        write_an_objective_and_an_attack,
    ),
    "04_a_sweep_and_its_table": (
        'EXAMPLES, STEPS, OBJECTIVES = 20, 30, ("f1", "f6")',
        'EXAMPLES, STEPS, OBJECTIVES = 8, 20, ("f6",)',
        a_sweep_and_its_table,
    ),
    "05_attack_anything": (
        "UPDATES, EXAMPLES, STEPS = 300, 6, 100",
        "UPDATES, EXAMPLES, STEPS = 250, 3, 60",
        attack_anything,
    ),
}


def test_every_notebook_is_tested():
    assert {path.stem for path in NOTEBOOKS.glob("*.py")} == set(STORIES)


@pytest.mark.long
@pytest.mark.parametrize("name", STORIES)
def test_the_notebook_tells_its_story(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mpl.use("Agg")
    numbers, small, claims = STORIES[name]
    source = (NOTEBOOKS / f"{name}.py").read_text()
    assert numbers in source
    cells = jupytext.reads(source.replace(numbers, small), fmt="py:percent").cells
    assert re.match(r"# \w", cells[0].source)
    told: dict = {}
    for number, cell in enumerate(cells):
        if cell.cell_type == "code":
            exec(compile(cell.source, f"{name}, cell {number}", "exec"), told)
    try:
        assert plt.get_fignums()
        for number in plt.get_fignums():
            plt.figure(number).canvas.draw()  # so that what cannot be drawn is found, such as a letter the font lacks
    finally:
        plt.close("all")
    claims(told)
