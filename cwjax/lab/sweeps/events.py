"""What happened when and where, as lines of JSON: one file a process, for two machines cannot append to one."""

import contextlib
import json
import os
import platform
import time
from pathlib import Path
from typing import Any


class Events:
    """The log of this process, below the folder of a sweep."""

    def __init__(self, folder: Path):
        self.path = folder / "events" / f"{platform.node()}-{os.getpid()}.jsonl"

    def tell(self, event: str, **facts: Any) -> None:
        """Appends a line with the event, the time (seconds since 1970), the host, the process and the facts.

        A line that cannot be written is left out: nobody's work depends on it.
        """
        line = {"event": event, "time": time.time(), "host": platform.node(), "process": os.getpid(), **facts}
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a") as file:
                file.write(json.dumps(line) + "\n")
