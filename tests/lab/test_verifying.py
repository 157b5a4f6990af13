"""`cwjax verify`: what is true agrees, and what has been changed does not."""

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow.parquet as pq
import pytest

import cwjax as cw
from cwjax.lab import attacking, compiling, data, presets, report, rows, runs, verifying
from cwjax.lab.cli import main

WEIGHTS = np.random.default_rng(5).normal(size=(256, 3)).astype(np.float32)


def affine() -> cw.Model:
    return cw.bind(lambda weights, x: x.reshape(len(x), -1) @ weights, jnp.asarray(WEIGHTS))


def affine_in_torch(sign: float = 1.0):
    torch = pytest.importorskip("torch")

    class Affine(torch.nn.Module):
        def forward(self, x):
            assert x.shape[1:] == (1, 16, 16)
            return sign * x.reshape(len(x), -1) @ torch.from_numpy(WEIGHTS)

    return Affine()


def other_in_torch():
    return affine_in_torch(-1.0)


@pytest.fixture(scope="module")
def attacked():
    """Two attacks on the blobs that the model gets right, of which the second fails."""
    from tests.lab.conftest import Blobs

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(data.SOURCES, "blobs", Blobs())
        blobs = data.load("blobs", "test")
        some = blobs._replace(images=blobs.images[:8], labels=blobs.labels[:8], index=blobs.index[:8])
        settings = presets.Settings(steps=30, confidence=0.5)
        return [
            attacking.run(affine(), some, "fast_l2", settings, targets="random"),
            attacking.run(affine(), some, "fast_linf", presets.Settings(steps=1), targets="random"),
        ]


@pytest.fixture(autouse=True)
def programs(monkeypatch):
    """Nothing is kept of what these tests compile."""
    monkeypatch.setattr(compiling, "keep", lambda folder: None)


@pytest.fixture
def folder(tmp_path, attacked):
    return written(attacked, tmp_path)


def written(attacked, folder):
    rows.write(attacked, folder)
    told = runs.runs_of(attacked, ("left", "right", "below"))
    configuration = {"data": "blobs", "model": "tests.lab.test_verifying:affine"}
    about = report.About(title="", configuration=configuration, environment={}, history=None, model={})
    runs.record(told, about, folder)
    return folder


def test_a_true_run_agrees(folder, capsys):
    main(["verify", str(folder)])
    assert "16 of 16 rows agree" in capsys.readouterr().out
    table = pq.read_table(folder / verifying.FILE)
    assert table["agrees"].to_numpy().all()
    hit = table["success"].to_numpy()
    assert hit.any()
    assert not hit.all()
    np.testing.assert_allclose(table["found_distance"].to_numpy()[hit], table["distance"].to_numpy()[hit], rtol=1e-5)


@pytest.mark.parametrize("change", ["nearer", "farther", "verdict"])
def test_what_is_not_true_is_marked(attacked, tmp_path, capsys, change):
    first, second = attacked
    place = int(np.flatnonzero(first.table["success"].to_numpy())[0])
    images = first.adversarial.copy()
    if change == "verdict":  # the second attack's failure is claimed to be an example
        images = second.adversarial.copy()
        images[0] = np.clip(images[0] + 0.1, 0, 1)
        changed = [first, second._replace(adversarial=images)]
    else:
        images[place] = first.clean[place] + (0.5 if change == "nearer" else 1.01) * (
            images[place] - first.clean[place]
        )
        changed = [first._replace(adversarial=images), second]
    with pytest.raises(SystemExit) as stop:
        main(["verify", str(written(changed, tmp_path))])
    assert stop.value.code == 1
    said = capsys.readouterr().out
    assert "15 of 16 rows agree" in said
    assert said.count("claims") == 1


def test_a_twin_in_torch_has_to_agree_too(folder, capsys):
    pytest.importorskip("torch")
    assert verifying.verify(folder, torch="tests.lab.test_verifying:affine_in_torch") == 0
    assert verifying.verify(folder, torch="tests.lab.test_verifying:other_in_torch") > 0
    with pytest.raises(ValueError, match="--torch no_such_module:net: ModuleNotFoundError"):
        verifying.verify(folder, torch="no_such_module:net")


@pytest.mark.parametrize("targeted", [False, True])
def test_margins_are_those_of_the_objectives(targeted):
    rng = np.random.default_rng(0)
    logits, label = rng.normal(size=(20, 5)).astype(np.float32), rng.integers(0, 5, 20).astype(np.int32)
    target = ((label + 1) % 5 if targeted else np.full(20, -1)).astype(np.int32)
    goal = cw.targeted(target, labels=label) if targeted else cw.untargeted(label)
    expected = jax.vmap(cw.margin)(jnp.asarray(logits), goal)
    np.testing.assert_allclose(verifying.margins(logits, label, target), expected, rtol=1e-6)


@pytest.mark.parametrize("norm", ["l0", "l1", "l2", "linf"])
def test_norms_are_those_of_the_metrics(norm):
    delta = np.random.default_rng(0).normal(size=(6, 4, 4, 3)).astype(np.float32)
    delta[0] = 0
    delta[1, 2:, :, 1:] = 0
    expected = cw.metrics.norms(np.zeros_like(delta), delta, channel_axis=-1)[norm]
    np.testing.assert_allclose(verifying.NORMS[norm](delta.astype(np.float64)), expected, rtol=1e-6)


def test_a_sweep_is_verified_unit_by_unit(tmp_path, capsys):
    from cwjax.lab.sweeps import working
    from tests.lab.sweeps import small

    plan = small.planned()
    working.work(tmp_path, plan.all)
    small.finished(tmp_path, plan)
    assert verifying.verify(tmp_path) == 0
    assert "78 of 78 rows agree" in capsys.readouterr().out


def test_a_folder_without_either_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no run in"):
        verifying.verify(tmp_path)
