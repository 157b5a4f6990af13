import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import cwjax as cw
from cwjax.runners.batch import terms_of
from cwjax.runners.rounding import Rounding, discretised
from tests import problems

COUNT, LEVELS = 24, 8  # as coarse as that, rounding breaks about half of the adversarial examples
MODEL = cw.bind(problems.mlp, problems.mlp_params())
X = jnp.asarray(np.rint(problems.inputs(COUNT) * (LEVELS - 1)).astype(np.float32) / np.float32(LEVELS - 1))
GOAL = problems.goals(MODEL, np.asarray(X))
KEYS = problems.keys(COUNT)
BYTES = np.arange(256, dtype=np.float32) / np.float32(255)


@functools.cache
def solved(confidence: float = 0.0) -> cw.Result:
    """The attack's own result."""
    return _attack(confidence)


@jax.jit
def _attack(confidence):
    return cw.batched(problems.small_l2(objective=cw.objectives.logit_margin(confidence)))(MODEL, KEYS, X, GOAL)


def repair(start, model=MODEL, x=X, goal=GOAL, confidence=0.0, steps=100) -> tuple[cw.Result, Rounding]:
    """What an attack has found, on the lattice."""
    return _repair(start, model, x, goal, confidence, steps)


@jax.jit
def _repair(start, model, x, goal, confidence, steps):
    run = discretised(given(start), terms=terms(confidence=confidence), levels=LEVELS, steps=steps)
    return run(model, problems.keys(len(x)), x, goal)


@functools.cache
def repaired(confidence: float = 0.0, steps: int = 100) -> tuple[cw.Result, Rounding]:
    """What the attack has found, on the lattice."""
    return repair(solved(confidence), confidence=confidence, steps=steps)


def given(result):
    """A runner that has found this result already."""
    return lambda model, keys, x, goal, **bounds: result


def terms(*, confidence=0.0, objective: cw.Objective | None = None, distance=None) -> cw.base.Terms:
    """What an attack of these parts is held to."""
    objective = objective or cw.objectives.logit_margin(confidence)
    return cw.base.Terms(objective, distance or cw.distances.l2(), cw.boxes.projected())


def claimed(x, solution) -> cw.Result:
    """A result that says of any array that it fools the model."""
    count = len(x)
    none, ones = jnp.zeros(count, jnp.int32), jnp.ones(count)
    yes = jnp.ones(count, bool)
    return cw.Result(jnp.asarray(solution), yes, ones, ones, forwards=none, backwards=none, finite=yes, finished=yes)


def fooled(params, x):
    """A model that answers 1, whatever it is asked."""
    return jnp.broadcast_to(jnp.asarray([[0.0, 1.0]], x.dtype), (len(x), 2)) + 0 * x.reshape(len(x), -1)[:, :2]


def rounded(x, solution, levels=256, between=None, **bounds) -> np.ndarray:
    """The solution after plain rounding: the model is fooled by everything."""
    x = jnp.asarray(x)
    run = discretised(given(claimed(x, solution)), levels=levels, between=between, terms=terms())
    run = jax.jit(functools.partial(run, **bounds))  # which are not traced
    result, rounding = run(cw.bind(fooled), problems.keys(len(x)), x, cw.untargeted(np.zeros(len(x), np.int32)))
    assert rounding.rounded.all()
    assert result.x.dtype == x.dtype
    return np.asarray(result.x)


def pick(places, *trees):
    return tuple(jax.tree.map(lambda leaf: leaf[jnp.asarray(places)], tree) for tree in trees)


def assert_same(found: tuple[cw.Result, Rounding], expected: tuple[cw.Result, Rounding]) -> None:
    np.testing.assert_array_equal(found[0].success, expected[0].success)
    np.testing.assert_allclose(found[0].distance, expected[0].distance, rtol=1e-4)
    np.testing.assert_array_equal(found[0].finite, expected[0].finite)
    np.testing.assert_allclose(found[1].distance, expected[1].distance, rtol=1e-4)
    for field in ("success", "rounded", "repairs"):
        np.testing.assert_array_equal(getattr(found[1], field), getattr(expected[1], field))


