"""Rows of observations: drawn by their numbers in C, and successors that are stored once, as the rows after them."""

from __future__ import annotations

import math
import mmap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil

from puffer_il.core.errors import InputError
from puffer_il.core.spec import Array
from puffer_il.demos._rows import gather

BLOCK_BYTES = 2**24  # of the rows that are looked at together: what is made of them does not fill the memory
PIECE_BYTES = 2**22  # of the rows of a file that are read together, of which several are held meanwhile
PART_BYTES = 2**28  # of the observations that are read together where not all are


@dataclass(frozen=True)
class Lazy:
    """Rows of a file that are not read yet: what they are, and `pieces`, which reads them one piece after the other."""

    shape: tuple[int, ...]
    dtype: np.dtype
    pieces: Callable[[], Iterator[Array]]

    def __len__(self) -> int:
        return self.shape[0]


class Joined:
    """The rows of two arrays (n, …) and (m, …) end to end, of which nothing is copied but what is taken."""

    def __init__(self, first: Array, second: Array) -> None:
        self.first, self.second = first, second

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    def take(self, index: Array, out: Array) -> Array:
        behind = index >= len(self.first)
        out[~behind] = take(self.first, index[~behind])
        out[behind] = take(self.second, index[behind] - len(self.first))
        return out


def take(rows: Array, index: Array, out: Array | None = None) -> Array:
    """rows[index] for whole numbers (n,) from 0 on, into `out` (n, …) if it is given; (n, …).

    Contiguous rows of any dtype are copied as bytes, mapped ones too. IndexError for a number that is no row.
    """
    index = np.ascontiguousarray(index, np.int64)
    if not rows.flags.c_contiguous:
        return np.take(rows, index, 0, out)
    out = np.empty((len(index), *rows.shape[1:]), rows.dtype) if out is None else out
    if out.dtype != rows.dtype or out.shape != (len(index), *rows.shape[1:]) or not out.flags.c_contiguous:
        raise ValueError(f"out is {out.dtype} {out.shape} but {len(index)} rows are {rows.dtype} {rows.shape[1:]}")
    wrong = gather(_as_bytes(rows), index, _as_bytes(out))
    if wrong >= 0:
        raise IndexError(f"row {index[wrong]} is asked for, but there are {len(rows)}")
    return out


def _as_bytes(rows: Array) -> Array:
    width = math.prod(rows.shape[1:]) * rows.dtype.itemsize
    return np.asarray(rows).reshape(-1).view(np.uint8).reshape(len(rows), width)


def is_mapped(rows: Any) -> bool:
    """Whether rows lie in a file that is mapped into memory."""
    rows = rows.obs if isinstance(rows, Successors) else rows
    return getattr(rows, "_mmap", None) is not None  # NumPy's memmap has it, what is computed of one does not


def exceeds_memory(rows: Any, copies: int = 1) -> bool:
    """Whether rows are mapped from a file, and so many copies of them are more than the memory that is free."""
    return is_mapped(rows) and copies * rows.nbytes > psutil.virtual_memory().available


def check_room(rows: Any, why: str = "demos: mapped observations have to be copied here", copies: int = 1,
               remedy: str = "take fewer: set demos.episodes or demos.subsample") -> None:
    """InputError, which begins with `why`, where rows are mapped and so many copies of them `exceeds_memory`."""
    if exceeds_memory(rows, copies):
        wanted, free = (f"{size / 1e9:.1f} GB" for size in (copies * rows.nbytes, psutil.virtual_memory().available))
        raise InputError(f"{why}: {len(rows):,} rows, which take {wanted} of memory, of which {free} are free; "
                         f"{remedy}")


def advise(rows: Array, index: Array, needed: bool) -> None:
    """Tell the system that the mapped rows from the lowest to the highest of `index` will be read, or no longer are: it
    reads them ahead in one piece, or may forget them. Nothing for rows in memory."""
    root = _shared_mapping(rows)
    if root is None or not len(index):
        return
    width = rows.strides[0]
    begin = rows.ctypes.data - root.ctypes.data + root.offset % mmap.ALLOCATIONGRANULARITY
    first, end = begin + int(index.min()) * width, begin + (int(index.max()) + 1) * width
    first -= first % mmap.PAGESIZE
    root._mmap.madvise(mmap.MADV_WILLNEED if needed else mmap.MADV_DONTNEED, first, end - first)


def _shared_mapping(rows: Any) -> Any:
    """The memmap that rows lie in, None for rows in memory."""
    if not is_mapped(rows) or isinstance(rows, Successors):
        return None
    root: Any = rows
    while isinstance(root.base, np.memmap):
        root = root.base
    return None if root.mode == "c" else root  # what was written there is nowhere else: forgotten, it would be lost


def mapped_bytes(rows: Any) -> int:
    """How many bytes of rows lie in a mapped file, of which pages may be forgotten at any time; 0 in memory."""
    return 0 if _shared_mapping(rows) is None or not rows.flags.c_contiguous else rows.nbytes


