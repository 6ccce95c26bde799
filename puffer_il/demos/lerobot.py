"""LeRobot v3.0 as it is written: the rows' tables, and what meta/ says about them. See formats/lerobot.py for the
layout; field names and files are those of LeRobotDataset (lerobot 0.4)."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from puffer_il.core.errors import InputError, one_line
from puffer_il.core.rows import channels_last
from puffer_il.core.spec import Array
from puffer_il.demos.npz import save_npz
from puffer_il.demos.packed_pictures import pack_pictures
from puffer_il.demos.parquet import import_pyarrow
from puffer_il.demos.rows import blocks

QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}
BESIDE = "puffer_il.npz"  # in meta/
CHUNK, MEGABYTES = 1000, 100  # files of a folder, and of a file: LeRobot's own
DATA, EPISODES = ("data/chunk-{0:03d}/file-{1:03d}.parquet", "meta/episodes/chunk-{0:03d}/file-{1:03d}.parquet")
# What pandas, by which LeRobot reads it, has to know of meta/tasks.parquet: that the texts are its index.
TASKS = {"index_columns": ["task"], "column_indexes": [], "pandas_version": "2.0.0", "columns": [
    {"name": name, "field_name": name, "pandas_type": kind, "numpy_type": kind, "metadata": None}
    for name, kind in (("task_index", "int64"), ("task", "object"))]}


def write_folder(target: Path, rows: dict[str, Array], starts: Array, fps: int, task: str, more: dict[str, Any],
                 pictures: Collection[str] = (), beside: dict[str, Array] | None = None) -> None:
    """A data set in the folder `target`, which is there whole or not at all.

    rows    of each feature (n,) or (n, …), without those that LeRobot counts itself
    starts  (episodes,) the rows in which episodes begin
    more    is written to meta/puffer_il.json, and `beside`, named arrays, to meta/puffer_il.npz
    pictures  which of the features are pictures (n, height, width, channels), or with the channels first, uint8
    InputError if the folder is there, or cannot be written.
    """
    if target.exists():
        raise InputError(f"demos {target}: is there already; choose another folder, or remove it")
    pyarrow = import_pyarrow(str(target))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    except OSError as error:
        raise InputError(f"demos {target}: cannot be written ({one_line(error)}); choose another place") from None
    try:
        _Writer(made, pyarrow, rows, starts, fps, task, frozenset(pictures)).write(more)
        if beside:
            save_npz(made / "meta" / BESIDE, beside)
        made.chmod(0o755)
        made.rename(target)
    except OSError as error:
        raise InputError(f"demos {target}: cannot be written ({one_line(error)}); choose another place") from None
    finally:
        shutil.rmtree(made, ignore_errors=True)


class _Writer:
    def __init__(self, folder: Path, pyarrow: Any, rows: dict[str, Array], starts: Array, fps: int, task: str,
                 pictures: Collection[str]) -> None:
        n = len(next(iter(rows.values())))
        self.folder, self.lib, self.task, self.fps, self.pictures = folder, pyarrow, task, fps, pictures
        self.starts, self.lengths = starts, np.diff(np.append(starts, n))
        frame = np.arange(n) - np.repeat(starts, self.lengths)
        self.rows = rows | {"timestamp": (frame / fps).astype(np.float32), "frame_index": frame, "index": np.arange(n),
                            "episode_index": np.repeat(np.arange(len(starts)), self.lengths),
                            "task_index": np.zeros(n, np.int64)}

    def write(self, more: dict[str, Any]) -> None:
        places = self._data()
        stats = [{name: self._stats(name, array[a:a + n]) for name, array in self.rows.items()}
                 for a, n in zip(self.starts, self.lengths, strict=True)]
        table = {"episode_index": range(len(self.starts)), "tasks": [[self.task]] * len(self.starts),
                 "length": self.lengths.tolist(), "data/chunk_index": [c for c, _ in places],
                 "data/file_index": [f for _, f in places], "dataset_from_index": self.starts.tolist(),
                 "dataset_to_index": (self.starts + self.lengths).tolist(),
                 **{f"meta/episodes/{one}_index": [0] * len(self.starts) for one in ("chunk", "file")},
                 **{f"stats/{name}/{key}": [one[name][key] for one in stats] for name in self.rows
                    for key in stats[0][name]}}
        self._table(EPISODES.format(0, 0), self.lib.table({key: list(values) for key, values in table.items()}))
        tasks = self.lib.table({"task_index": [0], "task": [self.task]})
        self._table("meta/tasks.parquet", tasks.replace_schema_metadata({"pandas": json.dumps(TASKS)}))
        self._json("stats.json", {name: self._stats(name, array) for name, array in self.rows.items()})
        self._json("puffer_il.json", more)
        self._json("info.json", {
            "codebase_version": "v3.0", "robot_type": None, "total_episodes": len(self.starts),
            "total_frames": int(self.lengths.sum()), "total_tasks": 1, "chunks_size": CHUNK,
            "data_files_size_in_mb": MEGABYTES, "video_files_size_in_mb": 2 * MEGABYTES, "fps": self.fps,
            "splits": {"train": f"0:{len(self.starts)}"}, "video_path": None,
            "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
            "features": {name: _picture_feature(array) if name in self.pictures else _feature(name, array)
                         for name, array in self.rows.items()}})

    def _stats(self, name: str, array: Array) -> dict[str, list]:
        return _picture_stats(_upright(array)) if name in self.pictures else _stats(array)

    def _data(self) -> list[tuple[int, int]]:
        """The tables, a row group for each episode; in which chunk and file each is."""
        row_bytes = sum(array.nbytes for array in self.rows.values()) / max(int(self.lengths.sum()), 1)
        bytes_before = np.cumsum(self.lengths * row_bytes) - self.lengths * row_bytes
        numbers = (bytes_before // (MEGABYTES * 2**20)).astype(int)
        places = [(int(k) // CHUNK, int(k) % CHUNK) for k in np.unique(numbers, return_inverse=True)[1]]
        for place in sorted(set(places)):
            parts = [self._part(int(a), int(n)) for a, n, own in zip(self.starts, self.lengths, places, strict=True)
                     if own == place]
            path = self.folder / DATA.format(*place)
            path.parent.mkdir(parents=True, exist_ok=True)
            with self.lib.parquet.ParquetWriter(path, parts[0].schema, compression="snappy") as file:
                for part in parts:
                    file.write_table(part)
        return places

    def _part(self, start: int, length: int) -> Any:
        parts = {name: np.asarray(array[start:start + length]) for name, array in self.rows.items()}
        return self.lib.table({name: self._packed(name, part) if name in self.pictures else _column(self.lib, part)
                               for name, part in parts.items()})

    def _packed(self, name: str, frames: Array) -> Any:
        """Structs as the package `datasets` has pictures: a PNG, and no path of a file."""
        def refuse(what: str) -> NoReturn:
            raise InputError(f"demos {self.folder}: {what}")

        pieces = pack_pictures(_upright(frames), f"column {name!r}", refuse)
        kind = self.lib.struct([("bytes", self.lib.binary()), ("path", self.lib.string())])
        return self.lib.array([{"bytes": piece, "path": None} for piece in pieces], kind)

    def _table(self, name: str, table: Any) -> None:
        (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
        self.lib.parquet.write_table(table, self.folder / name, compression="snappy")

    def _json(self, name: str, content: dict[str, Any]) -> None:
        (self.folder / "meta" / name).write_text(json.dumps(content, indent=4, ensure_ascii=False))


def _column(lib: Any, array: Array) -> Any:
    """A column of numbers, or of lists of a fixed length; LeRobot stores what has one number as a bare one."""
    flat = np.ascontiguousarray(array).reshape(len(array), -1)
    values = lib.array(flat.reshape(-1))
    return values if flat.shape[1] == 1 else lib.FixedSizeListArray.from_arrays(values, flat.shape[1])


def _feature(name: str, array: Array) -> dict[str, Any]:
    width = int(np.prod(array.shape[1:]))
    names = None if array.ndim == 1 else [f"{name.rpartition('.')[2]}_{k}" for k in range(width)]
    return {"dtype": str(array.dtype), "shape": [width], "names": names}


def _upright(frames: Array) -> Array:
    """Pictures with their channels last."""
    return frames if channels_last(frames.shape[1:]) else np.moveaxis(frames, 1, -1)


def _picture_feature(array: Array) -> dict[str, Any]:
    sides = ["height", "width"]
    names = [*sides, "channels"] if channels_last(array.shape[1:]) else ["channels", *sides]
    return {"dtype": "image", "shape": list(array.shape[1:]), "names": names}


def _picture_stats(frames: Array) -> dict[str, list]:
    """Of each channel (channels, 1, 1), as shares of 255; frames are (n, height, width, channels)."""
    values, found = np.arange(256) / 255, list[dict[str, float]]()
    for channel in range(frames.shape[-1]):
        counts = np.zeros(256, np.int64)
        for part in blocks(frames):
            counts += np.bincount(frames[part][..., channel].reshape(-1), minlength=256)
        there, below = np.flatnonzero(counts), np.cumsum(counts)
        mean = float(counts @ values / below[-1])
        found.append({"min": values[there[0]], "max": values[there[-1]], "mean": mean,
                      "std": float(np.sqrt(counts @ np.square(values - mean) / below[-1])), **{
                          name: values[np.searchsorted(below, share * below[-1])]
                          for name, share in QUANTILES.items()}})
    return {name: [[[float(one[name])]] for one in found] for name in found[0]} | {"count": [len(frames)]}


def _stats(array: Array) -> dict[str, list]:
    """Of each column, as numbers that JSON holds."""
    wide = array.reshape(len(array), -1).astype(np.float64)
    found = {"min": wide.min(0), "max": wide.max(0), "mean": wide.mean(0), "std": wide.std(0), "count": np.array(
        [len(wide)]), **{name: np.quantile(wide, share, axis=0) for name, share in QUANTILES.items()}}
    return {name: values.tolist() for name, values in found.items()}
