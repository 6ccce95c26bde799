"""The state of Python objects as plain values: numbers, text, arrays, and who refers to whom.

Nothing is pickled, because a checkpoint may come from anybody: a state only says values. `put_back` says how they are
taken up again, and `state_bytes` how they are stored. What cannot be read raises Unreadable.
"""

from __future__ import annotations

import copyreg
import enum
import functools
import json
import logging
import random
import re
import types
from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import PurePath
from typing import Any

import gymnasium
import numpy as np

from puffer_il.core.spec import Array
from puffer_il.vector import mujoco_state

LIMIT = 64 * 2**20  # bytes of a state
KINDS = "biufcmMSU"  # of dtypes whose memory holds values alone, and no addresses
LARGE = 500  # parts of a table
PLAIN = (type(None), bool, int, float, str)
MAPPINGS = (dict, OrderedDict, defaultdict)
SEQUENCES = (list, tuple, set, frozenset, deque)
FIXED: tuple[type, ...] = (
    type, types.ModuleType, types.BuiltinFunctionType, types.MethodWrapperType, types.WrapperDescriptorType,
    np.dtype, np.ufunc, logging.Logger, property, type(Ellipsis), re.Pattern, PurePath,
    gymnasium.envs.registration.EnvSpec)


class Unreadable(Exception):
    """What of an environment cannot be read or put back, and where it is."""


def name_of(value: Any) -> str:
    cls = value if isinstance(value, type) else type(value)
    return f"{cls.__module__}.{cls.__qualname__}"


def told(path: str) -> str:
    """A place for people, within one of several environments."""
    return path.partition("]")[2].lstrip(".") or "it"


def _is_python(cls: type) -> bool:
    """Whether all that instances hold are their attributes, as copyreg would decide it."""
    words = bool(cls.__dictoffset__) + bool(cls.__weakrefoffset__) + len(copyreg._slotnames(cls))  # type: ignore
    return not cls.__itemsize__ and cls.__basicsize__ <= object.__basicsize__ + 8 * words


def attributes_of(value: Any) -> Iterator[tuple[str, Any]]:
    yield from getattr(value, "__dict__", {}).items()
    for name in copyreg._slotnames(type(value)):  # type: ignore[attr-defined]
        if hasattr(value, name):
            yield name, getattr(value, name)


