"""The state of Python objects as plain values: numbers, text, arrays, and who refers to whom.

Nothing is pickled, because a checkpoint may come from anybody. A state only says values. Functions, classes and all
else that an environment consists of are those of the live one, found at the same place; an object that is not there is
made only of a class that the live environment has, without a call of its `__init__`. What cannot be read or put back
raises Unreadable. Whoever puts a state back reads it again afterwards and compares.
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
from typing import Any

import gymnasium
import numpy as np

from puffer_il.core.spec import Array
from puffer_il.vector import mujoco_state

LIMIT = 64 * 2**20  # bytes of a state
LARGE = 500  # parts of a table
PLAIN = (type(None), bool, int, float, str)
MAPPINGS = (dict, OrderedDict, defaultdict)
SEQUENCES = (list, tuple, set, frozenset, deque)
FIXED: tuple[type, ...] = (
    type, types.ModuleType, types.BuiltinFunctionType, types.MethodWrapperType, types.WrapperDescriptorType,
    np.dtype, np.ufunc, logging.Logger, range, slice, property, type(Ellipsis), re.Pattern,
    gymnasium.envs.registration.EnvSpec)
WORD = re.compile(r"[\w .,+-]{0,200}")  # text that is put back: no path, no address, nothing to be executed


class Unreadable(Exception):
    """What of an environment cannot be read or put back, and where it is."""


def _name(value: Any) -> str:
    cls = value if isinstance(value, type) else type(value)
    return f"{cls.__module__}.{cls.__qualname__}"


def _told(path: str) -> str:
    """A place for people, within one of several environments."""
    return path.partition("]")[2].lstrip(".") or "it"


def _is_python(cls: type) -> bool:
    """Whether all that instances hold are their attributes, as copyreg would decide it."""
    words = bool(cls.__dictoffset__) + bool(cls.__weakrefoffset__) + len(copyreg._slotnames(cls))  # type: ignore
    return not cls.__itemsize__ and cls.__basicsize__ <= object.__basicsize__ + 8 * words


def _attributes(value: Any) -> Iterator[tuple[str, Any]]:
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

    objects, fixed  what it has come by, by name: classes of objects; functions, spaces, …
    """

    def __init__(self, outside: Iterable[Array] = (), models: mujoco_state.Models | None = None,
                 tables: Tables | None = None) -> None:
        self.outside, self.models = list(outside), models or mujoco_state.Models()
        self.tables = tables or Tables()
        self.arrays: list[Array] = []
        self.classes: dict[str, type] = {}
        self.fixed: dict[str, list[Any]] = {}
        self._numbers: dict[int, int] = {}
        self._alive: list[Any] = []  # so that no id is given twice
        self._bytes = 0
        self._others = 0  # what is neither a plain value, nor a list, tuple or dict

    def read(self, value: Any, path: str = "") -> Any:
        """The node of a value."""
        if type(value) in PLAIN:
            return value
        if isinstance(value, np.generic) and not value.dtype.hasobject:
            return ["number", value.dtype.str, value.tobytes().hex()]
        if type(value) is bytes:
            return ["bytes", value.hex()]
        if isinstance(value, enum.Enum):
            self.classes[_name(value)] = type(value)
            return ["enum", _name(value), value.name]
        if id(value) in self._numbers:
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
            pairs = [[self.read(k, path), self.read(v, f"{path}[{k!r}]")] for k, v in value.items()]
            made_by = self.read(value.default_factory, path) if isinstance(value, defaultdict) else None
            return ["mapping", number, type(value).__name__, pairs, made_by]
        if type(value) in SEQUENCES:
            parts = [self.read(part, f"{path}[{place}]") for place, part in enumerate(value)]
            return ["sequence", number, type(value).__name__, parts, getattr(value, "maxlen", None)]
        if isinstance(value, gymnasium.Space):
            return ["space", number, self._remember(value), self.read(value._np_random, path),
                    [self.read(space, path) for space in _spaces_of(value)]]
        if isinstance(value, types.FunctionType):
            return ["function", number, self._remember(value),
                    [self.read(cell.cell_contents, f"{path}()") for cell in _cells_of(value)]]
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
        if isinstance(value, FIXED) or _name(value).startswith("puffer_il.core."):
            return ["fixed", number, self._remember(value)]
        return self._object(value, number, path)

    def _object(self, value: Any, number: int, path: str) -> Any:
        if not _is_python(type(value)):
            raise Unreadable(f"{_told(path)} is a {_name(value)}, whose state Python cannot read")
        self.classes[_name(value)] = type(value)
        return ["object", number, _name(value), {name: self.read(x, f"{path}.{name}")
                                                 for name, x in list(_attributes(value))}]

    def _array(self, value: Array, number: int, path: str) -> Any:
        if any(np.may_share_memory(value, memory) for memory in self.outside):
            return ["theirs", number]
        if value.dtype.hasobject or value.dtype.kind == "V":
            raise Unreadable(f"{_told(path)} is an array of {value.dtype}")
        root: Any = value
        while isinstance(root.base, np.ndarray):
            root = root.base
        if root.base is not None and type(root.base) is not bytes:  # memory of a library, in which it is written
            return ["memory", number, self.keep(value, path)]
        if root is value:
            return ["array", number, self.keep(value, path)]
        if type(root) is not np.ndarray or root.dtype.hasobject:
            raise Unreadable(f"{_told(path)} is a part of a {_name(root)}")
        offset = value.__array_interface__["data"][0] - root.__array_interface__["data"][0]
        return ["part", number, self.read(root, path), value.dtype.str, list(value.shape), offset, list(value.strides)]

    def keep(self, value: Array, path: str = "its rows") -> int:
        """The place of a copy among the arrays."""
        self._bytes += value.nbytes
        if self._bytes > LIMIT:
            raise Unreadable(f"with {_told(path)} it is larger than {LIMIT // 2**20} MiB")
        self.arrays.append(value.copy(order="A"))
        return len(self.arrays) - 1

    def _remember(self, value: Any) -> str:
        self.fixed.setdefault(_fixed_name(value), []).append(value)
        return _fixed_name(value)


