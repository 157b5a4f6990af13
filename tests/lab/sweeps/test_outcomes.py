"""What came of each configuration of a sweep."""

import shutil

import pytest

from cwjax.lab.sweeps import outcomes
from tests.lab.sweeps import made
from tests.lab.sweeps.made import INF, reach


@pytest.mark.parametrize(("targets", "means"), [("best", [5.0, 15.0]), ("random", [5.5, 15.0])])
def test_examples_are_common_where_the_attack_chose_the_targets(targets, means, tmp_path):
    """The seeds have other targets; the first configuration alone fools the last example."""
    asked = [made.configuration(targets=targets, seed=seed) for seed in (0, 1)]
    made.sweep(tmp_path, asked, reach)
    found, _ = outcomes.read(tmp_path)
    assert [row["mean over common"] for row in outcomes.rows(found)] == means


def test_each_configuration_has_its_rows_and_its_numbers(tmp_path):
    """Of the second nothing is done, and of the third half."""
    plan = made.three(tmp_path)
    for unit in (*plan.units[1], *plan.units[2][1:]):
        shutil.rmtree(tmp_path / "units" / unit.digest)
    found, missing = outcomes.read(tmp_path)
    assert missing == (3, 6)
    assert [(one.place, one.missing, len(one.table), one.norm) for one in found] == [(1, 0, 10, "l2"), (3, 1, 5, "l2")]
    assert [one.digest for one in found] == [plan.configurations[place].digest[:12] for place in (0, 2)]
    assert [one.columns["distance"].tolist() for one in found] == [
        [1.0 + i for i in range(10)],
        [1.0, INF, INF, INF, INF],
    ]
    assert [one.verdict for one in found] == [None, None]
    first, third = outcomes.rows(found)
    assert (first["#"], first["steps"], first["success %"], first["gradients an attack"]) == (1, "10", 100, 10)
    assert (third["#"], third["steps"], third["success %"], third["mean L2"]) == (3, "30", 20, 1)
    assert first["mean over common"] == 5.5
    assert third["mean over common"] != third["mean over common"]  # what is not complete is not compared


def test_a_label_says_what_tells_a_configuration_apart(tmp_path):
    long = "a model of\nso long a name that a table has no room for all of it"
    asked = [made.configuration(), made.configuration(confidence=10.0), made.configuration("fast_linf", model=long)]
    made.sweep(tmp_path, asked)
    found, _ = outcomes.read(tmp_path)
    assert [one.label() for one in found[:2]] == ["fast_l2, confidence 0", "fast_l2, confidence 10"]
    assert [one.label("confidence") for one in found[:2]] == ["fast_l2", "fast_l2"]
    assert found[0].label("attack", "confidence") == "fast_l2"  # rather than nothing
    assert [one.task() for one in found[:2]] == [
        (("data", "blobs"), ("targets", "untargeted"), ("confidence", kappa)) for kappa in (0.0, 10.0)
    ]
    assert {norm: [one.place for one in some] for norm, some in outcomes.of_norms(found).items()} == {
        "l2": [1, 2],
        "linf": [3],
    }


def test_a_long_label_is_cut_and_has_one_line(tmp_path):
    names = [f"a model of\nso long a name that a table has no room for all of it: {k}" for k in range(2)]
    made.sweep(tmp_path, [made.configuration(model=name) for name in names])
    found, _ = outcomes.read(tmp_path)
    assert [one.label() for one in found] == ["a model of so long a name that a table has no room for all …"] * 2


def test_only_configurations_with_images_that_are_wrong_anyway_have_two_means(tmp_path):
    made.sweep(tmp_path, [made.configuration()])
    [one], _ = outcomes.read(tmp_path)
    assert outcomes.misclassified([one]) == []
    wrong = one.columns["label"].copy()
    wrong[0] = (wrong[0] + 1) % 3
    other = one._replace(place=7, columns=one.columns | {"clean_prediction": wrong})
    [sentence] = outcomes.misclassified([one, other])
    assert sentence.startswith("Configuration 7: Two means: ")