# The lattice


@pytest.mark.parametrize("dtype", [jnp.float32, pytest.param(jnp.bfloat16, marks=pytest.mark.long), jnp.float16])
def test_the_levels_are_exactly_the_bytes_over_255(dtype):
    byte = jnp.asarray(BYTES).astype(dtype)
    assert len(np.unique(byte)) == 256
    share = np.array([-0.2, 0.0, 0.2, -0.2, 0.2], np.float32)[:, None]
    solution = jnp.clip(byte.astype(jnp.float32)[None] + share / 255, 0, 1).astype(dtype)
    clean = jnp.stack([jnp.roll(byte, 100)] * 3 + [byte] * 2)
    assert (solution[:3] != clean[:3]).all()
    np.testing.assert_array_equal(rounded(clean, solution), jnp.stack([byte] * 5))


def test_what_changed_goes_to_the_nearest_level_and_the_rest_stays_even_off_the_lattice():
    clean, solution = np.random.default_rng(0).uniform(size=(2, 1, 5000)).astype(np.float32)
    solution = 1.4 * solution - np.float32(0.2)  # some of it beyond the box
    solution[:, ::4] = clean[:, ::4]
    values = rounded(clean, solution)
    np.testing.assert_array_equal(values[:, ::4], clean[:, ::4])
    byte = np.rint(np.clip(solution.astype(np.float64), 0, 1) * 255).astype(int)
    changed = solution != clean
    np.testing.assert_array_equal(values[changed], BYTES[byte][changed])


def test_clean_values_come_back_bit_for_bit_whatever_arithmetic_made_them():
    whole = np.arange(256, dtype=np.float32)
    clean = np.stack([BYTES - np.float32(0.5), BYTES * 2 - 1, whole * np.float32(1 / 255), whole])
    low, high = np.array([[-0.5], [-1], [0], [0]], np.float32), np.array([[0.5], [1], [1], [255]], np.float32)
    nudged = np.clip(clean + np.float32(1e-3) * (high - low), low, high)
    assert (nudged != clean).sum() == 4 * 255
    far = np.where(clean < (low + high) / 2, clean + 0.4999 * (high - low), clean - 0.4999 * (high - low))
    x, solution = np.stack([clean, clean]), np.stack([nudged, far]).astype(np.float32)
    values = rounded(x, solution, low=low, high=high)
    np.testing.assert_array_equal(values[0], clean)
    np.testing.assert_array_equal(values[1, 3], np.rint(far[3]))
    assert not np.isin(far[3], whole).any()


def test_traced_bounds_of_each_channel():
    bounds = {"low": np.array([0, -1, -0.3, -0.5], np.float32), "high": np.array([[0.9], [1.1], [255]], np.float32)}
    low, high = np.broadcast_arrays(*bounds.values())
    share = np.random.default_rng(1).uniform(size=(50, 3, 4))
    share[0] = 1  # where low + (high - low) may be more than high
    solution = (low + (high - low) * share).astype(np.float32)
    clean = np.broadcast_to(low, solution.shape)
    expected = low + (high - low) * np.rint(share * 15) / 15

    run = jax.jit(discretised(given(claimed(clean, solution)), levels=16, terms=terms()))
    goal = cw.untargeted(np.zeros(len(clean), np.int32))
    values = np.asarray(run(cw.bind(fooled), problems.keys(len(clean)), jnp.asarray(clean), goal, **bounds)[0].x)
    np.testing.assert_allclose(values, expected, rtol=1e-6, atol=1e-7)
    assert (values >= low).all()
    assert (values <= high).all()


