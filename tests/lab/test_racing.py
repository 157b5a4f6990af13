"""A race: who is counted how, what is kept, what is refused."""

import importlib.metadata
import json

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow.parquet as pq
import pytest

import cwjax as cw
from cwjax import base
from cwjax.iterated import Rule, iterated
from cwjax.lab import cli, contestants, data, entries, keeping, racing, standings, tuning
from tests import problems
from tests.problems import CLASSES, SHAPE

GRADIENTS = 10


def a_task(**changes) -> contestants.Task:
    """Three examples of a tiny network, each to leave the class that it answers."""
    model, x = cw.bind(problems.mlp, problems.mlp_params()), problems.inputs(3)
    answers = np.asarray(model.apply(model.params, jnp.asarray(x))).argmax(1).astype(np.int32)
    nowhere = np.full(len(x), -1, np.int32)
    task = contestants.Task(model, x, answers, nowhere, "l2", 2 * GRADIENTS, classes=CLASSES, seed=0)
    return task._replace(**changes)


def an_attack(norm: str, steps: int, classes: int) -> cw.Attack:
    return problems.small_l2(steps=steps // 2, search=cw.binary_search(2, initial_c=1.0))


def untruthful(norm: str, steps: int, classes: int) -> cw.Attack:
    """An attack that forgets half of its passes."""
    attack = an_attack(norm, steps, classes)

    def step(model, problem, state):
        state = attack.step(model, problem, state)
        return state._replace(progress=state.progress._replace(forwards=state.progress.forwards // 2))

    return attack._replace(step=step)


def endless(norm: str, steps: int, classes: int) -> cw.Attack:
    return problems.small_l2(steps=100_000)


def wasteful(norm: str, steps: int, classes: int) -> cw.Attack:
    """An attack that asks the model twice a step, and says so."""
    attack = an_attack(norm, steps, classes)

    def step(model, problem, state):
        again = model(problem.x + 0.01)
        state = attack.step(model, problem, state)
        progress = state.progress
        extra = progress.forwards + 1 + (0 * again.sum()).astype(jnp.int32)
        return state._replace(progress=progress._replace(forwards=extra))

    return attack._replace(step=step)


def a_subject() -> racing.Subject:
    task = a_task()
    images, labels = np.concatenate([task.x, task.x]), np.concatenate([(task.label + 1) % CLASSES, task.label])
    names = tuple(map(str, range(CLASSES)))
    return racing.Subject("tiny", task.model, data.Dataset("six", "test", images, labels, names, np.arange(6) + 100))


@pytest.fixture(autouse=True)
def plain_images(monkeypatch):
    """Data sets of inputs that are no images."""
    monkeypatch.setattr(data.Dataset, "__annotations__", {})


def test_ours_are_counted_from_outside():
    task = a_task()
    outcome = contestants.ours(an_attack, "l2").run(task)
    assert ((outcome.forwards + outcome.backwards) <= task.budget).all()
    assert (outcome.forwards == outcome.backwards).all()
    assert outcome.curve.shape == (3, GRADIENTS)
    distance = task.distance(outcome.x)
    np.testing.assert_allclose(outcome.queried, distance[outcome.watched], rtol=1e-5)
    np.testing.assert_allclose(outcome.curve[:, -1], distance, rtol=1e-5)


def test_a_confidence_is_asked_of_every_attack():
    task, kappa = a_task(budget=80), 0.5
    plain, asked = (entries.OURS["fast_l2"].run(task._replace(confidence=each)) for each in (0.0, kappa))
    assert np.isfinite(task._replace(confidence=kappa).distance(asked.x)).all()
    assert task.distance(asked.x).mean() > task.distance(plain.x).mean()
    assert np.isinf(task._replace(confidence=kappa).distance(plain.x)).any()


def test_an_attack_is_looked_over_once_for_a_norm():
    task, contestant = a_task(), contestants.ours(an_attack, "l2")
    assert len(contestant.run(task).watched) > 0
    assert len(contestant.run(task._replace(budget=task.budget - 2)).watched) == 0
    assert len(contestant.run(task._replace(norm="linf")).watched) > 0


def test_an_attack_without_end_is_cut_at_the_budget():
    task = a_task()
    outcome = contestants.ours(endless, "l2").run(task)
    assert (outcome.forwards + outcome.backwards == task.budget).all()


def test_an_attack_that_forgets_its_passes_has_no_row():
    with pytest.raises(
        contestants.Broken, match="it says that it took 0 forward and 6 backward passes, and took 6 and 6"
    ):
        contestants.ours(untruthful, "l2").run(a_task())


def test_an_attack_that_exceeds_the_budget_has_no_row():
    with pytest.raises(contestants.Broken, match="where it had 20"):
        contestants.ours(wasteful, "l2").run(a_task())
    # With what its steps cost it is held to the budget.
    outcome = contestants.ours(wasteful, "l2", cost=lambda classes: 3).run(a_task())
    assert (outcome.forwards + outcome.backwards <= 20).all()


def test_only_what_is_answered_rightly_enters():
    examples = racing.examples_of(a_subject(), racing.Race(examples=3, targets="next"))
    assert examples.source.tolist() == [103, 104, 105]
    assert examples.passed_over == 3
    assert (examples.target == (examples.label + 1) % CLASSES).all()
    drawn = racing.examples_of(a_subject(), racing.Race(examples=3, targets="random"))
    assert (drawn.target != drawn.label).all()
    with pytest.raises(ValueError, match="more than the 3 test images"):
        racing.examples_of(a_subject(), racing.Race(examples=4))


def returning(x) -> contestants.Outcome:
    """Images for five gradients each."""
    passes, none = np.full(len(x), 5), np.zeros(0, np.int64)
    return contestants.Outcome(
        x=x,
        forwards=passes,
        backwards=passes,
        refused=0 * passes,
        watched=none,
        queried=none.astype(float),
        curve=np.zeros((len(x), 0), np.float32),
        seconds=1.0,
        compiling=0.0,
    )


def lie(task: contestants.Task) -> contestants.Outcome:
    raise contestants.Broken("it lied")


def an_entry(distance) -> standings.Entry:
    return standings.Entry(np.array(distance, np.float64), returning(np.zeros((len(distance), 1), np.float32)))


def test_a_race_from_start_to_finish(tmp_path, monkeypatch, capsys):
    kinds = {
        "first": contestants.Contestant(("l2",), lambda task: returning(np.roll(task.x, 1, 0))),
        "second": contestants.Contestant(("l2",), lambda task: returning(np.roll(task.x, 2, 0))),
        "liar": contestants.Contestant(("l2",), lie),
        "other": contestants.Contestant(("linf",), lie),
    }
    settings = racing.Race(budgets=(8, 20), examples=3)
    rows = racing.race([a_subject()], kinds, settings, tmp_path)
    said = capsys.readouterr().out
    assert "tiny, l2, untargeted, 20 propagations: liar: no row: it lied" in said
    assert {(row["attack"], row["budget"]) for row in rows} == {
        (name, budget) for name in ("first", "second") for budget in (8, 20)
    }
    text = (tmp_path / "race.md").read_text()
    assert "3 examples; 3 that the model answers wrongly were passed over." in text
    assert "| 1 | " in text
    assert (tmp_path / "figures" / "race-tiny-l2.png").exists()
    assert pq.read_table(tmp_path / "race.parquet").num_rows == 2 * 2 * 3
    assert len(json.loads((tmp_path / "race.json").read_text())["rows"]) == 4

    # What is kept does not run again, unless asked for or something else is.
    ran = []
    counted = {
        name: kind._replace(run=lambda task, name=name, kind=kind: ran.append(name) or kind.run(task))
        for name, kind in kinds.items()
    }
    again = racing.race([a_subject()], counted, racing.Race(attacks=("first",), budgets=(8, 20), examples=3), tmp_path)
    assert ran == []
    kept = [
        next(row["mean"] for row in some if (row["attack"], row["budget"]) == ("first", 20)) for some in (again, rows)
    ]
    assert kept[0] == pytest.approx(kept[1], nan_ok=True)
    settings = racing.Race(attacks=("first",), budgets=(8,), examples=3, again=("first",))
    racing.race([a_subject()], counted, settings, tmp_path)
    assert ran == ["first"]
    racing.race([a_subject()], counted, racing.Race(attacks=("first",), budgets=(8,), examples=2), tmp_path)
    assert ran == ["first", "first"]


def test_what_is_kept_runs_again_when_its_version_is_another(tmp_path, monkeypatch):
    ran = []

    def run(task):
        ran.append(importlib.metadata.version("cwjax"))
        return returning(np.roll(task.x, 1, 0))

    kinds = {"first": contestants.Contestant(("l2",), run, source="cwjax.fast")}
    settings = racing.Race(budgets=(8,), examples=3)
    for version in ("1", "1", "2"):
        monkeypatch.setattr(importlib.metadata, "version", lambda name, version=version: version)
        racing.race([a_subject()], kinds, settings, tmp_path)
    assert ran == ["1", "2"]


def test_standings_by_hand():
    inf = float("inf")
    told = {"good": an_entry([1.0, 2.0]), "bad": an_entry([2.0, inf]), "none": an_entry([inf, inf])}
    heat = standings.Heat("tiny", "l2", 10, np.arange(2), 0, told, {})
    [(course, best)] = standings.envelopes([heat]).items()
    assert course == ("tiny", "l2")
    rows = standings.standings_of(heat, best)
    assert [row["attack"] for row in rows] == ["good", "bad", "none"]
    assert [row["optimality"] for row in rows] == pytest.approx([1.0, 0.0, 0.0])
    assert [row["success %"] for row in rows] == [100.0, 50.0, 0.0]
    assert [row["mean over common"] for row in rows[:2]] == [1.0, 2.0]
    assert np.isnan(rows[2]["mean over common"])
    assert rows[0]["median"] == 1.5
    assert np.isnan(rows[0]["p"])
    assert rows[1]["p"] == 0.5  # of two pairs that both go one way


def test_global_optimality_takes_several_models(tmp_path):
    heats = [
        standings.Heat(model, "l2", 10, np.arange(2), 0, {"a": an_entry([1.0, 2.0]), "b": an_entry(b)}, {})
        for model, b in (("first", [1.0, 2.0]), ("second", [2.0, 2.0]))
    ]
    standings.write(heats, {}, tmp_path)
    text = (tmp_path / "race.md").read_text()
    assert "global optimality" in text
    assert "| 1 | a | 1.000 | 1.000 | 1.000 |" in text
    assert "| 2 | b | 0.5000 | 1.000 | 0.000 |" in text


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (racing.Race(attacks=("nobody",)), "unknown attack 'nobody'"),
        (racing.Race(budgets=()), "number of --budgets"),
        (racing.Race(confidence=-1.0), "--confidence must be at least 0"),
        (racing.Race(budgets=(1,)), "--budgets must be at least 2"),
        (racing.Race(budgets=(8, 8)), "--budgets takes different ones"),
    ],
)
def test_what_is_no_race_is_refused(settings, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        racing.race([a_subject()], {}, settings, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", entries.OURS)
def test_every_entry_can_be_made_at_every_budget(name):
    """Made, and not run: the tests of the attacks do that."""
    entry = entries.OURS[name]
    assert entry.make is not None
    image = jnp.zeros(SHAPE)
    for norm in entry.norms:
        for steps in (5, 50, 1000):
            try:
                attack = entry.make(norm, steps, 10)
            except contestants.Broken as missing:
                pytest.skip(str(missing))
            goal = cw.Goal(label=jnp.zeros((), jnp.int32), sign=-jnp.ones(()))
            jax.eval_shape(attack.init, jax.random.key(0), base.problem(image, goal))


def test_the_bridge_counts_and_remembers():
    torch = pytest.importorskip("torch", reason="the bridge is for PyTorch, which is not installed")
    from benchmarks.bridge import Bridge

    task = a_task(budget=4)
    bridge = Bridge(task)
    images = bridge.images.clone().requires_grad_(True)
    logits = bridge(images)
    expected = np.asarray(task.model.apply(task.model.params, jnp.asarray(task.x)))
    np.testing.assert_allclose(logits.detach().numpy(), expected, rtol=1e-5)
    up = np.arange(expected.size, dtype=np.float32).reshape(expected.shape)
    [slope] = torch.autograd.grad(logits, images, torch.from_numpy(up))
    [ours] = jax.vjp(lambda x: task.model.apply(task.model.params, x), jnp.asarray(task.x))[1](jnp.asarray(up))
    np.testing.assert_allclose(slope.numpy(), np.asarray(ours), rtol=1e-4, atol=1e-5)
    assert bridge.forwards.tolist() == bridge.backwards.tolist() == [1, 1, 1]
    assert np.isinf(bridge.queried).all()

    # At a confidence the label stands higher by so much, and the slope is the same.
    asked = Bridge(a_task(budget=4, confidence=3.0))
    higher = asked(images)
    np.testing.assert_allclose(
        (higher - logits).detach().numpy(), 3.0 * np.eye(CLASSES)[task.label], rtol=1e-5, atol=1e-5
    )
    np.testing.assert_allclose(torch.autograd.grad(higher, images, torch.from_numpy(up))[0].numpy(), slope.numpy())

    # One image alone is told by what it is near to; and its budget runs out.
    far = bridge.images[2:] + torch.tensor(np.full((1, *SHAPE), 0.01, np.float32))
    told = [bridge(far) for _ in range(3)]
    assert bridge.forwards.tolist() == [1, 1, 3]
    assert bridge.refused.tolist() == [0, 0, 1]
    assert told[-1].tolist() == [np.eye(CLASSES)[task.label[2]].tolist()]


def test_the_bridge_lends_nothing_that_others_write_to():
    """Libraries write to images, logits and slopes in place, and what JAX keeps must not change with them."""
    torch = pytest.importorskip("torch", reason="the bridge is for PyTorch, which is not installed")
    from benchmarks.bridge import Bridge

    bridge = Bridge(a_task(budget=100))
    given = bridge.images.clone()

    def slope(x, spoilt):
        x = x.clone().requires_grad_(True)
        logits = bridge(x)
        up = torch.ones_like(logits)
        if spoilt:
            x.data.fill_(0.5)
            logits.data.fill_(1e6)
        [slope] = torch.autograd.grad(logits, x, up)
        told = slope.numpy().copy()
        slope.fill_(1e6)
        return told

    expected = slope(given, spoilt=False)
    assert np.array_equal(slope(given, spoilt=True), expected)
    strided = torch.stack([given, given], dim=-1)[..., 0]  # every second float
    assert not strided.is_contiguous()
    assert np.array_equal(slope(strided.double(), spoilt=True), expected)


@pytest.mark.parametrize(
    "name", ["adv-lib.ddn", "foolbox.fmn_l2", "adv-lib.cw_linf", "torchattacks.cw_l2", "art.cw_l2"]
)
def test_a_peer_in_a_race(name):
    pytest.importorskip("torch", reason="the peers are attacks for PyTorch, which is not installed")
    from benchmarks import race

    if name not in race.installed():
        pytest.skip(f"{name} is not installed")
    peer = race.PEERS[name]
    task = a_task(norm=peer.norms[0], budget=60)
    outcome = peer.run(task)
    assert (outcome.forwards + outcome.backwards <= task.budget).all()
    assert (outcome.queried <= task.distance(outcome.x) * (1 + 1e-5)).all()


# Numbers that are set, and step lengths that are found.


def stepping(norm: str, steps: int, classes: int, *, step=1e-3, turns=3) -> cw.Attack:
    """A plain descent along the slope: at its own step length it gets nowhere."""
    del classes, turns

    def move(problem, memory, seen):
        return seen.x - step * seen.slope / jnp.sqrt(jnp.sum(seen.slope**2) + 1e-20), memory

    rule, objective = Rule(init=lambda key, problem: (problem.start, ()), move=move), cw.losses.negative_margin()
    return iterated(rule, objective=objective, distance=cw.DISTANCES[norm], lower=0.0, upper=1.0, steps=steps)


def unwilling(norm: str, steps: int, classes: int) -> cw.Attack:
    raise ValueError(f"not in {norm}")


def no_attack(norm: str, steps: int, classes: int) -> str:
    return "an attack"


def too_few(steps: int) -> None:
    del steps


HERE = "tests.lab.test_racing"
MINE = f"{HERE}:stepping"


def a_large_subject() -> racing.Subject:
    """Forty inputs, each with the label that the model gives it, but for the first four."""
    model, x = cw.bind(problems.mlp, problems.mlp_params()), problems.inputs(40)
    labels = np.asarray(model.apply(model.params, jnp.asarray(x))).argmax(1).astype(np.int32)
    labels[:4] = (labels[:4] + 1) % CLASSES
    names = tuple(map(str, range(CLASSES)))
    return racing.Subject("tiny", model, data.Dataset("forty", "test", x, labels, names, np.arange(40) + 100))


def test_a_number_that_is_set_is_the_attacks():
    task, contestant = a_task(), contestants.ours(stepping, "l2")
    assert contestant.numbers("l2") == {"step": 1e-3, "turns": 3}
    told = tuning.told(["a.b:c.step=0.1", "a.b:c.turns=4"], {"a.b:c": contestant}, ["a.b:c"])
    assert told == {"a.b:c": {"step": 0.1, "turns": 4}}
    own, far = contestant.run(task), contestant.run(task._replace(settings=told["a.b:c"]))
    assert np.isinf(task.distance(own.x)).all()
    assert np.isfinite(task.distance(far.x)).any()


@pytest.mark.parametrize("name", entries.OURS)
def test_every_number_of_an_entry_can_be_set_to_its_own(name):
    entry = entries.OURS[name]
    assert entry.make is not None
    for norm in entry.norms:
        numbers = {key: value for key, value in entry.numbers(norm).items() if value is not None}
        assert not set(numbers) & set(contestants.DECIDED)
        attack = entry.make(norm, 50, 10, **numbers)
        goal = cw.Goal(label=jnp.zeros((), jnp.int32), sign=-jnp.ones(()))
        jax.eval_shape(attack.init, jax.random.key(0), base.problem(jnp.zeros(SHAPE), goal))


def test_the_numbers_of_entries_are_those_that_they_run_at():
    assert entries.OURS["fmn"].numbers("linf")["first_step"] == 10.0
    assert entries.OURS["fmn"].numbers("l2")["first_step"] == 1.0
    assert entries.OURS["alma"].numbers("l1")["first_distance"] == 0.5
    assert entries.OURS["pgd"].numbers("linf")["epsilon"] == 0.1
    assert entries.OURS["cw_l2"].numbers("l2") == {"initial_c": 1.0, "learning_rate": 0.1}
    assert entries.OURS["fast_l2"].numbers("l2") == {}
    assert "random_start" not in entries.OURS["pgd"].numbers("l2")
    steps = {"fmn": "first_step", "ddn": "first_step", "alma": "first_rate", "pdgd": "primal_rate"}
    steps |= {"sigma_zero": "first_step", "ead": "learning_rate", "pgd": "relative_step", "deepfool": None}
    found = {name: tuning.step_of(entries.OURS[name].numbers(entries.OURS[name].norms[0])) for name in steps}
    assert found == steps


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"set": ("fmn.first_step",)}, "--set fmn.first_step: write ATTACK.ARGUMENT=NUMBER"),
        ({"set": ("first_step=1",)}, "write ATTACK.ARGUMENT=NUMBER"),
        ({"set": ("fmm.first_step=1",)}, "no attack called 'fmm' takes part in this race: choose one of fmn, ddn"),
        ({"set": ("pgd.relative_step=1",)}, "no attack called 'pgd' takes part"),
        ({"set": ("fmn.frist_step=1",)}, "fmn takes no number called 'frist_step': it takes first_step, last_step"),
        ({"set": ("fmn.norm=1",)}, "fmn takes no number called 'norm'"),
        ({"set": ("fmn.steps=5",)}, "the race itself decides steps, lower, upper"),
        ({"set": ("fmn.first_step=small",)}, "'small' is not a number"),
        ({"set": ("fmn.first_step=nan",)}, "'nan' is not a number"),
        ({"set": ("fmn.first_step=-1",)}, "fmn with first_step=-1: first_step must be more than 0, got -1"),
        ({"set": ("fmn.first_step=1", "fmn.first_step=2")}, "fmn.first_step is set twice"),
        ({"set": ("ddn.levels=2.5",)}, "ddn with levels=2.5: levels must be a whole number"),
        ({"set": (f"{MINE}.turns=2.5",)}, "'2.5' is not a whole number"),
        ({"tune": ("pgd",)}, "--tune pgd: no attack called 'pgd' takes part"),
        ({"tune": ("fast_l2",)}, "--tune fast_l2: none of its numbers is a step length"),
        ({"tune": ("fmn", "fmn")}, "--tune takes different ones"),
        ({"tune": ("fmn",), "tuning": 0}, "--tuning must be at least 1"),
        ({"tune": ("fmn",), "tuning": 40}, "--examples 3 with --tuning 40 asks for more than the 36 test images of forty"),
        ({"attacks": (f"{HERE}:no_attack",)}, "no_attack returned str: it must return a cwjax.Attack"),
        ({"attacks": (f"{HERE}:unwilling",)}, "unwilling: ValueError: not in l2"),
        ({"attacks": (f"{HERE}:too_few",)}, r"is called as too_few\(norm, steps, classes\)"),
        ({"attacks": (f"{HERE}:missing",)}, "missing: AttributeError"),
        ({"attacks": ("nowhere:attack",)}, "nowhere:attack: ModuleNotFoundError"),
        ({"attacks": (f"{HERE}:HERE",)}, "HERE is no function"),
    ],
)
@pytest.mark.usefixtures("as_users_have_it")
def test_a_number_or_an_attack_that_is_none_is_one_error(told, message, tmp_path):
    settings = racing.Race(**{"attacks": ("fmn", "ddn", "fast_l2", MINE), "examples": 3} | told)
    with pytest.raises(ValueError, match=message) as raised:
        racing.race([a_large_subject()], entries.OURS | entries.own(settings.attacks), settings, tmp_path / "out")
    assert "\n" not in str(raised.value)


