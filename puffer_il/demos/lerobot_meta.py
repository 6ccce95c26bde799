"""What a LeRobot data set says about itself in meta/: its columns, and counts that are compared with the rows, which
alone are trusted. See formats/lerobot.py for the layout."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np

from puffer_il.core.errors import InputError, one_line
from puffer_il.core.rows import channels_last
from puffer_il.core.spec import Array
from puffer_il.demos.parquet import Parquet

OLD = re.compile(r"v?1\.")
OURS = "puffer_il.json"  # beside LeRobot's own files, in sets that we wrote
MOST_JSON = 2**26  # bytes
HALF = 0.5  # of a frame that a timestamp may be off: clocks tremble, and float32 rounds
FRAMES = "to learn from them, export their frames as docs/formats/lerobot.md shows"


def read_info(path: Path) -> dict[str, Any]:
    """Of meta/info.json the columns with their dtype and shape as "features", "fps", and the totals. InputError for
    what is none of versions 2.0 to 3.0."""
    try:
        info = json.loads((path / "meta" / "info.json").read_text())
        version, features = str(info["codebase_version"]), info["features"]
        fps = float(info.get("fps") or 0)
        known = {str(name): (str(one["dtype"]), tuple(one["shape"])) for name, one in features.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"demos {path}: meta/info.json is none of LeRobot's ({one_line(error)}); fetch the data set "
                         "again") from None
    if OLD.match(version):
        raise InputError(f"demos {path}: is LeRobot's codebase_version {version}, but 2.0 to 3.0 are read; convert it "
                         "with lerobot's own scripts")
    return {"features": known, "fps": fps, "total_episodes": info.get("total_episodes"),
            "total_frames": info.get("total_frames")}


def told_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shapes that we noted of columns which LeRobot holds flat; nothing of others' sets."""
    try:
        if (path / "meta" / OURS).stat().st_size > MOST_JSON:
            return {}
        found = json.loads((path / "meta" / OURS).read_text())["shapes"].items()
        return {str(name): tuple(shape) for name, shape in found
                if all(type(size) is int and size > 0 for size in shape)}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return {}


def told_columns(path: Path) -> list[str]:
    """The columns that make up the observation of a set that we wrote with its pictures; none of others' sets."""
    try:
        found = json.loads((path / "meta" / OURS).read_text())["pictures"]
        return [*told_shapes(path)] if found else []
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return []


def as_told(column: Array, shape: tuple[int, ...] | None) -> Array:
    """Rows in the shape that was noted of them; without a fitting one bare numbers become rows of one. Pictures, which
    are packed with their channels last, get them in front again."""
    if shape is not None and column.ndim == 4 and len(shape) == 3 and not channels_last(shape):
        return np.moveaxis(column, -1, 1)
    if shape is not None and math.prod(shape) == math.prod(column.shape[1:]):
        return column.reshape(len(column), *shape)
    return column if column.ndim > 1 else column[:, None]


def compare(path: Path, info: dict[str, Any], episodes: Array, lengths: Array, notes: list[str]) -> None:
    """Notes where meta/ counts otherwise than the rows."""
    for what, said, there in (("episodes", info["total_episodes"], len(episodes)),
                              ("rows", info["total_frames"], int(lengths.sum()))):
        if isinstance(said, int) and said != there:
            notes.append(f"meta/info.json counts {said} {what}, data/ holds {there}: the rows are taken")
    told = _told_lengths(path)
    own = dict(zip(episodes.tolist(), lengths.tolist(), strict=True))
    wrong = [k for k, length in told.items() if own.get(k, length) != length]
    if wrong:
        notes.append(f"{len(wrong)} episodes have another length than meta/ says, such as episode {wrong[0]} with "
                     f"{own[wrong[0]]} rows instead of {told[wrong[0]]}: the rows are taken")


def compare_times(rows: dict[str, Array], starts: Array, fps: float, notes: list[str]) -> None:
    """A note where `timestamp` does not go on by a frame: the recorder has lost frames, or written one twice."""
    times = rows.get("timestamp")
    if times is None or times.ndim != 1 or times.dtype.kind != "f" or not 0 < fps < np.inf:
        return
    steps = np.diff(times.astype(np.float64)) * fps
    steps[starts[1:] - 1] = 1
    odd = np.flatnonzero(~(np.abs(steps - 1) < HALF))
    if len(odd):
        row = int(odd[0])
        first = int(starts[np.searchsorted(starts, row, side="right") - 1])
        notes.append(f"episode {rows['episode_index'][row]}, frame {row - first}: the time to the next frame is "
                     f"{steps[row] / fps:.3g} s instead of {1 / fps:.3g} s ({len(odd)} frames): frames were lost or "
                     "recorded twice; split the episode there (demos edit --cut-at), or record it again")


def _told_lengths(path: Path) -> dict[int, int]:
    """Of each episode the length that meta/ gives."""
    lines = path / "meta" / "episodes.jsonl"
    try:
        if lines.is_file():
            told = [json.loads(line) for line in lines.read_text().splitlines() if line.strip()]
            return {int(one["episode_index"]): int(one["length"]) for one in told}
        tables = [Parquet(one) for one in sorted(path.glob("meta/episodes/*/*.parquet"))]
        return {int(k): int(n) for table in tables if {"episode_index", "length"} <= set(table.columns)
                for k, n in zip(table.array("episode_index"), table.array("length"), strict=True)}
    except (OSError, ValueError, KeyError, TypeError, RecursionError, InputError):
        return {}  # only compared with the rows, which say it all


def picture_notes(info: dict[str, Any], chosen: list[str]) -> list[str]:
    """What is said of the pictures of observations that are not read."""
    told = []
    for kind, way in (("video", FRAMES), ("image", "--demos.obs-columns names the columns to read, these too")):
        names = [name for name, (dtype, _) in info["features"].items() if dtype == kind and name not in chosen]
        if names:
            told.append(f"{kind}s are left out: {', '.join(names)}; {way}")
    return told