def test_where_each_input_has_bounds_of_its_own_it_is_said_between_which_values_the_levels_lie():
    rng = np.random.default_rng(2)
    clean = np.rint(rng.uniform(0.2, 0.8, size=(20, 50)) * 255).astype(np.float32) / 255
    low, high = clean - np.float32(0.1), clean + np.float32(0.1)
    solution = (low + (high - low) * rng.uniform(size=clean.shape)).astype(np.float32)
    solution[:, ::5] = high[:, ::5]  # the nearest level may be beyond the bound, and then it is the one before
    values = rounded(clean, solution, between=(0.0, 1.0), low=low, high=high)
    assert np.isin(values, np.r_[BYTES, clean.ravel()]).all()
    assert ((low <= values) & (values <= high)).all()
    assert (np.abs(values - solution) <= 1.0001 / 255).all()
    nearest = BYTES[np.rint(solution.astype(np.float64) * 255).astype(int)]
    beyond = (nearest < low) | (nearest > high)
    assert beyond[:, ::5].any()
    np.testing.assert_allclose(values[~beyond], nearest[~beyond], atol=1e-6)
    with pytest.raises(ValueError, match=r"each input has bounds of its own: say .* \(between=\(0, 1\)\)"):
        rounded(clean, solution, low=low, high=high)


# The repair


def oracle(params, x, solution, label, sign, confidence, steps):
    """The greedy search on one example in NumPy, with the gradient by hand. Returns the image, whether it is
    adversarial, how many elements moved, and how many times some did.
    """
    scaled = solution.reshape(-1) * (LEVELS - 1)
    low, high = np.floor(scaled) / (LEVELS - 1), np.ceil(scaled) / (LEVELS - 1)
    up = scaled - np.floor(scaled) > 0.5
    image = np.where(up, high, low)
    still = set(np.flatnonzero(low != high))
    moves = 0
    for taken in range(steps + 1):
        hidden = np.tanh(image @ params["w1"] + params["b1"])
        logits = hidden @ params["w2"] + params["b2"]
        rivals = logits.copy()
        rivals[label] = -np.inf
        rival = int(rivals.argmax())
        missing = confidence - sign * (logits[label] - logits[rival])
        if missing < 0:
            return image.reshape(x.shape), True, moves, taken
        by_logits = np.zeros_like(logits)
        by_logits[label], by_logits[rival] = -sign, sign
        slope = params["w1"] @ ((1 - hidden**2) * (params["w2"] @ by_logits))
        falls = {i: slope[i] * (image[i] - (low if image[i] == high[i] else high)[i]) for i in still}
        helping = sorted((i for i in still if falls[i] > 0), key=falls.__getitem__, reverse=True)
        if not helping or taken == steps:
            return x, False, moves, taken
        promised = 0.0
        for i in helping:
            image[i] = low[i] if image[i] == high[i] else high[i]
            still.remove(i)
            moves, promised = moves + 1, promised + falls[i]
            if promised >= missing:
                break
    raise AssertionError


@pytest.mark.parametrize(("confidence", "steps"), [(0.0, 100), (1.5, 100), (0.0, 1), (0.0, 0)])
def test_the_repair_agrees_with_a_plain_greedy_loop(confidence, steps):
    params = problems.mlp_params(dtype=np.float64)
    x = np.rint(np.asarray(X, np.float64) * (LEVELS - 1)) / (LEVELS - 1)
    attacked = jax.tree.map(np.asarray, solved(confidence))
    # L0 and the like leave elements alone: here the last column of every image
    solution = np.where(np.arange(4) == 3, x, attacked.x.astype(np.float64))
    images, success, moves, taken = zip(
        *(
            oracle(params, x[i], solution[i], int(GOAL.label[i]), float(GOAL.sign[i]), confidence, steps)
            if attacked.success[i]
            else (x[i], False, 0, 0)
            for i in range(COUNT)
        ),
        strict=True,
    )
    with jax.enable_x64(True):
        start, model, goal = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)), (attacked, params, GOAL))
        start = start._replace(x=jnp.asarray(solution))
        result, rounding = repair(start, cw.bind(problems.mlp, model), jnp.asarray(x), goal, confidence, steps)
        assert result.x.dtype == jnp.float64
    np.testing.assert_array_equal(result.success, success)
    np.testing.assert_array_equal(rounding.repairs, moves)
    np.testing.assert_array_equal(result.x, np.stack(images))
    np.testing.assert_array_equal(result.forwards - attacked.forwards, attacked.success * (1 + np.array(taken)))
    assert (attacked.success & ~result.success).any() or steps == 100


