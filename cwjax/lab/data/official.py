"""Images that are published as a few files: fetched, checked, and prepared once."""

import hashlib
import http.client
import logging
import shutil
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cwjax.lab.data.dataset import CorruptData, Images, MissingData

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class OfficialFiles:
    """Images that are published as a few files: fetched, checked, then prepared with tensorflow-datasets."""

    name: str
    builder: str  # the class of `cwjax.lab.data.builders` that understands the files
    url: str  # of the place that has the files
    sha256: Mapping[str, str]  # by file name
    classes: tuple[str, ...]
    validation: int = 5_000  # how many of the first training images are the validation split

    def read(self, split: str, folder: Path) -> Images:
        """See `Source.read`."""
        prepared = folder / "prepared" / self.name
        official = None if prepared.is_dir() else self.fetch(folder)

        from cwjax.lab.data import builders

        builder = getattr(builders, self.builder)
        if official:
            log.info("preparing %s from the files in %s", self.name, official)
            builders.prepare(builder, official, prepared)
        part = "test" if split == "test" else "train"
        first = self.validation
        places = {"train": slice(first, None), "validation": slice(first), "test": slice(None)}[split]
        try:
            return Images(*builders.read(builder, prepared, part, places))
        except Exception as error:  # every kind of damage has its own exception, from json to C++
            raise CorruptData(
                f"the prepared data in {prepared} cannot be read ({one_line(error)}): delete that folder and load "
                f"{self.name} again"
            ) from error

    def fetch(self, folder: Path) -> Path:
        """The folder with all official files, each of them checked; downloads those that are missing.

        Raises:
            MissingData: some are not there and not to be downloaded.
            CorruptData: the checksum of one differs.
        """
        home = folder / self.name
        if not home.is_dir() and any((folder / file).exists() for file in self.sha256):
            home = folder
        for file in self.sha256:
            if (home / file).exists():
                self._check(home / file, folder)
        missing = [file for file in self.sha256 if not (home / file).exists()]
        why_not = unreachable(f"{self.url}/{missing[0]}") if missing else None
        if why_not:
            raise self._missing(missing, home, why_not)
        for file in missing:
            log.info("downloading %s/%s", self.url, file)
            home.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix="unfinished-", dir=home) as unfinished:
                partial = Path(unfinished) / file
                try:
                    download(f"{self.url}/{file}", partial)
                except (OSError, http.client.HTTPException) as error:
                    raise self._missing([file], home, one_line(error)) from error
                self._check(partial, folder)
                partial.replace(home / file)
        return home

    def _check(self, path: Path, folder: Path) -> None:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != self.sha256[path.name]:
            raise CorruptData(
                f"the checksum of {path} differs: its SHA-256 is {found} and that of {self.url}/{path.name} is "
                f"{self.sha256[path.name]}; put the official files of {self.name} into {folder / self.name}, or "
                f"delete this one to have it downloaded"
            )

    def _missing(self, files: list[str], home: Path, why_not: str) -> MissingData:
        return MissingData(
            f"{self.name}: {', '.join(files)} not found in {home} and not to be downloaded ({why_not}); put them "
            f"there, from {self.url}, or name the folder that has them (the argument folder, or CWJAX_DATA)"
        )


def unreachable(url: str, seconds: float = 3.0) -> str | None:
    """Why nothing answers at `url` within `seconds`, or None if something does.

    In a thread of its own, because no timeout bounds the look-up of a host's name.
    """
    why: list[str | None] = [f"no answer within {seconds:g} s"]

    def ask() -> None:
        try:
            urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=seconds).close()
            why[0] = None
        except urllib.error.HTTPError as error:  # an answer all the same; the download will say more
            error.close()
            why[0] = None
        except (OSError, http.client.HTTPException) as error:
            why[0] = one_line(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return why[0]


def download(url: str, path: Path, seconds: float = 30.0) -> None:
    """Write what is at `url` to `path`; OSError or HTTPException when it fails or stalls for `seconds`."""
    with urllib.request.urlopen(url, timeout=seconds) as response, path.open("wb") as file:
        shutil.copyfileobj(response, file)


def one_line(error: Exception) -> str:
    """What an exception says, on one line."""
    reason = getattr(error, "reason", None) or error  # urllib wraps what went wrong
    return " ".join(str(reason).split()) or type(error).__name__