class Writer:
    """Puts nodes back into live objects; `known` has read those."""

    def __init__(self, arrays: list[Array], known: Reader) -> None:
        self.arrays, self.known = arrays, known
        self._made: dict[int, Any] = {}
        self._used: set[int] = set()

    def write(self, node: Any, live: Any, path: str = "") -> Any:
        """What is to stand where `live` stands."""
        if not isinstance(node, list):
            if isinstance(node, str) and not (isinstance(live, str) and live == node) and not WORD.fullmatch(node):
                raise Unreadable(f"{_told(path)} is text that is more than words")
            return node
        kind, *rest = node
        if kind == "number":
            return np.frombuffer(bytes.fromhex(rest[1]), _dtype(rest[0]))[0]
        if kind == "bytes":
            return bytes.fromhex(rest[0])
        if kind == "enum":
            return self._class(rest[0], path)[rest[1]]  # type: ignore[index]
        if kind == "again":
            return self._made[rest[0]]
        number, *rest = rest
        self._made[number] = live  # what is not made anew
        self._made[number] = value = getattr(self, f"_{kind}")(number, rest, live, path)
        return value

    def _array(self, number: int, rest: list, live: Any, path: str) -> Array:
        return self.arrays[rest[0]].copy(order="A")

    def _part(self, number: int, rest: list, live: Any, path: str) -> Array:
        root, dtype, shape, offset, strides = rest
        whole = self.write(root, getattr(live, "base", None), path)
        return np.ndarray(tuple(shape), _dtype(dtype), whole, offset, tuple(strides))

    def _memory(self, number: int, rest: list, live: Any, path: str) -> Array:
        stored = self.arrays[rest[0]]
        self._demand(isinstance(live, np.ndarray) and live.shape == stored.shape and live.dtype == stored.dtype, path)
        if live.flags.writeable:
            live[...] = stored
        return live

    def _theirs(self, number: int, rest: list, live: Any, path: str) -> Any:
        self._demand(isinstance(live, np.ndarray), path)
        return live

    def _bits(self, number: int, rest: list, live: Any, path: str) -> Any:
        self._demand(isinstance(live, np.random.BitGenerator), path)
        live.state = self.write(rest[0], live.state, path)
        return live

    def _generator(self, number: int, rest: list, live: Any, path: str) -> Any:
        self._demand(isinstance(live, np.random.Generator), path)
        self._demand(self.write(rest[0], live.bit_generator, path) is live.bit_generator, path)
        return live

    def _legacy(self, number: int, rest: list, live: Any, path: str) -> Any:
        self._demand(isinstance(live, np.random.RandomState), path)
        live.set_state(self.write(rest[0], None, path))
        return live

    def _random(self, number: int, rest: list, live: Any, path: str) -> Any:
        self._demand(type(live) is random.Random, path)
        live.setstate(self.write(rest[0], None, path))
        return live

    def _mapping(self, number: int, rest: list, live: Any, path: str) -> Any:
        name, pairs, made_by = rest
        cls = {cls.__name__: cls for cls in MAPPINGS}[name]
        factory = self.write(made_by, getattr(live, "default_factory", None), path)
        made: Any = cls(factory) if cls is defaultdict else cls()
        self._made[number] = made
        before = live if isinstance(live, dict) else {}
        for key, value in pairs:
            key = self.write(key, None, path)
            made[key] = self.write(value, before.get(key), f"{path}[{key!r}]")
        return made

    def _sequence(self, number: int, rest: list, live: Any, path: str) -> Any:
        name, parts, maxlen = rest
        cls: Any = {cls.__name__: cls for cls in SEQUENCES}[name]
        before = list(live) if type(live) is cls else []
        before += [None] * (len(parts) - len(before))
        if cls in (list, deque):
            self._made[number] = made = cls() if cls is list else cls(maxlen=maxlen)
            made.extend(self.write(part, old, f"{path}[{i}]") for i, (part, old) in
                        enumerate(zip(parts, before, strict=False)))
            return made
        return cls([self.write(part, old, f"{path}[{i}]") for i, (part, old) in
                    enumerate(zip(parts, before, strict=False))])

    def _table(self, number: int, rest: list, live: Any, path: str) -> Any:
        found = live if self.known.tables.digest(live) == rest[0] else self.known.tables.find(rest[0])
        self._demand(found is not None, path)
        return found

    def _space(self, number: int, rest: list, live: Any, path: str) -> Any:
        name, generator, inner = rest
        live = self._found(name, live, path)
        live._np_random = self.write(generator, live._np_random, path)
        for node, space in zip(inner, _spaces_of(live), strict=True):
            self.write(node, space, path)
        return live

    def _function(self, number: int, rest: list, live: Any, path: str) -> Any:
        name, parts = rest
        live = self._found(name, live, path)
        for node, cell in zip(parts, _cells_of(live), strict=True):
            if (value := self.write(node, cell.cell_contents, f"{path}()")) is not cell.cell_contents:
                cell.cell_contents = value
        return live

    def _partial(self, number: int, rest: list, live: Any, path: str) -> Any:
        self._demand(type(live) is functools.partial, path)
        inner = zip(rest, (live.func, live.args, live.keywords), strict=True)
        function, args, keywords = (self.write(node, part, path) for node, part in inner)
        self._demand(callable(function), path)
        return functools.partial(function, *args, **keywords)

    def _method(self, number: int, rest: list, live: Any, path: str) -> Any:
        name, node = rest
        self._demand(isinstance(live, types.MethodType) and live.__func__.__qualname__ == name, path)
        return types.MethodType(live.__func__, self.write(node, live.__self__, path))

    def _fixed(self, number: int, rest: list, live: Any, path: str) -> Any:
        return self._found(rest[0], live, path)

    def _mujoco(self, number: int, rest: list, live: Any, path: str) -> Any:
        self._demand(mujoco_state.kind(live) == rest[0], path)
        mujoco_state.write(live, {name: self.arrays[place] for name, place in rest[1].items()}, self.known.models)
        return live

    def _object(self, number: int, rest: list, live: Any, path: str) -> Any:
        name, attributes = rest
        if _name(live) != name or id(live) in self._used:
            cls = self._class(name, path)
            self._demand(cls.__new__ is object.__new__ and not hasattr(cls, "__del__"), path)
            live = object.__new__(cls)
        self._used.add(id(live))
        self._made[number] = live
        before = dict(_attributes(live))
        for gone in before.keys() - attributes.keys():
            object.__delattr__(live, gone)
        for attribute, node in attributes.items():
            value = self.write(node, before.get(attribute), f"{path}.{attribute}")
            if attribute not in before or value is not before[attribute]:
                _set(live, attribute, value)
        return live

    def _class(self, name: str, path: str) -> type:
        self._demand(name in self.known.classes, path)
        return self.known.classes[name]

    def _found(self, name: str, live: Any, path: str) -> Any:
        """`live` itself if it has that name, or the only one of that name that the live environment has."""
        if _fixed_name(live) == name:
            return live
        others = self.known.fixed.get(name, [])
        self._demand(len(others) == 1, path)
        return others[0]

    def _demand(self, true: bool, path: str) -> None:
        if not true:
            raise Unreadable(f"{_told(path)} is another now")


