"""Edits of what is mapped from files and may be larger than memory: they are done to the numbers of rows in place of
the observations, which are then copied some episodes at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from puffer_il.core.errors import InputError
from puffer_il.core.rows import Array
from puffer_il.demos.dataset import Demos
from puffer_il.demos.edit.episodes import check_alike
from puffer_il.demos.rows import PART_BYTES, Successors, check_room, is_mapped, successors, take
from puffer_il.demos.subset import some_episodes, stretches

LOOKING = ("cut-idle", "noise-obs")  # edits that look at observations, or change them


class ByNumber:
    """Demonstrations of several `sets`, at least one of which is mapped. `stand_ins` are the same with numbers for obs
    (n,) and next_obs, which edits rearrange; `parts` puts observations in their place again."""

    def __init__(self, sets: Sequence[Demos]) -> None:
        self.first = sets[0]
        for other in sets[1:]:
            check_alike(self.first, other)
            if (other.obs.dtype, other.obs.shape[1:]) != (self.first.obs.dtype, self.first.obs.shape[1:]):
                raise InputError(f"demos {self.first.source} and {other.source}: obs are {self.first.obs.dtype} "
                                 f"{self.first.obs.shape[1:]} and {other.obs.dtype} {other.obs.shape[1:]}; give "
                                 "demonstrations of the same environment")
        self.rows: list[Array] = []  # what numbers stand for, one array after the other
        self.begins = [0]
        self.stand_ins = [self._stand_in(demos) for demos in sets]

    def _stand_in(self, demos: Demos) -> Demos:
        obs, after, starts = self._numbered(demos.obs), demos.next_obs, demos.episode_starts
        following = (Successors(obs, self._numbered(after.finals), starts) if isinstance(after, Successors)
                     else self._numbered(after))
        return replace(demos, obs=obs, next_obs=following, layout=None)

    def _numbered(self, rows: Array) -> Array:
        self.rows.append(rows)
        self.begins.append(self.begins[-1] + len(rows))
        return np.arange(*self.begins[-2:])

    def of(self, numbers: Array) -> Array:
        """(k, …) the observations that numbers (k,) stand for."""
        made = np.empty((len(numbers), *self.first.obs.shape[1:]), self.first.obs.dtype)
        which = np.searchsorted(self.begins, numbers, side="right") - 1
        for k in np.unique(which):
            made[which == k] = take(self.rows[k], numbers[which == k] - self.begins[k])
        return made

    def parts(self, edited: Demos) -> Iterator[Demos]:
        """What became of the stand-ins, with its observations, some episodes after the others."""
        for first, last in stretches(edited, PART_BYTES / max(1, self.first.obs[:1].nbytes)):
            yield self.whole(some_episodes(edited, first, last))

    def whole(self, edited: Demos) -> Demos:
        """The same at once."""
        obs, after, starts = self.of(edited.obs), edited.next_obs, edited.episode_starts
        following = (Successors(obs, self.of(after.finals), starts) if isinstance(after, Successors)
                     else successors(obs, self.of(after), starts))
        return replace(edited, obs=obs, next_obs=following, layout=self.first.layout)

    def looked_at(self, edited: Demos) -> Any:
        """Its observations, of which slices can be asked for."""
        return _Shown(self, edited.obs)


class _Shown:
    def __init__(self, rows: ByNumber, numbers: Array) -> None:
        self._rows, self._numbers = rows, numbers

    def __getitem__(self, part: slice) -> Array:
        return self._rows.of(self._numbers[part])


def by_number(sets: list[Demos], edits: Sequence[tuple[str, Any]]) -> ByNumber | None:
    """How the edits (their names and values) are done to sets of which some are mapped; None where they are done to the
    observations themselves, and then `sets` are in memory. InputError where those are more than what is free of it."""
    mapped = [demos for demos in sets if is_mapped(demos.obs)]
    looking = [f"--{name}" for name, value in edits if name in LOOKING or (name, value) == ("rewards", "env")]
    if not mapped:
        return None
    if not looking:
        return ByNumber(sets)
    for demos in mapped:
        check_room(demos.obs, f"demos {demos.source}: {looking[0]} looks at all observations", copies=2,
                   remedy="choose episodes of them into a folder of their own first (--keep 0-99)")
    sets[:] = [demos.in_memory() if is_mapped(demos.obs) else demos for demos in sets]
    return None
