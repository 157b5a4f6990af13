"""An attack on rows: each tells the truth about its saved image, whatever the width, the numbers and the precision."""

import dataclasses
import functools

import jax.numpy as jnp
import numpy as np
import pyarrow.parquet as pq
import pytest

import cwjax as cw
from cwjax.lab.attacking import attacking, presets, rows
from cwjax.lab.attacking.request import Request

pytestmark = pytest.mark.xdist_group("attacking")  # most of them look at one run
SETTINGS = presets.Settings(steps=60, search_steps=3, initial_c=1.0, learning_rate=0.1)


@pytest.fixture(scope="module")
def everything(trained, some):
    return attacking.run(trained.model, some, Request("l2", SETTINGS, targets="all"))


def test_an_attack_is_asked_whether_it_can_be_believed(corners, some, few_checks):
    attacked = attacking.run(corners, some, Request("l2", SETTINGS, targets="best"), checks=True)
    assert len(attacked.clean) == 6
    diagnosis = attacked.diagnosis
    assert diagnosis
    assert attacked.seconds["checks"] == diagnosis.cost.seconds > 0
    assert diagnosis.named("skipped") == []
    assert len(diagnosis.checks["second_look"].rows) == 12  # of every target, not of the best alone
    assert diagnosis.checks["second_look"].verdict == diagnosis.checks["zero_gradient"].verdict == "pass"
    attacked = attacking.run(corners, some, Request("l2", SETTINGS, targets="best"))
    assert attacked.diagnosis is None
    assert "checks" not in attacked.seconds


def test_a_row_tells_the_truth_about_its_saved_image(trained, some, everything):
    table, model = everything.table.to_pandas(), trained.model
    assert len(table) == 12
    assert table.success.mean() > 0.7
    for row, saved in zip(table.itertuples(), everything.adversarial, strict=True):
        logits = np.asarray(model.apply(model.params, saved[None]))[0]
        clean = some.images[list(some.index).index(row.index)]
        assert row.prediction == logits.argmax()
        assert row.success == (row.prediction == row.target)
        lead = logits[row.target] - np.delete(logits, row.target).max()
        assert row.margin == pytest.approx(lead, abs=1e-4)
        delta = saved.astype(np.float64) - clean
        assert row.l2 == pytest.approx(np.linalg.norm(delta), rel=1e-4)
        assert row.linf == pytest.approx(np.abs(delta).max(), rel=1e-4)
        assert row.l1 == pytest.approx(np.abs(delta).sum(), rel=1e-4)
        assert row.l0 == (delta != 0).sum()
        assert row.distance == pytest.approx(row.l2 if row.success else np.inf, rel=1e-4)
        assert row.forwards == row.backwards > 0


def test_the_width_changes_nothing(trained, some, everything):
    narrow = attacking.run(trained.model, some, Request("l2", SETTINGS, targets="all"), width=5).table.to_pandas()
    wide = everything.table.to_pandas()
    np.testing.assert_array_equal(narrow.success, wide.success)
    np.testing.assert_allclose(narrow.distance, wide.distance, rtol=1e-3)


def test_another_number_compiles_nothing(trained, some, everything):
    other = dataclasses.replace(SETTINGS, confidence=0.5, learning_rate=0.07, steps=55, initial_c=2.0)
    attacked = attacking.run(trained.model, some, Request("l2", other, targets="all"))
    assert attacked.seconds["compile"] == 0
    assert everything.seconds["compile"] > 0
    assert not attacked.table.equals(everything.table)


def test_a_search_in_bfloat16_tells_what_the_second_look_found(trained, some, everything):
    attacked = attacking.run(trained.model, some, Request("l2", SETTINGS, targets="all", precision="bfloat16"))
    table, plain = attacked.table.to_pandas(), everything.table.to_pandas()
    assert (table.looks[table.claimed_success] >= 1).all()
    assert (table.looks[~table.claimed_success] == 0).all()
    logits = np.asarray(trained.model.apply(trained.model.params, attacked.adversarial))
    np.testing.assert_array_equal(logits.argmax(1)[table.success], table.target[table.success])
    assert table.success.mean() >= plain.success.mean() - 0.1
    both = table.success & plain.success
    assert table.distance[both].mean() == pytest.approx(plain.distance[both].mean(), rel=0.1)
    assert "looks" not in plain


@pytest.mark.parametrize("case", ["best", "worst"])
def test_best_and_worst_keep_each_examples_easiest_and_hardest_target(trained, some, everything, case):
    kept = attacking.run(trained.model, some, Request("l2", SETTINGS, targets=case))
    groups = everything.table.to_pandas().groupby("index").distance
    expected = groups.min() if case == "best" else groups.max()
    table = kept.table.to_pandas().set_index("index")
    assert len(table) == len(kept.adversarial) == 6
    np.testing.assert_allclose(table.distance.sort_index(), expected.sort_index(), rtol=1e-3)
    # The choice cost the passes of every target.
    spent = everything.table.to_pandas().groupby("index").backwards.sum()
    np.testing.assert_allclose(table.backwards.sort_index(), spent.sort_index(), rtol=0.05)
    right = np.asarray(kept.adversarial) - np.asarray(kept.clean)
    np.testing.assert_allclose(table.l2, np.linalg.norm(right.reshape(6, -1), axis=1), rtol=1e-4)


