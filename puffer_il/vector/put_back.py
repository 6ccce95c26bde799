"""Putting a state that `snapshot` has read into live objects.

A checkpoint may come from anybody, so a state never decides what is executed, or which memory is touched:

- Whatever can be called, and every class, module and library's array, must be the very object that stands at that place
  in the live environment. It is neither moved, nor made, nor replaced, nor taken away.
- Other objects are made, without a call of `__init__`, of classes that the live environment has an object of. They get
  no attribute that hides a method, and none that Python or NumPy itself would look for.
- Text consists of words that the environment itself has, or is what stands at that place.
- Views lie within the array that they are of, and positions of generators within their tables.

What does not fit raises an exception, and `undo` then makes all live objects as they were. Whoever puts a state back
reads it again afterwards and compares.
"""

from __future__ import annotations

import copyreg
import enum
import functools
import random
import types
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np

from puffer_il.core.spec import Array
from puffer_il.vector import mujoco_state, snapshot
from puffer_il.vector.snapshot import LIMIT, Reader, Unreadable, fixed_name, is_fixed, told
from puffer_il.vector.state_bytes import dtype_of, scalar, whole_bytes
from puffer_il.vector.words import Words

FACTORIES = (int, float, bool, list, dict, set)  # of a defaultdict that is made anew
POSITIONS = {"MT19937": ("pos", 624), "Philox": ("buffer_pos", 4), "PCG64": None, "PCG64DXSM": None, "SFC64": None}