def blocks(rows: Any) -> Iterator[slice]:
    """All rows, a block of them at a time. Mapped ones are no longer resident once the next block is asked for."""
    size = max(1, BLOCK_BYTES // max(1, math.prod(rows.shape[1:]) * rows.dtype.itemsize))
    mapped = rows.obs if isinstance(rows, Successors) else rows
    for first in range(0, len(rows), size):
        end = min(first + size, len(rows))
        yield slice(first, end)
        advise(mapped, np.array([first, end - 1]), needed=False)


class Successors(np.lib.mixins.NDArrayOperatorsMixin):
    """The true successors of `obs` (n, …) without a copy of them: the next row or, at the last row of an episode, its
    final observation. `starts` (episodes,) int64 are the episodes' first rows, `finals` is (episodes, …).

    It can be used as an array (n, …) is. Runs of rows stay without a copy, rows by their numbers are copied, and what
    asks for anything else of an array gets one that is made of all rows: np.asarray does.
    """

    def __init__(self, obs: Array, finals: Array, starts: Array) -> None:
        self.obs, self.finals, self.starts = obs, finals, starts
        self.shape, self.dtype, self.ndim, self.nbytes = obs.shape, obs.dtype, obs.ndim, obs.nbytes
        self.ends = np.append(starts[1:], len(obs))

    def __len__(self) -> int:
        return len(self.obs)

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, slice):
            first, stop, step = key.indices(len(self))
            return self._run(first, stop) if step == 1 and stop > first else self[np.arange(first, stop, step)]
        if isinstance(key, np.ndarray) and key.dtype == bool and key.shape == (len(self),):
            return self.take(np.flatnonzero(key))
        if isinstance(key, np.ndarray) and key.dtype.kind in "iu" and key.ndim == 1:
            return self.take(np.where(key < 0, key + len(self), key))
        return np.asarray(self)[key]

    def take(self, index: Array, out: Array | None = None) -> Array:
        """The successors of rows (n,), numbered from 0, in `out` (n, …) if it is given."""
        made = take(self.obs, np.minimum(index + 1, len(self) - 1), out)
        episode = np.searchsorted(self.starts, index, side="right") - 1
        last = self.ends[episode] == index + 1
        made[last] = self.finals[episode[last]]
        return made

    def _run(self, first: int, stop: int) -> Successors:
        inside = (self.starts < stop) & (self.ends > first)
        finals, ends = self.finals[inside], self.ends[inside]
        if ends[-1] > stop:  # cut off in the middle of an episode
            finals = np.append(finals[:-1], self.obs[stop][None], 0)
        return Successors(self.obs[first:stop], finals, np.maximum(self.starts[inside] - first, 0))

    def astype(self, dtype: Any, copy: bool = True) -> Any:
        """Of another dtype; the same without a copy where it is that."""
        return self if dtype == self.dtype and not copy else np.asarray(self).astype(dtype, copy=False)

    def setflags(self, write: bool) -> None:
        """Read-only, as arrays of demonstrations become."""
        self.finals.setflags(write=write)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError("successors are stored as the rows after them; an array of them is a copy")
        check_room(self)
        made = np.empty(self.shape, self.dtype if dtype is None else dtype)
        made[:-1] = self.obs[1:]
        made[self.ends - 1] = self.finals
        return made

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        return getattr(ufunc, method)(*(np.asarray(x) if isinstance(x, Successors) else x for x in inputs), **options)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or "finals" not in self.__dict__:
            raise AttributeError(name)
        return getattr(np.asarray(self), name)


def follows(obs: Array, next_obs: Array) -> bool:
    """Whether `next_obs` (n, …) are, to the byte, the rows of `obs` (n, …) after the first, and one more."""
    return same_bytes(obs[1:], next_obs[:-1])


def same_bytes(rows: Array, others: Array) -> bool:
    """Whether both (n, …) are of the same shape and dtype, and hold the same bytes."""
    if rows.shape != others.shape or rows.dtype != others.dtype:
        return False
    mine, theirs = (_as_bytes(np.ascontiguousarray(one)) for one in (rows, others))
    return np.array_equal(mine, theirs)


def successors(obs: Array, next_obs: Array, starts: Array) -> Array | Successors:
    """`next_obs` without a copy of `obs` where it is one: the same bytes, but for the last rows of episodes."""
    like = next_obs.shape == obs.shape and next_obs.dtype == obs.dtype
    cut = len(starts) and starts[0] == 0 and starts[-1] < len(obs) and (np.diff(starts) > 0).all()
    if not (like and cut and obs.flags.c_contiguous and next_obs.flags.c_contiguous):
        return next_obs
    mine, theirs, inner = _as_bytes(obs), _as_bytes(next_obs), np.ones(len(obs), bool)
    last = np.append(starts[1:], len(obs)) - 1
    inner[last] = False
    for part in blocks(obs[1:]):
        if ((theirs[part] != mine[part.start + 1:part.stop + 1]).any(1) & inner[part]).any():
            return next_obs
    return Successors(obs, next_obs[last], starts)
