"""The fast family beyond the laws: its price, its rounds, what it does not depend on, and how near it comes."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import cwjax as cw
from cwjax.attacks.fast import alternating, slide, sparse
from cwjax.attacks.fast.attacks import rounds_of
from cwjax.attacks.fast.scout import scout
from cwjax.attacks.fast.threshold import thresholded_descent
from cwjax.base import problem as problem_of
from cwjax.base import untouched
from cwjax.iterated import Rule, Seen, iterated, steered
from tests import golden_net, problems

SIZE, CLASSES = 12, 4
FAST = {"l2": cw.fast_l2, "linf": cw.fast_linf, "l1": cw.fast_l1, "l2, alternating": cw.alternating_l2}


def affine(params, x):
    weights, bias = params
    return x.reshape(x.shape[0], -1) @ weights + bias[None]


def affine_model(scale: float = 1.0) -> cw.Model:
    rng = np.random.default_rng(3)
    weights = jnp.asarray(rng.normal(size=(SIZE, CLASSES)), jnp.float32)
    return cw.bind(affine, (scale * weights, scale * jnp.asarray(rng.normal(size=CLASSES), jnp.float32)))


X = jnp.asarray(np.random.default_rng(4).uniform(0.4, 0.6, size=(8, SIZE)), jnp.float32)
KEYS = problems.keys(len(X))


def towards(model: cw.Model) -> cw.Goal:
    return cw.targeted((model.apply(model.params, X).argmax(-1) + 1) % CLASSES)


def attacked(attack: cw.Attack, model: cw.Model, goal: cw.Goal | None = None) -> cw.Result:
    return jax.jit(cw.batched(attack))(model, KEYS, X, goal or towards(model))


def two_classes() -> tuple[cw.Model, np.ndarray, np.ndarray]:
    """An affine model of two classes, the margin of each input and the normal of the boundary."""
    weights, bias = affine_model().params
    model = cw.bind(affine, (weights[:, :2], bias[:2]))
    logits = np.asarray(model.apply(model.params, X), np.float64)
    return model, np.abs(logits[:, 0] - logits[:, 1]), np.asarray(weights[:, 0] - weights[:, 1], np.float64)


@pytest.mark.parametrize("norm", FAST)
def test_a_hundred_gradients_find_the_closed_form_minimum_of_two_classes(norm):
    model, margin, normal = two_classes()
    duals = {"l2": np.linalg.norm(normal), "linf": np.abs(normal).sum(), "l1": np.abs(normal).max()}
    bounds = {"box": cw.projected(-9, 9)} if norm == "l2" else {"lower": -9, "upper": 9}
    goal = cw.untargeted(model.apply(model.params, X).argmax(-1))
    result = attacked(FAST[norm](steps=100, **bounds), model, goal)
    # In L1 the smallest change is that of a single element, and the last of the others fade slowly.
    np.testing.assert_allclose(result.distance, margin / duals[norm.split(",")[0]], rtol=4e-2 if norm == "l1" else 1e-2)


def test_l0_finds_the_fewest_elements_of_two_classes():
    model, margin, normal = two_classes()
    goal = cw.untargeted(model.apply(model.params, X).argmax(-1))
    result = attacked(cw.fast_l0(steps=100, lower=0.1, upper=0.9), model, goal)
    logits = np.asarray(model.apply(model.params, X))
    down = np.where(logits[:, 0] > logits[:, 1], 1.0, -1.0)[:, None] * normal[None]
    gain = np.sort(np.abs(down) * np.where(down > 0, np.asarray(X) - 0.1, 0.9 - np.asarray(X)), axis=1)[:, ::-1]
    fewest = (np.cumsum(gain, axis=1) < margin[:, None]).sum(1) + 1
    np.testing.assert_array_equal(result.distance, fewest)


@pytest.mark.parametrize("make", [cw.fast_l2, cw.alternating_l2])
@pytest.mark.parametrize(
    "steps", [1, 7, 170, *(pytest.param(steps, marks=pytest.mark.long) for steps in (100, 300, 1000))]
)
def test_no_more_gradients_are_spent_than_were_asked_for(steps, make):
    result = attacked(make(steps=steps), affine_model())
    assert (result.forwards <= steps).all()
    assert (result.forwards > 0.99 * steps - 1).all()
    np.testing.assert_array_equal(result.forwards, result.backwards)


def test_rounds_grow_with_the_steps():
    assert [int(rounds_of(steps)) for steps in (1, 100, 170, 300, 1000)] == [1, 1, 2, 2, 4]
    with pytest.raises(ValueError, match="steps"):
        rounds_of(0)


@pytest.mark.parametrize("norm", FAST)
@pytest.mark.parametrize("scale", [1e-2, pytest.param(100.0, marks=pytest.mark.long)])
def test_the_scale_of_the_logits_does_not_matter(norm, scale):
    attack = FAST[norm](steps=40)
    plain, scaled = (attacked(attack, affine_model(factor)) for factor in (1.0, scale))
    np.testing.assert_array_equal(plain.success, scaled.success)
    hit = np.asarray(plain.success)
    assert hit.any()
    np.testing.assert_allclose(scaled.distance[hit], plain.distance[hit], rtol=2e-2)


@pytest.mark.long
def test_the_number_of_steps_may_be_traced():
    chex.clear_trace_counter()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def run(model, goal, steps):
        return [cw.batched(attack(steps=steps))(model, KEYS, X, goal) for attack in (*FAST.values(), cw.fast_l0)]

    model = affine_model()
    for steps in (20, 300):
        for result in run(model, towards(model), steps):
            assert (result.forwards <= steps).all()
            assert result.finished.all()


def test_an_input_that_meets_the_goal_already_is_returned_after_one_look_at_distance_zero():
    model = affine_model()
    reached = cw.targeted(model.apply(model.params, X).argmax(-1))
    result = attacked(cw.fast_l2(steps=300), model, reached)
    np.testing.assert_array_equal(result.x, X)
    np.testing.assert_array_equal(result.distance, 0)
    assert (result.forwards == 1).all()


@pytest.mark.long
def test_a_model_without_slope_is_a_failure_and_no_nan():
    flat = cw.bind(lambda params, x: jnp.zeros((x.shape[0], CLASSES)) + jnp.arange(CLASSES)[None])
    goal = cw.untargeted(np.full(len(X), CLASSES - 1))
    for attack in (*FAST.values(), cw.fast_l0):
        result = attacked(attack(steps=20), flat, goal)
        assert not result.success.any()
        assert result.finite.all()
        np.testing.assert_array_equal(result.x, X)


def test_a_round_starts_across_the_clean_input_at_the_distance_known():
    search = cw.mirrored(3)
    problem = problem_of(X[0], cw.Goal(jnp.int32(0), jnp.float32(-1)))
    knob = search.init(problem)
    first = search.ask(problem, knob)
    assert first.scale == 0
    np.testing.assert_array_equal(first.start, X[0])
    nothing = untouched(problem)
    second = search.ask(problem, search.tell(problem, knob, nothing))
    assert (second.scale, second.c) == (0, 10)
    found = nothing._replace(best=cw.Candidate(x=X[0] + 0.5, distance=jnp.float32(2), c=jnp.float32(7)))
    third = search.ask(problem, search.tell(problem, knob, found))
    assert (third.scale, third.c) == (2, 7)
    np.testing.assert_allclose(third.start, X[0] - 0.5, atol=1e-6)


def asked_for(search: cw.Search, goal: cw.Goal, rounds: int) -> list[float]:
    """The taus of that many rounds, none of which finds anything."""
    problem = problem_of(X[0], jax.tree.map(lambda leaf: leaf[0], goal))
    knob, taus = search.init(problem), []
    for _ in range(rounds):
        taus.append(float(search.ask(problem, knob).tau))
        knob = search.tell(problem, knob, untouched(problem))
    return taus


def test_kinds_of_rounds_take_turns():
    away, reach = cw.untargeted(np.zeros(1, int)), cw.targeted(np.zeros(1, int))
    assert asked_for(alternating._in_turn(4), away, 4) == [0, 1, 0, 1]
    assert asked_for(alternating._in_turn(4), reach, 4) == [0, 1, 0, 1]
    assert asked_for(sparse._thresholded_last(3, jnp.array(True)), away, 4) == [np.inf, 0, np.inf, -1]
    assert asked_for(sparse._thresholded_last(2, jnp.array(False)), reach, 2) == [0, np.inf]
    assert asked_for(sparse._by_turns(4, sparse._bold_in_l1), away, 4) == [0, np.inf, 0, np.inf]
    assert asked_for(sparse._by_turns(4, sparse._bold_in_l1), reach, 4) == [0, 0, np.inf, 0]


@pytest.mark.parametrize(("steps", "last"), [(1, 1e-3), (100, 1e-3), (200, 2.5e-4), (100_000, 1e-9)])
def test_the_radius_in_l2_is_turned_more_finely_in_a_longer_round(steps, last):
    np.testing.assert_allclose(slide.METRICS["l2"].turn(steps)[1], last, rtol=1e-5)
    np.testing.assert_allclose(jax.jit(slide.METRICS["l2"].turn)(steps)[1], last, rtol=1e-5)  # traced, in 32 bits


@pytest.mark.parametrize(
    ("steps", "towards", "away"),
    [
        (1, [1], [1]),
        pytest.param(150, [150], [150], marks=pytest.mark.long),
        pytest.param(200, [100, 100], [100, 100], marks=pytest.mark.long),
        (300, [100, 200], [150, 150]),
        pytest.param(500, [100, 300, 100], [166, 166, 166], marks=pytest.mark.long),
        pytest.param(1000, [125, 375, 125, 375], [250, 250, 250, 250], marks=pytest.mark.long),
    ],
)
def test_deep_rounds_towards_a_label_are_longer_once_the_others_have_enough(steps, towards, away):
    rounds = rounds_of(steps)

    def lengths(sign):
        problem = problem_of(X[0], cw.Goal(jnp.int32(0), jnp.float32(sign)))
        taus = [(alternating._RADIUS, alternating._DEEP)[k % 2] for k in range(int(rounds))]
        return [int(alternating._length(problem._replace(tau=jnp.float32(tau)), rounds, steps)) for tau in taus]

    assert lengths(1) == towards
    assert lengths(-1) == away
    # What a run spends is what its rounds do.
    model = cw.bind(problems.mlp, problems.mlp_params())
    x = jnp.asarray(problems.inputs(len(X)))
    answers = model.apply(model.params, x).argmax(-1)
    for goal, expected in ((cw.targeted((answers + 1) % problems.CLASSES), towards), (cw.untargeted(answers), away)):
        result = jax.jit(cw.batched(cw.alternating_l2(steps=steps)))(model, KEYS, x, goal)
        np.testing.assert_array_equal(result.backwards, sum(expected))


@pytest.mark.parametrize("kind", ["towards a label", "away from one"])
def test_the_last_round_of_a_long_run_in_l0_goes_as_sigma_zero_does(kind):
    model = affine_model()
    goal = towards(model) if kind == "towards a label" else cw.untargeted(model.apply(model.params, X).argmax(-1))
    problem = problem_of(X[0], jax.tree.map(lambda leaf: leaf[0], goal))
    long, short = cw.fast_l0(steps=400), cw.sigma_zero(steps=200)
    step, recipe = jax.jit(long.step), jax.jit(short.step)
    state, expected = long.init(KEYS[0], problem), short.init(KEYS[0], problem)
    for _ in range(200):
        state = step(model, problem, state)
    for _ in range(40):
        np.testing.assert_allclose(state.inner.x, expected.x, atol=1e-6)
        state, expected = step(model, problem, state), recipe(model, problem, expected)
    assert (expected.x != problem.x).any()


def test_a_thresholded_descent_is_the_same_in_another_box():
    model = affine_model()
    goal = cw.untargeted(model.apply(model.params, X).argmax(-1))
    weights, bias = model.params

    def result(span, model):
        rule = thresholded_descent(60, upper=span)
        parts = {"objective": cw.logit_margin(), "distance": cw.distances.l0(per_pixel=False), "lower": 0.0}
        attack = iterated(rule, **parts, upper=span, steps=60)
        return jax.jit(cw.batched(attack))(model, KEYS, span * X, goal)

    share, wide = result(1.0, model), result(256.0, cw.bind(affine, (weights / 256, bias)))
    np.testing.assert_array_equal(wide.distance, share.distance)
    np.testing.assert_allclose(wide.x / 256, share.x, atol=1e-5)


@pytest.mark.parametrize(("steps", "over"), [(30, 0.1), (100, 0.02)])
@pytest.mark.parametrize("rate", [1e-3, 1.0])
def test_a_deep_round_alone_finds_the_closed_form_minimum_of_two_classes(rate, steps, over):
    model, margin, normal = two_classes()
    scaled = cw.bind(lambda params, x: rate * affine(params, x), model.params)
    goal = cw.untargeted(model.apply(model.params, X).argmax(-1))
    rule = alternating.deep(optax.adam(1.0), steps, -1.0, 2.0)
    attack = iterated(
        rule,
        objective=cw.losses.negative_margin(),
        distance=cw.distances.l2(),
        lower=-1.0,
        upper=2.0,
        steps=steps,
    )
    np.testing.assert_allclose(attacked(attack, scaled, goal).distance, margin / np.linalg.norm(normal), rtol=over)


@pytest.mark.optimized
def test_130_gradients_reach_the_original_codes_distances():
    # The released code took 6,600 gradients an image for a mean of 2.6253 on these.
    model, arrays = golden_net.load()
    x = jnp.asarray(arrays["images"][:20], jnp.float32) / 255
    goal = cw.targeted(arrays["targets"][:20])
    result = jax.jit(cw.batched(cw.fast_l2(steps=130)))(model, problems.keys(20), x, goal)
    assert result.success.all()
    assert (result.forwards <= 130).all()
    assert result.distance.mean() < 2.6253


@pytest.mark.long
def test_towards_a_label_the_first_round_is_within_a_radius():
    model = cw.bind(problems.mlp, problems.mlp_params())
    x = jnp.asarray(problems.inputs(len(X)))
    answers = model.apply(model.params, x).argmax(-1)

    def distances(attack, goal):
        return jax.jit(cw.batched(attack))(model, KEYS, x, goal).distance

    parts = {"objective": cw.losses.negative_margin(), "distance": cw.distances.l2(), "lower": 0.0, "upper": 1.0}
    within = iterated(steered(slide.slid("l2", 40), cw.radius(norm="l2", steps=40)), **parts, steps=40)
    ours, radius = cw.alternating_l2(steps=40), cw.searched(within, cw.mirrored(1))
    towards, away = cw.targeted((answers + 1) % problems.CLASSES), cw.untargeted(answers)
    np.testing.assert_allclose(distances(ours, towards), distances(radius, towards), rtol=1e-3)
    assert not np.allclose(distances(ours, away), distances(radius, away), rtol=1e-3)  # a probe first


def bent(slope, x):
    """Two logits, whose margin is 1 at X[0] and falls with the sum of the elements: by 1 a unit at first, and from 0.9
    on by `slope`. The sum at the boundary is 1 more, by the first slope.
    """
    added = x.sum(-1) - X[0].sum()
    margin = 1 - jnp.minimum(added, 0.1) - slope * jnp.maximum(added - 0.1, 0)
    return jnp.stack([margin, jnp.zeros_like(margin)], -1)


@pytest.mark.long
@pytest.mark.parametrize(("times", "steps"), [(6, 100), (30, 300)])
@pytest.mark.parametrize("norm", ["l2", "linf", "l2, alternating"])
def test_a_boundary_is_found_farther_away_than_the_slope_promises(norm, times, steps):
    model = cw.bind(bent, jnp.float32(0.9 / (times - 0.1)))
    bounds = {"box": cw.projected(-99, 99)} if norm == "l2" else {"lower": -99, "upper": 99}
    for goal in (cw.untargeted(np.zeros(1, int)), cw.targeted(np.ones(1, int))):
        result = jax.jit(cw.batched(FAST[norm](steps=steps, **bounds)))(model, KEYS[:1], X[:1], goal)
        np.testing.assert_allclose(result.distance, times / (SIZE if norm == "linf" else SIZE**0.5), rtol=3e-2)


@pytest.mark.parametrize("c", [1.0, 10.0])
@pytest.mark.parametrize(
    ("search", "knob", "left", "times"),
    [
        (cw.multiplier(steps=40), "length", 1.0, 10),
        (cw.radius(norm="l2", steps=40), "tau", 0.5, 10),
        (cw.radius(norm="l2", steps=40), "tau", 0.9, 33),  # of the loss after a step that was to take away all
    ],
)
def test_without_an_example_a_length_grows_to_ten_times_what_the_slope_promises(search, knob, left, times, c):
    plain = problem_of(X[0], cw.Goal(jnp.int32(0), jnp.float32(-1)))
    problem = plain._replace(scale=jnp.float32(0), c=jnp.float32(c))
    nothing = untouched(problem)
    state, lengths = search.init(problem), []
    for step in range(40):
        loss, distance = (1, 0) if step == 0 else (left, SIZE**-0.5)
        seen = cw.Evaluation(jnp.float32(loss), jnp.float32(distance), jnp.array(False), jnp.ones(SIZE))
        state = search.tell(problem, state, nothing._replace(last=seen))
        lengths.append(float(getattr(state, knob)) * SIZE**0.5)
    assert lengths[0] == pytest.approx(1)
    assert (np.diff(lengths) >= 0).all()
    assert max(lengths[:12]) <= 3 * c
    assert min(times / 2, 1.1**39) < lengths[-1] <= 1.01 * times * c


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_first_look_at_a_model_is_also_the_first_step(norm):
    slope = jnp.linspace(-1, 2, SIZE)
    model = cw.bind(lambda slope, x: jnp.stack([0.7 + 0 * x[:, 0], (x - X[:1]) @ slope], axis=1), slope)
    parts = {"objective": cw.losses.negative_margin(), "distance": slide.METRICS[norm].distance}
    rule = steered(slide.slid(norm, 1000), cw.radius(norm=norm, steps=1000))
    attack = iterated(rule, **parts, lower=-99, upper=99, steps=1000)
    problem = problem_of(X[0], cw.Goal(jnp.int32(1), jnp.float32(1)))._replace(scale=jnp.float32(0))
    state = attack.step(model, problem, attack.init(KEYS[0], problem))
    promised = 0.7 / (jnp.sum(jnp.abs(slope)) if norm == "linf" else jnp.linalg.norm(slope))
    assert float(state.memory.knob.tau) == pytest.approx(float(promised), rel=1e-5)
    gone = slide.METRICS[norm].distance.measure(state.x - X[0])
    share = {"linf": 0.3, "l2": 1.0}[norm]  # in L2 a point is moved out onto the sphere
    assert float(gone / promised) == pytest.approx(share, rel=1e-4)


def test_a_knob_is_turned_after_each_step_and_before_the_first():
    steps = 4
    move = Rule(init=lambda key, problem: (problem.start, ()), move=lambda problem, _, seen: (seen.x + problem.c, ()))
    counted = cw.Search(
        init=lambda problem: jnp.float32(0),
        ask=lambda problem, knob: problem._replace(c=knob),
        tell=lambda problem, knob, outcome: knob + 1.0 * (outcome.forwards == knob + 1),
        done=lambda knob: jnp.array(False),
    )
    parts = {"objective": cw.losses.negative_margin(), "distance": cw.distances.l2(), "lower": -99, "upper": 99}

    def gone(attack, point):
        problem = problem_of(jnp.zeros(SIZE), cw.Goal(jnp.int32(0), jnp.float32(-1)))
        state = attack.init(KEYS[0], problem)
        points = [point(state)]
        for _ in range(steps):
            state = attack.step(affine_model(), problem, state)
            points.append(point(state))
        return np.diff(points).tolist()

    assert gone(cw.tracked(iterated(move, **parts, steps=9), counted), lambda s: s.inner.x[0]) == [0, 1, 2, 3]
    assert gone(iterated(steered(move, counted), **parts, steps=9), lambda s: s.x[0]) == [1, 1, 2, 3]


@pytest.mark.parametrize(("sign", "turned"), [(-1, True), (1, False)])
def test_once_there_is_an_example_the_last_slope_leads_away_from_a_label_and_their_mean_towards_one(sign, turned):
    rule = slide.slid("linf", 10_000)
    problem = problem_of(X[0], cw.Goal(jnp.int32(1), jnp.float32(sign)))
    problem = problem._replace(tau=jnp.float32(1), scale=jnp.float32(0.1))
    zero, example = jnp.zeros_like(X[0]), untouched(problem).best._replace(distance=jnp.float32(1))
    x, memory = rule.init(KEYS[0], problem)
    for taken, slope in enumerate([1.0, 1.0, 1.0, -1.0]):
        told = {"x": X[0], "delta": zero, "slope": jnp.full(SIZE, slope), "loss": jnp.float32(1)}
        seen = Seen(**told, distance=zero.sum(), logits=zero, met=jnp.array(True), taken=jnp.int32(taken), best=example)
        x, memory = rule.move(problem, memory, seen)
    np.testing.assert_allclose(x - X[0], 0.1 if turned else -0.1, rtol=1e-4)


@pytest.mark.parametrize(("left", "power"), [(0.4, 0.85), (0.6, 0.5)])  # of the loss after a step that was to take all
def test_in_l2_steps_go_along_the_roots_of_a_slope_that_does_not_keep_its_promise(left, power):
    rule = slide.slid("l2", 10_000)
    goal = cw.Goal(jnp.int32(1), jnp.float32(1))
    problem = problem_of(X[0], goal)._replace(tau=jnp.float32(1), scale=jnp.float32(1))
    slope = jnp.linspace(-1, 2, SIZE)

    def direction(problem):
        x, memory = rule.init(KEYS[0], problem)
        for taken in range(2):
            loss, distance = (1, 0) if taken == 0 else (left, 1 / jnp.linalg.norm(slope))
            zero = jnp.zeros_like(X[0])
            told = {
                "x": X[0],
                "delta": zero,
                "slope": slope,
                "loss": jnp.float32(loss),
                "distance": jnp.float32(distance),
            }
            seen = Seen(**told, logits=zero, met=jnp.array(False), taken=jnp.int32(taken), best=untouched(problem).best)
            x, memory = rule.move(problem, memory, seen)
        return x - X[0]

    def along(power):
        powers = jnp.sign(slope) * jnp.abs(slope) ** power
        return -powers / jnp.linalg.norm(powers)

    np.testing.assert_allclose(direction(problem), along(power), atol=1e-5)
    # A round that begins elsewhere has nothing to go by.
    np.testing.assert_allclose(direction(problem._replace(start=X[1])), along(0.5), atol=1e-5)


@pytest.mark.parametrize(("bend", "doubted"), [(0.0, False), (0.9, True)])
def test_a_round_is_deep_where_a_probe_finds_most_of_the_loss_left(bend, doubted):
    model, adam = cw.bind(bent, jnp.float32(1 - bend)), optax.adam(1.0)
    within, deep = slide.slid("l2", 40), alternating.deep(adam, 40)
    problem = problem_of(X[0], cw.Goal(jnp.int32(0), jnp.float32(-1)))
    problem = problem._replace(scale=jnp.float32(0.3))

    def walked(rule, count):
        parts = {"objective": cw.losses.negative_margin(), "distance": cw.distances.l2()}
        attack = iterated(rule, **parts, lower=-9.0, upper=9.0, steps=40)
        state = attack.init(KEYS[0], problem)
        points = [state.x]
        for _ in range(count):
            state = attack.step(model, problem, state)
            points.append(state.x)
        return points

    points = walked(alternating._either(within, deep, scout("l2", 40, always=True)), 5)
    np.testing.assert_allclose((points[1] - X[0]).sum(), 1.5, rtol=1e-5)  # the slope promises the boundary at 1
    # What follows is what a round of its kind does.
    ways = {True: walked(deep, 4), False: walked(within, 4)}
    assert not np.allclose(ways[True][4], ways[False][4], atol=1e-2)
    np.testing.assert_allclose(points[2:], ways[doubted][1:], atol=1e-6)


@pytest.mark.long
@pytest.mark.optimized
def test_the_rounds_that_follow_come_nearer_and_never_make_it_worse():
    model, arrays = golden_net.load()
    x = jnp.asarray(arrays["images"][:10], jnp.float32) / 255
    goal = cw.targeted(arrays["targets"][:10])
    one, two = (
        jax.jit(cw.batched(cw.alternating_l2(steps=steps)))(model, problems.keys(10), x, goal) for steps in (100, 200)
    )
    assert one.success.all()
    assert (two.distance <= one.distance * (1 + 1e-4)).all()
    assert (two.distance < one.distance * (1 - 1e-3)).any()
