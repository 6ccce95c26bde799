"""The state of MuJoCo's models and data, without importing MuJoCo where nobody has.

Of data: the integration state, from which the next step follows, and every array that its model gives a size, because
environments read what the last step has computed (positions of bodies, forces) before they take the next one. What
depends on the contacts is computed anew. Of a model: the arrays that have been changed since it was first seen.

MuJoCo goes where its whole numbers point to, and a checkpoint may come from anybody: whole numbers of data are MuJoCo's
own, and of a model only those are read and put back that point nowhere.
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
POINTS_NOWHERE = re.compile("_(contype|conaffinity|group|priority)$|^eq_active0$|^tex_data$")
Arrays = dict[str, Array]


def kind(value: Any) -> str:
    """ "MjModel" or "MjData"; "" for anything else."""
    cls = type(value)
    return cls.__name__ if cls.__module__ == "mujoco._structs" and cls.__name__ in ("MjModel", "MjData") else ""


class Models:
    """The models of an environment as they were when it was opened, and where its data lie."""

    def __init__(self) -> None:
        self._first: WeakKeyDictionary[Any, list[tuple[str, Array, bytes]]] = WeakKeyDictionary()
        self._names: WeakKeyDictionary[Any, list[str]] = WeakKeyDictionary()
        self._views: WeakKeyDictionary[Any, Arrays] = WeakKeyDictionary()
        self.open = True  # until all is read for the first time

    def first(self, model: Any) -> list[tuple[str, Array, bytes]]:
        """Names of its arrays, views of them, and what they held; ValueError for a model that has been made since."""
        if model not in self._first:
            if not self.open:
                raise ValueError("its MuJoCo model is made anew while it runs")
            self._first[model] = [(name, array, array.tobytes()) for name, array in _arrays(model)]
        return self._first[model]

    def views(self, data: Any) -> Arrays:
        """The arrays that have the same size for ever: views, as to ask for one takes longer than to copy it."""
        if data not in self._views:
            if data.model not in self._names:
                if data.model.npluginstate or getattr(data.model, "nhistory", 0):
                    raise ValueError("its MuJoCo model has plugins or delays, whose state is not plain numbers")
                fresh = sys.modules["mujoco"].MjData(data.model)
                self._names[data.model] = [name for name, array in _arrays(fresh)
                                           if array.size and array.dtype.kind == "f" and not OF_CONTACTS.search(name)]
            self._views[data] = {name: getattr(data, name) for name in self._names[data.model]}
        return self._views[data]


def read(value: Any, models: Models) -> Arrays:
    """Arrays that `write` puts back, not all of them copies."""
    if kind(value) == "MjModel":
        changed = {name: array for name, array, first in models.first(value) if array.tobytes() != first}
        _demand_floats(changed)
        return changed
    mujoco = sys.modules["mujoco"]
    which = mujoco.mjtState.mjSTATE_INTEGRATION
    state = np.empty(mujoco.mj_stateSize(value.model, which))
    mujoco.mj_getState(value.model, value, state, which)
    return {STATE: state} | models.views(value)


def write(value: Any, stored: Arrays, models: Models) -> None:
    """Put back what `read` gave; ValueError if it is of another model."""
    if kind(value) == "MjModel":
        _demand_floats(stored)
        for name, array, first in models.first(value):
            _put(array, stored.get(name, np.frombuffer(first, array.dtype).reshape(array.shape)))
        return
    mujoco = sys.modules["mujoco"]
    which = mujoco.mjtState.mjSTATE_INTEGRATION
    state = stored.get(STATE)
    if state is None or state.dtype != np.float64 or state.shape != (mujoco.mj_stateSize(value.model, which),):
        raise ValueError("it is of another MuJoCo model")
    mujoco.mj_setState(value.model, value, state, which)
    mujoco.mj_forward(value.model, value)  # contacts, and what depends on them
    for name, array in models.views(value).items():
        _put(array, stored[name])


def _demand_floats(changed: Arrays) -> None:
    for name, array in changed.items():
        if array.dtype.kind != "f" and not POINTS_NOWHERE.search(name):
            raise ValueError(f"{name} of its MuJoCo model is changed while it runs")


def _put(live: Array, stored: Array) -> None:
    if live.shape != stored.shape or live.dtype != stored.dtype:
        raise ValueError("it is of another MuJoCo model")
    if live.flags.writeable:
        live[...] = stored


def _arrays(owner: Any) -> list[tuple[str, Array]]:
    found = ((name, getattr(owner, name, None)) for name in dir(type(owner)) if not name.startswith("_"))
    return [(name, array) for name, array in found if isinstance(array, np.ndarray) and array.dtype.kind in "biuf"]
