"""Who is at which unit: so that no two workers, on any number of machines, do the same one.

A lease is a file that only one worker can create, and that its holder touches every few seconds. One that was not
touched for long, or whose holder is a dead process of this machine, is taken over by creating the file of the next
*generation*: of several that try, one succeeds. The file system is all that workers share; times are compared as it
tells them, so that the machines' clocks do not matter.
"""

import contextlib
import json
import os
import platform
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

import psutil

BEAT = 5.0  # seconds between two touches
STALE = 60.0  # seconds without a touch after which a holder on another machine is given up


@contextlib.contextmanager
def held(folder: Path, name: str, *, beat: float = BEAT, stale: float = STALE) -> Iterator[bool]:
    """Whether this worker holds the lease while the block runs; if not, another one does.

    Args:
      folder: of the leases.
      name: of what is leased.
      beat: seconds between two touches.
      stale: seconds without a touch after which a holder is given up.

    Raises:
      OSError: the folder cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    generation = _generation(folder, name)
    if generation is not None and not _over(folder / f"{name}.{generation}", stale):
        yield False
        return
    number = 0 if generation is None else generation + 1
    own, mark = folder / f"{name}.{number}", _me() | {"lease": uuid.uuid4().hex}
    file = _created(own, mark)
    if file is None:
        yield False
        return
    ended = threading.Event()
    with file:  # and not its name, which another worker's may have after a long silence
        touching = threading.Thread(target=_touch, args=(file.fileno(), ended, beat), daemon=True)
        touching.start()
        try:
            yield True
        finally:
            ended.set()
            touching.join()
            if _holder(own) == mark:
                for old in range(number + 1):
                    (folder / f"{name}.{old}").unlink(missing_ok=True)


def tidy(folder: Path, over: Callable[[str], bool]) -> None:
    """Removes the leases of what is over, whose holders were killed before they could."""
    for file in folder.glob("*.*"):
        if file.suffix[1:].isdecimal() and over(file.stem):
            file.unlink(missing_ok=True)


def _generation(folder: Path, name: str) -> int | None:
    """The newest generation of a lease."""
    suffixes = [file.suffix[1:] for file in folder.glob(f"{name}.*")]
    return max((int(suffix) for suffix in suffixes if suffix.isdecimal()), default=None)


def _created(path: Path, mark: dict[str, Any]) -> TextIO | None:
    """The file, created by this worker and open; None if another was faster."""
    try:
        file = path.open("x")
    except FileExistsError:
        return None
    try:
        json.dump(mark, file)
        file.flush()
    except OSError:
        path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # once more, of the same disk
            file.close()
        raise
    return file


def _over(path: Path, stale: float) -> bool:
    """Whether the holder has died, or been silent for too long."""
    try:
        silent = _now(path.parent) - path.stat().st_mtime
    except FileNotFoundError:  # just given back
        return False
    holder = _holder(path)
    return silent > stale or (holder.get("machine") == _me()["machine"] and not _alive(holder))


def _holder(path: Path) -> dict[str, Any]:
    """What the file says of its holder; nothing, where it is not written yet or gone."""
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return {}


def _alive(holder: dict[str, Any]) -> bool:
    try:
        process = psutil.Process(holder["process"])
        same = abs(process.create_time() - holder["born"]) < 10  # seconds: it is reckoned from a clock that is set
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _me() -> dict[str, Any]:
    """Who runs this; a machine is a name and a space of process numbers, for containers share names."""
    space = Path("/proc/self/ns/pid")
    machine = f"{platform.node()} {os.readlink(space) if space.exists() else ''}".strip()
    process = psutil.Process()
    return {"machine": machine, "process": process.pid, "born": process.create_time()}


def _now(folder: Path) -> float:
    """The time by the file system's clock."""
    probe = folder / ".now"  # of all workers, for it only grows newer
    probe.touch()
    return probe.stat().st_mtime


def _touch(file: int, ended: threading.Event, beat: float) -> None:
    """Touches the open file until the end."""
    while not ended.wait(beat):
        with contextlib.suppress(OSError):  # a file system that is away comes back, or the lease is lost
            os.utime(file)
