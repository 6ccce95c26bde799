"""Arrays that grow where they are as their rows come, so that reading takes little more memory than what is read."""

from __future__ import annotations

import numpy as np

from puffer_il.core.rows import Array
from puffer_il.demos.rows import blocks

GROWTH = 17 / 16  # of what is held, at least, when there is no room: the system moves pages, and copies nothing
LARGE = 1e4  # from which on float32 tells no thousandths apart


class Grown:
    """Rows (n, …) that come a part after the other, in one array. Parts of other dtypes than those before make it one
    of the dtype that both fit in, as `np.concatenate` does. ValueError for rows of another shape."""

    def __init__(self) -> None:
        self._held = np.empty(0)
        self.count = 0

    def append(self, rows: Array) -> None:
        if self.count == 0:
            # Not at once as large as these rows: what NumPy allocates above 4 MB is cut in two by its advice to use
            # large pages, and the system then copies it to make it grow.
            self._held = np.empty((0, *rows.shape[1:]), rows.dtype)
        if rows.shape[1:] != self._held.shape[1:]:
            raise ValueError(f"rows {rows.shape[1:]} behind rows {self._held.shape[1:]}")
        if rows.dtype != self._held.dtype:
            self._held = self._held.astype(np.result_type(self._held.dtype, rows.dtype), copy=False)
        count = self.count + len(rows)
        if count > len(self._held):
            self._resize(max(count, int(GROWTH * len(self._held))))
        self._held[self.count:count] = rows
        self.count = count

    @property
    def rows(self) -> Array:
        """All there are now; not to be held while more come."""
        return self._held[:self.count]

    @property
    def nbytes(self) -> int:
        return self.rows.nbytes

    def array(self) -> Array:
        """All of them, for good: nothing may come after this."""
        if self.count < len(self._held):
            self._resize(self.count)
        return self._held

    def _resize(self, count: int) -> None:
        self._held.resize((count, *self._held.shape[1:]), refcheck=False)  # nobody else holds it


class Precision:
    """Columns of observations of which float32 loses most of the changes from row to row, such as the time of day in
    seconds since 1970; told by rows that come a part after the other, where their values are large."""

    def __init__(self) -> None:
        self._most = self._changed = self._told = np.zeros(0)

    def add(self, obs: Array) -> None:
        if obs.dtype.kind not in "fiu" or obs.dtype.itemsize < 8:
            return
        for part in blocks(obs):
            self._add(obs[part].reshape(part.stop - part.start, -1))

    def _add(self, wide: Array) -> None:
        if len(self._most) != wide.shape[1]:
            self._most, self._changed, self._told = np.zeros((3, wide.shape[1]))
        most = np.maximum(wide.max(0), -wide.min(0).astype(np.float64))
        self._most = np.fmax(self._most, most)
        large = np.flatnonzero(most > LARGE)
        if len(large):
            with np.errstate(over="ignore", invalid="ignore"):  # Demos refuses what is not finite
                for counts, rows in ((self._changed, wide[:, large]), (self._told, wide[:, large].astype(np.float32))):
                    counts[large] += np.count_nonzero(np.diff(rows, axis=0), axis=0)

    def notes(self) -> list[str]:
        lost = np.flatnonzero(2 * self._told < self._changed)
        return [f"obs column {k} changes by less than float32 can tell near {self._most[k]:.4g}; subtract its start"
                for k in lost]
