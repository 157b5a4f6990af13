"""Whether the numbers of a run can be believed, as it is read and shown."""

import pytest

from cwjax.lab.files import store
from cwjax.lab.reporting import verdicts
from tests.lab.conftest import canned


def test_where_nobody_checked_there_is_nothing_to_read(tmp_path):
    assert verdicts.read(tmp_path) == {}


def test_a_diagnosis_is_shown_with_the_worst_first(tmp_path):
    store.write_json(tmp_path / verdicts.FILE, {"l2": canned().to_json()})
    found = verdicts.read(tmp_path)["l2"]
    assert found.verdict == "fail"
    assert found.line == canned().line()
    assert [(row["check"], row["verdict"]) for row in found.rows] == [
        ("is worse", "fail"),
        ("is bad", "warn"),
        ("is fine", "pass"),
        ("is not there", "skipped"),
    ]
    worst, bad, fine, missing = found.rows
    assert (worst["number"], worst["threshold"], worst["examples"]) == ("0.750", "0.500", "3 of 64")
    assert worst["what the number is"] == "share of <what> | was seen (3 of 4)"
    assert (missing["number"], missing["examples"]) == ("–", "–")
    assert [row["advice"] for row in (worst, bad, fine, missing)] == ["Do <this> & that."] * 2 + [""] * 2
    assert found.blamed == ["is_worse"]
    assert found.loud == ["is_worse (3 of 4). Do <this> & that."]
    assert found.asked == {"is_worse": 3, "is_bad": 3, "is_fine": 3}


def told(verdict: str, **more) -> dict:
    check = {"verdict": verdict, "number": 0.5, "threshold": None, "what": "a share", "note": "", "source": "us"}
    return {
        "verdict": verdict,
        "line": f"{verdict}.",
        "checks": {"one": check | {"advice": "Do this.", "rows": [4]}},
    } | more


def test_who_does_not_say_of_how_many_is_shown_how_many_were_asked():
    assert verdicts.of(told("warn")).rows[0]["examples"] == "1"
    assert verdicts.of(told("warn", examples=5)).rows[0]["examples"] == "1 of 5"


@pytest.mark.parametrize(("verdict", "blamed"), [("fail", ["one"]), ("warn", ["one"]), ("pass", []), ("skipped", [])])
def test_only_a_failure_or_a_warning_is_to_blame(verdict, blamed):
    assert verdicts.of(told(verdict)).blamed == blamed


@pytest.mark.parametrize("damage", [[1], {"l2": {}}, {"l2": told("good")}, {"l2": told("pass", checks=3)}])
def test_what_is_no_diagnosis_is_one_error(damage, tmp_path):
    store.write_json(tmp_path / verdicts.FILE, damage)
    with pytest.raises(store.CorruptFile, match=r"diagnosis\.json is no diagnosis .*: delete it and run again"):
        verdicts.read(tmp_path)


def test_verdicts_are_put_together_with_the_worst_first():
    found = {place: verdicts.of(told(word)) for place, word in ((1, "pass"), (2, "warn"), (4, "fail"), (7, "warn"))}
    groups = verdicts.grouped(found)
    assert [(group.verdict, group.places) for group in groups] == [("fail", [4]), ("warn", [2, 7]), ("pass", [1])]
    assert groups[0].meaning == "FAIL: do not believe these numbers yet"
    assert groups[1].loud == {2: ["one (a share). Do this."], 7: ["one (a share). Do this."]}