@pytest.mark.parametrize("confidence", [0.0, 1.5])
def test_rounding_breaks_some_examples_and_the_repair_rescues_most(confidence):
    result, rounding = repaired(confidence)
    broken = rounding.success & ~rounding.rounded
    assert broken.sum() >= 4
    assert rounding.rounded.sum() >= 4
    assert (result.success & broken).sum() > 0.8 * broken.sum()
    assert (rounding.repairs[broken & result.success] > 0).all()
    assert rounding.repairs.max() > 1
    np.testing.assert_array_equal(rounding.repairs[~broken], 0)


@pytest.mark.parametrize("steps", [100, 0])
def test_what_it_says_about_the_attack_is_the_attacks_own_result(steps):
    result, rounding = repaired(steps=steps)
    assert (result.success != solved().success).any() == (steps == 0)
    np.testing.assert_array_equal(rounding.success, solved().success)
    np.testing.assert_array_equal(rounding.distance, solved().distance)
    np.testing.assert_array_equal(result.finished, solved().finished)
    np.testing.assert_array_equal(result.c, np.where(result.success, solved().c, np.inf))


@pytest.mark.parametrize("confidence", [0.0, 1.5])
def test_as_many_elements_have_moved_as_are_reported_and_none_by_a_level(confidence):
    result, rounding = repaired(confidence)
    hit = np.asarray(result.success)
    solution = np.asarray(solved(confidence).x)[hit]
    plain = np.rint(solution * (LEVELS - 1)) / (LEVELS - 1)
    moved = np.abs(np.asarray(result.x)[hit] - plain) > 1e-3
    np.testing.assert_array_equal(moved.sum((1, 2)), rounding.repairs[hit])
    assert (np.abs(np.asarray(result.x)[hit] - solution) < 1 / (LEVELS - 1)).all()


def test_where_hundreds_of_elements_have_to_move_a_look_moves_as_few_as_it_takes():
    # As L-infinity attacks leave them: 400 elements at a radius of 4.4 levels. The boundary is at 4.30125 on average.
    # Plain rounding leaves 1600 levels of the 1720.5 that it takes, so 121 elements have to go up to 5.
    def apply(params, x):
        total = 255 * (x - 0.4).sum(1)
        return jnp.stack([jnp.full_like(total, 1720.5), total], 1)

    clean = jnp.full((1, 400), 102 / 255, jnp.float32)
    start = claimed(clean, clean + 4.4 / 255)
    run = jax.jit(discretised(given(start), terms=terms(distance=cw.distances.linf())))
    result, rounding = run(cw.bind(apply), problems.keys(1), clean, cw.untargeted(np.zeros(1, np.int32)))
    assert result.success.all()
    np.testing.assert_array_equal(rounding.repairs, 121)
    np.testing.assert_array_equal(result.forwards, 2)
    np.testing.assert_allclose(result.distance, 5 / 255, rtol=1e-5)


def test_without_steps_rounding_is_plain():
    result, rounding = repaired(steps=0)
    np.testing.assert_array_equal(result.success, repaired()[1].rounded)
    np.testing.assert_array_equal(rounding.rounded, result.success)
    np.testing.assert_array_equal(rounding.repairs, 0)
    assert (result.forwards == solved().forwards + solved().success).all()


def test_where_no_move_promises_anything_the_repair_gives_up_at_once():
    def apply(params, x):
        return problems.mlp(params, lax.stop_gradient(x))

    result, rounding = repair(solved(), cw.bind(apply, MODEL.params))
    np.testing.assert_array_equal(result.success, rounding.rounded)
    np.testing.assert_array_equal(result.forwards - solved().forwards, solved().success)


