"""`cwjax demo`: the paper's attacks on ten digits."""

import dataclasses
import json

import pyarrow.parquet as pq
import pytest

from cwjax.lab.attacking import attacking, demo, presets
from cwjax.lab.training import training
from tests.lab.called import call
from tests.lab.conftest import canned

pytestmark = pytest.mark.usefixtures("kept")


@pytest.mark.long
@pytest.mark.optimized
def test_the_demo_at_a_small_size(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(attacking, "diagnosed", lambda *_, **__: canned())
    monkeypatch.setattr(demo, "TRAINING", training.Training(data="mnist5k", epochs=2))
    quick = presets.Settings(steps=6, initial_c=10.0, learning_rate=0.1)
    shrinking = dataclasses.replace(quick, steps=3, learning_rate=0.3, largest_c=20.0)
    monkeypatch.setitem(demo.ATTACKS, "l2", dataclasses.replace(quick, steps=40, search_steps=2))
    monkeypatch.setitem(demo.ATTACKS, "l0", shrinking)
    monkeypatch.setitem(demo.ATTACKS, "linf", shrinking)
    call("demo", "--out", tmp_path / "demo", "--models", tmp_path / "models")
    said = capsys.readouterr().out
    assert "Report:" in said
    assert said.count("FAIL: do not believe these numbers yet") == 3
    assert set(json.loads((tmp_path / "demo" / "diagnosis.json").read_text())) == {"l2", "l0", "linf"}
    table = pq.read_table(tmp_path / "demo" / "results.parquet").to_pandas()
    assert set(table.attack) == {"l2", "l0", "linf"}
    for _, rows in table.groupby("attack"):
        pairs = sorted(zip(rows.label, rows.target, strict=True))
        assert pairs == [(a, b) for a in range(10) for b in range(10) if a != b]
        assert rows.success.any()
    columns = [
        "attack",
        "index",
        "label",
        "target",
        "success",
        "l0",
        "l1",
        "l2",
        "linf",
        "margin",
        "c",
        "forwards",
        "backwards",
    ]
    assert set(columns) <= set(table.columns)


def test_its_attacks_have_the_settings_that_it_asks_for():
    assert set(demo.ATTACKS) == {"l2", "l0", "linf"}
    for name, settings in demo.ATTACKS.items():
        assert 0 < (settings.steps or 0) < (presets.PRESETS[name].own.steps or 0)
        told = presets.resolved((name,), settings)[name]
        asked = {key: value for key, value in dataclasses.asdict(settings).items() if value is not None}
        assert {key: getattr(told, key) for key in asked} == asked
