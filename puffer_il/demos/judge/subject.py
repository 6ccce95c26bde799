"""Demonstrations as the detectors look at them: columns of numbers, and which rows follow on one another."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from puffer_il.core.rows import Array, Layout
from puffer_il.core.spec import EnvSpec
from puffer_il.demos.build import follows_on
from puffer_il.demos.dataset import Demos
from puffer_il.demos.judge.world import World
from puffer_il.demos.rows import Successors
from puffer_il.demos.subset import first_episodes

WIDEST = 512  # columns; what is wider is a picture, whose single numbers say little
ROWS = 200_000  # that are looked at
CHOICES = 32  # of more choices the number is taken as it is
SHOWN = 5  # how many columns or episodes a line names


@dataclass(frozen=True)
class Subject:
    """The demonstrations, the environment that they are for and what it is asked, where these are known."""

    demos: Demos
    spec: EnvSpec | None = None
    world: World | None = None

    @cached_property
    def obs(self) -> Array:
        """(n, columns) float64 numbers of the observations; no columns for pictures and what is as wide."""
        return self.numbers(self.demos.obs)

    @cached_property
    def next_obs(self) -> Array:
        """The same of the successors."""
        return self.numbers(self.demos.next_obs)

    def numbers(self, rows: Array | Successors) -> Array:
        """(n, columns) float64 of n rows of observations. Leaves of a Dict that are pictures are left out."""
        layout, rows = self.demos.layout, np.asarray(rows)
        if layout is not None:
            parts = [field.of(rows).reshape(len(rows), -1) for field in _fields(layout)]
        else:
            picture = rows.ndim > 2 and rows.dtype.kind in "biu"
            parts = [] if picture else [rows.reshape(len(rows), math.prod(rows.shape[1:]))]
        if not parts or sum(part.shape[1] for part in parts) > WIDEST:
            return np.zeros((len(rows), 0))
        return np.concatenate(parts, 1, dtype=np.float64)

    def named(self, columns: Sequence[int] | Array) -> str:
        """Columns of the observation for people: their numbers, or the names of their fields."""
        layout = self.demos.layout
        if layout is None:
            return some(columns)
        places = [(field, k) for field in _fields(layout) for k in range(field.size)]
        told: dict[str, list[str]] = {}
        for field, k in (places[column] for column in columns[:SHOWN]):
            told.setdefault(field.name, []).append(str(k) if field.size > 1 else "")
        shown = [f"{name}[{', '.join(numbers)}]" if numbers[0] else name for name, numbers in told.items()]
        return ", ".join(shown) + ("…" if len(columns) > SHOWN else "")

    @cached_property
    def moves(self) -> Array:
        """(columns,) bool, which of the observation ever change."""
        return np.ptp(self.obs, axis=0) > 0 if len(self.obs) else np.zeros(0, bool)

    @cached_property
    def scale(self) -> Array:
        """(columns,) standard deviations of the observation, 1 where nothing changes."""
        return np.where(self.moves, self.obs.std(0), 1) + 1e-12

    @cached_property
    def episode(self) -> Array:
        """(n,) which episode a row belongs to."""
        return np.repeat(np.arange(self.demos.num_episodes), self.demos.lengths)

    @cached_property
    def whole(self) -> bool:
        """False where rows are subsampled, so that they do not follow on one another."""
        return self.demos.episode_lengths is None or follows_on(self.demos)

    @cached_property
    def inner(self) -> Array:
        """Rows whose next row is their successor, none where rows are subsampled."""
        if not self.whole:
            return np.zeros(0, np.int64)
        return np.setdiff1d(np.arange(len(self.demos)), self.demos.episode_ends - 1)

    @cached_property
    def steps(self) -> Array:
        """(inner rows, columns) by how much the observation changes to the next row, in `scale`s."""
        return (self.obs[self.inner + 1] - self.obs[self.inner]) / self.scale

    @cached_property
    def acted(self) -> Array:
        """(n, columns) float64 actions, few choices one-hot; no columns without actions."""
        return one_hot(self.demos.actions) if self.demos.actions is not None else np.zeros((len(self.demos), 0))

    @property
    def continuous(self) -> bool:
        return self.demos.actions is not None and self.demos.actions.dtype.kind == "f"

    def at(self, row: Any) -> dict[str, Any]:
        """Where a row is, for a Finding."""
        return {"episode": int(self.episode[row]), "row": int(row)}


def _fields(layout: Layout) -> list:
    return [field for field in layout.fields if not field.image]


def looked_at(demos: Demos) -> Demos:
    """The first episodes, up to ROWS rows: what is larger than memory is judged by a part of it."""
    if len(demos) <= ROWS:
        return demos
    return first_episodes(demos, max(1, int(np.searchsorted(demos.episode_ends, ROWS, side="right"))))


def one_hot(actions: Array) -> Array:
    """(n, columns) float64: few choices one-hot, all else as it is."""
    if actions.dtype.kind == "f" or actions.min() < 0 or actions.max() >= CHOICES:
        return actions.astype(np.float64)
    return np.concatenate([np.eye(column.max() + 1)[column] for column in actions.T], 1)


def some(numbers: Any) -> str:
    """The first of them, for people."""
    return ", ".join(str(int(x)) for x in numbers[:SHOWN]) + ("…" if len(numbers) > SHOWN else "")


def runs(flags: Array, episode: Array) -> Array:
    """(k, 2) first row and one past the last of each stretch of True `flags` (n,) that lies in one `episode` (n,)."""
    cut = np.flatnonzero(np.diff(episode, prepend=-1, append=-1))  # where an episode begins, and the end
    padded = np.concatenate(([0], flags.astype(np.int8), [0]))
    edges = np.diff(padded)
    begins, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    inside = cut[1:-1][flags[cut[1:-1]] & flags[cut[1:-1] - 1]] if len(cut) > 2 else np.zeros(0, np.int64)
    return np.stack([np.sort(np.append(begins, inside)), np.sort(np.append(ends, inside))], 1)
