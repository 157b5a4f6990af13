"""Files that are whole or absent: atomic writes, and pytrees of arrays as safetensors with checked content."""

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree


class CorruptFile(RuntimeError):  # noqa: N818 - it says what is the matter
    """A file is not what was written; the message, of one line, names it and says what to do."""

    def __init__(self, message: str):
        super().__init__(" ".join(message.split()))


@contextlib.contextmanager
def atomically(path: Path) -> Iterator[Path]:
    """A temporary path to write to, which takes the name `path` when the block ends well and vanishes when it does
    not.
    """
    make_folder(path.parent)
    if path.is_dir():
        raise IsADirectoryError(f"cannot write the file {path}: a folder has that name: move it away")
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def make_folder(folder: Path) -> Path:
    """The folder, made if need be. Raises OSError, naming it, where it cannot be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"cannot make the folder {folder}: {error.strerror}: choose another") from error
    try:
        with tempfile.TemporaryFile(dir=folder):  # permissions alone do not tell: the disk may be full or read-only
            pass
    except OSError as error:
        raise OSError(f"cannot write to the folder {folder}: {error.strerror}: choose another") from error
    return folder


def check_folder(folder: Path) -> None:
    """Raises OSError, naming the folder, where it cannot be made or written to; leaves nothing behind."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    make_folder(folder)
    for place in missing:
        place.rmdir()


def write_json(path: Path, value: Any) -> None:
    """Writes readable JSON."""
    with atomically(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2) + "\n")


def read_json(path: Path) -> Any:
    """Reads JSON; raises CorruptFile where it is none."""
    try:
        return json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CorruptFile(f"{path} is not readable as JSON: delete it and run again") from error


def fingerprint(value: Any) -> str:
    """The SHA-256 of a JSON-able value in canonical form, of an array's bytes and shape, or of a file's content."""
    digest = hashlib.sha256()
    if isinstance(value, np.ndarray):
        digest.update(f"{value.dtype}{value.shape}".encode())
        digest.update(np.ascontiguousarray(value).data)
    elif isinstance(value, Path):
        digest.update(value.read_bytes())
    else:
        digest.update(json.dumps(value, sort_keys=True).encode())
    return digest.hexdigest()


def write_arrays(path: Path, tree: PyTree, metadata: dict[str, str] | None = None) -> None:
    """Writes the arrays of a pytree as safetensors, each under its path in the tree."""
    from safetensors.numpy import save_file

    with atomically(path) as temporary:
        save_file({name: np.asarray(leaf) for name, leaf in _named(tree)}, temporary, metadata=metadata)


def read_arrays(path: Path, like: PyTree) -> PyTree:
    """Reads what `write_arrays` wrote, in the structure of `like`. Raises CorruptFile where names, shapes or dtypes
    differ.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        arrays = load_file(path)
    except SafetensorError as error:
        raise CorruptFile(f"{path} is corrupted ({error}): delete it and run again") from error
    expected = {name: (jnp.shape(leaf), jnp.result_type(leaf)) for name, leaf in _named(like)}
    if expected != {name: (array.shape, array.dtype) for name, array in arrays.items()}:
        raise CorruptFile(f"{path} holds other arrays than this network has: delete it and run again")
    return jax.tree.unflatten(jax.tree.structure(like), [jnp.asarray(arrays[name]) for name, _ in _named(like)])


def _named(tree: PyTree) -> list[tuple[str, Any]]:
    return [
        (jax.tree_util.keystr(path, simple=True, separator="."), leaf) for path, leaf in jax.tree.leaves_with_path(tree)
    ]


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
