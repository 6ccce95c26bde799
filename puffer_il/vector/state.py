"""The state of the Python environments in one process, for checkpoints: what `snapshot` reads, and their rows."""

from __future__ import annotations

import random
from contextlib import suppress
from typing import Any

import numpy as np

from puffer_il.core.errors import one_line
from puffer_il.core.spec import Array
from puffer_il.vector.mujoco_state import Models
from puffer_il.vector.snapshot import Reader, Tables, Unreadable, Writer, from_bytes, to_bytes

DAMAGED = (ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError, RecursionError)


class State:
    """Of the environments of one Serial, of their rows in `buffers`, and of the generators that Python shares."""

    def __init__(self, envs: list[Any], buffers: dict[str, Array]) -> None:
        self.envs, self.models, self.tables = envs, Models(), Tables()
        self.rows = {name: array for name, array in buffers.items() if name != "actions"}
        self._outside = list(buffers.values())
        with suppress(Unreadable):
            self._read()  # the models and tables as they are when they are opened
        self.models.open = False

    def read(self) -> Array:
        """uint8 (bytes,); Unreadable names what cannot be read."""
        reader, node = self._read()
        return to_bytes(node, reader.arrays)

    def write(self, stored: Array) -> None:
        """Go on from what `read` gave, in environments that have been reset; Unreadable if that did not work, and they
        must be reset again."""
        node, arrays = from_bytes(stored)
        writer = Writer(arrays, self._read()[0])
        try:
            envs = writer.write(node["envs"], self.envs)
            if len(envs) != len(self.envs) or any(one is not other for one, other in zip(envs, self.envs, strict=True)):
                raise Unreadable("it is of other environments")
            for name, array in self.rows.items():
                np.copyto(array, arrays[node["rows"][name]], casting="no")
            random.setstate(writer.write(node["random"], None))
            np.random.set_state(writer.write(node["numpy"], None))
        except DAMAGED as error:
            raise Unreadable(f"the saved state does not fit ({type(error).__name__}: {one_line(error)})") from None
        if not np.array_equal(again := self.read(), stored[:len(again)]):
            raise Unreadable("it was not the same once it was put back")

    def _read(self) -> tuple[Reader, dict[str, Any]]:
        reader = Reader(self._outside, self.models, self.tables)
        try:
            node = {"envs": reader.read(self.envs),
                    "rows": {name: reader.keep(rows) for name, rows in self.rows.items()},
                    "random": reader.read(random.getstate()), "numpy": reader.read(np.random.get_state(legacy=False))}
        except RecursionError:
            raise Unreadable("its objects refer to each other in too long a chain") from None
        return reader, node
