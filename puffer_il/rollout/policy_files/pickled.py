"""What a pickle says, read without unpickling: nothing is imported, called or built.

A pickle is a program for a machine with a stack. Here its instructions only write down what they would have done:
"call this name with these arguments" becomes a `Call`. Numbers, strings, lists and dicts are themselves; NumPy's own
calls are recognised by their names and turned into arrays of plain numbers by `array`.
"""

from __future__ import annotations

import pickletools
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from puffer_il.core.spec import Array

MARK = object()
MOST_NUMBERS = 1_000_000  # in lists; larger arrays are bytes
PLAIN = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
IGNORED = {"PROTO", "FRAME"}
NUMPY_MULTIARRAY = ("numpy.core.multiarray", "numpy._core.multiarray")


class Unreadable(ValueError):
    """The pickle is damaged, or says something that is not data."""


@dataclass(frozen=True)
class Name:
    """A class or function that the pickle names."""

    module: str
    name: str


@dataclass
class Call:
    """An object that the pickle would have built by calling `name`."""

    name: Any
    args: tuple[Any, ...]
    state: Any = None
    items: dict[Any, Any] = field(default_factory=dict)
    rows: list[Any] = field(default_factory=list)

    def is_a(self, name: str) -> bool:
        return isinstance(self.name, Name) and self.name.name == name


def read(data: bytes) -> Any:
    """The outermost object of a pickle. Unreadable if it is damaged or holds what only unpickling could tell."""
    try:
        return _Reader().run(data)
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, UnicodeError) as error:
        raise Unreadable(str(error)) from None