def test_unchanged_pixels_stay_so_that_l0_counts_few():
    # As the L0 attack leaves them: two pixels have moved a long way, ten are the clean ones.
    rng = np.random.default_rng(3)
    free = np.argsort(rng.uniform(size=(COUNT, 12)), axis=1).reshape(X.shape) < 2
    far = jnp.where(free, jnp.where(X > 0.5, X - 0.45, X + 0.45), X)
    run = jax.jit(discretised(given(claimed(X, far)), levels=LEVELS, terms=terms(distance=cw.distances.l0())))
    result, rounding = run(MODEL, KEYS, X, GOAL)
    hit = np.asarray(result.success)
    assert (rounding.repairs[hit] > 0).any()
    assert (rounding.repairs[~hit] > 0).any()
    np.testing.assert_array_equal(np.asarray(result.x)[~free], np.asarray(X)[~free])
    np.testing.assert_array_equal(result.distance[hit], 2)


# The laws


@pytest.mark.parametrize("confidence", [0.0, 1.5])
def test_a_success_is_one_when_the_saved_array_goes_through_the_model_alone(confidence):
    result, _ = repaired(confidence)
    assert result.success.sum() > COUNT / 3
    for i in np.flatnonzero(result.success):
        saved = jnp.asarray(np.asarray(result.x[i : i + 1]))
        lead = cw.metrics.margins(MODEL, saved, pick([i], GOAL)[0])[0]
        assert lead > 0
        assert lead >= confidence


def test_the_result_is_on_the_lattice_and_inside_the_box():
    values = np.arange(LEVELS, dtype=np.float32) / np.float32(LEVELS - 1)
    assert np.isin(repaired()[0].x, values).all()


def test_the_distance_is_that_of_the_returned_input():
    result, rounding = repaired()
    hit = np.asarray(result.success)
    np.testing.assert_allclose(result.distance[hit], cw.metrics.norms(X, result.x)["l2"][hit], rtol=1e-5)
    assert (result.distance[hit] != rounding.distance[hit]).any()


@pytest.mark.parametrize("kind", ["of the attack", "of the repair"])
def test_a_failure_returns_the_clean_input_at_distance_infinity(kind):
    start = solved()
    model = MODEL
    if kind == "of the attack":
        none = jnp.full(COUNT, jnp.inf, jnp.float32)
        start = start._replace(success=jnp.zeros(COUNT, bool), distance=none, c=none, x=X)
    else:
        # No hidden unit: the biases alone decide, so nothing in the image can help.
        model = cw.bind(problems.mlp, MODEL.params | {"w1": 0 * MODEL.params["w1"]})
    result, rounding = repair(start, model)
    failed = ~np.asarray(result.success)
    assert failed.sum() >= COUNT / 2
    np.testing.assert_array_equal(result.x[failed], X[failed])
    assert np.isinf(result.distance[failed]).all()
    assert np.isinf(result.c[failed]).all()
    assert result.finite.all()
    assert not rounding.rounded[failed].any()
    looked = np.asarray(start.success)
    np.testing.assert_array_equal(result.forwards - start.forwards, looked)
    np.testing.assert_array_equal(result.backwards - start.backwards, looked)


def test_an_example_does_not_depend_on_its_batch():
    order = np.random.default_rng(0).permutation(COUNT)
    start, x, goal = pick(order, solved(), X, GOAL)
    assert_same(repair(start, x=x, goal=goal), pick(order, *repaired()))
    for i in np.flatnonzero(repaired()[1].repairs)[:3]:
        start, x, goal = pick([i], solved(), X, GOAL)
        assert_same(repair(start, x=x, goal=goal), pick([i], *repaired()))


@pytest.mark.long
def test_with_its_attack_in_one_program_and_in_chunks():
    run = cw.chunked(discretised(cw.batched(problems.small_l2()), levels=LEVELS), 7)
    assert_same(jax.jit(run)(MODEL, KEYS, X, GOAL), repaired())


