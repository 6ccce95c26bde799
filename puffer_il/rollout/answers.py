"""What a function or another package's model says to do, checked before it counts as an action."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from puffer_il.core.actions import ActionSpec
from puffer_il.core.errors import InputError
from puffer_il.core.rows import Array


def rows_of(who: str, answer: Any, action: ActionSpec, n: int) -> Array:
    """Rows (n, dim) of n actions in the environment's own form. InputError, beginning with `who`, for anything that is
    not one action for each observation, and for choices that the environment does not have."""
    if not (action.parts and isinstance(answer, Mapping | tuple)):
        _check_array(who, answer, action, n)
    if not action.discrete:
        return action.from_env(np.reshape(answer, (n, -1)) if not action.parts else answer)
    exact = np.asarray(answer, np.float64).reshape(n, action.dim) if not action.parts else action.from_env(answer)
    rows = exact - np.array(action.start) if action.start and not action.parts else exact
    wrong = (rows != np.floor(rows)) | (rows < 0) | (rows >= np.array(action.nvec))
    if wrong.any():
        column = int(np.argmax(wrong.any(0)))
        first = action.start[column] if action.start else 0
        value = rows[wrong[:, column], column][0].item() + first
        raise InputError(f"{who} returned the action {value:g}; return whole numbers {first}.."
                         f"{first + action.nvec[column] - 1}")
    return rows.astype(action.dtype)


def _check_array(who: str, answer: Any, action: ActionSpec, n: int) -> None:
    if isinstance(answer, tuple):
        raise InputError(f"{who} returned a tuple, as `predict` does with its state; return the actions alone, such as "
                         "model.predict(obs)[0]")
    given = np.asarray(answer)
    if given.dtype.kind not in "biuf" or given.size != n * action.width or (given.ndim and len(given) != n):
        raise InputError(f"{who} returned {_shown(answer, given)} for {n} observation{'s' * (n > 1)}; return an array "
                         f"of actions of shape {(n, *action.shape)}")
    if given.dtype.kind == "f" and not np.isfinite(given).all():
        raise InputError(f"{who} returned an action that is NaN or infinite; look at what it was given")


def _shown(answer: Any, array: Array) -> str:
    return f"an array of shape {array.shape}" if array.dtype.kind in "biuf" and array.ndim else f"{answer!r}"[:80]
