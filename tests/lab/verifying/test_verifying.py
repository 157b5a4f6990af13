"""`cwjax verify`: what is true agrees, and what has been changed does not."""

import contextlib
import dataclasses
import json
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import cwjax as cw
from cwjax.lab import data
from cwjax.lab.attacking import attacking, presets, rows, runs
from cwjax.lab.attacking.request import Request
from cwjax.lab.cli import main
from cwjax.lab.files import compiling, store
from cwjax.lab.reporting import run_report
from cwjax.lab.verifying import verifying

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
            attacking.run(affine(), some, Request("fast_l2", settings, targets="random")),
            attacking.run(affine(), some, Request("fast_linf", presets.Settings(steps=1), targets="random")),
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
    none = np.zeros(0, np.int32)
    told = runs.runs_of(attacked, data.Dataset("blobs", "test", none, none, ("left", "right", "below"), none))
    configuration = {"data": "blobs", "model": "tests.lab.verifying.test_verifying:affine"}
    about = run_report.About(title="", configuration=configuration, environment={}, history=None, model={})
    runs.record(told, about, folder)
    return folder


def test_a_true_run_agrees(folder, capsys):
    main(["verify", str(folder)])
    said = capsys.readouterr().out
    assert "16 of 16 rows agree" in said
    assert "strong enough is another question, which was not asked" in said
    checks = {"weaker_wins": {"verdict": "fail", "number": 1.0, "threshold": 0.5, "what": "", "note": "", "advice": ""}}
    checks["weaker_wins"]["source"] = ""
    told = {"line": "FAIL", "verdict": "fail", "checks": checks}
    store.write_json(folder / "diagnosis.json", {"fast_l2": told, "l0": told | {"verdict": "pass"}})
    assert f"{folder / 'diagnosis.json'} says FAIL of fast_l2 (weaker_wins), PASS of l0." in verifying.of_the_attack(
        folder
    )
    (folder / "diagnosis.json").unlink()
    table = pq.read_table(folder / verifying.FILE)
    assert table["agrees"].to_numpy().all()
    hit = table["success"].to_numpy()
    assert hit.any()
    assert f"{(~hit).sum()} of them say that the attack failed: they agree if their image is the clean one" in said
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
    assert verifying.verify(folder, torch="tests.lab.verifying.test_verifying:affine_in_torch") == 0
    assert verifying.verify(folder, torch="tests.lab.verifying.test_verifying:other_in_torch") > 0
    with pytest.raises(ValueError, match="--torch no_such_module:net: ModuleNotFoundError"):
        verifying.verify(folder, torch="no_such_module:net")


@pytest.mark.parametrize("targeted", [False, True])
def test_margins_are_those_of_the_objectives(targeted):
    rng = np.random.default_rng(0)
    logits, label = rng.normal(size=(20, 5)).astype(np.float32), rng.integers(0, 5, 20).astype(np.int32)
    target = ((label + 1) % 5 if targeted else np.full(20, -1)).astype(np.int32)
    goal = cw.targeted(target, labels=label) if targeted else cw.untargeted(label)
    expected = jax.vmap(cw.objectives.margin)(jnp.asarray(logits), goal)
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

    # In L2, sums of 3,072 elements without XLA's optimisations are as far off as a second look allows.
    plan = small.planned(dataclasses.replace(small.SWEEP, attack=("fast_linf",), confidence=(1.0,)))
    working.work(tmp_path, plan.all)
    small.finished(tmp_path, plan)
    assert verifying.verify(tmp_path) == 0
    assert "26 of 26 rows agree" in capsys.readouterr().out

    # What is not done is told, and is no agreement.
    names = [unit.name for unit in (tmp_path / "units").iterdir()]
    for name in names[1:]:
        (tmp_path / "units" / name).rename(tmp_path / name)
    assert verifying.verify(tmp_path) == 0
    assert f"{len(names) - 1} of {len(names)} units are not done, or damaged" in capsys.readouterr().out
    (tmp_path / "units" / names[0]).rename(tmp_path / names[0])
    assert f"no unit of the sweep in {tmp_path} is done: run it first" in refused(tmp_path, capsys)


def refused(folder, capsys) -> str:
    """The one line of a folder that cannot be verified. Its exit code is 2: 1 is for rows that disagree."""
    with pytest.raises(SystemExit) as stop:
        main(["verify", str(folder)])
    assert stop.value.code == 2
    [line] = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("cwjax: error: ")
    return line


def told(change):
    """A change of what run.json says."""

    def changed(folder):
        found = store.read_json(folder / runs.FILE)
        change(found)
        (folder / runs.FILE).write_text(json.dumps(found))

    return changed


def column(name: str, value):
    """A column of the table that has the same value in every row, or is gone where that is None."""

    def changed(folder):
        table = pq.read_table(folder / "results.parquet").drop_columns([name])
        if value is not None:
            table = table.append_column(name, pa.array([value] * len(table)))
        pq.write_table(table, folder / "results.parquet")

    return changed


def images(change):
    """A change of the arrays of images."""

    def changed(folder):
        with np.load(folder / "adversarial.npz") as kept:
            arrays = dict(kept)
        np.savez(folder / "adversarial.npz", **change(arrays))

    return changed


