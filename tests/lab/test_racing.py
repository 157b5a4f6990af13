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
from cwjax.lab import cli, contestants, data, entries, racing, standings
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
