"""`cwjax verify`: its exit code."""

import pytest

from cwjax.lab.verifying import verifying
from cwjax.lab.verifying.verify import verify


@pytest.mark.parametrize("rows", [1, 256])
def test_rows_that_disagree_are_exit_code_1(rows, tmp_path, monkeypatch):
    monkeypatch.setattr(verifying, "verify", lambda *_, **__: rows)
    with pytest.raises(SystemExit) as stop:
        verify(tmp_path)
    assert stop.value.code == 1


def test_where_all_agree_it_ends_well_and_what_is_asked_is_passed_on(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(verifying, "verify", lambda *given, **more: asked.append((given, more)) or 0)
    verify(tmp_path, torch="mine:net", data="blobs", data_folder=tmp_path)
    verify(tmp_path)
    assert asked == [
        ((tmp_path,), {"torch": "mine:net", "data": "blobs", "data_folder": tmp_path}),
        ((tmp_path,), {"torch": None, "data": "auto", "data_folder": None}),
    ]