def renamed(folder):
    """A run of an attack that is not known, in all of its files."""
    table = pq.read_table(folder / "results.parquet")
    names = ["fast_l3" if name == "fast_l2" else name for name in table["attack"].to_pylist()]
    column("attack", None)(folder)
    table = pq.read_table(folder / "results.parquet").append_column("attack", pa.array(names))
    pq.write_table(table, folder / "results.parquet")
    images(lambda arrays: arrays | {"attack": np.array(names)})(folder)
    told(lambda found: found["attacks"][0].update(attack="fast_l3"))(folder)


def twice(folder):
    """A table with two columns of one name."""
    table = pq.read_table(folder / "results.parquet")
    pq.write_table(table.append_column("distance", table["distance"]), folder / "results.parquet")


DAMAGE = {
    "unknown attack": (renamed, "is of the attack 'fast_l3', which cwjax"),
    "an attack that only run.json has": (
        told(lambda found: found["attacks"][0].update(attack="l2")),
        "has rows of other attacks than run.json names",
    ),
    "no attacks": (told(lambda found: found.update(attacks=[])), "rows of other attacks"),
    "no model": (told(lambda found: found["about"]["configuration"].pop("model")), "does not name its model"),
    "no configuration": (told(lambda found: found["about"].update(configuration=[1])), "does not name its model"),
    "no such model": (
        told(lambda found: found["about"]["configuration"].update(model="nowhere")),
        "there is no folder nowhere",
    ),
    "a model of other images": (
        told(lambda found: found["about"]["configuration"].update(model="tests.lab.verifying.test_verifying:larger")),
        "--model tests.lab.verifying.test_verifying:larger: TypeError: ",
    ),
    "a model of fewer classes": (
        told(lambda found: found["about"]["configuration"].update(model="tests.lab.verifying.test_verifying:smaller")),
        "answers 8 images with shape [8, 2], where the rows have classes up to 2",
    ),
    "a model that ends the process": (
        told(lambda found: found["about"]["configuration"].update(model="tests.lab.verifying.test_verifying:ending")),
        "--model tests.lab.verifying.test_verifying:ending: it calls sys.exit(0)",
    ),
    "no such data": (
        told(lambda found: found["about"]["configuration"].update(data=["blobs"])),
        "no data is called",
    ),
    "other data": (
        told(lambda found: found["about"]["configuration"].update(data="cifar10_sample")),
        "cifar10_sample has images of shape [32, 32, 3], and those of fast_l2 are [16, 16, 1]",
    ),
    "no settings": (told(lambda found: found["attacks"][0].update(settings={"confidence": "much"})), "its confidence"),
    "no success": (column("success", None), "its success cannot be read"),
    "success in words": (column("success", "yes"), "its success cannot be read"),
    "no distances": (column("distance", None), "its distance cannot be read"),
    "two distances": (twice, "is damaged"),
    "labels that are no numbers": (column("label", "seven"), "its label cannot be read"),
    "other labels": (column("label", 2), "the data has other images than those that were attacked"),
    "one image less": (images(lambda arrays: arrays | {"adversarial": arrays["adversarial"][1:]}), "is damaged"),
    "images of another shape": (
        images(lambda arrays: arrays | {"adversarial": arrays["adversarial"][:, :1]}),
        "those of fast_l2 are [1, 16, 1]",
    ),
    "images of bytes": (
        images(lambda arrays: arrays | {"adversarial": arrays["adversarial"].astype(np.uint8)}),
        "its images cannot be read",
    ),
}


def larger() -> cw.Model:
    return cw.bind(lambda weights, x: x.reshape(len(x), -1) @ weights, jnp.zeros((784, 3)))


def smaller() -> cw.Model:
    return cw.bind(lambda weights, x: x.reshape(len(x), -1) @ weights, jnp.zeros((256, 2)))


def ending() -> cw.Model:
    raise SystemExit(0)


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_cannot_be_verified_is_one_line_and_no_disagreement(damage, folder, capsys):
    change, words = DAMAGE[damage]
    change(folder)
    assert words in refused(folder, capsys)
    assert not (folder / verifying.FILE).exists()


class Wrong:
    """What answers with anything but a tensor, in the place of a torch.nn.Module."""

    def eval(self):
        return lambda x: {"logits": x}


def test_a_twin_that_gives_no_logits_is_one_error(folder, monkeypatch):
    torch = types.SimpleNamespace(no_grad=contextlib.nullcontext, from_numpy=lambda x: x)  # which is not always there
    monkeypatch.setitem(sys.modules, "torch", torch)
    with pytest.raises(ValueError, match=r"--torch .*:Wrong: AttributeError: 'dict' object"):
        verifying.verify(folder, torch="tests.lab.verifying.test_verifying:Wrong")


def test_a_run_that_was_verified_can_be_verified_as_its_own_table(folder, capsys):
    main(["verify", str(folder)])
    table = pq.read_table(folder / verifying.FILE)
    pq.write_table(table, folder / "results.parquet")
    main(["verify", str(folder)])
    assert pq.read_table(folder / verifying.FILE).equals(table)


def test_data_that_a_run_does_not_name_can_be_told(folder, capsys):
    """Left out, it is what suits the model, as for `cwjax attack`: of this model, neither of the two."""
    told(lambda found: found["about"]["configuration"].pop("data"))(folder)
    line = refused(folder, capsys)
    assert "takes none of the images that come with cwjax (mnist5k: the model refused an input of shape" in line
    assert "say which with --data" in line
    main(["verify", str(folder), "--data", "blobs"])
    assert "16 of 16 rows agree" in capsys.readouterr().out
