"""The table of a sweep, and questions about it."""

import dataclasses
import math
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cwjax.lab.files import outputs, store
from cwjax.lab.sweeps import results, working
from tests.lab.called import call
from tests.lab.sweeps import made

pytestmark = pytest.mark.usefixtures("kept")


def test_two_columns_of_one_name_keep_their_own_values(tmp_path, capsys):
    """A join of the table with itself is what a sweep is made for."""
    made.sweep(tmp_path, [made.configuration(confidence=kappa) for kappa in (0.0, 5.0)])
    sql = """select a.index, a.distance, b.distance, a.success, '[red]' as "distance" from results a join results b
    using (index) where a.confidence = 0 and b.confidence = 5 order by a.index limit 2"""
    table, _ = results.query(tmp_path, sql)
    assert table.column_names == ["index", "distance", "distance_1", "success", "distance_2"]
    truth = [[1000, 1001], [1.0, 2.0], [2.0, 3.0], [True, True], ["[red]", "[red]"]]
    assert [column.to_pylist() for column in table.columns] == truth
    assert table.to_pandas()["distance_1"].tolist() == truth[2]
    call("results", tmp_path, sql)
    said = [[cell.strip() for cell in line.split("│")[1:-1]] for line in capsys.readouterr().out.splitlines()]
    assert said[3:5] == [["1000", "1", "2", "True", "[red]"], ["1001", "2", "3", "True", "[red]"]]


def test_the_table_has_every_row_in_order_and_what_was_asked_for(tmp_path):
    plan = made.sweep(tmp_path, [made.configuration(steps=10), made.configuration("linf", seed=3)])
    table, missing = results.table(tmp_path)
    assert missing == (0, 4)
    assert table["row"].to_pylist() == list(range(20))
    assert table["configuration"].to_pylist() == [each.digest[:12] for each in plan.configurations for _ in range(10)]
    assert table["unit"].to_pylist() == [unit.digest[:12] for unit in plan.all for _ in range(5)]
    assert table["attack"].to_pylist() == ["fast_l2"] * 10 + ["linf"] * 10
    assert table["seed"].to_pylist() == [0] * 10 + [3] * 10
    assert table["largest_c"].to_pylist() == [None] * 10 + [20.0] * 10  # null where the attack has no such setting
    assert table["distance"].to_pylist() == [1.0 + i for i in range(10)] + [2.0 + i for i in range(10)]
    assert len(set(table.column_names)) == len(table.column_names)
    assert results.write(tmp_path) == missing
    assert pq.read_table(tmp_path / results.TABLE).equals(table)


def test_units_that_are_not_done_or_damaged_are_missing_and_the_others_keep_their_order(tmp_path):
    plan = made.three(tmp_path)
    shutil.rmtree(tmp_path / "units" / plan.all[0].digest)
    rows = tmp_path / "units" / plan.all[3].digest / working.ROWS
    rows.write_bytes(rows.read_bytes()[:-1])
    table, missing = results.table(tmp_path)
    assert missing == (2, 6)
    assert table["row"].to_pylist() == list(range(20))
    assert table["steps"].to_pylist() == [10] * 5 + [20] * 5 + [30] * 10
    assert [files is not None for _, _, files in results.units(tmp_path)] == [False, True, True, False, True, True]


def test_the_plan_is_read_as_it_was_recorded(tmp_path):
    plan = made.three(tmp_path)
    found = results.planned(tmp_path)
    assert [one.digest for one in found] == [each.digest[:12] for each in plan.configurations]
    assert [one.columns for one in found] == [each.columns for each in plan.configurations]
    assert [one.units for one in found] == [[unit.digest for unit in own] for own in plan.units]


def changed(change):
    """A change of the first configuration that was written down, whose digest is made to fit again."""

    def damage(plan):
        entry = plan["configurations"][0]
        change(entry)
        if isinstance(entry.get("configuration"), dict):
            entry["digest"] = store.fingerprint(entry["configuration"])

    return damage


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda plan: plan["configurations"][0].update(digest="0" * 64), "is not what was written down"),
        (changed(lambda entry: entry["configuration"].update(attack="fast_l3")), "there is no attack fast_l3"),
        (changed(lambda entry: entry["configuration"].update(colour="red")), "colour"),
        (changed(lambda entry: entry.update(units=[])), "a unit's name is none"),
        (changed(lambda entry: entry.update(units=["../../etc"])), "a unit's name is none"),
        (changed(lambda entry: entry.pop("units")), "units"),
        (lambda plan: plan.clear(), "configurations"),
    ],
)
def test_a_damaged_plan_is_one_error(damage, words, tmp_path):
    made.sweep(tmp_path, [made.configuration()])
    plan = store.read_json(tmp_path / results.PLAN)
    damage(plan)
    store.write_json(tmp_path / results.PLAN, plan)
    with pytest.raises(store.CorruptFile, match=rf"sweep\.json is damaged .*{words}.*: run the sweep again"):
        results.planned(tmp_path)