class Writer:
    """Puts nodes back; `known` has read the live objects."""

    def __init__(self, arrays: list[Array], known: Reader) -> None:
        self.arrays, self.known, self.words = arrays, known, Words(known.texts, known.classes.values())
        self._kinds: dict[str, Callable[[int, list, Any, str], Any]] = {
            "array": self._array, "part": self._part, "memory": self._memory, "theirs": self._theirs,
            "bits": self._bits, "generator": self._generator, "legacy": self._legacy, "random": self._random,
            "mapping": self._mapping, "sequence": self._sequence, "table": self._table,
            "range": functools.partial(self._range, range), "slice": functools.partial(self._range, slice),
            "space": self._space, "function": self._function, "partial": self._partial, "method": self._method,
            "fixed": self._fixed, "mujoco": self._mujoco, "object": self._object}
        self._made: dict[int, Any] = {}
        self._own: dict[int, Array] = {}  # by id: arrays that have been made here
        self._used: set[int] = set()
        self._undo: list[Callable[[], Any]] = []
        self._bytes = 0

    def write(self, node: Any, live: Any, path: str = "") -> Any:
        """What is to stand where `live` stands."""
        value = self._value(node, live, path)
        self._demand(value is live or not (self._stays(value) or self._stays(live)), path)
        return value

    def undo(self) -> None:
        """Make the live objects as they were."""
        while self._undo:
            self._undo.pop()()

    def legacy_state(self, node: Any, live: dict[str, Any], path: str = "") -> dict[str, Any]:
        """Of a RandomState or BitGenerator that has the state `live` now. NumPy believes any position in a table."""
        state = self.write(node, live, path)
        name = live["bit_generator"]
        self._demand(type(state) is dict and state.keys() == live.keys() and state["bit_generator"] == name
                     and name in POSITIONS, path)
        if limit := POSITIONS[name]:
            inner = state if limit[0] in state else state["state"]
            self._demand(type(inner[limit[0]]) is int and 0 <= inner[limit[0]] <= limit[1], path)
        return state

    def _stays(self, value: Any) -> bool:
        """Whether a value may only ever be where it is."""
        return callable(value) or is_fixed(value) or id(value) in self.known.lent

    def _value(self, node: Any, live: Any, path: str) -> Any:
        if isinstance(node, str):
            return self._text(node, live, path)
        if not isinstance(node, list):
            return node
        kind, *rest = node
        if kind == "number":
            number = scalar(*rest)
            same = type(number) is type(live) and number == live
            return number if same or not isinstance(number, str | bytes) else self._text(number, None, path)
        if kind == "bytes":
            self._demand(type(live) is bytes and live.hex() == rest[0], path)
            return live
        if kind == "enum":
            cls = self._class(rest[0], path)
            self._demand(issubclass(cls, enum.Enum), path)
            return cls[rest[1]]  # type: ignore[index]
        if kind == "again":
            return self._made[rest[0]]
        number, *rest = rest
        self._made[number] = live  # what is not made anew
        self._made[number] = value = self._kinds[kind](number, rest, live, path)
        return value

    def _text(self, text: Any, live: Any, path: str) -> Any:
        if not (isinstance(live, str) and live == text) and not (isinstance(text, str) and self.words.are(text)):
            raise Unreadable(f"{told(path)} is text that its environment does not have")
        return text

    def _take(self, place: Any, path: str) -> Array:
        array = self.arrays[place]
        self._bytes += array.nbytes
        self._demand(self._bytes <= LIMIT, path)
        return array

    def _array(self, number: int, rest: list, live: Any, path: str) -> Array:
        stored = self._take(rest[0], path)
        same = isinstance(live, np.ndarray) and live.dtype == stored.dtype and np.array_equal(live, stored)
        if stored.dtype.kind in "SU" and not same:
            for text in np.unique(stored).tolist():
                self._text(text, None, path)
        array = stored.copy(order="A")
        self._own[id(array)] = array
        return array

    def _part(self, number: int, rest: list, live: Any, path: str) -> Array:
        root, name, shape, offset, strides = rest
        whole, dtype = self.write(root, getattr(live, "base", None), path), dtype_of(name)
        self._demand(id(whole) in self._own and all(type(number) is int for number in (offset, *strides)), path)
        self._demand(len(strides) == len(shape) and whole_bytes(dtype, shape) <= LIMIT, path)
        if dtype.kind in "SUb":  # which were checked when the whole was made
            self._demand(dtype == whole.dtype and not any(n % dtype.itemsize for n in (offset, *strides)), path)
        reach = [(length - 1) * stride for length, stride in zip(shape, strides, strict=True)] if 0 not in shape else []
        first = offset + sum(min(0, steps) for steps in reach)
        last = offset + sum(max(0, steps) for steps in reach) + dtype.itemsize * (0 not in shape)
        self._demand(0 <= first <= last <= whole.nbytes, path)
        return np.ndarray(tuple(shape), dtype, whole, offset, tuple(strides))

    def _memory(self, number: int, rest: list, live: Any, path: str) -> Array:
        stored = self.arrays[rest[0]]
        self._demand(id(live) in self.known.lent and live.shape == stored.shape and live.dtype == stored.dtype, path)
        if not np.array_equal(live, stored, equal_nan=live.dtype.kind in "fc"):
            # The library may go where its whole numbers point to.
            self._demand(live.flags.writeable and live.dtype.kind in "fc", path)
        if live.flags.writeable:
            self._undo.append(functools.partial(np.copyto, live, live.copy()))
            live[...] = stored
        return live

    def _theirs(self, number: int, rest: list, live: Any, path: str) -> Any:
        self._demand(id(live) in self.known.lent, path)
        return live

    def _bits(self, number: int, rest: list, live: Any, path: str) -> Any:
        self._demand(isinstance(live, np.random.BitGenerator), path)
        before = live.state
        self._undo.append(lambda: setattr(live, "state", before))
        live.state = self.legacy_state(rest[0], before, path)
        return live

    def _generator(self, number: int, rest: list, live: Any, path: str) -> Any:
        self._demand(isinstance(live, np.random.Generator), path)
        self._demand(self.write(rest[0], live.bit_generator, path) is live.bit_generator, path)
        return live

    def _legacy(self, number: int, rest: list, live: Any, path: str) -> Any:
        self._demand(isinstance(live, np.random.RandomState), path)
        before = live.get_state(legacy=False)
        self._undo.append(lambda: live.set_state(before))
        live.set_state(self.legacy_state(rest[0], before, path))
        return live

    def _random(self, number: int, rest: list, live: Any, path: str) -> Any:
        self._demand(type(live) is random.Random, path)
        self._undo.append(functools.partial(live.setstate, live.getstate()))
        live.setstate(self.write(rest[0], None, path))
        return live

    def _mapping(self, number: int, rest: list, live: Any, path: str) -> Any:
        name, pairs, made_by = rest
        cls = {cls.__name__: cls for cls in snapshot.MAPPINGS}[name]
        made: Any = cls()
        if cls is defaultdict:
            made.default_factory = self._factory(made_by, getattr(live, "default_factory", None), path)
        self._made[number] = made
        before = live if isinstance(live, dict) else {}
        keys = [*before, *[None] * len(pairs)]
        for (node, value), old in zip(pairs, keys, strict=False):
            key = self.write(node, node if isinstance(node, str) and node in before else old, path)
            made[key] = self.write(value, before.get(key), f"{path}[{snapshot.shown(key)}]")
        return made

    def _factory(self, node: Any, live: Any, path: str) -> Any:
        kind, number, *name = node if isinstance(node, list) else ("", -1)
        for cls in FACTORIES:
            if name == [fixed_name(cls)] or (kind == "again" and self._made.get(number) is cls):
                self._made[number] = cls
                return cls
        return self.write(node, live, path)

    def _sequence(self, number: int, rest: list, live: Any, path: str) -> Any:
        name, parts, maxlen = rest
        cls: Any = {cls.__name__: cls for cls in snapshot.SEQUENCES}[name]
        before = list(live) if type(live) is cls else []
        before += [None] * (len(parts) - len(before))
        new = (self.write(part, old, f"{path}[{i}]") for i, (part, old) in enumerate(zip(parts, before, strict=False)))
        if cls.__name__ not in ("list", "deque"):
            return cls(list(new))
        self._made[number] = made = cls() if cls is list else cls(maxlen=maxlen)
        made.extend(new)
        return made

    def _range(self, cls: type, number: int, rest: list, live: Any, path: str) -> Any:
        parts = [self.write(node, None, path) for node in rest[0]]
        self._demand(all(part is None or isinstance(part, int | np.integer) for part in parts), path)
        return cls(*parts)

    def _table(self, number: int, rest: list, live: Any, path: str) -> Any:
        found = live if self.known.tables.digest(live) == rest[0] else self.known.tables.find(rest[0])
        self._demand(found is not None, path)
        return found

    def _space(self, number: int, rest: list, live: Any, path: str) -> Any:
        name, generator, inner = rest
        self._demand(isinstance(live, gymnasium.Space) and fixed_name(live) == name, path)
        made = self.write(generator, live._np_random, path)
        self._demand(made is None or isinstance(made, np.random.Generator), path)
        self._undo.append(functools.partial(setattr, live, "_np_random", live._np_random))
        live._np_random = made
        for node, space in zip(inner, snapshot.spaces_of(live), strict=True):
            self.write(node, space, path)
        return live

    def _function(self, number: int, rest: list, live: Any, path: str) -> Any:
        name, parts = rest
        self._demand(isinstance(live, types.FunctionType) and fixed_name(live) == name, path)
        for node, cell in zip(parts, snapshot.cells_of(live), strict=True):
            if (value := self.write(node, before := cell.cell_contents, f"{path}()")) is not before:
                self._undo.append(functools.partial(setattr, cell, "cell_contents", before))
                cell.cell_contents = value
        return live

    def _partial(self, number: int, rest: list, live: Any, path: str) -> Any:
        self._demand(type(live) is functools.partial, path)
        for node, part in zip(rest, (live.func, live.args, live.keywords), strict=True):
            self._demand(_same(self.write(node, part, path), part), path)
        return live

    def _method(self, number: int, rest: list, live: Any, path: str) -> Any:
        name, node = rest
        self._demand(isinstance(live, types.MethodType) and live.__func__.__qualname__ == name, path)
        self._demand(self.write(node, live.__self__, path) is live.__self__, path)
        return live

    def _fixed(self, number: int, rest: list, live: Any, path: str) -> Any:
        self._demand(is_fixed(live) and fixed_name(live) == rest[0], path)
        return live

    def _mujoco(self, number: int, rest: list, live: Any, path: str) -> Any:
        self._demand(bool(mujoco_state.kind(live)) and mujoco_state.kind(live) == rest[0], path)
        models = self.known.models
        before = {name: array.copy() for name, array in mujoco_state.read(live, models).items()}
        self._undo.append(lambda: mujoco_state.write(live, before, models))
        mujoco_state.write(live, {name: self.arrays[place] for name, place in rest[1].items()}, models)
        return live

    def _object(self, number: int, rest: list, live: Any, path: str) -> Any:
        name, attributes = rest
        if snapshot.name_of(live) != name or self.known.classes.get(name) is not type(live) or id(live) in self._used:
            cls = self._class(name, path)
            self._demand(cls.__new__ is object.__new__ and not hasattr(cls, "__del__"), path)
            live = object.__new__(cls)
        self._used.add(id(live))
        self._made[number] = live
        before = dict(snapshot.attributes_of(live))
        self._undo.append(functools.partial(_fill, live, before))
        self._demand(not any(self._stays(before[gone]) for gone in before.keys() - attributes.keys()), path)
        values = {}
        for attribute, node in attributes.items():
            self._demand(attribute in before or _is_free(type(live), attribute), path)
            values[attribute] = self.write(node, before.get(attribute), f"{path}.{attribute}")
        _fill(live, values)
        return live

    def _class(self, name: Any, path: str) -> type:
        self._demand(name in self.known.classes, path)
        return self.known.classes[name]

    def _demand(self, true: bool, path: str) -> None:
        if not true:
            raise Unreadable(f"{told(path)} is another now")


def _fill(owner: Any, values: dict[str, Any]) -> None:
    """Give it these attributes, in this order, and no other."""
    slots = copyreg._slotnames(type(owner))  # type: ignore[attr-defined]
    for slot in slots:
        if slot in values:
            object.__setattr__(owner, slot, values[slot])
        elif hasattr(owner, slot):
            object.__delattr__(owner, slot)
    if hasattr(owner, "__dict__"):
        own = {name: value for name, value in values.items() if name not in slots}
        if list(owner.__dict__) != list(own):
            owner.__dict__.clear()
        owner.__dict__.update(own)


def _is_free(cls: type, name: str) -> bool:
    """Whether an object that lacks an attribute may be given it."""
    if not name.isidentifier() or name.startswith("__"):
        return False
    found = next((vars(base)[name] for base in cls.__mro__ if name in vars(base)), None)
    return isinstance(found, types.MemberDescriptorType | functools.cached_property) or not (
        callable(found) or hasattr(type(found), "__get__"))


def _same(one: Any, other: Any) -> bool:
    """Whether values of a partial are what they were."""
    if one is other or type(one) is not type(other):
        return one is other
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return isinstance(one, bool | int | float | str | bytes | np.generic) and one == other