def test_a_step_length_is_found_on_images_that_are_not_judged(tmp_path, capsys):
    settings = racing.Race(attacks=("fast_l2", MINE), budgets=(80,), examples=6, tune=(MINE,), tuning=5)
    subject, kinds = a_large_subject(), entries.OURS | entries.own([MINE])
    racing.race([subject], kinds, settings, tmp_path)
    said = capsys.readouterr().out
    told = json.loads((tmp_path / "race.json").read_text())
    [tuned] = told["tuned"]
    assert tuned["images"] == [110, 111, 112, 113, 114]  # after the four that are wrong and the six that are judged
    assert tuned["own"] == {"step": 1e-3}
    # What is tried goes on where its end is the best, and ends beside the best.
    lengths = [trial["numbers"]["step"] for trial in tuned["trials"]]
    assert lengths == sorted(lengths)
    assert lengths[:9] == pytest.approx([1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1])
    assert 1e-3 < tuned["chosen"]["step"] < lengths[-1]
    results = {trial["numbers"]["step"]: (trial["median"] or np.inf, -trial["successes"]) for trial in tuned["trials"]}
    assert results[tuned["chosen"]["step"]] == min(results.values())

    # That is what it ran at, and every table says so.
    chosen = tuning.shown(tuned["chosen"])
    table = pq.read_table(tmp_path / "race.parquet").to_pandas()
    assert set(table.settings[table.attack == MINE]) == {f"{chosen} (tuned)"}
    assert set(table.settings[table.attack == "fast_l2"]) == {""}
    [row] = [row for row in told["rows"] if row["attack"] == MINE]
    assert row["settings"] == f"{chosen} (tuned)"
    text = (tmp_path / "race.md").read_text()
    assert f"| {MINE} | {chosen} (tuned) |" in text
    assert "## Step lengths found on other images" in text
    assert f"Chosen {chosen}: " in said
    judged = slice(4, 10)
    task = a_task(x=subject.dataset.images[judged], label=subject.dataset.labels[judged], budget=80)
    task = task._replace(target=np.full(6, -1, np.int32), settings=tuned["chosen"])
    found = task.distance(kinds[MINE].run(task).x)
    np.testing.assert_allclose(table.distance[table.attack == MINE], found, rtol=1e-5)

    # What was found is kept.
    racing.race([subject], kinds, settings, tmp_path)
    assert capsys.readouterr().out.count("(kept)") == 2
    assert json.loads((tmp_path / "race.json").read_text())["tuned"] == [tuned]


