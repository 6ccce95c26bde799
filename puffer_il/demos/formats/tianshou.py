"""Tianshou's replay buffers (`save_hdf5`, 0.5 to 2): a ring of rows, or one for each environment end to end.

    _meta/obs, obs_next   (n, …), or groups of groups of such; obs_next may be missing
    _meta/act, rew, terminated, truncated   (n, …)
    attributes maxsize, _size, _insertion_idx (_index)      the ring of a ReplayBuffer
    _offset, _lengths, last_index   (rings,) where each ring begins, how full it is, where it was written last

What HDF5 cannot hold is pickled inside as bytes and marked so (`__data_type__`): infos, sub-buffers. It is never
decoded. We only read it.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np

from puffer_il.core.rows import Layout
from puffer_il.core.spec import Array
from puffer_il.demos.dataset import Demos
from puffer_il.demos.episodes import Episode, join_episodes
from puffer_il.demos.hdf5 import Hdf5
from puffer_il.demos.logs import packed
from puffer_il.demos.planned import Planned
from puffer_il.demos.rows import PIECE_BYTES, Lazy

MARKS, KIND = (), "hdf5"
LOOKS = ("_meta/obs", "_meta/act", "_meta/rew", "_meta/terminated", "_meta/truncated")
PLAIN = (None, "ndarray", "Tensor", "Batch")  # of __data_type__: what is no pickle


def fits(file: Hdf5) -> bool:
    return all(name in file for name in LOOKS)


def read(file: Hdf5, time_limit: int | None) -> Demos:
    return _planned(file).whole()


def parts(file: Hdf5, time_limit: int | None, most: float) -> Iterator[Demos]:
    return _planned(file).parts(most)


def _planned(file: Hdf5) -> Planned:
    act, rew, ended, cut = (_plain(file, f"_meta/{name}") for name in ("act", "rew", "terminated", "truncated"))
    count = len(ended)
    if not count:
        file.refuse("holds no transitions; record it again")
    obs, layout = _lazy(file, "_meta/obs", count)
    after = _lazy(file, "_meta/obs_next", count)[0] if "_meta/obs_next" in file else None
    notes, episodes = list[str](), []
    skipped = [name for name in file.names("_meta") if file.attribute(f"_meta/{name}", "__data_type__") not in PLAIN]
    if skipped:
        notes.append(f"skipped {', '.join(skipped)}, which would need unpickling")
    for ring, (rows, full) in enumerate(_rings(file, count)):
        ends = np.flatnonzero((ended | cut).reshape(count, -1).any(1)[rows]) + 1
        bounds = [0, *ends.tolist(), *([len(rows)] if len(rows) and (not len(ends) or ends[-1] < len(rows)) else [])]
        if full and len(ends):
            notes.append(f"ring {ring} is full: its first episode may lack its beginning, which was written over")
        for begin, end in pairwise(bounds):
            part = rows[begin:end]
            own = part.astype(np.uint32)
            episodes.append(Episode(f"rows {part[0]} to {part[-1]}", own, _rows(act, part),
                                    None if after is None else own + np.uint32(count), rew[part],
                                    terminated=bool(ended[part[-1]]), truncated=not ended[part[-1]]))
    return Planned(join_episodes(file.source, episodes, notes), obs, after, layout)


def _lazy(file: Hdf5, path: str, count: int) -> tuple[Lazy, Layout | None]:
    """Observations that are read a piece after the other, and what a row of them is made of."""
    first, layout = packed(file.source, _plain(file, path, slice(0, 1)))
    size = max(1, PIECE_BYTES // max(1, first.nbytes))
    return Lazy((count, *first.shape[1:]), first.dtype, lambda: (
        packed(file.source, _plain(file, path, slice(begin, min(begin + size, count))))[0]
        for begin in range(0, count, size))), layout


def _rings(file: Hdf5, count: int) -> list[tuple[Array, bool]]:
    """The rows of each ring from the oldest on, and whether the ring is full."""
    if "_offset" not in file:
        size = file.attribute("", "_size")
        size = count if not isinstance(size, int) else min(max(size, 0), count)
        at = file.attribute("", "_insertion_idx")
        at = file.attribute("", "_index") if at is None else at
        full = size == count
        first = at % count if full and isinstance(at, int) and count else 0
        return [((first + np.arange(size)) % max(count, 1), full)]
    offsets, lengths, last = (file.rows(name).astype(np.int64) for name in ("_offset", "_lengths", "last_index"))
    rooms = np.diff(np.append(offsets, count))
    alike = len(offsets) == len(lengths) == len(last)
    if not alike or np.any(rooms < 0) or np.any((lengths < 0) | (lengths > rooms)):
        file.refuse(f"_offset, _lengths and last_index do not describe the {count} rows of _meta; save it again")
    rings = []
    for offset, room, length, newest in zip(offsets, rooms, lengths, last, strict=True):
        full = bool(length == room and room)
        first = (newest + 1 - offset) % room if full else 0
        rings.append((offset + (first + np.arange(length)) % max(room, 1), full))
    return rings


def _plain(file: Hdf5, path: str, rows: slice | None = None) -> Any:
    """Numbers of all or some rows, or groups of them; InputError for what is pickled."""
    if file.attribute(path, "__data_type__") not in PLAIN:
        file.refuse(f"{path} is pickled, which is never loaded (it can run code); save plain arrays of numbers")
    if file.is_group(path):
        return {name: _plain(file, f"{path}/{name}", rows) for name in file.names(path)}
    return file.rows(path, rows)


def _rows(parts: Any, rows: Array) -> Any:
    return {name: _rows(part, rows) for name, part in parts.items()} if isinstance(parts, dict) else parts[rows]
