"""A race: who is counted how, what is kept, what is refused."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow.parquet as pq
import pytest

from cwjax.lab.racing import contestants, entries, racing
from tests.lab.racing.made import HERE, MINE, a_large_subject, a_subject, a_task, returning
from tests.problems import CLASSES, SHAPE


def test_only_what_is_answered_rightly_enters():
    examples = racing.examples_of(a_subject(), racing.Race(examples=3, targets="next"))
    assert examples.source.tolist() == [103, 104, 105]
    assert examples.passed_over == 3
    assert (examples.target == (examples.label + 1) % CLASSES).all()
    drawn = racing.examples_of(a_subject(), racing.Race(examples=3, targets="random"))
    assert (drawn.target != drawn.label).all()
    with pytest.raises(ValueError, match="more than the 3 test images"):
        racing.examples_of(a_subject(), racing.Race(examples=4))


def lie(task: contestants.Task) -> contestants.Outcome:
    raise contestants.Broken("it lied")


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
    assert text.index("| 1 | ") < text.index("## What the columns mean") < text.index("## How it was run")
    assert (tmp_path / "figures" / "race-tiny-l2.png").exists()
    assert pq.read_table(tmp_path / "race.parquet").num_rows == 2 * 2 * 3
    assert len(json.loads((tmp_path / "race.json").read_text())["rows"]) == 4

    # What is kept does not run again, unless asked for or something else is.
    ran = []
    counted = {
        name: kind._replace(run=lambda task, name=name, kind=kind: ran.append(name) or kind.run(task))
        for name, kind in kinds.items()
    }
    again = racing.race([a_subject()], counted, racing.Race(attack=("first",), budgets=(8, 20), examples=3), tmp_path)
    assert ran == []
    kept = [
        next(row["mean"] for row in some if (row["attack"], row["budget"]) == ("first", 20)) for some in (again, rows)
    ]
    assert kept[0] == pytest.approx(kept[1], nan_ok=True)
    settings = racing.Race(attack=("first",), budgets=(8,), examples=3, again=("first",))
    racing.race([a_subject()], counted, settings, tmp_path)
    assert ran == ["first"]
    racing.race([a_subject()], counted, racing.Race(attack=("first",), budgets=(8,), examples=2), tmp_path)
    assert ran == ["first", "first"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (racing.Race(attack=("nobody",)), "unknown attack 'nobody'"),
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
    "name",
    [
        *("adv-lib.ddn", "foolbox.fmn_l2", "adv-lib.cw_linf", "torchattacks.cw_l2", "art.cw_l2"),
        *("adv-lib.superdeepfool", "adv-lib.tr", "adv-lib.vfga", "adv-lib.fga"),
    ],
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


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"set": ("fmn.first_step",)}, "--set fmn.first_step: write ATTACK.ARGUMENT=NUMBER"),
        ({"set": ("first_step=1",)}, "write ATTACK.ARGUMENT=NUMBER"),
        ({"set": ("fmm.first_step=1",)}, "no attack called 'fmm' takes part in this race: choose one of fmn, ddn"),
        ({"set": ("pgd.relative_step=1",)}, "no attack called 'pgd' takes part"),
        ({"set": ("fmn.frist_step=1",)}, "fmn takes no number called 'frist_step': it takes first_step, last_step"),
        ({"set": ("fmn.norm=1",)}, "fmn takes no number called 'norm'"),
        ({"set": ("fmn.steps=5",)}, "the race itself decides steps, num_classes"),
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
        (
            {"tune": ("fmn",), "tuning": 40},
            "--examples 3 with --tuning 40 asks for more than the 36 test images of forty",
        ),
        ({"attack": (f"{HERE}:no_attack",)}, "no_attack returned str: it must return a cwjax.Attack"),
        ({"attack": (f"{HERE}:unwilling",)}, "unwilling: ValueError: not in l2"),
        ({"attack": (f"{HERE}:too_few",)}, r"is called as too_few\(norm, steps, classes\)"),
        ({"attack": (f"{HERE}:missing",)}, "has no function missing: it has a_task"),
        ({"attack": ("nowhere:attack",)}, "there is no nowhere.py"),
        ({"attack": (f"{HERE}:HERE",)}, "HERE is no function"),
    ],
)
@pytest.mark.usefixtures("as_users_have_it")
def test_a_number_or_an_attack_that_is_none_is_one_error(told, message, tmp_path):
    settings = racing.Race(**{"attack": ("fmn", "ddn", "fast_l2", MINE), "examples": 3} | told)
    with pytest.raises(ValueError, match=message) as raised:
        racing.race([a_large_subject()], entries.OURS | entries.own(settings.attack), settings, tmp_path / "out")
    assert "\n" not in str(raised.value)


def test_a_warning_is_in_every_file_and_on_the_console(tmp_path, capsys):
    settings = racing.Race(attack=("ddn", MINE), budgets=(80,), examples=4)
    racing.race([a_large_subject()], entries.OURS | entries.own([MINE]), settings, tmp_path)
    words = f"ddn fools all examples; fewer than 90 % are fooled by {MINE} ("
    assert f"Warning: tiny, l2, untargeted, 80 propagations: {words}" in capsys.readouterr().out
    assert f"> **Warning.** {words}" in (tmp_path / "race.md").read_text()
    [told] = json.loads((tmp_path / "race.json").read_text())["warnings"]
    assert words in told["warning"]
    assert (told["model"], told["norm"], told["budget"]) == ("tiny", "l2", 80)
