"""`cwjax generate`: each system, stopping and going on, and mistakes."""

import json
import shutil

import jax.numpy as jnp
import numpy as np
import pyarrow.parquet as pq
import pytest

from cwjax.generation.deeproad import WEATHERS
from cwjax.lab import data
from cwjax.lab.covering import covering
from cwjax.lab.generating import generated, systems, tests_page
from cwjax.lab.generating.plans import Made, Plan
from cwjax.lab.verifying import of_tests, verifying
from tests.lab.called import call, fails
from tests.lab.generating.made import ONE, OTHER

pytestmark = pytest.mark.usefixtures("kept")
HERE = "tests.lab.generating.made:"
SYSTEMS = {
    "deepxplore": ["--model", OTHER, "--constraint", "occlusion", "--patch", 9, "--steps", 8],
    "deeptest": ["--transforms", "brightness", "translation", "--tries", 12],
    "deeptest guided": ["--method", "guided", "--transforms", "brightness", "translation", "--tries", 40],
    "deeproad": ["--weathers", "rain", "night", "--translation", "operator"],
    "deepconcolic l0": ["--norm", "l0", "--unit", "element", "--steps", 12],
    "deepct": ["--seeds", 2, "--steps", 8, "--radius", 0.5],
    "deepfault": ["--method", "pgd", "--epsilon", 0.5, "--steps", 8],
    "fuzzing": ["--fuzzer", "tensorfuzz", "--rounds", 6, "--mutants", 8],
}


def told(system, out, *more):
    return ["generate", "--system", system, "--model", ONE, "--data", "blobs", "--out", out, *more]


LONG = ("deepxplore", "deeptest", "deepct", "deepfault", "deeptest guided", "deepconcolic l0")


@pytest.mark.parametrize(
    "system",
    [pytest.param(each, marks=[pytest.mark.long] if each in LONG else []) for each in SYSTEMS],
)
def test_each_system_generates_tests_that_are_verified(system, tmp_path, capsys):
    name, more = system.split()[0], SYSTEMS[system]
    call(*told(name, tmp_path, "--count", 3, "--batch", 2, *more))
    said = capsys.readouterr().out
    assert f"Report: {tmp_path / 'report.html'}" in said
    tests = generated.read(tmp_path)
    assert len(tests.table) == 3 * (2 if system in ("deeptest", "deeproad") else 1)
    assert tests.met.any()
    assert (tests.x[~tests.met] == tests.seeds[~tests.met]).all()
    levels = 255 * tests.x
    np.testing.assert_allclose(levels, np.rint(levels), atol=1e-3)
    assert of_tests.verify(tmp_path) == 0
    html = (tmp_path / "report.html").read_bytes()
    markdown = (tmp_path / "report.md").read_text()
    assert f"{(tests.met & ~tests.already).sum()} tests found of {len(tests.table)} asked for" in markdown
    assert markdown.count("image 10") >= len(tests.table)
    assert (tmp_path / "figures" / "generated-examples.png").exists() == bool((tests.met & ~tests.already).any())
    (tmp_path / "report.html").unlink()
    call("report", tmp_path)
    assert (tmp_path / "report.html").read_bytes() == html


def test_an_image_that_the_validator_turns_away_is_no_test(tmp_path, capsys):
    call(*told("deeproad", tmp_path, "--count", 2, "--weathers", "fog"))
    said = " ".join(capsys.readouterr().out.split())
    assert tests_page.COLUMNS in said
    assert f"Nothing was found with --weathers fog (default: all {len(WEATHERS)}), --count 2: try more." in said
    table = generated.read(tmp_path).table
    assert table["asked"].to_pylist() == ["fog: the validator turns the image away"] * 2
    assert not any(table["met"].to_pylist())
    assert of_tests.verify(tmp_path) == 0
    assert "2 of them say that no test was found: they agree if their image is the seed" in capsys.readouterr().out


def test_pictures_show_every_kind_alike():
    picked = tests_page._spread(np.arange(23), ["fog"] * 20 + ["rain"] * 3)
    assert picked.tolist() == [*range(7), 20, 21, 22]


def fake(asked):
    """A system that finds every second test: the seed of another class."""
    seeds, labels = asked.subject.seeds.images, asked.subject.seeds.labels

    def make(rows, before):
        made.append((rows.start, len(before)))
        if stopping and rows.start >= 4:
            raise KeyboardInterrupt
        x = seeds[np.asarray(rows)].copy()
        found = [row % 2 == 0 for row in rows]
        for place, row in enumerate(rows):
            if found[place]:
                x[place] = seeds[np.flatnonzero(labels != labels[row])[0]]
        return Made(list(rows), [f"row {row}" for row in rows], x, found, {"note": [row / 3 for row in rows]})

    return Plan(asked.asked_for, make, {"neurons": "none"})


made: list = []
stopping: list = []


