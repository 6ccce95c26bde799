"""Demonstrations into the folder of formats/puffer_il_shards.py, a part after the other, all or nothing."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np

from puffer_il.core.errors import InputError, one_line
from puffer_il.demos.build import follows_on
from puffer_il.demos.dataset import PER_EPISODE, PER_ROW, Demos
from puffer_il.demos.formats import puffer_il
from puffer_il.demos.kept import check_rounding
from puffer_il.demos.rows import blocks

MANIFEST, NAME, VERSION = "puffer_il_shards.json", "puffer_il shards", 1
MOST_NOTES = 50  # each part may have its own


class ShardWriter:
    """Writes demonstrations to a folder as they come: only the part at hand is in memory. A context manager.

        with ShardWriter("demos.shards", env="cartpole") as writer:
            for part in parts:              # Demos: whole episodes, of the same arrays, dtypes and shapes
                writer.add(part)

    Everything goes to a folder beside it, which takes its place at the end; if anything fails, an old one stays. The
    same demonstrations give the same bytes, in whatever parts they come. Raises InputError for parts that differ, and
    where the folder cannot be written or holds something else.
    """

    def __init__(self, folder: Path | str, *, env: str = "", collected: str = "",
                 recording: dict[str, Any] | None = None) -> None:
        self.folder, self.told = Path(folder), (env, collected, recording)
        self.temporary = self.folder.with_name(f".{self.folder.name}.{os.getpid()}.tmp")
        self.files: dict[str, _File] = {}
        self.rows = self.episodes = 0
        self.whole: dict[str, list[Any]] = {name: [] for name in PER_EPISODE}  # of all episodes, and which were told
        self.told_whole: set[str] = set()
        self.meta: dict[str, Any] = {}  # of the first part, with the notes of all

    def __enter__(self) -> ShardWriter:
        if self.folder.exists() and not (self.folder / MANIFEST).is_file() and (
                not self.folder.is_dir() or any(self.folder.iterdir())):
            self._refuse("is there already and is no folder of demonstrations; choose another name")
        try:
            self.temporary.mkdir(parents=True)
        except OSError as error:
            self._refuse(f"cannot be written ({one_line(error)}); choose another place")
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            for file in self.files.values():
                file.close()
            shutil.rmtree(self.temporary, ignore_errors=True)

    def add(self, demos: Demos) -> None:
        """Append whole episodes."""
        check_rounding(demos)
        arrays: dict[str, Any] = {name: getattr(demos, name) for name in PER_ROW
                                  if name != "next_obs" and getattr(demos, name) is not None}
        arrays["episode_starts"] = demos.episode_starts + self.rows
        follows = follows_on(demos)
        if follows and "next_obs" not in self.files:
            arrays["final_obs"] = demos.final_obs
        else:
            arrays["next_obs"] = demos.next_obs
        if self.meta:
            self._check_like_first(demos, arrays)
        else:
            self.meta = puffer_il.meta_of(demos, *self.told[:2], (), self.told[2])
        self._write(arrays)
        for name, derived in zip(PER_EPISODE, (demos.returns, demos.whole_lengths, demos.terminated, demos.truncated,
                                               demos.episode_seeds), strict=True):
            self.whole[name].append(derived)
            self.told_whole |= {name} if getattr(demos, name) is not None else set()
        self.rows, self.episodes = self.rows + len(demos), self.episodes + demos.num_episodes
        self.meta["notes"] += [note for note in demos.notes if note not in self.meta["notes"]]

    def _write(self, arrays: dict[str, Any]) -> None:
        try:
            for name, array in arrays.items():
                if name not in self.files:
                    self.files[name] = _File(self.temporary / f"{name}.npy", array)
                self.files[name].append(array)
        except OSError as error:
            self._refuse(f"cannot be written ({one_line(error)}); make room, or choose another place")

    def _check_like_first(self, demos: Demos, arrays: dict[str, Any]) -> None:
        if set(arrays) != set(self.files):
            odd = sorted(set(arrays) ^ set(self.files))
            self._refuse(f"the part from row {self.rows} on differs from those before it in which of {', '.join(odd)} "
                         "it has; give all parts the same arrays")
        for name, array in arrays.items():
            held = self.files[name]
            if (array.dtype, array.shape[1:]) != (held.dtype, held.shape):
                self._refuse(f"{name} is {array.dtype} {array.shape[1:]} from row {self.rows} on, but {held.dtype} "
                             f"{held.shape} before; give all parts the same")
        if puffer_il.meta_of(demos, *self.told[:2], self.meta["notes"], self.told[2]) != self.meta:
            self._refuse(f"the part from row {self.rows} on has other named parts or pictures than those before it; "
                         "give parts of the same recorder")

    def _finish(self) -> None:
        if not self.meta:
            self._refuse("no transitions were given; add at least one episode")
        for name, parts in self.whole.items():  # what one part tells follows of the others, but for seeds
            if name in self.told_whole and all(part is not None for part in parts):
                self._write({name: np.concatenate(parts).astype(PER_EPISODE[name], copy=False)})
        notes, most = self.meta["notes"], MOST_NOTES
        self.meta["notes"] = notes if len(notes) <= most else [*notes[:most], f"and {len(notes) - most} more notes"]
        try:
            told = {name: file.finish() for name, file in self.files.items()}
            manifest: dict[str, Any] = {"format": NAME, "version": VERSION, "arrays": told, "meta": self.meta}
            with (self.temporary / MANIFEST).open("w") as file:
                json.dump(manifest | {"sha256": seal(manifest)}, file, indent=1)
                _sync(file)
            old = self.folder.with_name(f".{self.folder.name}.{os.getpid()}.old")
            if self.folder.exists():
                self.folder.rename(old)
            self.temporary.rename(self.folder)
            shutil.rmtree(old, ignore_errors=True)
        except OSError as error:
            self._refuse(f"cannot be written ({one_line(error)}); make room, or choose another place")

    def _refuse(self, what: str) -> Any:
        raise InputError(f"demos {self.folder}: {what}") from None


def seal(manifest: dict[str, Any]) -> str:
    """The checksum of a manifest, but for the one that it holds."""
    held = {key: value for key, value in manifest.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(held, sort_keys=True).encode()).hexdigest()


class _File:
    """An array that grows: a .npy file whose header, which NumPy leaves room in, is written again at the end."""

    def __init__(self, path: Path, like: Any) -> None:
        self.file: IO[bytes] = path.open("wb")
        self.dtype, self.shape, self.count, self.crc = like.dtype, like.shape[1:], 0, 0
        self._header()
        self.start = self.file.tell()

    def append(self, array: Any) -> None:
        for part in blocks(array):
            rows = np.ascontiguousarray(array[part])
            data = rows.reshape(-1).view(np.uint8).data
            self.file.write(data)
            self.crc = zlib.crc32(data, self.crc)
            self.count += len(rows)

    def finish(self) -> dict[str, Any]:
        """What the manifest says of it."""
        self.file.seek(0)
        self._header()
        assert self.file.tell() == self.start
        _sync(self.file)
        return {"dtype": self.dtype.str, "shape": [self.count, *self.shape], "crc32": self.crc}

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.file.close()

    def _header(self) -> None:
        np.lib.format.write_array_header_1_0(self.file, {
            "descr": np.lib.format.dtype_to_descr(self.dtype), "fortran_order": False,
            "shape": (self.count, *self.shape)})


def _sync(file: IO[Any]) -> None:
    file.flush()
    os.fsync(file.fileno())