class _Reader:
    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, data: bytes) -> Any:
        for opcode, arg, _ in pickletools.genops(data):
            if opcode.name == "STOP" and self.stack[-1] is not MARK:
                return self.stack.pop()
            self._step(opcode.name, arg)
        raise Unreadable("it has no end")

    def _step(self, code: str, arg: Any) -> None:
        stack = self.stack
        if code in IGNORED:
            return
        if code in PLAIN:
            stack.append(PLAIN[code])
        elif code == "MARK":
            stack.append(MARK)
        elif code.startswith("EMPTY_"):
            stack.append({"EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_DICT": dict, "EMPTY_SET": set}[code]())
        elif code in ("MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[len(self.memo) if code == "MEMOIZE" else int(arg)] = stack[-1]
        elif code in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self.memo[int(arg)])
        elif code == "POP":
            stack.pop()
        elif code == "DUP":
            stack.append(stack[-1])
        elif method := getattr(self, f"_{code.lower()}", None):
            method(arg)
        elif arg is not None and not code.startswith(("PERSID", "EXT", "INST")):
            stack.append(arg)  # a number, a string or bytes
        else:
            raise Unreadable(f"instruction {code} is not data")

    def _pop_mark(self, _: Any = None) -> list[Any]:
        above: list[Any] = []
        while (top := self.stack.pop()) is not MARK:
            above.append(top)
        return above[::-1]

    def _tuple(self, _: Any) -> None:
        self.stack.append(tuple(self._pop_mark()))

    def _tuples(self, count: int) -> None:
        self.stack[-count:] = [tuple(self.stack[-count:])]

    def _tuple1(self, _: Any) -> None:
        self._tuples(1)

    def _tuple2(self, _: Any) -> None:
        self._tuples(2)

    def _tuple3(self, _: Any) -> None:
        self._tuples(3)

    def _list(self, _: Any) -> None:
        self.stack.append(self._pop_mark())

    def _dict(self, _: Any) -> None:
        flat = self._pop_mark()
        self.stack.append(dict(zip(flat[::2], flat[1::2], strict=True)))

    def _frozenset(self, _: Any) -> None:
        self.stack.append(frozenset(self._pop_mark()))

    def _additems(self, _: Any) -> None:
        members = self._pop_mark()
        self.stack[-1].update(members)

    def _append(self, _: Any) -> None:
        self._extend([self.stack.pop()])

    def _appends(self, _: Any) -> None:
        self._extend(self._pop_mark())

    def _extend(self, members: list[Any]) -> None:
        target = self.stack[-1]
        (target.rows if isinstance(target, Call) else target).extend(members)

    def _setitem(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._update({key: value})

    def _setitems(self, _: Any) -> None:
        flat = self._pop_mark()
        self._update(dict(zip(flat[::2], flat[1::2], strict=True)))

    def _update(self, items: dict[Any, Any]) -> None:
        target = self.stack[-1]
        (target.items if isinstance(target, Call) else target).update(items)

    def _global(self, arg: str) -> None:
        self.stack.append(Name(*arg.split(" ", 1)))

    def _stack_global(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.stack.append(Name(module, name))

    def _reduce(self, _: Any) -> None:
        args, name = self.stack.pop(), self.stack.pop()
        self.stack.append(Call(name, tuple(args)))

    def _newobj(self, _: Any) -> None:
        self._reduce(None)

    def _newobj_ex(self, _: Any) -> None:
        self.stack.pop()  # keyword arguments: nothing that is read here has them
        self._reduce(None)

    def _build(self, _: Any) -> None:
        state = self.stack.pop()
        self.stack[-1].state = state


def array(value: Any) -> Array:
    """A number, list, or NumPy array or scalar of plain numbers, as an array. Unreadable for anything else."""
    try:
        return _array(value)
    except Unreadable:
        raise
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, SyntaxError) as error:
        raise Unreadable(str(error)) from None


def _array(value: Any) -> Array:
    if isinstance(value, bool | int | float | list | tuple):
        _check_size(value)
        result = np.array(value)
        if result.dtype.kind in "biuf":
            return result
    if isinstance(value, Call) and isinstance(value.name, Name):
        name, args = value.name, value.args
        if name.module in NUMPY_MULTIARRAY and name.name == "scalar":
            return _numbers(args[1], args[0], ())
        if name.module in NUMPY_MULTIARRAY and name.name == "_reconstruct" and value.state is not None:
            _, shape, dtype, fortran, data = value.state
            return _numbers(data, dtype, shape, "F" if fortran else "C")
        if name.name == "_frombuffer" and name.module.startswith("numpy"):
            return _numbers(args[0], args[1], args[2], args[3])
    raise Unreadable("what should be numbers is something else")


def _check_size(value: Any) -> None:
    """Unreadable for lists of lists that are far more than the pickle: it may name one many times, or within itself."""
    waiting, seen = [value], 0
    while waiting:
        inner = waiting.pop()
        seen += 1
        if seen > MOST_NUMBERS:
            raise Unreadable(f"what should be numbers are more than {MOST_NUMBERS:,}")
        if isinstance(inner, list | tuple):
            waiting += inner
        elif not isinstance(inner, bool | int | float):
            raise Unreadable("what should be numbers is something else")


def _numbers(data: Any, dtype: Any, shape: Any, order: Any = "C") -> Array:
    if isinstance(data, Call) and data.name == Name("_codecs", "encode"):  # bytes, as protocols 0 to 2 write them
        data = data.args[0].encode("latin1")
    elif isinstance(data, Call) and data.name == Name("__builtin__", "bytes") and not data.args:
        data = b""
    known = isinstance(dtype, Call) and dtype.name == Name("numpy", "dtype")
    if not known or not isinstance(data, bytes | bytearray):
        raise Unreadable("what should be numbers is something else")
    kind = np.dtype(str(dtype.args[0]))
    if kind.kind not in "biuf":
        raise Unreadable(f"an array has dtype {kind}")
    if dtype.state is not None and dtype.state[1] == ">":
        kind = kind.newbyteorder(">")
    return np.frombuffer(bytes(data), kind).reshape(tuple(shape), order="F" if order == "F" else "C")
