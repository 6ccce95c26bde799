"""Rows end to end in a file: first which of them are taken, and where episodes begin and end, then the observations.

A format's `read` arranges rows and never looks into observations. So it is first given their numbers in place of them,
and what it makes of those says which row each observation and each successor is. Then the file is gone through once,
a piece after the other: into the one array that stays, or some episodes at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np

from puffer_il.core.rows import Array, Layout
from puffer_il.demos.build import uniform
from puffer_il.demos.dataset import Demos
from puffer_il.demos.grown import Precision
from puffer_il.demos.npz import Arrays
from puffer_il.demos.rows import Lazy, Successors, same_bytes, successors
from puffer_il.demos.subset import some_episodes, stretches

MOST_ROWS = 2**32  # that have numbers
Read = Callable[[Any, int | None], Demos]
Names = tuple[Sequence[str], Sequence[str]]  # of arrays of observations and of successors, each end to end


def read_rows(read: Read, file: Arrays, names: Names | None, time_limit: int | None) -> Demos:
    """What `read` makes of the file; `names` are None where it can only be read as a whole."""
    found = _planned(read, file, names, time_limit)
    return read(file, time_limit) if found is None else found.whole()


def parts_of_rows(read: Read, file: Arrays, names: Names | None, time_limit: int | None, most: float
                  ) -> Iterator[Demos]:
    """The same, some whole episodes after the others, about `most` bytes of observations at a time."""
    found = _planned(read, file, names, time_limit)
    return iter((read(file, time_limit),)) if found is None else found.parts(most)


def _planned(read: Read, file: Arrays, names: Names | None, time_limit: int | None) -> Planned | None:
    keys = [[name for name in some if name in file] for some in names or ((), ())]
    rows = [[one for key in some if (one := file.lazy(key)) is not None] for some in keys]
    if not keys[0] or [len(some) for some in rows] != [len(some) for some in keys] or any(
            (one.dtype, one.shape[1:]) != (some[0].dtype, some[0].shape[1:]) for some in rows for one in some):
        return None
    first, numbers = 0, dict[str, Array]()
    for key, one in zip(chain(*keys), chain(*rows), strict=True):
        numbers[key] = numbers_of(len(one), first)
        first += len(one)
    if first >= MOST_ROWS:
        return None
    return Planned(read(_Numbers(file, numbers), time_limit), joined(rows[0]), joined(rows[1]) if rows[1] else None)


def joined(rows: Sequence[Lazy]) -> Lazy:
    """Rows of the same kind end to end."""
    return Lazy((sum(map(len, rows)), *rows[0].shape[1:]), rows[0].dtype,
                lambda: chain.from_iterable(one.pieces() for one in rows))


def numbers_of(count: int, first: int = 0) -> Array:
    """(count,) uint32, to stand in for so many rows: from `first` on."""
    return np.arange(first, first + count, dtype=np.uint32)


class _Numbers(Arrays):
    """The arrays of a file, some of which are replaced."""

    def __init__(self, file: Arrays, numbers: dict[str, Array]) -> None:
        super().__init__(dict.fromkeys(file.keys), file.source, remedy=file.remedy)
        self.where, self._file, self._numbers = file.where, file, numbers

    def __getitem__(self, key: str) -> Array:
        return self._numbers[key] if key in self._numbers else self._file[key]

    def shape(self, key: str) -> tuple[int, ...]:
        return self._file.shape(key)


@dataclass
class Planned:
    """Demonstrations whose obs and next_obs are numbers: those below n, how many rows `obs` has, are rows of it, those
    from n on rows of `following`. `layout` is that of the rows."""

    plan: Demos
    obs: Lazy
    following: Lazy | None = None
    layout: Layout | None = None

    def whole(self) -> Demos:
        return self._filled(self.plan, _Stream(self.obs), _Stream(self.following), at_once=True)

    def parts(self, most: float) -> Iterator[Demos]:
        """About so many bytes of observations at a time; all together where rows lie in another order."""
        if not self._in_order():
            yield self.whole()
            return
        streams = _Stream(self.obs), _Stream(self.following)
        width = max(1, math.prod(self.obs.shape[1:]) * self.obs.dtype.itemsize)
        for first, last in stretches(self.plan, most / width):
            yield self._filled(some_episodes(self.plan, first, last), *streams, at_once=False)

    def _in_order(self) -> bool:
        rows, finals, after = self.plan.obs, self.plan.final_obs[:-1], self.plan.next_obs
        before = (finals < rows[self.plan.episode_starts[1:]]) | (finals >= len(self.obs))
        return bool((rows[1:] > rows[:-1]).all() and before.all() and (
            isinstance(after, Successors) or (after[1:] > after[:-1]).all()))

    def _filled(self, plan: Demos, obs: _Stream, following: _Stream, at_once: bool) -> Demos:
        """The demonstrations of some episodes: without `at_once` successors may be held before they are looked at."""
        source, starts, follow = plan.source, plan.episode_starts, isinstance(plan.next_obs, Successors)
        after: Any = plan.final_obs if follow else plan.next_obs
        theirs = after >= len(self.obs)
        made, *rest = obs.gather(source, plan.obs, after[~theirs])
        held: Any = rest[0]
        if theirs.all() and at_once and not follow:
            held = following.after(source, made, after - np.uint32(len(self.obs)), starts)
        elif theirs.any():
            both = np.empty((len(after), *made.shape[1:]), made.dtype)
            both[~theirs] = held
            (both[theirs],) = following.gather(source, after[theirs] - np.uint32(len(self.obs)))
            held = both if follow else successors(made, both, starts)
        held = Successors(made, held, starts) if follow else held
        notes = (*plan.notes, *(note for note in obs.precision.notes() if note not in plan.notes))
        return replace(plan, obs=made, next_obs=held, notes=notes, layout=self.layout or plan.layout)


class _Stream:
    """Rows read one piece after the other; the last piece that was looked at may be looked at again."""

    def __init__(self, rows: Lazy | None) -> None:
        self.rows, self.precision = rows, Precision()
        self._pieces = iter(()) if rows is None else rows.pieces()
        self._begin, self._piece = 0, np.empty(0)

    def upto(self, stop: int) -> Iterator[tuple[int, Array]]:
        """The first row and the rows of each piece on the way to row `stop`."""
        while True:
            if len(self._piece):
                yield self._begin, self._piece
                if self._begin + len(self._piece) >= stop:
                    return
            self._begin, self._piece = self._begin + len(self._piece), np.empty(0)  # let go of before more is read
            self._piece = next(self._pieces, self._piece)
            if not len(self._piece):
                return
            self.precision.add(self._piece)

    def gather(self, source: str, *numbers: Array) -> list[Array]:
        """The rows of each list of numbers (k,), as Demos has them."""
        made: list[Array] = []
        wanted = [_Sorted(one) for one in numbers]
        for begin, piece in self.upto(max((one.stop for one in wanted), default=0)):
            piece = uniform(source, "obs", piece)
            made = made or [np.empty((len(one), *piece.shape[1:]), piece.dtype) for one in numbers]
            for one, out in zip(wanted, made, strict=True):
                places, rows = one.within(begin, begin + len(piece))
                out[places] = piece[rows]
        return made

    def after(self, source: str, obs: Array, numbers: Array, starts: Array) -> Array | Successors:
        """The rows `numbers` (n,) as the successors of `obs` (n, …); what is the next row of obs is not stored."""
        wanted, last = _Sorted(numbers), np.zeros(len(obs), bool)
        last[np.append(starts[1:], len(obs)) - 1] = True
        finals = np.empty((len(starts), *obs.shape[1:]), obs.dtype)
        for begin, piece in self.upto(wanted.stop):
            piece = uniform(source, "next_obs", piece)
            places, rows = wanted.within(begin, begin + len(piece))
            found, inner = piece[rows], ~last[places]
            at = np.arange(places.start, places.stop) if isinstance(places, slice) else places
            if not same_bytes(obs[at[inner] + 1], found[inner]):
                return _Stream(self.rows).gather(source, numbers)[0]
            finals[np.searchsorted(starts, at[~inner], side="right") - 1] = found[~inner]
        return Successors(obs, finals, starts)


class _Sorted:
    """Numbers of rows, by which pieces of them find what they are for. `stop` is one past the greatest."""

    def __init__(self, numbers: Array) -> None:
        self.order = None if (numbers[1:] >= numbers[:-1]).all() else np.argsort(numbers, kind="stable")
        self.numbers = numbers if self.order is None else numbers[self.order]
        self.stop = int(self.numbers[-1]) + 1 if len(numbers) else 0

    def within(self, begin: int, end: int) -> tuple[Any, Any]:
        """For which places the rows from `begin` to before `end` are, and which of them, counted from there."""
        ends = np.array([begin, min(end, self.stop)], self.numbers.dtype)
        first, last = np.searchsorted(self.numbers, ends).tolist()
        rows = self.numbers[first:last] - self.numbers.dtype.type(begin)
        if len(rows) and rows[-1] - rows[0] == len(rows) - 1 and (np.diff(rows) == 1).all():
            rows = slice(int(rows[0]), int(rows[-1]) + 1)
        return slice(first, last) if self.order is None else self.order[first:last], rows