@pytest.fixture(scope="module")
def corners():
    """A model that compiles quickly: bright in one of three corners."""
    places = [(slice(2, 7), slice(2, 7)), (slice(2, 7), slice(9, 14)), (slice(9, 14), slice(2, 7))]
    return cw.bind(lambda params, x: jnp.stack([10 * x[:, a, b, 0].mean((1, 2)) for a, b in places], axis=1))


@pytest.fixture(scope="module")
def rounded(corners, some):
    """Attacks that end a logit or less ahead, so that rounding matters; the last of three batches is filled up."""
    quick = presets.Settings(steps=40, initial_c=0.1, largest_c=100.0, learning_rate=0.1)

    @functools.cache
    def run(name):
        return attacking.run(corners, some, Request(name, quick, targets="all", rounded=True), width=5)

    return run


@pytest.mark.long
def test_the_other_norms_tell_the_truth_too(corners, some, rounded):
    l0, linf = rounded("l0"), rounded("linf")
    for attacked in (l0, linf):
        table = attacked.table.to_pandas()
        assert (table.attack == attacked.attack).all()
        assert len(table) == 12
        assert table.success.all()
        np.testing.assert_array_equal(table.distance, table[attacked.attack])
        np.testing.assert_array_equal(np.asarray(corners.apply(None, attacked.adversarial)).argmax(1), table.target)
    assert l0.table["l0"].to_numpy().mean() < linf.table["l0"].to_numpy().mean()
    assert l0.table["linf"].to_numpy().mean() > linf.table["linf"].to_numpy().mean()


@pytest.mark.long
@pytest.mark.parametrize("name", ["linf", "l0"])
def test_rounded_results_are_8_bit_images_and_tell_what_that_cost(rounded, name):
    attacked = rounded(name)
    levels = 255 * attacked.adversarial.astype(np.float64)
    np.testing.assert_allclose(levels, np.round(levels), atol=1e-4)
    table = attacked.table.to_pandas()
    assert table.unrounded_success.all()
    assert (table.repairs[table.rounded_success] == 0).all()
    assert (table.repairs[~table.rounded_success] > 0).all()
    np.testing.assert_allclose(table.distance, table.unrounded_distance, atol=1.01 / 255)
    assert set(attacked.seconds) == {"compile", "attack", "rounding"}
    if name == "linf":
        assert (~table.rounded_success).any()
        assert (table.distance != table.unrounded_distance).any()


@pytest.mark.long
def test_what_is_written_can_be_read_and_stands_alone(trained, everything, corners, rounded, tmp_path):
    linf = rounded("linf")
    linf = linf._replace(table=linf.table.select(everything.table.column_names))
    rows.write([everything, linf], tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adversarial.npz", "results.parquet"]
    table = pq.read_table(tmp_path / "results.parquet").to_pandas()
    assert table.attack.tolist() == ["l2"] * 12 + ["linf"] * 12
    with np.load(tmp_path / "adversarial.npz", allow_pickle=False) as saved:
        for name in ("attack", "index", "label", "target", "success"):
            np.testing.assert_array_equal(saved[name], table[name])
        for attack, model in (("l2", trained.model), ("linf", corners)):
            mine = saved["attack"] == attack
            goal = cw.targeted(table.target[mine].to_numpy())
            success = cw.metrics.successes(model, jnp.asarray(saved["adversarial"][mine]), goal)
            np.testing.assert_array_equal(success, table.success[mine])
            delta = (saved["adversarial"] - saved["clean"])[mine].reshape(12, -1)
            np.testing.assert_allclose(np.linalg.norm(delta, axis=1), table.l2[mine], rtol=1e-4)


def test_progress_counts_rows_steps_and_successes(trained, some, everything, capsys):
    attacked = attacking.run(trained.model, some, Request("l2", SETTINGS, targets="all"))
    table = attacked.table.to_pandas()
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.startswith("l2 attack: rows finished 12/12 after ")
    assert f"{table.forwards.sum():,} gradient steps of at most " in line  # some stop early
    assert line.endswith(f", {table.success.sum()} succeeded so far")


def test_a_success_that_does_not_survive_is_said_aloud(trained, some, monkeypatch, capsys):
    def two_minds(params, x):  # sees the first 6 rows of a batch, the whole of the clean images, one class higher
        logits = trained.model.apply(params, x)
        return jnp.where(x.shape[0] == 12, -logits, logits)

    model = cw.bind(two_minds, trained.model.params)
    attacking.run(model, some, Request("l2", SETTINGS, targets="all"), width=6)
    assert "do not survive a second look" in capsys.readouterr().out


def test_an_attack_that_ended_early_says_so():
    settings = presets.Settings(steps=40, search_steps=4, starts=1)

    def said(finished, forwards, settings=settings):
        told = cw.runners.Status(finished, 3, 3, forwards=forwards, width=3, lane_steps=0, snapshot=list)
        return attacking._early(settings, told)

    assert said(3, 466) == " of at most 480 (a row stops early where its loss no longer falls)"
    assert said(2, 466) == said(3, 480) == said(3, 100, dataclasses.replace(settings, search_steps=None)) == ""
