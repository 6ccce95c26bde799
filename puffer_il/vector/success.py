"""Whether an episode succeeded, as environments say it in `info`.

`is_success` counts as it is in the last step (Gymnasium-Robotics; Stable-Baselines3's EvalCallback), `success` as soon
as it was true in any step (Meta-World). An environment that says neither has no success rate.
"""

from typing import Any

import numpy as np

from puffer_il.core.spec import Array

EVER, KEYS, UNTOLD = "success", ("success", "is_success"), -1
LOGGED = ("success_rate",)  # what episodes then log, see `Vec.pop_log_means`


class Successes:
    """Of the rows of one environment, into their part of the vector's `logs` (rows, 2): episodes that ended, and how
    many of them succeeded. None where there are no such logs."""

    def __init__(self, rows: int, logs: Array | None) -> None:
        self._logs = logs
        self._so_far = np.full(rows, UNTOLD, np.int8)

    def begin(self) -> None:
        self._so_far[:] = UNTOLD

    def step(self, row: int, info: Any, ended: bool) -> None:
        """One step of a row that acted."""
        self._hear(row, info)
        if ended and self._so_far[row] != UNTOLD:
            self._end(np.array([row]))

    def step_all(self, infos: Any, acted: Array, ended: Array) -> None:
        """One step of all rows, whose infos are arrays, as in Gymnasium's vectors: those of an episode that ended,
        where the next one has begun already, are in "final_info"."""
        final = infos.get("final_info") if isinstance(infos, dict) else None
        self._note(infos, acted & ~ended if final is not None else acted)
        self._note(final, acted & ended)
        if ended.any():
            self._end(np.flatnonzero(ended))

    def _hear(self, row: Any, info: Any) -> None:
        if isinstance(info, dict):
            for key in KEYS:
                if (told := _truth(info.get(key))) is not None:
                    self._so_far[row] = told or (key == EVER and self._so_far[row] == 1)

    def _note(self, infos: Any, rows: Array) -> None:
        """What infos say of `rows` (n,) bool: arrays with masks as Gymnasium has them, of objects where the values are
        no plain numbers (np.bool_), or an array of dicts, as before Gymnasium 1.0."""
        if isinstance(infos, list | tuple | np.ndarray) and len(infos) == len(rows):
            for row in np.flatnonzero(rows):
                self._hear(row, infos[row])
        for key in KEYS if isinstance(infos, dict) else ():
            values = np.asarray(infos[key]) if key in infos else np.empty(0)
            if values.size != len(rows) or len(values) != len(rows):
                continue
            values, told = values.reshape(len(rows)), np.flatnonzero(infos.get(f"_{key}", True) & rows)
            if values.dtype.kind in "biuf":
                self._so_far[told] = values[told].astype(bool) | ((self._so_far[told] == 1) & (key == EVER))
            elif values.dtype.kind == "O":
                for row in told:
                    self._hear(row, {key: values[row]})

    def _end(self, rows: Array) -> None:
        told = rows[self._so_far[rows] != UNTOLD]
        if self._logs is not None:
            self._logs[told] += np.stack([np.ones(len(told)), self._so_far[told]], 1)
        self._so_far[rows] = UNTOLD


def _truth(value: Any) -> bool | None:
    """A bool or number as a bool; None for anything else."""
    if isinstance(value, bool | int | float | np.generic | np.ndarray):
        array = np.asarray(value)
        if array.size == 1 and array.dtype.kind in "biuf":
            return bool(array.reshape(())[()])
    return None
