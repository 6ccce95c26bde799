"""An .npz from outside: never unpickled, every defect one line that names the file. One of ours: written whole."""

from __future__ import annotations

import os
import zipfile
import zlib
from pathlib import Path
from typing import NoReturn

import numpy as np

from puffer_il.core.errors import InputError
from puffer_il.core.spec import Array

PICKLED = "holds pickled Python objects, which are never loaded (they can run code); save plain arrays with np.savez"
DAMAGED = (zipfile.BadZipFile, zlib.error, ValueError, EOFError, OSError, MemoryError, SyntaxError, NotImplementedError)


class Npz:
    """The arrays of one file, each decoded when it is asked for. A context manager.

    `kind` begins every message ("demos", "expert"). Raises InputError for a missing, empty, truncated or foreign file.
    """

    def __init__(self, path: Path | str, kind: str = "demos") -> None:
        self.path, self.kind = Path(path), kind
        try:
            self._check_container()
            self._file = np.load(self.path, allow_pickle=False)
        except DAMAGED as error:
            self.refuse(f"cannot be read ({one_line(error)}); copy or record it again")
        self.keys = frozenset(self._file.files)

    def __enter__(self) -> Npz:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __contains__(self, key: str) -> bool:
        return key in self.keys

    def __getitem__(self, key: str) -> Array:
        if key not in self.keys:
            self.refuse(f"has no array {key!r}, only {self.listing()}; record it again with all keys of its format")
        try:
            array = self._file[key]
        except DAMAGED as error:
            if "pickle" in str(error):
                self.refuse(f"array {key!r} {PICKLED}")
            self.refuse(f"array {key!r} is damaged ({one_line(error)}); copy or record the file again")
        if not isinstance(array, np.ndarray):
            self.refuse(f"member {key!r} is no array; save the file with np.savez")
        return array

    def rows(self, key: str) -> Array:
        """An array of plain numbers, one row per transition or episode."""
        array = self[key]
        if array.dtype.kind not in "biuf":
            self.refuse(f"{key} has dtype {array.dtype}; save plain numbers")
        if array.ndim == 0:
            self.refuse(f"{key} is a single number; give one row per transition or episode")
        return array

    def starts(self, count: int) -> Array:
        """`episode_starts` (episodes,) int64, refused unless they cut `count` transitions into episodes."""
        given = self.rows("episode_starts")
        starts = given.astype(np.int64) if given.dtype.kind in "iu" else np.empty(0, np.int64)
        if starts.ndim != 1 or not len(starts) or starts[0] != 0 or starts[-1] >= count or np.any(np.diff(starts) <= 0):
            self.refuse(f"episode_starts must rise from 0 and stay below {count} transitions, got "
                        f"{given.reshape(-1)[:5].tolist()}; give the row that each episode begins in")
        return starts

    def raw(self, key: str) -> bytes:
        """A member that is no array, undecoded."""
        try:
            return self._file.zip.read(key)
        except (KeyError, *DAMAGED) as error:
            self.refuse(f"member {key!r} is missing or damaged ({one_line(error)}); copy the file again")

    def get(self, key: str) -> Array | None:
        return self.rows(key) if key in self.keys else None

    def listing(self) -> str:
        return ", ".join(sorted(self.keys)) or "nothing"

    def refuse(self, what: str) -> NoReturn:
        raise InputError(f"{self.kind} {self.path}: {what}") from None

    def _check_container(self) -> None:
        if not self.path.exists():
            self.refuse("no such file; check the path")
        if self.path.is_dir():
            self.refuse("is a folder; give the .npz file itself")
        with self.path.open("rb") as file:
            head = file.read(6)
        if not head:
            self.refuse("is empty; copy or record it again")
        if zipfile.is_zipfile(self.path):
            return
        if head.startswith(b"PK"):
            self.refuse("is cut off in the middle; copy or record it again")
        if head.startswith(b"\x80"):
            self.refuse(PICKLED)
        if head == b"\x93NUMPY":
            self.refuse("is a single array (.npy); save all arrays together with np.savez")
        self.refuse("is no .npz file; save plain arrays with np.savez")


def save_npz(path: Path | str, arrays: dict[str, Array]) -> None:
    """Compress `arrays` to a temporary file beside `path`, then rename it; the folder is made if it is missing.

    The same arrays give the same bytes. Raises InputError if the file cannot be written; an old one then stays.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"demos {path}: cannot be written ({one_line(error)}); choose another place") from None


def one_line(error: BaseException) -> str:
    """The error's own words on one line."""
    return " ".join(str(getattr(error, "strerror", None) or error or type(error).__name__).split())
