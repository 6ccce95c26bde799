"""Arrays in .npz and .npy files from outside: sizes are compared with the file's before memory is taken for them, and
nothing is ever unpickled."""

from __future__ import annotations

import math
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import IO

import numpy as np

LEAST_BOUND, MOST_PACKED = 2**28, 100  # bytes that any file may unpack to, and how many times its size beside them
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
DAMAGED = (zipfile.BadZipFile, zlib.error, tokenize.TokenError, ValueError, EOFError, OSError, MemoryError, SyntaxError,
           RuntimeError, ArithmeticError, TypeError, LookupError, AttributeError)  # of NumPy's and Python's readers


def check_members(members: list[zipfile.ZipInfo], size: int) -> None:
    """ValueError for an archive of `size` bytes that says of itself that it is far larger, before it is unpacked."""
    if any(member.flag_bits & 1 for member in members):
        raise ValueError("is locked with a password; save it without one")
    unpacked = sum(member.file_size for member in members)
    if unpacked > LEAST_BOUND + MOST_PACKED * size:
        raise ValueError(f"would unpack {size:,} bytes to {unpacked:,}, more than {MOST_PACKED} times as much; if that "
                         "is right, save it uncompressed with np.savez")


def misfit(file: IO[bytes], size: int) -> str | None:
    """How an array of `size` bytes is larger by its header than what is there; None where it is not."""
    if (reader := HEADERS.get(np.lib.format.read_magic(file))) is None:
        return None
    shape, _, dtype = reader(file)
    held = size - file.tell()
    if dtype.hasobject or math.prod(shape) * dtype.itemsize <= held:
        return None
    return f"its header says {shape} {dtype}, the file holds {held:,} bytes of it"


def read_npz(path: Path | str) -> dict[str, np.ndarray]:
    """The arrays of an .npz. ValueError, or OSError, for whatever is wrong with the file."""
    try:
        with zipfile.ZipFile(path) as archive:
            check_members(archive.infolist(), Path(path).stat().st_size)
            for member in archive.infolist():
                with archive.open(member) as file:
                    if wrong := misfit(file, member.file_size):
                        raise ValueError(f"array {member.filename!r} is damaged: {wrong}")
        with np.load(path, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays.files}
    except OSError:
        raise
    except DAMAGED as error:
        raise ValueError(str(error) or type(error).__name__) from None
    if others := [name for name, array in found.items() if not isinstance(array, np.ndarray)]:
        raise ValueError(f"member {others[0]!r} is not an array")
    return found


def read_npy(path: Path | str) -> np.ndarray:
    """The array of an .npy. ValueError, or OSError, for whatever is wrong with the file."""
    try:
        with open(path, "rb") as file:
            if wrong := misfit(file, Path(path).stat().st_size):
                raise ValueError(f"it is damaged: {wrong}")
        with open(path, "rb") as file:
            return np.lib.format.read_array(file, allow_pickle=False)
    except OSError:
        raise
    except DAMAGED as error:
        raise ValueError(str(error) or type(error).__name__) from None