@pytest.fixture
def faked(monkeypatch):
    made.clear()
    stopping.clear()
    monkeypatch.setitem(systems.SYSTEMS, "fuzzing", fake)


@pytest.mark.usefixtures("faked")
def test_a_run_that_was_stopped_ends_with_the_bytes_of_one_that_was_not(tmp_path, capsys):
    asked = ["--count", 7, "--batch", 2]
    call(*told("fuzzing", tmp_path / "whole", *asked))
    assert made == [(0, 0), (2, 1), (4, 2), (6, 3)]
    stopping.append(True)
    with pytest.raises(SystemExit) as stop:
        call(*told("fuzzing", tmp_path / "broken", *asked))
    assert stop.value.code == 130
    assert "The same command goes on from what is finished, if anything is" in capsys.readouterr().err
    assert {path.name for path in (tmp_path / "broken").iterdir()} == {"units"}
    stopping.clear()
    made.clear()
    call(*told("fuzzing", tmp_path / "broken", *asked))
    assert made == [(4, 2), (6, 3)]
    assert "4 of 7 tests are there already." in capsys.readouterr().out
    for name in ("tests.parquet", "tests.npz", "generate.json", "report.html", "report.md"):
        assert (tmp_path / "broken" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    units = [{path.name for path in (tmp_path / each / "units").iterdir()} for each in ("broken", "whole")]
    assert units[0] == units[1]


@pytest.mark.usefixtures("faked")
def test_a_damaged_batch_is_made_again_and_other_questions_share_nothing(tmp_path):
    call(*told("fuzzing", tmp_path, "--count", 4, "--batch", 2))
    table = (tmp_path / "tests.parquet").read_bytes()
    [first, _] = sorted((tmp_path / "units").iterdir())
    (first / "x.npy").write_bytes(b"nothing")
    made.clear()
    call(*told("fuzzing", tmp_path, "--count", 4, "--batch", 2))
    assert 1 <= len(made) <= 2
    assert (tmp_path / "tests.parquet").read_bytes() == table
    made.clear()
    call(*told("fuzzing", tmp_path, "--count", 4, "--batch", 2, "--seed", 1))
    assert len(made) == 2
    made.clear()
    other = ["generate", "--system", "fuzzing", "--model", OTHER, "--data", "blobs", "--out", tmp_path]
    call(*other, "--count", 4, "--batch", 2)  # another network of the same module
    assert len(made) == 2


@pytest.mark.usefixtures("faked")
def test_what_is_not_met_is_a_row_and_misread_images_are_counted_apart(tmp_path, capsys):
    call(*told("fuzzing", tmp_path, "--count", 5))
    tests, dataset = generated.read(tmp_path), data.load("blobs", "test")
    from tests.lab.generating import made as nets

    right = np.asarray(nets.one().of_batch(jnp.asarray(dataset.images))).argmax(-1) == dataset.labels
    places = np.flatnonzero(right)[:5]
    np.testing.assert_array_equal(tests.table["index"], dataset.index[places])
    wrong = [int(dataset.index[i]) for i in range(places[-1]) if not right[i]]
    assert wrong
    assert tests.about["misread"] == wrong
    assert ("1 image is" if len(wrong) == 1 else f"{len(wrong)} images are") in capsys.readouterr().out
    assert tests.table["met"].to_pylist().count(False) >= 2
    assert "| no |" in (tmp_path / "report.md").read_text()


@pytest.mark.usefixtures("faked")
def test_rows_that_disagree_are_named(tmp_path, capsys):
    call(*told("fuzzing", tmp_path, "--count", 4))
    [first, *_] = np.flatnonzero(generated.read(tmp_path).met)
    assert of_tests.verify(tmp_path) == 0
    with np.load(tmp_path / "tests.npz") as file:
        arrays = dict(file)
    shutil.copy(tmp_path / "tests.npz", tmp_path / "kept.npz")
    faults = {
        "its l2 is told otherwise": lambda x, seeds: x.__setitem__((first, 0, 0, 0), (x[first, 0, 0, 0] + 0.2) % 1),
        "it does not do what was asked for": lambda x, seeds: x.__setitem__(first, seeds[first]),
        "not in 8 bits": lambda x, seeds: x.__setitem__((first, 0, 0, 0), 0.5003),
        "its seed is not the image of the data": lambda x, seeds: seeds.__setitem__((1, 0, 0, 0), 0.9),
        "it is not met, and its image is not the seed": lambda x, seeds: x.__setitem__((1, 0, 0, 0), 0.0),
    }
    for words, change in faults.items():
        x, seeds = arrays["generated"].copy(), arrays["seeds"].copy()
        change(x, seeds)
        np.savez(tmp_path / "tests.npz", **(arrays | {"generated": x, "seeds": seeds}))
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            call("verify", tmp_path)
        assert stop.value.code == 1
        assert words in capsys.readouterr().out
        table = pq.read_table(tmp_path / verifying.FILE)
        assert table["agrees"].to_pylist().count(False) == 1
    shutil.copy(tmp_path / "kept.npz", tmp_path / "tests.npz")
    assert "--torch is for" in fails(capsys, "verify", tmp_path, "--torch", "mine:net")
    (tmp_path / "tests.npz").write_bytes(b"nothing")
    assert "are damaged" in fails(capsys, "verify", tmp_path)


@pytest.mark.usefixtures("faked")
def test_the_folder_is_a_suite_for_coverage(tmp_path):
    call(*told("fuzzing", tmp_path, "--count", 4))
    tests = generated.read(tmp_path)
    [suite] = covering.suites_of([tmp_path], tests.x.shape[1:], ONE)
    assert suite.name == f"{tmp_path.name}, fuzzing"
    np.testing.assert_array_equal(suite.images, tests.x[tests.met & ~tests.already])


@pytest.mark.parametrize(
    ("system", "more", "words"),
    [
        (
            "deepxplorer",
            "",
            "unknown system 'deepxplorer': did you mean deepxplore? choose one of deepxplore, deeptest",
        ),
        ("deepxplore", "", "compares two models or more, got 1"),
        ("deepfault", f"--model {OTHER}", "tests one model, got 2"),
        ("deepxplore", f"--model {ONE}", "different models"),
        ("deepxplore", f"--model {HERE}four", "has 3 classes and"),
        ("deepxplore", f"--model {HERE}small", "does not take the images [16, 16, 1]"),
        ("deepxplore", f"--model {HERE}flat --count 2", f"needs hidden layers, and --model {HERE}flat has none"),
        ("deepxplore", f"--model {HERE}never", "all 2 models classify none of the 30 images of blobs rightly"),
        ("deepxplore", f"--model {OTHER} --target 3", "--target 3 is none of the 2 models"),
        ("deepxplore", f"--model {OTHER} --patch 5", "--patch does nothing with --constraint light"),
        ("deepxplore", f"--model {OTHER} --constraint dark", "--constraint 'dark' is not known: choose one of light"),
        ("deepxplore", f"--model {OTHER} --constraint occlusion --patch 99", "--patch 99 does not fit into inputs"),
        ("deeptest", "--count 31", "--count 31 asks for more seeds than there are"),
        ("deeptest", "--epsilon 0.1", "--epsilon is no setting of deeptest, which takes --transforms, --method"),
        ("deeptest", "--steps 3", "--steps does nothing with --method sampled"),
        ("deeptest", "--method guided --transforms rain", "--method guided changes an image by two transforms at once"),
        ("deeproad", "--weathers snow", "--weathers 'snow' is not known: choose one of fog, night, inverted, rain"),
        ("deeproad", "--rejected 1", "--rejected must be at most 0.99"),
        ("deepconcolic", "--norm l0 --radius 0.1", "--radius does nothing with --norm l0"),
        ("deepconcolic", "--norm l0 --solver highs --unit element", "--solver highs is for --norm linf"),
        ("deeptest", "--transforms snow", "--transforms 'snow' is not known"),
        ("deeptest", "--count 0", "--count must be at least 1"),
        ("deepct", "--seeds 31", "--seeds 31 asks for more seeds"),
        ("deepct", "--radius 0", "--radius must be more than 0"),
        ("deepconcolic", "--solver highs", "--solver highs is for --criterion nc or nbc with --unit element"),
        ("deepconcolic", "--criterion ssc", "needs neurons of two layers or more"),
    ],
)
def test_a_mistake_is_one_line_before_anything_runs(system, more, words, tmp_path, capsys):
    assert words in fails(capsys, *told(system, tmp_path / "out", "--count", 2, *more.split()))
    assert not (tmp_path / "out").exists()


def test_no_suspect_without_a_wrong_image_and_a_missing_solver_are_one_line(tmp_path, capsys, monkeypatch):
    asked = ["generate", "--data", "blobs", "--out", tmp_path / "out"]
    line = fails(capsys, *asked, "--system", "deepfault", "--model", f"{HERE}flawless")
    assert "gets all 30 of blobs right" in line
    monkeypatch.setattr("importlib.import_module", missing)
    line = fails(capsys, *told("deepconcolic", tmp_path / "out", "--solver", "highs", "--unit", "element"))
    assert "--solver highs needs scipy, which is not installed: pip install 'cwjax[solver]'" in line


def missing(name):
    raise ModuleNotFoundError(f"No module named {name!r}", name=name)


@pytest.mark.long
def test_a_linear_program_finds_what_a_step_does_not(tmp_path):
    more = ["--count", 6, "--unit", "element", "--steps", 1, "--rounds", 1, "--radius", 0.9, "--solver", "highs"]
    call(*told("deepconcolic", tmp_path, *more))
    table = generated.read(tmp_path).table
    by = table["found by"].to_pylist()
    assert "highs" in by
    assert of_tests.verify(tmp_path) == 0
    assert json.loads((tmp_path / "generate.json").read_text())["settings"]["solver"] == "highs"
