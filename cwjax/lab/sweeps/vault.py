"""What came of the units, each in a folder of its own: whole and unchanged, or not there.

A unit is written under a temporary name, forced to disk, and renamed. Its manifest has the SHA-256 of its files and of
itself, and every read checks them all. A unit that fails the check is moved to `quarantine`, and is done again. No
lock and no database file: all of it works on a network file system.
"""

import contextlib
import dataclasses
import errno
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cwjax.lab.files import store

MANIFEST = "manifest.json"

_NOT_A_MANIFEST = (ValueError, KeyError, TypeError, AttributeError, RecursionError)  # what parsing damage may raise


@dataclasses.dataclass(frozen=True)
class Vault:
    """The units of a folder."""

    folder: Path

    def has(self, digest: str) -> bool:
        """Whether the unit is there, unread."""
        return self._place(digest).is_dir()

    def put(self, digest: str, files: Mapping[str, bytes], facts: Mapping[str, Any]) -> bool:
        """Keeps the files of a unit, and facts about how they came to be, all or none.

        Returns:
          Whether they were kept: False if the unit was there before, and is left as it was.

        Raises:
          OSError: they cannot be written; nothing is left behind.
        """
        self._units.mkdir(parents=True, exist_ok=True)
        temporary = self._units / f".{digest}-{uuid.uuid4().hex}"
        sums = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        try:
            temporary.mkdir()
            for name, content in (*files.items(), (MANIFEST, _manifest(digest, sums, facts))):
                _write(temporary / name, content)
            _sync(temporary)
            return self._named(temporary, digest)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def get(self, digest: str) -> dict[str, bytes] | None:
        """The files of a unit, checked; None if it is not there, or is not what was kept and now is in quarantine."""
        found = self._read(digest)
        return found and found[0]

    def facts(self, digest: str) -> dict[str, Any] | None:
        """What was said of a unit; None as for `get`."""
        found = self._read(digest)
        return found and found[1]

    def sweep_up(self, digest: str) -> None:
        """Removes what a writer that was killed has left of this unit. For whoever holds its lease."""
        for left in self._units.glob(f".{digest}-*"):
            shutil.rmtree(left, ignore_errors=True)

    def _read(self, digest: str) -> tuple[dict[str, bytes], dict[str, Any]] | None:
        place = self._place(digest)
        try:
            text = (place / MANIFEST).read_bytes()
            manifest = json.loads(text)
            facts, sums = manifest["facts"], manifest["files"]
            if text != _manifest(digest, sums, facts):
                raise ValueError(MANIFEST)
            files = {name: (place / name).read_bytes() for name in sums}
            for name, content in files.items():
                if hashlib.sha256(content).hexdigest() != sums[name]:
                    raise ValueError(name)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError, *_NOT_A_MANIFEST):
            if place.exists():
                self._condemn(place)
            return None
        return files, facts

    def _condemn(self, place: Path) -> None:
        quarantine = self.folder / "quarantine"
        quarantine.mkdir(exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # another reader was faster
            place.rename(quarantine / f"{place.name}-{uuid.uuid4().hex[:8]}")

    def _named(self, temporary: Path, digest: str) -> bool:
        """Gives the folder its name, unless that is taken: a folder that is not empty is never replaced."""
        try:
            temporary.rename(self._place(digest))
        except OSError as error:
            if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOENT):  # the last: swept up by who took it over
                return False
            raise
        _sync(self._units)
        return True

    @property
    def _units(self) -> Path:
        return self.folder / "units"

    def _place(self, digest: str) -> Path:
        return self._units / digest


def _manifest(digest: str, sums: Mapping[str, str], facts: Mapping[str, Any]) -> bytes:
    """The one text that says this: so a text that differs by any byte is wrong."""
    body = {"unit": digest, "files": dict(sums), "facts": dict(facts)}
    return (json.dumps(body | {"sha256": store.fingerprint(body)}, indent=1, sort_keys=True) + "\n").encode()


def _write(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    """Forces a folder's entries to disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
