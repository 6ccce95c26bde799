"""A state that `snapshot` has read, as bytes: a header of JSON, and the memory of the arrays."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from puffer_il.core.spec import Array
from puffer_il.vector.snapshot import KINDS, LIMIT, Unreadable

DAMAGED = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, SyntaxError, RecursionError)


def to_bytes(node: Any, arrays: list[Array]) -> Array:
    """uint8 (bytes,): its own length, the header's, JSON, and the arrays' memory."""
    header = json.dumps([node, [[array.dtype.str, list(array.shape), "C" if array.flags.c_contiguous else "F"]
                                for array in arrays]]).encode()
    if len(header) > LIMIT:
        raise Unreadable(f"it is larger than {LIMIT // 2**20} MiB")
    parts = [array.tobytes(order="A") for array in arrays]
    sizes = np.array([16 + len(header) + sum(map(len, parts)), len(header)], np.int64).tobytes()
    return np.frombuffer(b"".join([sizes, header, *parts]), np.uint8).copy()


def from_bytes(stored: Array) -> tuple[Any, list[Array]]:
    """What `to_bytes` was given; Unreadable if it is something else. More bytes may follow."""
    try:
        data = np.ascontiguousarray(stored, np.uint8).tobytes()
        size, header = (int(x) for x in np.frombuffer(data[:16], np.int64))
        if not 0 <= header <= min(LIMIT, size - 16):
            raise ValueError
        node, shapes = json.loads(data[16:16 + header])
        at, arrays = 16 + header, []
        for name, shape, order in shapes:
            dtype = dtype_of(name)
            memory = np.frombuffer(data, np.uint8, whole_bytes(dtype, shape), at)
            arrays.append(_checked(memory.view(dtype)).reshape(shape, order=order))
            at += memory.nbytes
        if at != size:
            raise ValueError
        return node, arrays
    except DAMAGED as error:
        raise Unreadable(f"the saved state is damaged ({type(error).__name__})") from None


def dtype_of(name: Any) -> np.dtype:
    """Of text in a state; Unreadable unless its memory may hold any bytes."""
    dtype = np.dtype(name) if type(name) is str else np.dtype(object)
    if dtype.kind not in KINDS or not dtype.itemsize:
        raise Unreadable(f"an array of {dtype}")
    return dtype


def whole_bytes(dtype: np.dtype, shape: Any) -> int:
    """How many bytes an array has; ValueError unless the shape is one."""
    total = dtype.itemsize
    for length in shape:
        if type(length) is not int or length < 0:
            raise ValueError(f"a length of {length!r}")
        total *= length
    return total


def scalar(name: Any, memory: Any) -> Any:
    """A number of NumPy; ValueError if it is none."""
    return _checked(np.frombuffer(bytes.fromhex(memory), dtype_of(name)))[0]


def _checked(array: Array) -> Array:
    """ValueError for truth values that are neither 0 nor 1, with which code in C may count wrongly."""
    if array.dtype.kind == "b" and array.size and array.view(np.uint8).max() > 1:
        raise ValueError("truth values that are none")
    return array
