"""A grid is the same thing as a command line, as a file and as a dataclass."""

import dataclasses

import pytest

from cwjax.lab.attacking import presets
from cwjax.lab.console import parsing
from cwjax.lab.sweeps import grid


def write(tmp_path, text: str):
    file = tmp_path / "grid.toml"
    file.write_text(text)
    return file


def test_settings_are_axes_and_nothing_is_forgotten():
    axes = {field.name for field in dataclasses.fields(grid.Sweep)}
    assert axes > {field.name for field in dataclasses.fields(presets.Settings)}
    [sweep] = grid.read(None, grid.Sweep(model=("m",)))
    [configuration] = grid.configurations(sweep)
    assert set(configuration.columns) == axes - {
        "examples",
        "chunk",
        "width",
        "checks",
        "defence",
    }  # the last is in the model's name


def test_a_file_is_the_command_line(tmp_path):
    file = write(
        tmp_path, 'model = "m"\nattack = ["l2", "linf"]\nconfidence = [0, 10, 2.5e-3]\nrounded = true\nchunk = 7\n'
    )
    flags: str = "--model m --attack l2 linf --confidence 0 10 0.0025 --rounded --chunk 7"
    assert grid.read(file) == grid.read(None, parsing.read_type(grid.Sweep, flags.split()))
    told = parsing.read_type(grid.Sweep, ["--confidence", "3", "--examples", "5"])
    [sweep] = grid.read(file, told)
    assert (sweep.confidence, sweep.examples, sweep.attack) == ((3.0,), 5, ("l2", "linf"))
    assert (sweep.data, sweep.seed, sweep.targets) == (("auto",), (0,), ("untargeted",))


def test_every_combination_comes_once_in_order(capsys):
    sweep = grid.Sweep(
        model=("a", "b"), attack=("l2", "fast_l2"), seed=(0, 1), confidence=(0.0, 5.0), search_steps=(2, 3)
    )
    [whole] = grid.read(None, sweep)
    every = grid.configurations(whole)
    # fast_l2 has no search steps, so that two combinations of it are one
    assert len(every) == len(set(every)) == 2 * 2 * (2 * 2 + 2)
    assert [(one.model, one.seed) for one in every[::6]] == [("a", 0), ("a", 1), ("b", 0), ("b", 1)]
    assert [(one.attack, one.settings.confidence, one.settings.search_steps) for one in every[:6]] == [
        ("l2", 0.0, 2),
        ("l2", 0.0, 3),
        ("l2", 5.0, 2),
        ("l2", 5.0, 3),
        ("fast_l2", 0.0, None),
        ("fast_l2", 5.0, None),
    ]
    assert len({one.digest for one in every}) == len(every)
    assert every[0].settings.steps == presets.PRESETS["l2"].own.steps
    assert "--search-steps goes to l2 alone" in capsys.readouterr().out
    assert grid.differing([one.columns for one in every]) == ["attack", "model", "seed", "confidence", "search_steps"]


def test_tables_are_grids_of_their_own(tmp_path):
    first = '[[grid]]\nattack = "l2"\nsteps = 1000\n'
    second = '[[grid]]\nattack = "fast_l2"\nsteps = [50, 100]\n'
    first, second = grid.read(write(tmp_path, f'model = "m"\nseed = [0, 1]\n{first}{second}'))
    assert (first.attack, first.steps, first.seed) == (("l2",), (1000,), (0, 1))
    assert (second.attack, second.steps, second.seed) == (("fast_l2",), (50, 100), (0, 1))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model = ", "grid.toml is no TOML file"),
        ("models = 'm'", "grid.toml: .*--models"),
        ("model = 'm'\nsteps = ['many']", "grid.toml: .*--steps.*many"),
        ("model = 'm'\nsteps = [[1]]", r"grid.toml: steps takes text and numbers, got \[1\]"),
        ("model = 'm'\nsteps = [true]", "steps takes text and numbers, got True"),
        ("model = 'm'\ntargets = 'some'", "grid.toml: .*some"),
        ("model = 'm'\ngrid = 3", r"grid must be tables that are each headed \[\[grid\]\]"),
        ("seed = 1", "a sweep needs a --model"),
        ("model = 'm'\nexamples = 0", "--examples must be at least 1, got 0"),
        ("model = 'm'\nchunk = 0", "--chunk must be at least 1, got 0"),
        ("model = 'm'\nwidth = 0", "--width must be at least 1, got 0"),
        ("model = 'm'\nseed = -1", "--seed must be at least 0, got -1"),
        ("model = 'm'\nseed = [1, 1]", "--seed takes different values, got 1 1"),
        ("model = 'm'\nattack = 'l3'", "unknown attack 'l3'"),
        ("model = 'm'\nattack = 'linf'\nsearch_steps = [2]", "--search-steps is no setting of linf"),
        ("model = 'm'\nconfidence = [0, -1]", "--confidence must be at least 0, got -1"),
        ("model = 'm'\nattack = ['l2', 'fast_l2']\nbox = 'open'", "unknown box 'open'"),
    ],
)
def test_mistakes_are_named(text, words, tmp_path):
    file = write(tmp_path, text)
    with pytest.raises(ValueError, match=words):
        [grid.configurations(sweep) for sweep in grid.read(file)]


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(OSError, match=r"there is no file .*nowhere.toml: write one with lines such as attack = "):
        grid.read(tmp_path / "nowhere.toml")
