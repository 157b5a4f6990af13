"""A function of the user's own, by its name."""

import re
import sys

import pytest

from cwjax.lab import functions


@pytest.mark.parametrize(
    ("error", "words"),
    [(KeyError("weights\nare gone"), "KeyError: "), (SystemExit("no"), r"it calls sys\.exit\('no'\)")],
)
def test_what_the_users_code_raises_is_one_line(error, words):
    with pytest.raises(ValueError, match=f"^--flag a:b: {words}") as raised, functions.blamed("--flag", "a:b"):
        raise error
    assert "\n" not in str(raised.value)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder with modules of one's own."""
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a_module_of_mine.py").write_text("def model():\n    return 3\n\nclass Nets:\n    pass\n")
    (tmp_path / "a_package_of_mine").mkdir()
    (tmp_path / "a_package_of_mine" / "small.py").write_text("def model():\n    return 4\n")
    (tmp_path / "a_torch_of_mine.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'torch'\", name='torch.no_such')\n"
    )
    (tmp_path / "a_need_of_mine.py").write_text("import no_such_package\n")
    (tmp_path / "an_error_of_mine.py").write_text("def model(:\n")
    (tmp_path / "an_end_of_mine.py").write_text("import sys\nsys.exit('enough')\n")
    known = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - known:
        del sys.modules[name]


def test_a_function_of_the_working_folder_is_found(here):
    assert functions.named("--model", "a_module_of_mine:model")() == 3
    assert functions.named("--model", "a_package_of_mine.small:model")() == 4
    assert isinstance(functions.named("--model", "a_module_of_mine:Nets")(), object)
    assert sys.path.count(str(here)) == 1


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a_module_of_mine", "is no MODULE:FUNCTION, such as mynet:model for the function model of mynet.py"),
        ("a_module_of_mine:", "is no MODULE:FUNCTION"),
        (":model", "is no MODULE:FUNCTION"),
        (
            "a_module_of_mine:modell",
            "a_module_of_mine has no function modell: did you mean model? it has model, Nets",
        ),
        ("a_package_of_mine:model", "a_package_of_mine has no function model: it defines none"),
        (
            "a_module_of_nobody:model",
            "a_module_of_nobody:model: there is no a_module_of_nobody.py in this folder or on PYTHONPATH",
        ),
        ("a_package_of_mine.big:model", "there is no a_package_of_mine/big.py in this folder"),
        ("a_torch_of_mine:model", "it imports torch.no_such, which is not installed: pip install 'cwjax[torch]'"),
        ("a_need_of_mine:model", "it imports no_such_package, which is neither installed nor in this folder"),
        ("an_error_of_mine:model", "SyntaxError: "),
        ("an_end_of_mine:model", "it calls sys.exit('enough')"),
        ("a_module_of_mine:__name__", "is no function, but of the type str"),
    ],
)
def test_what_is_no_function_is_one_line_that_names_the_flag(name, words, here):
    with pytest.raises(ValueError, match=re.escape(words)) as raised:
        functions.named("--model", name)
    assert str(raised.value).startswith(f"--model {name}")
    assert str(raised.value).count("--model") == 1
    assert "\n" not in str(raised.value)


def test_ctrl_c_is_nobodys_mistake():
    with pytest.raises(KeyboardInterrupt), functions.blamed("--flag", "a:b"):
        raise KeyboardInterrupt
