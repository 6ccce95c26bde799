"""What an agent can do, and its actions as rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from puffer_il.core.rows import Array, Path, leaf_of, nested

Parts = tuple[tuple[Path, tuple[int, ...], str], ...]  # of the leaves of an action: path, shape, dtype


@dataclass(frozen=True)
class ActionSpec:
    """Actions of one agent. Discrete and multi-discrete ones have `nvec`; continuous ones have `low` and `high`.

    A batch of actions is always two-dimensional: int32 `(n, len(nvec))`, each from 0, or float32 `(n, len(low))`. Where
    the environment locks a dimension (its bounds are equal), rows have no column for it: nobody can choose it, and it
    has a part in no likelihood and no loss. `to_env` puts it back.
    """

    nvec: tuple[int, ...] = ()
    low: Array | None = None  # float32, flat
    high: Array | None = None
    shape: tuple[int, ...] = ()  # what the environment itself expects for one action
    start: tuple[int, ...] = ()  # from where the environment itself counts each choice, if not from 0
    held: Array | None = None  # float64, flat: the value of each locked dimension, NaN for the others; None: none is
    parts: Parts = ()  # of a Dict or Tuple, or of an array whose dtype is neither int64 nor float32; () for others

    @property
    def discrete(self) -> bool:
        return bool(self.nvec)

    @property
    def nested(self) -> bool:
        """True for a Dict or Tuple."""
        return bool(self.parts and self.parts[0][0])

    @property
    def kind(self) -> str:
        """One of `About.spaces`."""
        return "continuous" if not self.nvec else "discrete" if len(self.nvec) == 1 else "multi-discrete"

    @property
    def bounded(self) -> bool:
        """False for continuous actions whose range has no end."""
        return self.discrete or bool(np.isfinite(np.array([self.low, self.high], np.float32)).all())

    @property
    def free(self) -> Array:
        """(width,) bool, which of the environment's own columns can be chosen."""
        return np.ones(self.dim, bool) if self.held is None else np.isnan(self.held)

    @property
    def width(self) -> int:
        """Columns of an action in the environment's own form: `dim`, and the locked ones."""
        return self.dim if self.held is None else len(self.held)

    @property
    def dim(self) -> int:
        """Columns of a stored action row."""
        return len(self.nvec) if self.nvec else int(np.size(np.asarray(self.low)))

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.int32 if self.nvec else np.float32)

    @property
    def half_range(self) -> Array:
        """(dim,) float32 half the width of a continuous range, 1 where it has no bounds."""
        width = (np.asarray(self.high) - np.asarray(self.low)) / 2
        return np.where(np.isfinite(width), width, 1).astype(np.float32)

    def whole(self, rows: Array) -> Array:
        """Rows (n, dim) → (n, width), the locked columns at their values."""
        if self.held is None:
            return rows
        return self._filled(rows, rows.dtype)

    def _filled(self, rows: Array, dtype: np.dtype) -> Array:
        assert self.held is not None
        filled = np.tile(self.held.astype(dtype), (len(rows), 1))
        filled[:, self.free] = rows
        return filled

    def chosen(self, rows: Array) -> Array:
        """Rows (n, width), or (n, dim) already, → (n, dim)."""
        return rows[:, self.free] if self.held is not None and rows.shape[1] == self.width else rows

    def to_env(self, rows: Array) -> Any:
        """Rows (n, dim) → n actions in the environment's own form: (n, *shape) of int64 numbers, or of floats clipped
        to the range; a dict or tuple of such for a Dict or Tuple."""
        if self.discrete:
            whole = rows.astype(np.int64) + (np.array(self.start) if self.start else 0)
        else:
            whole = np.clip(rows, self.low, self.high)
            if self.held is not None:  # float64 where float32 cannot say at which value it is locked
                exact = np.isnan(self.held) | (self.held.astype(np.float32) == self.held)
                whole = self._filled(whole, np.dtype(np.float32 if exact.all() else np.float64))
        if not self.parts:
            return whole.reshape(len(rows), *self.shape)
        ends = np.cumsum([math.prod(shape) for _, shape, _ in self.parts])
        leaves = np.split(whole, ends[:-1], axis=1)
        return nested([(path, leaf.reshape(len(rows), *shape).astype(dtype))
                       for (path, shape, dtype), leaf in zip(self.parts, leaves, strict=True)])

    def from_env(self, actions: Any) -> Array:
        """The reverse: n actions in the environment's own form → rows (n, dim) in `dtype`."""
        if self.parts and isinstance(actions, Mapping | tuple):
            leaves = [np.asarray(leaf_of(actions, path)) for path, *_ in self.parts]
            actions = np.concatenate([leaf.reshape(len(leaf), -1) for leaf in leaves], 1)
        rows = self.chosen(np.asarray(actions).reshape(len(actions), self.width))
        return (rows - np.array(self.start) if self.start else rows).astype(self.dtype)

    def executed(self, actions: Array) -> Array:
        """(n, dim) what the environment does when it is given n actions: continuous ones are clipped to its range."""
        rows = self.rows(actions)
        return rows if self.discrete else np.clip(rows, self.low, self.high)

    def rows(self, actions: Array) -> Array:
        """n actions of any form as rows (n, dim) in `dtype`."""
        return np.asarray(actions).reshape(-1, self.dim).astype(self.dtype, copy=False)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ActionSpec) or (self.nvec, self.shape, self.start, self.parts) != (
                other.nvec, other.shape, other.start, other.parts):
            return False
        bounds = ((self.low, other.low), (self.high, other.high), (self.held, other.held))
        return self.discrete or all(
            (a is None) == (b is None) and (a is None or np.array_equal(np.asarray(a), np.asarray(b), equal_nan=True))
            for a, b in bounds)


def first_of(batch: Any) -> Any:
    """The first of n actions or observations in the environment's own form."""
    if isinstance(batch, dict):
        return {key: first_of(part) for key, part in batch.items()}
    return tuple(first_of(part) for part in batch) if isinstance(batch, tuple) else batch[0]