def test_a_length_that_is_set_is_where_the_search_begins():
    own = {"gamma": 0.5, "first_step": 1.0, "last_step": 0.01}
    assert tuning.scaled("a", own, {}) == {"first_step": 1.0, "last_step": 0.01}
    assert tuning.scaled("a", own, {"first_step": 0.1}) == {"first_step": 0.1, "last_step": 0.01}
    assert tuning.scaled("a", own, {"last_step": 0.5}) == {"first_step": 1.0}
    assert tuning.scaled("a", {"learning_rate": 0.1}, {}) == {"learning_rate": 0.1}
    with pytest.raises(ValueError, match="its relative_step has no value to begin at: give it one"):
        tuning.scaled("a", {"relative_step": None}, {})
    assert tuning.scaled("a", {"relative_step": None}, {"relative_step": 0.2}) == {"relative_step": 0.2}


@pytest.mark.parametrize(
    ("shares", "steps", "words"),
    [
        ({"a": 1.0, "b": 0.89}, {"b": "rate"}, ["a fools all", "b (89 %)", "--tune b", "--set b.rate=…"]),
        ({"a": 1.0, "b": 0.5, "c": 0.2}, {"c": "step"}, ["b (50 %), c (20 %)", "--tune c,", "--set c.step=…"]),
        ({"a": 1.0, "b": 0.5}, {}, ["b (50 %)", "more propagations"]),
        ({"a": 1.0, "b": 0.9}, {"b": "step"}, []),
        ({"a": 0.99, "b": 0.5}, {"b": "step"}, []),
        ({}, {}, []),
    ],
)
def test_a_rival_that_fails_where_another_does_not_is_named(shares, steps, words):
    found = tuning.warning(shares, steps)
    assert all(word in found for word in words)
    assert bool(found) == bool(words)


