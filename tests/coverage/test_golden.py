"""The golden values of tests/golden/coverage.json, which other people's code agrees with or is known to miss."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cwjax as cw
from cwjax.coverage import Activations, Criterion, Profile
from tests.coverage import made

ROUNDING = 20  # sections, of hundreds of thousands: KMNC is a floor, and float32 moves what lies on an edge

SPECIAL = ("neurons", "low_eq_high", "low_is_zero", "never_active_profile", "tie_at_top3_images")


def criteria(profile: Profile) -> Iterator[tuple[str, Criterion]]:
    of = profile.convention
    for k in (2, 100, 1000):
        yield f"KMNC_{k}", cw.coverage.section_coverage(profile, sections=k)
    for text in ("0", "0.5", "1"):
        yield f"NBC_{text}", cw.coverage.boundary_coverage(profile, offset=float(text))
        yield f"SNAC_{text}", cw.coverage.strong_activation_coverage(profile, offset=float(text))
    for k in (1, 2, 3):
        yield f"TKNC_{k}", cw.coverage.top_neuron_coverage(of, k=k)
        yield f"TKNP_{k}_sets", cw.coverage.top_pattern_count(of, k=k)
    for text in ("0.0", "0.25", "0.5", "0.75"):
        yield f"NC_scaled_{text}", cw.coverage.neuron_coverage(of, threshold=float(text))
        yield f"NC_raw_{text}", cw.coverage.neuron_coverage(of, threshold=float(text), scaled=False)


def held_to(expected: dict, reached: dict[str, cw.coverage.Coverage], rounding: int) -> None:
    for name, value in expected.items():
        if name in SPECIAL or name.endswith("ordered"):
            continue
        count = sum(reached[name].covered.values())
        wanted = value if isinstance(value, int) else value[1] + value[2] if name.startswith("NBC") else value[1]
        assert abs(count - wanted) <= (rounding if name.startswith("KMNC") else 0), name
        if not isinstance(value, int) and count == wanted:
            assert reached[name].value == pytest.approx(value[0], abs=1e-15)


@pytest.mark.long
@pytest.mark.optimized
@pytest.mark.parametrize("unit", ["channel mean", "element"])
def test_of_the_network_in_float32(unit):
    units = cw.coverage.neurons(made.network(), made.digits(), unit=unit)
    profile = cw.coverage.profiled(units, made.digits()[:50])
    several = dict(criteria(profile))
    reference = made.golden()[1]["reference"]
    key = unit.split()[0]
    held_to(reference[key], cw.coverage.measure(units, several, made.digits()[50:], batch=16), ROUNDING)
    held_to(
        reference[f"{key}_test_is_profile"], cw.coverage.measure(units, several, made.digits()[:50], batch=50), ROUNDING
    )
    assert reference[key]["neurons"] == units.convention.neurons
    assert reference[key]["low_eq_high"] == (profile.low == profile.high).sum()
    assert reference[key]["low_is_zero"] == (profile.low == 0).sum()


def test_of_the_stored_activations_in_float64():
    """Exactly, and so that the last digits of the network's pass do not matter."""
    reference = made.golden()[1]["reference"]
    of = made.channels()
    with jax.enable_x64(True):
        values = jnp.asarray(made.golden()[0]["channel_means"], float)
        ends = jnp.zeros((100, len(of.layers)))
        batch = [Activations(values[rows], ends[rows], ends[rows]) for rows in (slice(50), slice(50, 100))]
        profiling = cw.coverage.profiling(of)
        profile = profiling.value(made.updated(profiling, batch[0]))
        assert profile.low.dtype == np.float64
        for seen, expected in zip(batch, (reference["channel_test_is_profile"], reference["channel"]), strict=True):
            reached = {name: it.value(made.updated(it, seen)) for name, it in criteria(profile)}
            unscaled = {name: value for name, value in expected.items() if not name.startswith("NC_scaled")}
            held_to(unscaled, reached, rounding=0)


def test_both_sides_of_the_boundaries():
    reference, of = made.golden()[1]["reference"]["channel"], made.channels()
    values = made.golden()[0]["channel_means"]
    it = cw.coverage.boundary_coverage(made.profile_of(values[:50], of))
    state = made.updated(it, made.activations(values[50:], of))
    upper, lower = (int(np.bitwise_count(np.asarray(bits)).sum()) for bits in (state.upper, state.lower))
    either = int(np.bitwise_count(np.asarray(state.upper | state.lower)).sum())
    assert [upper, lower, either] == reference["NBC_0"][1:]


MEASURES = {"sparse": 1.0, "dense": None, "completeness_0.5": 0.5, "completeness_0.75": 0.75}


def combined(values, of, share, strength=2) -> cw.coverage.Coverage:
    it = cw.coverage.combination_coverage(of, strength=strength, share=share)
    return it.value(made.updated(it, made.activations(values, of)))


@pytest.mark.parametrize("measure", MEASURES)
def test_pairs_of_each_layer(measure):
    of, expected = made.channels(), made.golden()[1]["other"]["deepct_2way_channel_gt0"]
    reached = combined(made.golden()[0]["channel_means"][50:], of, MEASURES[measure])
    for layer, values in zip(of.layers, expected.values(), strict=True):
        assert reached.covered[layer.name] / reached.total[layer.name] == pytest.approx(values[measure], abs=1e-12)


def test_triples():
    expected, of = made.golden()[1]["other"]["deepct_3way_dense5_first40"], made.convention(40)
    values = made.golden()[0]["channel_means"][50:, 392:432]
    assert combined(values, of, 1.0, strength=3).value == pytest.approx(expected["sparse"], abs=1e-12)
    assert combined(values, of, None, strength=3).value == pytest.approx(expected["dense"], abs=1e-12)


def test_the_worked_example_of_combinations():
    example, of = made.golden()[1]["deepct_example"], made.convention(3)
    values = np.asarray(example["activations_gt0"], np.float32)
    assert combined(values, of, 1.0).value == pytest.approx(example["sparse"])
    assert combined(values, of, None).value == pytest.approx(example["dense"])
    assert combined(values, of, 0.7).value == pytest.approx(example["completeness_0.7"])
    assert combined(values, of, 0.9).value == pytest.approx(example["completeness_0.9"])


def test_sign_sign_pairs():
    of, expected = made.channels(), made.golden()[1]["other"]["ssc"]
    it = cw.coverage.sign_sign_coverage(of)
    reached = it.value(made.updated(it, made.activations(made.golden()[0]["channel_means"][50:], of)))
    counts = list(zip(reached.covered.values(), reached.total.values(), strict=True))
    assert counts == [(covered, total) for covered, total, _ in expected.values()]


def test_the_covariance_spread_does_not_depend_on_batches():
    of, expected = made.channels(), made.golden()[1]["nlc_exact"]
    values = made.golden()[0]["channel_means"][50:]
    it = cw.coverage.covariance_spread(of)
    for batch in (50, 25, 10, 5, 1):
        state = it.init()
        for first in range(0, 50, batch):
            state = made.updated(it, made.activations(values[first : first + batch], of), state)
        reached = it.value(state)
        assert reached.value == pytest.approx(expected["sum"], rel=1e-5)
        np.testing.assert_allclose(list(reached.covered.values()), list(expected["layers"].values()), rtol=1e-4)