def _set(owner: Any, name: str, value: Any) -> None:
    if name in copyreg._slotnames(type(owner)):  # type: ignore[attr-defined]
        object.__setattr__(owner, name, value)
    else:
        owner.__dict__[name] = value


def _spaces_of(space: Any) -> list[Any]:
    inner = getattr(space, "spaces", ())
    return list(inner.values() if hasattr(inner, "values") else inner)


def _cells_of(function: Any) -> list[types.CellType]:
    """The variables of outer functions that a function has a value of."""
    def is_filled(cell: types.CellType) -> bool:
        try:
            return bool([cell.cell_contents])
        except ValueError:
            return False

    return [cell for cell in function.__closure__ or () if is_filled(cell)]


def _fixed_name(value: Any) -> str:
    qualified = getattr(value, "__qualname__", None)
    return f"{_name(value)} {value.__module__}.{qualified}" if isinstance(qualified, str) else _name(value)


def _structure(value: Any) -> Any:
    """A copy of nested lists, tuples and dicts, with the same leaves."""
    if type(value) is dict:
        return {key: _structure(part) for key, part in value.items()}
    return type(value)(map(_structure, value)) if type(value) in (list, tuple) else value


def _dtype(name: str) -> np.dtype:
    dtype = np.dtype(name)
    if dtype.hasobject or dtype.kind == "V":
        raise Unreadable(f"an array of {dtype}")
    return dtype