def test_forwards_and_backwards_are_the_calls_of_the_model():
    model, calls = problems.counted()
    most = int(repaired()[1].repairs.argmax())
    start, x, goal = pick([most], solved(), X, GOAL)
    result, rounding = repair(start, model, x, goal)
    jax.effects_barrier()
    assert rounding.repairs[0] > 1
    assert calls["forward"] > 1
    assert result.forwards[0] - start.forwards[0] == calls["forward"]
    assert result.backwards[0] - start.backwards[0] == calls["backward"]


def test_new_numbers_and_new_weights_do_not_compile_again():
    chex.clear_trace_counter()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def run(model, start, steps, confidence, high):
        runner = discretised(given(start), terms=terms(confidence=confidence), levels=LEVELS, steps=steps)
        return runner(model, KEYS, X, GOAL, high=high)

    assert_same(run(MODEL, solved(), 100, 0.0, 1.0), repaired())
    assert run(MODEL, solved(), 0, 0.0, 1.0)[1].repairs.max() == 0
    other = cw.bind(problems.mlp, problems.mlp_params(seed=5))
    assert run(other, solved(), 100, 0.5, 2.0)[0].success.sum() < repaired()[0].success.sum()


@pytest.mark.parametrize("when", ["at once", "after a move", "in the slope"])
def test_a_model_that_returns_nan_ends_as_not_finite_and_disturbs_no_neighbour(when):
    victim = int(repaired()[1].repairs.argmax())
    plain = np.rint(solved().x[victim] * (LEVELS - 1)) / (LEVELS - 1)
    choice = {name: jnp.asarray(name == when) for name in ("at once", "after a move", "in the slope")}
    params = choice | {"plain": plain.reshape(1, -1), "weights": MODEL.params}
    result, rounding = repair(solved(), cw.bind(broken_nearby, params))
    assert not result.finite[victim]
    assert not result.success[victim]
    assert (rounding.repairs[victim] > 0) == (when == "after a move")
    np.testing.assert_array_equal(result.x[victim], X[victim])
    others = np.delete(np.arange(COUNT), victim)
    assert_same(pick(others, result, rounding), pick(others, *repaired()))


def broken_nearby(params, x):
    """One NaN on an image, or on those a level away: among logits that may not matter, or in the slope alone."""
    flat = x.reshape(len(x), -1)
    away = jnp.abs(flat - params["plain"]).max(1)
    here, near = away < 1e-3, (away > 1e-3) & (away < 1.01 / (LEVELS - 1))
    victim = (here & params["at once"]) | (near & params["after a move"])
    single = victim[:, None] & (jnp.arange(problems.CLASSES) == 4)[None]
    root = jnp.sqrt(jnp.where(here & params["in the slope"], ((flat - lax.stop_gradient(flat)) ** 2).sum(1), 1))
    return jnp.where(single, jnp.nan, problems.mlp(params["weights"], x)) + root[:, None]


def test_a_nan_that_the_objective_does_not_look_at_is_reported():
    objective = cw.Objective(loss=lambda logits, goal: logits[0], met=lambda logits, goal: logits[0] <= 0)

    def apply(params, x):
        return jnp.stack([0 * x.sum((1, 2)), jnp.full(len(x), jnp.nan)], axis=1)

    result, _ = jax.jit(discretised(given(solved()), terms=terms(objective=objective)))(cw.bind(apply), KEYS, X, GOAL)
    np.testing.assert_array_equal(result.finite, ~solved().success)
    assert not result.success.any()


def test_what_the_attack_found_not_finite_remains_so():
    start = solved()._replace(finite=jnp.zeros(COUNT, bool))
    assert not repair(start)[0].finite.any()


def test_inputs_of_half_precision():
    dtype = jnp.bfloat16
    x = X.astype(dtype)
    attacked = solved()._replace(x=solved().x.astype(dtype))
    result, rounding = repair(attacked, x=x)
    assert result.x.dtype == dtype
    assert result.distance.dtype == jnp.float32
    hit = np.asarray(result.success)
    assert (rounding.success & ~rounding.rounded & hit).any()
    values = (jnp.arange(LEVELS) / (LEVELS - 1)).astype(dtype)
    assert np.isin(np.asarray(result.x, np.float32), np.asarray(values, np.float32)).all()
    assert cw.metrics.successes(MODEL, result.x, GOAL)[hit].all()
    np.testing.assert_allclose(result.distance[hit], cw.metrics.norms(x, result.x)["l2"][hit], rtol=1e-5)


