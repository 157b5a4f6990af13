"""Mutants are changes that could matter, drawn by a seed; and what `make mutants` says of a small project is so."""

from pathlib import Path

import pytest

from tests import mutants
from tests.mutants import Arguments, Mutant

SOURCE = """
def first(a: int | None, b: int = 2, *, c: bool = True) -> int | float:
    if a <= b and not c:
        return min(a, b) + 1
    return [a, -b][0] | max(c, default=b)


Kind = int | None
"""


def lines(source: str) -> set[tuple[int, str]]:
    """Every mutant as the line that it makes."""
    every = mutants.mutants("mine.py", source)
    return {(mutant.line, mutants.plain(mutants.changed(mutant, source).after)) for mutant in every}


def test_each_operator_number_and_word_is_changed_and_no_annotation():
    found = lines(SOURCE)
    assert found >= {
        (2, "def first(a: int | None, b: int = 3, *, c: bool = True) -> int | float:"),
        (2, "def first(a: int | None, b: int = 2, *, c: bool = False) -> int | float:"),
        (3, "if a < b and not c:"),
        (3, "if a > b and not c:"),
        (3, "if a <= b or not c:"),
        (3, "if a <= b and c:"),
        (4, "return max(a, b) + 1"),
        (4, "return min(a, b) - 1"),
        (4, "return min(a, b) + 0"),
        (5, "return [a, b][0] | max(c, default=b)"),
        (5, "return [a, -b][0] & max(c, default=b)"),
        (5, "return [a, -b][0] | min(c, default=b)"),
    }
    for _, after in found:
        if after.startswith("def"):
            assert "a: int | None" in after
            assert ", *, " in after
            assert after.endswith("-> int | float:")
        assert "Kind" not in after


def test_a_seed_draws_the_same_mutants_each_on_a_line_of_its_own():
    files = ["cwjax/descent.py", "cwjax/parts/losses.py"]
    drawn = mutants.drawn(mutants.ROOT, files, 12, 3)
    assert list(drawn) == list(mutants.drawn(mutants.ROOT, files, 12, 3))
    assert list(drawn) != list(mutants.drawn(mutants.ROOT, files, 12, 4))
    assert len({(mutant.file, mutant.line) for mutant in drawn}) == len(drawn) == 12
    assert {mutant.file for mutant in drawn} == set(files)
    for change in drawn.values():
        assert change.before != change.after
        assert change.original.replace(change.before, change.after, 1) == change.source


def test_what_is_no_python_any_more_is_not_drawn(tmp_path):
    (tmp_path / "mine.py").write_text("for i in range(3):\n    continue\n")
    broken = Mutant("mine.py", 2, "ReplaceContinueWithBreak", 0)
    assert broken in mutants.drawn(tmp_path, ["mine.py"], 100, 0)
    (tmp_path / "mine.py").write_text("a = f(*[1])\n")
    assert {change.after for change in mutants.drawn(tmp_path, ["mine.py"], 100, 0).values()} <= {
        "a = f(*[ 2])",
        "a = f(*[ 0])",
    }


def test_the_table_names_files_and_tests_that_there_are():
    known = mutants.table()
    for file, tests in known.tests.items():
        assert (mutants.ROOT / file).is_file()
        assert tests
        for test in tests:
            path, _, name = test.partition("::")
            assert (mutants.ROOT / path).exists()
            assert f"def {name.partition('[')[0]}(" in (mutants.ROOT / path).read_text() if name else True


@pytest.mark.parametrize("file", sorted({file for file, _, _ in mutants.table().equivalent}))
def test_what_the_table_calls_equivalent_is_a_mutant_of_its_file(file):
    source = (mutants.ROOT / file).read_text()
    text, every = source.splitlines(), list(mutants.mutants(file, source))
    for _, before, after in (each for each in mutants.table().equivalent if each[0] == file):
        here = [mutant for mutant in every if mutants.plain(text[mutant.line - 1]) == before]
        changes = [mutants.plain(mutants.changed(mutant, source).after) for mutant in here]
        assert after in changes, f"strike it from mutants.toml: no mutant of {file} makes this of {before}"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project of one file and one test, which does not notice everything."""
    (tmp_path / "mine.py").write_text("WIDE = True\nLONG = False\n\n\ndef double(x):\n    return x + x\n")
    (tmp_path / "test_mine.py").write_text("import mine\n\n\ndef test_double():\n    assert mine.double(2) == 4\n")
    equivalent = '{ file = "mine.py", before = "WIDE = True", after = "WIDE = False", reason = "Nothing reads it." }'
    (tmp_path / "mutants.toml").write_text(f'equivalent = [{equivalent}]\n[tests]\n"mine.py" = ["test_mine.py"]\n')
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # they take longer than the tests
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p pytest_timeout")
    monkeypatch.setattr(mutants, "ROOT", tmp_path)
    monkeypatch.setattr(mutants, "TABLE", tmp_path / "mutants.toml")
    return tmp_path


def in_this_process(tests, limit):
    """The first failure of the project's one test, without pytest."""
    names = {}
    exec(Path("mine.py").read_text(), names)
    return None if names["double"](2) == 4 else "test_mine.py::test_double"


@pytest.mark.parametrize("run", [in_this_process, pytest.param(mutants.first_failure, marks=pytest.mark.long)])
def test_what_no_test_notices_survives_and_only_what_changes_a_result_counts(run, project, capsys, monkeypatch):
    monkeypatch.setattr(mutants, "first_failure", run)
    assert mutants.main(Arguments()) == 1
    said = capsys.readouterr().out
    assert "3 mutants, seed 0" in said
    assert "killed by test_mine.py::test_double  return x - x" in said
    assert "mine.py:1 survived: Nothing reads it.\n- WIDE = True\n+ WIDE = False\n" in said
    assert "mine.py:2 survived: a test is missing\n- LONG = False\n+ LONG = True\n" in said
    assert said.splitlines()[-1] == "| 3 | 1 | 2 | 1 | 50.0 % |"
    assert "WIDE = True" in (project / "mine.py").read_text()


def test_a_test_that_fails_anyway_tells_nothing(project):
    (project / "test_mine.py").write_text("def test_all():\n    assert False\n")
    with pytest.raises(SystemExit, match=r"test_mine\.py::test_all fails without a mutant too"):
        mutants.main(Arguments(count=1))


def test_tests_that_do_not_end_have_noticed(project):
    (project / "test_mine.py").write_text("import time\n\n\ndef test_all():\n    time.sleep(300)\n")
    assert mutants.first_failure([str(project)], 1.0) == mutants.TIMEOUT
    hangs = "import os\n\n\ndef test_all():\n    print('+++ Timeout +++', flush=True)\n    os._exit(1)\n"
    (project / "test_mine.py").write_text(hangs)  # as pytest-timeout ends it
    assert mutants.first_failure([str(project), "-s"], 60.0) == mutants.TIMEOUT


def test_what_pytest_cannot_do_is_told(project):
    with pytest.raises(SystemExit, match="pytest said nothing that can be understood"):
        mutants.first_failure([str(project), "--no-such-option"], 60.0)


def test_a_file_without_tests_is_named(project):
    with pytest.raises(SystemExit, match=r"other\.py has no row in .*mutants\.toml: give its tests there"):
        mutants.main(Arguments(files=("other.py",)))