class Tables:
    """Large lists and dicts of nothing but numbers and text, such as an environment's table of transitions, that are as
    they were when they were first read. It is faster to compare than to read them, and they need not be stored."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Any, Any, str]] = {}  # by id: itself, a copy with the same leaves, a digest

    def add(self, value: Any, node: Any) -> None:
        self._known[id(value)] = value, _structure(value), sha256(json.dumps(node).encode()).hexdigest()

    def digest(self, value: Any) -> str:
        """ "" unless it is a table and has not changed."""
        same, copy, digest = self._known.get(id(value), (None, None, ""))
        return digest if same is value and same == copy else ""

    def find(self, digest: str) -> Any:
        return next((value for value, _, known in self._known.values() if known == digest == self.digest(value)), None)


class Reader:
    """Reads objects into nodes of JSON and a list of arrays. `outside`: memory that belongs to others. `models` and
    `tables` know what was there from the start.

    classes  of the objects that it has come by, by name
    texts    that it has come by
    lent     ids of arrays in memory that belongs to others, or to a library
    """

    def __init__(self, outside: Iterable[Array] = (), models: mujoco_state.Models | None = None,
                 tables: Tables | None = None) -> None:
        self.outside, self.models = list(outside), models or mujoco_state.Models()
        self.tables = tables or Tables()
        self.arrays: list[Array] = []
        self.classes: dict[str, type] = {}
        self.texts: set[str] = set()
        self.lent: set[int] = set()
        self._numbers: dict[int, int] = {}
        self._alive: list[Any] = []  # so that no id is given twice
        self._bytes = 0
        self._others = 0  # what is neither a plain value, nor a list, tuple or dict

    def read(self, value: Any, path: str = "") -> Any:
        """The node of a value."""
        if type(value) in PLAIN:
            if type(value) is str:
                self.texts.add(value)
            return value
        if isinstance(value, np.generic) and value.dtype.kind in KINDS:
            return ["number", value.dtype.str, value.tobytes().hex()]
        if type(value) is bytes:
            return ["bytes", value.hex()]
        if isinstance(value, enum.Enum):
            self.classes[name_of(value)] = type(value)
            return ["enum", name_of(value), value.name]
        if id(value) in self._numbers:
            self._others += 1  # a table must not refer to what is read, and put back, elsewhere
            return ["again", self._numbers[id(value)]]
        number = self._numbers[id(value)] = len(self._numbers)
        self._alive.append(value)
        if type(value) not in (dict, list):
            self._others += type(value) is not tuple
            return self._read(value, number, path)
        if digest := self.tables.digest(value):
            return ["table", number, digest]
        others = self._others
        node = self._read(value, number, path)
        if self.models.open and len(self._numbers) - number > LARGE and self._others == others:
            self.tables.add(value, node)
        return node

    def _read(self, value: Any, number: int, path: str) -> Any:
        if type(value) is np.ndarray:
            return self._array(value, number, path)
        if isinstance(value, np.random.Generator):
            return ["generator", number, self.read(value.bit_generator, path)]
        if isinstance(value, np.random.RandomState):  # which keeps the second of two normal numbers
            return ["legacy", number, self.read(value.get_state(legacy=False), path)]
        if isinstance(value, np.random.BitGenerator):
            return ["bits", number, self.read(value.state, path)]
        if type(value) is random.Random:
            return ["random", number, self.read(value.getstate(), path)]
        if type(value) in MAPPINGS:
            pairs = [[self.read(k, path), self.read(v, f"{path}[{shown(k)}]")] for k, v in value.items()]
            made_by = self.read(value.default_factory, path) if isinstance(value, defaultdict) else None
            return ["mapping", number, type(value).__name__, pairs, made_by]
        if type(value) in SEQUENCES:
            parts = [self.read(part, f"{path}[{place}]") for place, part in enumerate(value)]
            return ["sequence", number, type(value).__name__, parts, getattr(value, "maxlen", None)]
        if isinstance(value, gymnasium.Space):
            return ["space", number, fixed_name(value), self.read(value._np_random, path),
                    [self.read(space, path) for space in spaces_of(value)]]
        if isinstance(value, types.FunctionType):
            return ["function", number, fixed_name(value),
                    [self.read(cell.cell_contents, f"{path}()") for cell in cells_of(value)]]
        if isinstance(value, types.MethodType):
            return ["method", number, value.__func__.__qualname__, self.read(value.__self__, path)]
        if type(value) is functools.partial:
            return ["partial", number, *(self.read(part, path) for part in (value.func, value.args, value.keywords))]
        if mujoco_state.kind(value):
            try:
                found = mujoco_state.read(value, self.models)
            except ValueError as error:
                raise Unreadable(f"{path}: {error}") from None
            return ["mujoco", number, mujoco_state.kind(value), {k: self.keep(v, path) for k, v in found.items()}]
        if type(value) in (range, slice):
            return [type(value).__name__, number,
                    [self.read(part, path) for part in (value.start, value.stop, value.step)]]
        if is_fixed(value):
            return ["fixed", number, fixed_name(value)]
        return self._object(value, number, path)

    def _object(self, value: Any, number: int, path: str) -> Any:
        if not _is_python(type(value)):
            raise Unreadable(f"{told(path)} is a {name_of(value)}, whose state Python cannot read")
        self.classes[name_of(value)] = type(value)
        return ["object", number, name_of(value), {name: self.read(x, f"{path}.{name}")
                                                 for name, x in list(attributes_of(value))}]

    def _array(self, value: Array, number: int, path: str) -> Any:
        if any(np.may_share_memory(value, memory) for memory in self.outside):
            self.lent.add(id(value))
            return ["theirs", number]
        if value.dtype.kind not in KINDS:
            raise Unreadable(f"{told(path)} is an array of {value.dtype}")
        root: Any = value
        while isinstance(root.base, np.ndarray):
            root = root.base
        if root.base is not None and type(root.base) is not bytes:  # memory of a library, in which it is written
            self.lent.add(id(value))
            return ["memory", number, self.keep(value, path)]
        if root is value:
            return ["array", number, self.keep(value, path)]
        if type(root) is not np.ndarray or root.dtype.hasobject:
            raise Unreadable(f"{told(path)} is a part of a {name_of(root)}")
        offset = value.__array_interface__["data"][0] - root.__array_interface__["data"][0]
        return ["part", number, self.read(root, path), value.dtype.str, list(value.shape), offset, list(value.strides)]

    def keep(self, value: Array, path: str = "its rows") -> int:
        """The place of a copy among the arrays."""
        self._bytes += value.nbytes
        if self._bytes > LIMIT:
            raise Unreadable(f"with {told(path)} it is larger than {LIMIT // 2**20} MiB")
        self.arrays.append(value.copy(order="A"))
        return len(self.arrays) - 1


def spaces_of(space: Any) -> list[Any]:
    inner = getattr(space, "spaces", ())
    return list(inner.values() if hasattr(inner, "values") else inner)


def cells_of(function: Any) -> list[types.CellType]:
    """The variables of outer functions that a function has a value of."""
    def is_filled(cell: types.CellType) -> bool:
        try:
            return bool([cell.cell_contents])
        except ValueError:
            return False

    return [cell for cell in function.__closure__ or () if is_filled(cell)]


def is_fixed(value: Any) -> bool:
    """Whether it is a part of the program, such as a function, a class or a module, rather than of its state."""
    return isinstance(value, FIXED) or name_of(value).startswith("puffer_il.core.")


def fixed_name(value: Any) -> str:
    if isinstance(value, types.ModuleType):
        return f"module {value.__name__}"
    if isinstance(value, np.dtype | re.Pattern | PurePath):
        return repr(value)
    qualified = getattr(value, "__qualname__", None)
    return f"{name_of(value)} {value.__module__}.{qualified}" if isinstance(qualified, str) else name_of(value)


def shown(key: Any) -> str:
    """A key in a path; only values of Python's own are asked how they are written."""
    short = type(key) in (str, bool, float) or (type(key) is int and key.bit_length() < 64)
    return repr(key)[:40] if short else type(key).__name__


def _structure(value: Any) -> Any:
    """A copy of nested lists, tuples and dicts, with the same leaves."""
    if type(value) is dict:
        return {key: _structure(part) for key, part in value.items()}
    return type(value)(map(_structure, value)) if type(value) in (list, tuple) else value