def to_bytes(node: Any, arrays: list[Array]) -> Array:
    """uint8 (bytes,): its own length, the header's, JSON, and the arrays' memory."""
    header = json.dumps([node, [[array.dtype.str, list(array.shape), "C" if array.flags.c_contiguous else "F"]
                                for array in arrays]]).encode()
    parts = [array.tobytes(order="A") for array in arrays]
    sizes = np.array([16 + len(header) + sum(map(len, parts)), len(header)], np.int64).tobytes()
    return np.frombuffer(b"".join([sizes, header, *parts]), np.uint8).copy()


def from_bytes(stored: Array) -> tuple[Any, list[Array]]:
    """What `to_bytes` was given; Unreadable if it is something else. More bytes may follow."""
    try:
        data = np.ascontiguousarray(stored, np.uint8).tobytes()
        size, header = (int(x) for x in np.frombuffer(data[:16], np.int64))
        node, shapes = json.loads(data[16:16 + header])
        at, arrays = 16 + header, []
        for dtype, shape, order in shapes:
            count = int(np.prod(shape, dtype=np.int64))
            array = np.frombuffer(data, _dtype(dtype), count, at).reshape(shape, order=order)
            arrays.append(array)
            at += array.nbytes
        if at != size:
            raise ValueError
        return node, arrays
    except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, SyntaxError, RecursionError) as error:
        raise Unreadable(f"the saved state is damaged ({type(error).__name__})") from None