def test_a_folder_without_a_sweep_or_without_a_unit_that_is_done_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no sweep in .* \(sweep\.json is missing\): run `cwjax sweep … --out"):
        results.table(tmp_path)
    made.three(tmp_path)
    shutil.rmtree(tmp_path / "units")
    with pytest.raises(FileNotFoundError, match=r"no unit of the sweep in .* is done: run it first"):
        results.table(tmp_path)


def test_without_a_question_there_is_a_line_for_each_configuration(tmp_path):
    plan = made.three(tmp_path)
    table, _ = results.query(tmp_path)
    assert table.column_names[:3] == ["configuration", "steps", "rows"]
    lines = table.to_pydict()
    assert lines["configuration"] == [each.digest[:12] for each in plan.configurations]
    assert lines["steps"] == [10, 20, 30]
    assert lines["rows"] == [10, 10, 10]
    assert lines["success %"] == [100.0, 90.0, 10.0]
    assert lines["mean distance"] == [5.5, 15.0, 1.0]
    assert lines["median distance"] == [5.5, 15.0, 1.0]
    assert lines["misclassified"] == [0, 0, 0]
    assert lines["gradients in all"] == [100, 200, 300]


def test_what_is_no_question_has_an_empty_answer(tmp_path):
    made.sweep(tmp_path, [made.configuration()])
    table, _ = results.query(tmp_path, "create view other as select 1 as one")
    assert table.num_rows == 0


def test_rows_are_written_as_csv(tmp_path, capsys):
    made.sweep(tmp_path, [made.configuration()])
    call("results", tmp_path, f"copy results to '{tmp_path / 'rows.csv'}'")
    assert capsys.readouterr().out.split() == [str(tmp_path / "rows.csv"), "written:", "10", "rows"]
    assert len((tmp_path / "rows.csv").read_text().splitlines()) == 11


@pytest.mark.parametrize(
    ("command", "file", "groups"),
    [("attack", "results.parquet", 1), ("race", "race.parquet", 4), ("generate", "tests.parquet", 1)],
)
def test_a_run_that_is_no_sweep_can_be_asked_about(command, file, groups, tmp_path, capsys):
    columns = {"model": ["a"] * 4, "norm": ["l2"] * 4, "budget": [20] * 4, "attack": ["ddn", "ddn", "fmn", "fmn"]}
    columns |= {"met": [True] * 4} if command == "generate" else {"success": [True, False, True, True]}
    columns |= {"distance": [1.0, math.inf, 2.0, 3.0]}
    pq.write_table(pa.table(columns), tmp_path / file)
    marker = next(name for name, each in outputs.OF_COMMAND.items() if each == command)
    (tmp_path / marker).write_text("{}")
    lines = results.query(tmp_path)[0].to_pylist()
    if command == "generate":
        assert lines == [{"met": True, "rows": 4}]
    else:
        found = [tuple(line.values())[groups:] for line in lines]
        assert found == [(2, 50.0, 1.0, 1.0), (2, 100.0, 2.5, 2.5)]
    call("results", tmp_path)
    assert "rows" in capsys.readouterr().out
    assert (
        results.query(tmp_path, "select sum(distance) as s from results where attack = 'fmn'")[0]["s"][0].as_py() == 5
    )
    (tmp_path / file).write_bytes(b"cut off")
    with pytest.raises(store.CorruptFile, match="cannot be read"):
        results.query(tmp_path)


def test_another_sweep_in_the_folder_is_known_before_a_model_is_read(tmp_path):
    kept = [made.configuration(confidence=kappa) for kappa in (0.0, 5.0)]
    assert not results.has_other_axes(kept, tmp_path)
    made.sweep(tmp_path, kept)
    named_later = [dataclasses.replace(each, data="auto") for each in kept]
    assert not results.has_other_axes(kept[::-1], tmp_path)
    assert not results.has_other_axes(named_later, tmp_path)
    assert results.has_other_axes(kept[:1], tmp_path)
    assert results.has_other_axes([dataclasses.replace(each, seed=9) for each in named_later], tmp_path)


def test_what_was_found_of_the_first_unit_is_the_configurations(tmp_path):
    check = {"verdict": "warn", "number": 0.5, "threshold": 0.05, "what": "a share", "note": "", "source": "us"}
    told = {"verdict": "warn", "line": "warn.", "checks": {"one": check | {"advice": "More steps.", "rows": [0]}}}
    made.sweep(tmp_path, [made.configuration(steps=steps) for steps in (10, 20, 30)], told={1: told})
    found = results.beliefs(tmp_path)
    assert set(found) == {2}
    assert found[2].blamed == ["one"]
