"""`cwjax doctor`: what it finds here, and what it says where something is wrong."""

import jax
import jax.numpy as jnp
import pytest

from cwjax.lab import doctor
from cwjax.lab.cli import main
from cwjax.lab.files import compiling, environment


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch):
    monkeypatch.setenv(compiling.VARIABLE, str(tmp_path / "programs"))
    monkeypatch.setenv("CWJAX_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(compiling, "keep", lambda folder: None)  # nothing of these tests is


def test_a_machine_in_order_has_no_failure(capsys):
    main(["doctor"])
    said = capsys.readouterr().out
    assert "0 failed" in said
    assert f"pass    jax: {jax.__version__}" in said
    assert "absent  data: cifar10: not in" in said
    assert "times faster rewritten" in said


@pytest.mark.parametrize(("release", "verdict"), [("0.10.2", "fail"), ("0.11.1", "warn"), ("0.10.1", "pass")])
def test_known_releases_are_judged(monkeypatch, release, verdict):
    monkeypatch.setattr(environment, "describe", lambda: {"jax": release, "numpy": release})
    found = {finding.what: finding for finding in doctor.versions()}
    assert found["jax"].verdict == verdict
    assert bool(found["jax"].advice) == (verdict != "pass")
    assert found["numpy"].verdict == "pass"


def test_wrong_numbers_fail_and_so_does_the_command(monkeypatch, capsys):
    jit = jax.jit
    monkeypatch.setattr(jax, "jit", lambda function: jit(lambda *inputs: jax.tree.map(wrong, function(*inputs))))
    monkeypatch.setattr(doctor, "CHECKS", (doctor.numbers,))
    with pytest.raises(SystemExit) as stop:
        doctor.doctor()
    assert stop.value.code == 1
    said = capsys.readouterr().out
    assert "3 failed" in said
    assert "Believe no number" in said


def wrong(leaf):
    return leaf * 1.1 if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf


def test_a_folder_of_programs_that_others_may_write_to_fails(tmp_path):
    folder = tmp_path / "programs"
    folder.mkdir(mode=0o700)
    assert [finding.verdict for finding in doctor.programs()] == ["pass"]
    folder.chmod(0o777)
    (finding,) = doctor.programs()
    assert finding.verdict == "fail"
    assert "chmod 700" in finding.advice


def test_data_and_packages_are_found(tmp_path, monkeypatch):
    (tmp_path / "data" / "prepared" / "mnist").mkdir(parents=True)
    found = {finding.what: finding.verdict for finding in doctor.data()}
    assert found == {"data: mnist": "pass", "data: fashion_mnist": "absent", "data: cifar10": "absent"}
    monkeypatch.setattr(doctor, "EXTRAS", {"numpy": ("a", "all"), "no_such_package": ("b", "nothing")})
    assert [finding.verdict for finding in doctor.extras()] == ["pass", "absent"]