def test_a_warning_is_in_every_file_and_on_the_console(tmp_path, capsys):
    settings = racing.Race(attacks=("fast_l2", MINE), budgets=(80,), examples=4)
    racing.race([a_large_subject()], entries.OURS | entries.own([MINE]), settings, tmp_path)
    words = f"fast_l2 fools all examples; fewer than 90 % are fooled by {MINE} ("
    assert f"Warning: tiny, l2, untargeted, 80 propagations: {words}" in capsys.readouterr().out
    assert f"> **Warning.** {words}" in (tmp_path / "race.md").read_text()
    [told] = json.loads((tmp_path / "race.json").read_text())["warnings"]
    assert words in told["warning"]
    assert (told["model"], told["norm"], told["budget"]) == ("tiny", "l2", 80)


def test_what_is_kept_of_ones_own_attack_runs_again_when_its_file_changes(tmp_path, monkeypatch):
    (tmp_path / "an_attack_of_mine.py").write_text(
        "import cwjax as cw\ndef it(norm, steps, classes):\n    return cw.ddn(steps=steps)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    name = "an_attack_of_mine:it"
    first = keeping._version(entries.own([name])[name].source)
    assert keeping._version(name) == first
    with (tmp_path / "an_attack_of_mine.py").open("a") as file:
        file.write("# changed\n")
    assert keeping._version(name) != first


def test_the_command_races(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cli.compiling, "keep", lambda folder: None)
    model = "tests.lab.test_cli:brightness"
    told = ["--norm", "l2", "--attacks", "ddn", "fmn", "--budgets", "20", "--examples", "4", "--targets", "next"]
    cli.main(["race", "--model", model, "--data", "blobs", *told, "--out", str(tmp_path)])
    said = capsys.readouterr().out
    assert f"Standings: {tmp_path / 'race.md'}" in said
    assert f"{model}, l2, next, 20 propagations: ddn: " in said
    assert pq.read_table(tmp_path / "race.parquet").num_rows == 8


def test_a_model_whose_card_names_no_data_has_to_be_told(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cli.compiling, "keep", lambda folder: None)
    with pytest.raises(SystemExit):
        cli.main(["race", "--model", "tests.lab.test_cli:brightness", "--out", str(tmp_path)])
    assert "say which with --data" in capsys.readouterr().err
