"""Rows of a file that is slow to read, kept in a temporary one until they are wanted in their order."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator

import numpy as np

from puffer_il.core.errors import InputError, one_line
from puffer_il.core.rows import Array
from puffer_il.demos.rows import PIECE_BYTES, Lazy


class Spooled:
    """Rows (n, …) that come a part after the other. Parts of other dtypes than those before make them all of the dtype
    that both fit in, as `np.concatenate` does. ValueError for rows of another shape, InputError without room for them.
    """

    def __init__(self, source: str) -> None:
        self.source, self.shape = source, (0,)
        self._parts: list[tuple[int, np.dtype]] = []  # how many rows and of which dtype
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as this

    def __del__(self) -> None:
        self._file.close()

    def append(self, rows: Array) -> None:
        if not self._parts:
            self.shape = (0, *rows.shape[1:])
        if rows.shape[1:] != self.shape[1:]:
            raise ValueError(f"rows {rows.shape[1:]} behind rows {self.shape[1:]}")
        try:
            self._file.write(np.ascontiguousarray(rows).data)
        except OSError as error:
            raise InputError(f"demos {self.source}: its observations do not fit into a temporary file "
                             f"({one_line(error)}); name a folder with more room in TMPDIR") from None
        self.shape = (self.shape[0] + len(rows), *rows.shape[1:])
        if self._parts and self._parts[-1][1] == rows.dtype:
            self._parts[-1] = (self._parts[-1][0] + len(rows), rows.dtype)
        else:
            self._parts.append((len(rows), rows.dtype))

    def lazy(self) -> Lazy:
        """All of them, when no more come."""
        self._file.flush()
        dtype = np.result_type(*(dtype for _, dtype in self._parts))
        return Lazy(self.shape, dtype, lambda: self._pieces(dtype))

    def _pieces(self, dtype: np.dtype) -> Iterator[Array]:
        place = 0
        for count, own in self._parts:
            row = max(1, math.prod(self.shape[1:]) * own.itemsize)
            for first in range(0, count, size := max(1, PIECE_BYTES // row)):
                rows = np.empty((min(size, count - first), *self.shape[1:]), own)
                self._file.seek(place)
                place += self._file.readinto(rows.reshape(-1).view(np.uint8).data)
                yield rows.astype(dtype, copy=False)
