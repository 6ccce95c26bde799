"""The state of MuJoCo's models and data, without importing MuJoCo where nobody has.

Of data: the integration state, from which the next step follows, and every array that its model gives a size, because
environments read what the last step has computed (positions of bodies, forces) before they take the next one. What
depends on the contacts is computed anew. Of a model: the arrays that have been changed since it was first seen.
"""

from __future__ import annotations

import re
import sys
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from puffer_il.core.spec import Array

STATE = "the integration state"
OF_CONTACTS = re.compile("efc|island|contact|^map_|^i[A-Z]|^i(acc|frc)")  # arrays whose memory each step deals out anew
Arrays = dict[str, Array]


def kind(value: Any) -> str:
    """ "MjModel" or "MjData"; "" for anything else."""
    cls = type(value)
    return cls.__name__ if cls.__module__ == "mujoco._structs" and cls.__name__ in ("MjModel", "MjData") else ""


class Models:
    """The models of an environment as they were when it was opened."""

    def __init__(self) -> None:
        self._first: WeakKeyDictionary[Any, Arrays] = WeakKeyDictionary()
        self._sized: WeakKeyDictionary[Any, list[str]] = WeakKeyDictionary()  # names of arrays of data
        self.open = True  # until it is read for the first time

    def first(self, model: Any) -> Arrays:
        """ValueError for a model that has been made since."""
        if model not in self._first:
            if not self.open:
                raise ValueError("its MuJoCo model is made anew while it runs")
            self._first[model] = {name: array.copy() for name, array in _arrays(model)}
        return self._first[model]

    def sized(self, model: Any) -> list[str]:
        """The arrays of data that have the same size for ever."""
        if model not in self._sized:
            data = sys.modules["mujoco"].MjData(model)
            self._sized[model] = [name for name, array in _arrays(data) if array.size and not OF_CONTACTS.search(name)]
        return self._sized[model]


def read(value: Any, models: Models) -> Arrays:
    """Arrays that `write` puts back, not all of them copies."""
    if kind(value) == "MjModel":
        first = models.first(value)
        return {name: array for name, array in _arrays(value) if not np.array_equal(array, first[name], equal_nan=True)}
    mujoco = sys.modules["mujoco"]
    which = mujoco.mjtState.mjSTATE_INTEGRATION
    state = np.empty(mujoco.mj_stateSize(value.model, which))
    mujoco.mj_getState(value.model, value, state, which)
    return {STATE: state} | {name: getattr(value, name) for name in models.sized(value.model)}


def write(value: Any, stored: Arrays, models: Models) -> None:
    """Put back what `read` gave; ValueError if it is of another model."""
    if kind(value) == "MjModel":
        for name, array in (models.first(value) | stored).items():
            _put(value, name, array)
        return
    mujoco = sys.modules["mujoco"]
    which = mujoco.mjtState.mjSTATE_INTEGRATION
    state = stored.get(STATE)
    if state is None or state.dtype != np.float64 or state.shape != (mujoco.mj_stateSize(value.model, which),):
        raise ValueError("it is of another MuJoCo model")
    mujoco.mj_setState(value.model, value, state, which)
    mujoco.mj_forward(value.model, value)  # contacts, and what depends on them
    for name in models.sized(value.model):
        _put(value, name, stored[name])


def _put(owner: Any, name: str, array: Array) -> None:
    live = getattr(owner, name)
    if live.shape != array.shape or live.dtype != array.dtype:
        raise ValueError("it is of another MuJoCo model")
    if live.flags.writeable:
        live[...] = array


def _arrays(owner: Any) -> list[tuple[str, Array]]:
    found = ((name, getattr(owner, name, None)) for name in dir(type(owner)) if not name.startswith("_"))
    return [(name, array) for name, array in found if isinstance(array, np.ndarray) and array.dtype.kind in "biuf"]
