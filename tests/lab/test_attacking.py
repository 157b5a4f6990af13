"""Rows, targets and files of an attack run."""

import jax.numpy as jnp
import numpy as np
import pyarrow.parquet as pq
import pytest

import cwjax as cw
from cwjax.lab import attacking, data

SETTINGS = attacking.Settings(steps=60, search_steps=3, initial_c=1.0, learning_rate=0.1)


@pytest.fixture(scope="module")
def some(trained):
    with pytest.MonkeyPatch.context() as patch:
        from tests.lab.conftest import Blobs

        patch.setitem(data.SOURCES, "blobs", Blobs())
        whole = data.load("blobs", "test")
    return whole._replace(images=whole.images[:6], labels=whole.labels[:6], index=whole.index[:6])


@pytest.fixture(scope="module")
def everything(trained, some):
    return attacking.run(trained.model, some, SETTINGS, targets="all")


def test_targets_are_what_they_are_called(some):
    untargeted = attacking.rows_of(some, "untargeted", seed=0)
    assert (untargeted.target == -1).all()
    assert (untargeted.goal().sign == -1).all()
    for name in ("random", "average"):
        drawn = attacking.rows_of(some, name, seed=0)
        assert (drawn.target != some.labels).all()
        np.testing.assert_array_equal(drawn.target, attacking.rows_of(some, name, seed=0).target)
    for name in ("best", "worst", "all"):
        rows = attacking.rows_of(some, name, seed=0)
        for i in range(6):
            wrong = set(range(3)) - {int(some.labels[i])}
            assert set(rows.target[rows.place == i].tolist()) == wrong
    many = some._replace(labels=np.zeros(3000, np.int32), images=np.zeros((3000, 1)), index=np.arange(3000))
    drawn = attacking.rows_of(many, "random", seed=1).target
    assert 1400 < (drawn == 1).sum() < 1600


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


def test_the_width_of_a_batch_changes_nothing(trained, some, everything):
    narrow = attacking.run(trained.model, some, SETTINGS, targets="all", width=5).table.to_pandas()
    wide = everything.table.to_pandas()
    np.testing.assert_array_equal(narrow.success, wide.success)
    np.testing.assert_allclose(narrow.distance, wide.distance, rtol=1e-3)


@pytest.mark.parametrize("case", ["best", "worst"])
def test_best_and_worst_keep_each_examples_easiest_and_hardest_target(trained, some, everything, case):
    kept = attacking.run(trained.model, some, SETTINGS, targets=case)
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


def test_what_is_written_can_be_read_and_stands_alone(trained, everything, tmp_path):
    attacking.write(everything, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adversarial.npz", "results.parquet"]
    table = pq.read_table(tmp_path / "results.parquet").to_pandas()
    with np.load(tmp_path / "adversarial.npz", allow_pickle=False) as saved:
        success = cw.metrics.successes(
            trained.model, jnp.asarray(saved["adversarial"]), cw.targeted(table.target.to_numpy())
        )
        np.testing.assert_array_equal(saved["index"], table["index"])
    np.testing.assert_array_equal(success, table.success)


def test_a_success_that_does_not_survive_is_said_aloud(trained, some, monkeypatch, capsys):
    def two_minds(params, x):  # sees the first 6 rows of a batch, the whole of the clean images, one class higher
        logits = trained.model.apply(params, x)
        return jnp.where(x.shape[0] == 12, -logits, logits)

    model = cw.bind(two_minds, trained.model.params)
    attacking.run(model, some, SETTINGS, targets="all", width=6)
    assert "do not survive a second look" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"confidence": -1.0}, "--confidence must be at least 0, got -1.0"),
        ({"confidence": float("nan")}, "--confidence must be at least 0, got nan"),
        ({"steps": 0}, "--steps must be at least 1, got 0"),
        ({"search_steps": 0}, "--search-steps must be at least 1"),
        ({"initial_c": 0.0}, "--initial-c must be more than 0"),
        ({"learning_rate": -0.1}, "--learning-rate must be more than 0"),
        ({"steps": 10**9, "search_steps": 9}, "beyond counting"),
        ({"attack": "magic"}, "unknown attack 'magic': choose one of l2"),
    ],
)
def test_numbers_out_of_range_are_named(change, words):
    with pytest.raises(ValueError, match=words):
        attacking.Settings(**change).check()
