"""The state of the Python environments in one process, for checkpoints: what `snapshot` reads and `put_back` puts back,
and their rows."""

from __future__ import annotations

import random
from contextlib import suppress
from typing import Any

import numpy as np

from puffer_il.core.errors import one_line
from puffer_il.core.spec import Array
from puffer_il.vector.mujoco_state import Models
from puffer_il.vector.put_back import Writer
from puffer_il.vector.snapshot import Reader, Tables, Unreadable
from puffer_il.vector.state_bytes import from_bytes, to_bytes


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
        are as they were."""
        node, arrays = from_bytes(stored)
        writer = Writer(arrays, self._read()[0])
        rows = {name: array.copy() for name, array in self.rows.items()}
        shared = random.getstate(), np.random.get_state(legacy=False)
        try:
            self._put_back(writer, node)
            if not np.array_equal(again := self.read(), stored[:len(again)]):
                raise Unreadable("it was not the same once it was put back")
        except Exception as error:  # a state from anybody may have any fault
            writer.undo()
            random.setstate(shared[0])
            np.random.set_state(shared[1])
            for name, array in rows.items():
                self.rows[name][...] = array
            if isinstance(error, Unreadable):
                raise
            raise Unreadable(f"the saved state does not fit ({type(error).__name__}: {one_line(error)})") from None

    def _put_back(self, writer: Writer, node: Any) -> None:
        envs = writer.write(node["envs"], self.envs)
        if len(envs) != len(self.envs) or any(one is not other for one, other in zip(envs, self.envs, strict=True)):
            raise Unreadable("it is of other environments")
        for name, array in self.rows.items():
            stored = writer.arrays[node["rows"][name]]
            if stored.shape != array.shape:
                raise Unreadable(f"its {name} are {stored.shape}, not {array.shape}")
            np.copyto(array, stored, casting="no")
        random.setstate(writer.write(node["random"], None))
        np.random.set_state(writer.legacy_state(node["numpy"], np.random.get_state(legacy=False)))

    def _read(self) -> tuple[Reader, dict[str, Any]]:
        reader = Reader(self._outside, self.models, self.tables)
        try:
            node = {"envs": reader.read(self.envs),
                    "rows": {name: reader.keep(rows) for name, rows in self.rows.items()},
                    "random": reader.read(random.getstate()), "numpy": reader.read(np.random.get_state(legacy=False))}
        except RecursionError:
            raise Unreadable("its objects refer to each other in too long a chain") from None
        return reader, node
