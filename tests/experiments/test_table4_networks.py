"""The experiment on how much of Table IV is the network, on tiny networks."""

import numpy as np
import pytest

from cwjax.lab import data
from cwjax.lab.training import training
from experiments import kept, table4_networks
from tests.lab.generating import made


def test_no_two_plans_train_the_same_network():
    """A network is found again by its recipe's source, so another recipe must have another one."""
    plans = table4_networks.PLANS.values()
    assert len({plan._replace(recipe=plan.recipe.source) for plan in plans}) == len(plans)
    recipes = {plan.recipe.source: plan.recipe._replace(source="") for plan in plans}
    assert all(plan.recipe._replace(source="") == recipes[plan.recipe.source] for plan in plans)


def test_a_centred_model_takes_images_from_0_to_1():
    x = data.load("blobs", "test").images[:3]
    one, other = table4_networks.centred(made.one()), table4_networks.centred(made.one())
    np.testing.assert_allclose(one.apply(one.params, x), made.one().apply(made.one().params, x - 0.5), rtol=1e-6)
    assert one.apply == other.apply


def test_the_ratio_is_of_rows_where_both_succeed():
    reference = kept.Found(*(np.array([3, np.inf, 8.0]),) * 5)._replace(success=np.array([True, False, True]))
    fast = kept.Found(*(np.array([2, 1, 4.0, 100]),) * 5)._replace(success=np.array([True, True, False, True]))
    assert table4_networks.over(reference, fast) == 1.5
    assert np.isnan(table4_networks.over(reference._replace(success=np.zeros(3, bool)), fast))


def test_how_many_times_as_far_as_on_the_first_network():
    place, first = np.repeat(np.arange(20), 3), np.random.default_rng(0).uniform(1, 9, 60)
    assert table4_networks.as_far(first, first, place) == (1, 1, 1)
    distances = 0.5 * first * np.where(place % 2, 2, 0.5)  # by image a half or double, so 0.5 in the geometric mean
    distances[7] = first[8] = np.inf  # failures are left out
    ratio, low, high = table4_networks.as_far(distances, first, place, draws=300)
    assert 0.25 < low < ratio < high < 1
    np.testing.assert_allclose(ratio, 0.5, rtol=0.05)
    assert np.isnan(table4_networks.as_far(np.full(60, np.inf), first, place)).all()


def test_the_papers_numbers_stand_in_their_columns():
    assert table4_networks.printed("fast_l2 average") == table4_networks.printed("l2 average") == 1.76
    assert table4_networks.printed("linf worst") == 0.23
    assert np.isnan(table4_networks.printed("l2 gradients"))
    assert np.isnan(table4_networks.printed("accuracy"))


@pytest.mark.long
def test_networks_of_three_plans(tmp_path, monkeypatch):
    small = {name: plan._replace(recipe=plan.recipe._replace(batch=16)) for name, plan in table4_networks.PLANS.items()}
    monkeypatch.setattr(table4_networks, "PLANS", small)
    arguments = table4_networks.Arguments(
        data="blobs",
        net="mnist_dense",
        epochs=6,
        networks=("the paper's recipe", "inputs in [0, 1]", "half of the digits, twice the epochs"),
        others=(),
        referenced=("the paper's recipe",),
        examples=4,
        reference_examples=2,
        fast_steps=40,
        steps=60,
        out=tmp_path / "out",
        models=tmp_path / "models",
    )
    rows = table4_networks.main(arguments)
    assert [row["network"] for row in rows] == [*arguments.networks, table4_networks.PAPER]
    assert {path.suffix for path in (tmp_path / "out").iterdir() if path.is_file()} == {".md", ".csv", ".png"}
    for row in rows[:-1]:
        assert row["accuracy"] > 0.6
        assert row["fast_l2 success"] > 0.9
        assert row["fast_l2 from"] <= row["fast_l2 times the first"] <= row["fast_l2 to"]
        assert row["fast_l2 best"] <= row["fast_l2 average"] <= row["fast_l2 worst"]
    assert [row["l2 over fast_l2"] > 0.9 for row in rows] == [True, False, False, False]  # not asked, or not printed
    assert [row["fast_l2 times the first"] == 1 for row in rows] == [True, False, False, False]
    assert len({row["fast_l2 average"] for row in rows[:-1]}) == 3
    monkeypatch.setattr(training, "_fit", None)
    monkeypatch.setattr(kept, "_program", None)
    assert str(table4_networks.main(arguments)) == str(rows)
