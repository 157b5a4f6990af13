"""What happened, line by line."""

import json
import os
import platform
import time

from cwjax.lab.sweeps.events import Events


def test_each_event_is_a_line_of_this_process_after_those_before(tmp_path):
    began = time.time()
    Events(tmp_path).tell("began", unit="a")
    Events(tmp_path).tell("done", unit="a", rows=5, host="elsewhere")
    [file] = (tmp_path / "events").iterdir()
    assert file.name == f"{platform.node()}-{os.getpid()}.jsonl"
    first, second = (json.loads(line) for line in file.read_text().splitlines())
    assert began <= first.pop("time") <= second.pop("time") <= time.time()
    process = {"host": platform.node(), "process": os.getpid()}
    assert first == {"event": "began", "unit": "a"} | process
    assert second == {"event": "done", "unit": "a", "rows": 5} | process | {"host": "elsewhere"}


def test_a_line_that_cannot_be_written_is_left_out(tmp_path):
    (tmp_path / "events").write_text("a file")
    Events(tmp_path).tell("began")
    assert [path.name for path in tmp_path.iterdir()] == ["events"]