def test_the_repairs_convolutions_are_rewritten_for_the_cpu():
    def apply(params, x):
        features = lax.conv_general_dilated(
            x[:, :, :, None], params, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return features.sum((1, 2))

    model = cw.bind(apply, jnp.ones((3, 3, 1, 5)))
    run = jax.jit(discretised(given(solved()), levels=LEVELS, terms=terms()))
    assert "optimization_barrier" in run.trace(model, KEYS, X, GOAL).lower(lowering_platforms=("cpu",)).as_text()


@pytest.mark.parametrize("settings", [{"levels": 1}, {"steps": -1}])
def test_numbers_out_of_range_are_refused(settings):
    with pytest.raises(ValueError, match="must be at least"):
        discretised(given(solved()), terms=terms(), **settings)


# What it knows of its attack

BOXES = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0))


@jax.jit
def _discretised_within(low, high, keys, x, goal):
    def apply(params, x):
        return problems.mlp(params, (x - low) / (high - low))

    run = discretised(cw.batched(cw.fast("l2", steps=40)))
    return run(cw.bind(apply, MODEL.params), keys, x, goal, low=low, high=high)[0]


@pytest.mark.parametrize(("low", "high"), BOXES)
def test_the_levels_lie_between_the_bounds(low, high):
    # Saved as bytes and read again, every success still fools the model.
    bytes_ = np.rint(problems.inputs(COUNT) * 255)
    x = (low + (high - low) * bytes_ / 255).astype(np.float32)
    result = _discretised_within(low, high, KEYS, x, GOAL)
    level = (np.asarray(result.x, np.float64) - low) / (high - low) * 255
    np.testing.assert_allclose(level, np.rint(level), atol=1e-3)
    saved = np.rint(level).astype(np.uint8)
    read = (low + (high - low) * saved.astype(np.float64) / 255).astype(np.float32)
    assert result.success.mean() > 0.6
    assert cw.metrics.successes(MODEL, (read - low) / (high - low), GOAL)[result.success].all()


@pytest.mark.parametrize("wrap", [lambda run: run, jax.jit, functools.partial, lambda run: cw.chunked(run, 7)])
def test_a_runner_is_seen_through_whatever_the_caller_puts_around_it(wrap):
    attack = cw.fast("linf", objective=cw.losses.negative_margin(5.0))
    assert terms_of(wrap(cw.batched(attack)))() is attack.terms


def test_the_terms_of_a_function_of_numbers_are_those_of_its_numbers():
    runner = cw.streamed(
        lambda confidence, steps: cw.attacks.pgd(
            epsilon=0.5, objective=cw.losses.negative_margin(confidence), steps=steps
        ),
        width=4,
    )
    assert terms_of(runner)(confidence=3.0, steps=5).objective.confidence == 3.0
    result, _ = discretised(runner)(MODEL, *pick(np.arange(4), KEYS, X, GOAL), confidence=0.5, steps=60)
    assert result.success.any()
    hit = np.asarray(result.success)
    goal = pick(np.arange(4), GOAL)[0]
    assert cw.metrics.successes(MODEL, result.x, goal, confidence=0.5)[hit].all()


@pytest.mark.parametrize("wrapper", [discretised, cw.verified])
def test_a_function_whose_terms_are_not_known_cannot_be_wrapped(wrapper):
    with pytest.raises(TypeError, match=r"are not known: wrap a runner of cwjax, .* or say terms=attack.terms"):
        wrapper(given(solved()))
    with pytest.raises(TypeError, match="must be left out here"):
        wrapper(cw.batched(cw.l2()), terms=cw.l2().terms)
