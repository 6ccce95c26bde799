"""Whether an episode succeeded, as environments say it in `info`.

`is_success` counts as it is in the last step (Gymnasium-Robotics; Stable-Baselines3's EvalCallback), `success` as soon
as it was true in any step (Meta-World). An environment that says neither has no success rate.
"""

from typing import Any

import numpy as np

from puffer_il.core.spec import Array

LOGGED = ("success_rate",)  # what episodes then log, see `Vec.pop_log_means`


class Successes:
    """Of the rows of one environment, into their part of the vector's `logs` (rows, 2): episodes that ended, and how
    many of them succeeded. None where there are no such logs."""

    def __init__(self, rows: int, logs: Array | None) -> None:
        self._logs = logs
        self._so_far: list[bool | None] = [None] * rows

    def begin(self) -> None:
        self._so_far = [None] * len(self._so_far)

    def step(self, row: int, info: Any, ended: bool) -> None:
        """One step of a row that acted."""
        if not isinstance(info, dict):
            return
        if (told := _truth(info.get("is_success"))) is not None:
            self._so_far[row] = told
        elif (told := _truth(info.get("success"))) is not None:
            self._so_far[row] = told or bool(self._so_far[row])
        if ended and self._logs is not None and (succeeded := self._so_far[row]) is not None:
            self._logs[row] += 1, succeeded
        if ended:
            self._so_far[row] = None


def _truth(value: Any) -> bool | None:
    """A bool or number as a bool; None for anything else."""
    if isinstance(value, bool | int | float | np.generic | np.ndarray):
        array = np.asarray(value)
        if array.size == 1 and array.dtype.kind in "biuf":
            return bool(array.reshape(())[()])
    return None
