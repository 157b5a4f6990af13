"""The programs around the library run, at a small size: README, experiments, benchmarks; and importing is quick."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import cwjax as cw
from cwjax.lab import data
from tests.lab.conftest import Blobs

ROOT = Path(__file__).parent.parent

# Those that attack a network that is trained on the way share it: so one worker runs them all.
attacks_a_network = pytest.mark.xdist_group("programs")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """The folder of networks that were trained."""
    return tmp_path_factory.mktemp("models")


def blocks(file: Path) -> list[str]:
    """The Python code blocks of a Markdown file."""
    return re.findall(r"```python\n(.*?)```", file.read_text(), re.DOTALL)


DOCUMENTS = ["README.md", *(f"docs/{page}.md" for page in ("start/pytorch", "choose"))]
LONG = [f"docs/{page}.md" for page in ("start/index", "believe", "bounds", "many", "malware", "own", "speech", "tasks")]


@pytest.mark.parametrize("file", [*DOCUMENTS, *(pytest.param(file, marks=pytest.mark.long) for file in LONG)])
def test_the_code_of_documents_runs_as_it_stands(file, tmp_path, monkeypatch):
    if "pytorch" in file:
        pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    code = blocks(ROOT / file)
    assert code
    namespace: dict = {}
    for block in code:
        exec(block, namespace)
    assert namespace["result"].success.all()


def test_what_is_cited_is_this_version():
    told = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {cw.__version__}\n" in told
    assert f"version = {{{cw.__version__}}}" in (ROOT / "README.md").read_text()
    assert f'\n  version: "{cw.__version__}"\n' in (ROOT / "recipe" / "recipe.yaml").read_text()


def test_the_recipe_asks_for_what_the_package_asks_for():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = (ROOT / "recipe" / "recipe.yaml").read_text().partition("  run:\n")[2].partition("\n\n")[0].splitlines()
    asked = [line.removeprefix("    - ").replace(" ", "") for line in lines]
    assert asked == ["python>=${{python_min}}", *project["dependencies"]]


@pytest.mark.long
@attacks_a_network
def test_figure_2_at_a_small_size(models, tmp_path, monkeypatch):
    from experiments import figure2_constant

    monkeypatch.setitem(data.SOURCES, "blobs", Blobs())
    arguments = figure2_constant.Arguments(
        data="blobs", epochs=12, examples=4, steps=60, out=tmp_path / "out", models=models
    )
    rows = figure2_constant.main(arguments)
    assert rows[0]["success"] <= rows[-1]["success"]
    names = {"figure2.md", "figure2.csv", "figure2.png"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    assert "c" in (tmp_path / "out" / "figure2.csv").read_text().splitlines()[0]


@pytest.mark.long
@attacks_a_network
def test_table_3_at_a_small_size(models, tmp_path, monkeypatch):
    from experiments import table3_objectives

    monkeypatch.setitem(data.SOURCES, "blobs", Blobs())
    arguments = table3_objectives.Arguments(
        data="blobs", epochs=12, examples=2, objectives=("f6",), steps=60, rounds=4, out=tmp_path / "out", models=models
    )
    rows = table3_objectives.main(arguments)
    assert len(rows) == 3 * 3  # boxes, cases
    f6 = {(row["box"], row["case"]): row for row in rows}
    assert f6["projected", "best"]["mean L2"] <= f6["projected", "average"]["mean L2"]
    assert f6["projected", "average"]["mean L2"] <= f6["projected", "worst"]["mean L2"]
    assert f6["clipped", "worst"]["paper distortion"] == 7.50
    assert "7.50 100%" in (tmp_path / "out" / "table3.md").read_text()
    # A second run takes the cells that are there.
    monkeypatch.setattr(table3_objectives, "attacked", None)
    assert table3_objectives.main(arguments) == rows


@pytest.mark.long
@attacks_a_network
def test_the_batching_benchmark_at_a_small_size(models, monkeypatch, capsys):
    from benchmarks import batching

    monkeypatch.setitem(data.SOURCES, "blobs", Blobs())
    batching.main(
        batching.Arguments(attacks=("linf",), batch=2, singles=1, steps=5, data="blobs", epochs=12, models=models)
    )
    said = capsys.readouterr().out
    assert "| linf | " in said
    assert "ratio" in said


@pytest.mark.long
def test_the_step_cost_benchmark_at_a_small_size(capsys):
    from benchmarks import step_cost

    step_cost.main(step_cost.Arguments(batch=2, waves=2, rows=2, steps=2, rounds=1))
    said = capsys.readouterr().out
    assert "loop / gradient" in said
    for subject in ("images, our pooling", "speech, CTC", "speech, aligned", "malware, fast L0", "malware, JSMA"):
        assert f"\n| {subject} | " in said
    assert said.count("\n| ") == 18  # three tables, each a heading; eight rows, two more, and five


@pytest.mark.long
def test_the_benchmark_of_objectives_at_a_fixed_radius_at_a_small_size(capsys, monkeypatch):
    from benchmarks import objectives_at_fixed_radius as benchmark

    monkeypatch.setattr(benchmark, "LOSSES", {name: benchmark.LOSSES[name] for name in ("f2", "f6")})
    rows = benchmark.main(benchmark.Arguments(examples=4, steps=4, epsilon=0.35))
    assert capsys.readouterr().out.count("\n| ") == 4  # a heading, two losses and PMA
    assert rows.keys() == {"f2", "f6", "PMA"}
    assert all(share in (0, 25, 50, 75, 100) for row in rows.values() for share in row)


ENGINE = {
    "utilisation": ({"examples": 5, "width": 2, "steps": 5}, "| streamed | "),
    "devices": ({"examples": 8, "width": 8, "steps": 2}, "| 1 | "),
    "original": ({"examples": 2, "steps": 2}, "| l0 | "),
    "targets": ({"examples": 2, "width": 2, "steps": 3}, "| in turn within a lane | "),
}


@pytest.mark.long
@attacks_a_network
@pytest.mark.parametrize("command", ENGINE)
def test_the_engine_benchmarks_at_a_small_size(command, models, monkeypatch, capsys):
    from benchmarks import engine

    monkeypatch.setitem(data.SOURCES, "blobs", Blobs())
    numbers, line = ENGINE[command]
    engine.COMMANDS[command](engine.Subject(data="blobs", epochs=12, models=models), **numbers)
    assert line in capsys.readouterr().out


@pytest.mark.long
def test_the_peers_benchmark_at_a_small_size(tmp_path, capsys):
    from benchmarks import peers

    arguments = peers.Arguments(examples=2, steps=2, peers=("cwjax", "nobody"), epochs=1, models=tmp_path)
    peers.main(arguments)
    said = capsys.readouterr().out
    assert "| nobody | not installed |" in said
    assert "| cwjax | " in said


@pytest.mark.parametrize("module", ["cwjax", pytest.param("cwjax.lab.cli", marks=pytest.mark.long)])
def test_importing_takes_the_core_alone_and_computes_nothing(module):
    code = f"import sys, json; import {module}; from jax._src import xla_bridge; "
    code += "print(json.dumps([list(sys.modules), xla_bridge.backends_are_initialized()]))"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    loaded, computed = json.loads(output)
    loaded = {name for name in loaded if "." not in name}
    assert not computed  # an array made at import time would start the device, for a second and for good
    heavy = {"tensorflow", "torch", "mlxtend", "tensorflow_datasets", "duckdb"}
    heavy |= {"equinox", "haiku", "keras"}
    lab = {"flax", "matplotlib", "rich", "tyro", "pyarrow", "jinja2", "safetensors"} if module == "cwjax" else set()
    assert not loaded & (heavy | lab)
