"""HDF5 files from outside: the one door to h5py.

A file is opened for reading only. Nothing outside it is read: links, virtual datasets and datasets that lie in other
files are refused. Nothing in it is decoded but numbers and single texts. Sizes are compared with the file's before
memory is taken for them. Every defect is one line that names the file.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from puffer_il.core.errors import InputError, one_line
from puffer_il.core.npz import LEAST_BOUND, MOST_PACKED
from puffer_il.core.spec import Array
from puffer_il.demos.rows import PIECE_BYTES, Lazy
from puffer_il.demos.tried import check_hdf5

MAGIC, USER_BLOCKS = b"\x89HDF\r\n\x1a\n", (0, 512, 1024, 2048)  # MATLAB's files begin with a block of its own
MOST_MEMBERS, MOST_DEPTH, MOST_TEXT = 1_000_000, 16, 2**24  # of a group; groups in groups; bytes of a text
FEW_PARTS = 4096  # chunks that any array may be cut into; HDF5 takes memory for each
MOST_OPEN = 64  # groups that are kept open
DAMAGED = (OSError, ValueError, RuntimeError, KeyError, TypeError, MemoryError, NotImplementedError, LookupError,
           ArithmeticError, AttributeError)  # of h5py, which turns what the C library says into any of these


def is_hdf5(path: Path) -> bool:
    """Whether a file's content says so, whatever its name is."""
    with path.open("rb") as file:
        return any(file.seek(place) == place and file.read(8) == MAGIC for place in USER_BLOCKS)


class Hdf5:
    """A file: `where` begins every message, `source` is its path. A context manager.

    Members are named by paths, "data/demo_0/actions". Raises InputError for a file that cannot be opened, and where the
    extra `hdf5` is missing.
    """

    def __init__(self, path: Path | str) -> None:
        self.source, self.where = str(path), f"demos {path}"
        try:
            import h5py
        except ImportError as error:
            self.refuse(f"is an HDF5 file, which needs h5py ({one_line(error)}); pip install 'puffer-il[hdf5]'")
        size = Path(path).stat().st_size
        check_hdf5(path, self.where)
        self._h5py, self._room = h5py, [LEAST_BOUND + MOST_PACKED * size]
        self._most_parts = max(FEW_PARTS, size // 8)  # a chunk that was written has an address of 8 bytes
        try:
            self._file = h5py.File(path, "r", locking="best-effort")
        except DAMAGED as error:
            self.refuse(f"cannot be opened ({one_line(error)}); copy it again, or close the program that writes it")
        self._groups: dict[str, Any] = {"": self._file}  # opened before, by their paths

    def __enter__(self) -> Hdf5:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def names(self, below: str = "") -> list[str]:
        """The members of a group (of the file itself), with numbers in their names in order: demo_2 before demo_10."""
        try:
            group = self._item(below)
            if not isinstance(group, self._h5py.Group):
                return []
            if len(group) > MOST_MEMBERS:
                self.refuse(f"{below or 'the file'} has {len(group):,} members, more than {MOST_MEMBERS:,}; split it")
            return sorted(group, key=in_order)
        except DAMAGED as error:
            self._damaged(below or "the file", error)

    def numbered(self, pattern: str, below: str = "") -> list[str]:
        """The paths of a group's members that are called so: "demo_*" for demo_0, demo_1, … Gaps may be."""
        parts = re.compile("(\\d+)".join(re.escape(part) for part in pattern.split("*")))
        return [f"{below}/{name}".lstrip("/") for name in self.names(below) if parts.fullmatch(name)]

    def find(self, pattern: str) -> str | None:
        """The path of the first member that is called so ("data/demo_*/obs"), None for none."""
        found = [""]
        for part in pattern.split("/"):
            found = [f"{below}/{name}".lstrip("/") for below in found[:1] for name in self.names(below)
                     if fnmatchcase(name, part)]
        return found[0] if found else None

    def __contains__(self, key: str) -> bool:
        above, _, name = key.rpartition("/")
        if above and above not in self._groups and (above not in self or not self.is_group(above)):
            return False
        try:
            return self._link(self._item(above), name) is not None
        except DAMAGED as error:
            self._damaged(key, error)

    def is_group(self, key: str) -> bool:
        return key in self and isinstance(self._item(key), self._h5py.Group)

    def links_to_group(self, key: str) -> bool:
        """The same, False for a link, which is listed and not followed."""
        try:
            return self.is_group(key)
        except InputError:
            return False

    def shape(self, key: str) -> tuple[int, ...]:
        """Of an array of numbers, of which nothing is read yet."""
        return tuple(self._checked(key, self._item(key)).shape)

    def row_shape(self, key: str) -> tuple[int, ...] | None:
        """The shape of a row, of which nothing is read yet; None where rows are bytes of different lengths."""
        dataset = self._item(key)
        ragged = self._is_ragged(dataset)
        return None if ragged else tuple(self._checked(key, dataset).shape[1:])

    def pieces(self, key: str, unpacked: int) -> tuple[int, Iterator[bytes]]:
        """Rows of bytes, of one length or of different ones, that stand for `unpacked` bytes each: how many, and each
        as it is asked for."""
        dataset = self._item(key)
        if not self._is_ragged(dataset):
            self._checked(key, dataset)
            if dataset.dtype != np.uint8 or dataset.ndim != 2:
                self.refuse(f"{key} is {dataset.dtype} {dataset.shape}, neither pictures nor packed ones")
        self._check_room(key, len(dataset) * unpacked)
        self._room[0] -= len(dataset) * unpacked
        return len(dataset), (self._piece(key, dataset, row) for row in range(len(dataset)))

    def _piece(self, key: str, dataset: Any, row: int) -> bytes:
        try:
            return bytes(dataset[row])
        except DAMAGED as error:
            self._damaged(f"{key} row {row}", error)

    def _is_ragged(self, dataset: Any) -> bool:
        """Whether it holds rows of bytes of different lengths, in this file."""
        return (isinstance(dataset, self._h5py.Dataset) and self._h5py.check_vlen_dtype(dataset.dtype) == np.uint8
                and dataset.ndim == 1 and not dataset.is_virtual and not dataset.external)

    def rows(self, key: str, part: slice | None = None) -> Array:
        """A dataset of plain numbers with at least one axis, or some of its rows."""
        return self._rows(key, self._item(key), part)

    def lazy(self, key: str) -> Lazy:
        """The same, to be read a piece after the other."""
        dataset = self._checked(key, self._item(key))
        if dataset.ndim == 0:
            return Lazy((), dataset.dtype, lambda: iter(()))
        return Lazy(dataset.shape, dataset.dtype, lambda: self._blocks(key, dataset))

    def _blocks(self, key: str, dataset: Any) -> Iterator[Array]:
        """Its rows, about PIECE_BYTES at a time: whole chunks, each of which is unpacked once."""
        row = math.prod(dataset.shape[1:]) * dataset.dtype.itemsize
        chunk = dataset.chunks[0] if dataset.chunks else 1
        size = -(-max(1, PIECE_BYTES // max(1, row)) // chunk) * chunk
        for first in range(0, len(dataset), size):
            yield self._read(key, dataset, slice(first, min(first + size, len(dataset))))

    def get(self, key: str) -> Array | None:
        """The same, None where there is no such dataset."""
        return self.rows(key) if key in self else None

    def number(self, key: str) -> Any:
        """A dataset of a single number."""
        return self._read(key, self._checked(key, self._item(key))).reshape(-1)[:1].tolist()[0]

    def tree(self, key: str, depth: int = 0) -> Any:
        """A dataset's numbers, or the dict of what a group holds, to any depth."""
        found = self._item(key)
        if not isinstance(found, self._h5py.Group):
            return self._rows(key, found)
        if depth > MOST_DEPTH:
            self.refuse(f"{key} is more than {MOST_DEPTH} groups deep; it is damaged, copy it again")
        return {name: self.tree(f"{key}/{name}", depth + 1) for name in self.names(key)}

    def attribute(self, key: str, name: str) -> Any:
        """A number, a text or an array of numbers that is attached to a member ("" for the file); None for none."""
        try:
            attributes = self._item(key).attrs
            if name not in attributes:
                return None
            kind = attributes.get_id(name)
            if math.prod(kind.shape) * kind.dtype.itemsize > MOST_TEXT or (kind.dtype.kind == "O" and kind.shape != ()):
                return None
            value = attributes[name]
        except DAMAGED as error:
            self._damaged(f"attribute {name!r} of {key or 'the file'}", error)
        if isinstance(value, bytes):
            return value.decode("utf-8", "replace")
        return value if isinstance(value, str | np.ndarray) else value.item() if isinstance(value, np.generic) else None

    def listing(self, most: int = 12) -> str:
        """What the file holds, for a message: every path without its numbers once."""
        found = list(dict.fromkeys(self._paths()))
        return ", ".join(found[:most]) + (f" and {len(found) - most} more" if len(found) > most else "") or "nothing"

    def refuse(self, what: str) -> NoReturn:
        raise InputError(f"{self.where}: {what}") from None

    def _paths(self, below: str = "", depth: int = 0) -> Iterator[str]:
        """Of what the first of all members that differ only by a number hold."""
        shown: set[str] = set()
        for name in self.names(below):
            kind, path = re.sub(r"\d+", "*", name), f"{below}/{name}".lstrip("/")
            if kind in shown:
                continue
            shown.add(kind)
            group = depth < 3 and self.links_to_group(path)
            yield from self._paths(path, depth + 1) if group else [re.sub(r"\d+", "*", path)]

    def _link(self, group: Any, name: str) -> Any:
        """How a group leads to a member, None where it does not."""
        return group.get(name, getlink=True) if isinstance(group, self._h5py.Group) and name else None

    def _item(self, key: str) -> Any:
        """What lies there, by hard links alone: others may lead out of the file. "" is the file itself."""
        if key in self._groups:
            return self._groups[key]
        above, _, name = key.rpartition("/")
        group = self._item(above)
        try:
            link = self._link(group, name)
            if link is None:
                self.refuse(f"has no {key!r}, only {self.listing()}")
            if not isinstance(link, self._h5py.HardLink):
                self.refuse(f"{key} is a link, which is never followed; write the data itself there")
            found = group[name]
        except DAMAGED as error:
            self._damaged(key, error)
        if isinstance(found, self._h5py.Group):
            if len(self._groups) > MOST_OPEN:
                self._groups = {"": self._file}
            self._groups[key] = found
        return found

    def _rows(self, key: str, found: Any, part: slice | None = None) -> Array:
        dataset = self._checked(key, found)
        if dataset.ndim == 0:
            self.refuse(f"{key} is a single number; give one row per transition or episode")
        return self._read(key, dataset, part)

    def _checked(self, key: str, dataset: Any) -> Any:
        """A dataset of plain numbers that lie in this file, and not more of them than it can hold."""
        try:
            if not isinstance(dataset, self._h5py.Dataset):
                self.refuse(f"{key} is a group, not an array; this file is damaged or of another format")
            if dataset.is_virtual or dataset.external:
                self.refuse(f"{key} lies in other files, which are never opened; copy the data into this one")
            dtype, shape = dataset.dtype, dataset.shape
            if dtype.kind not in "biuf" or shape is None:
                self.refuse(f"{key} has dtype {dtype}; save plain numbers")
            size = math.prod(shape) * dtype.itemsize
            parts = math.prod(-(-n // m) for n, m in zip(shape, dataset.chunks or shape, strict=True) if m)
        except DAMAGED as error:
            self._damaged(key, error)
        self._check_room(key, size)
        if parts > self._most_parts:
            self.refuse(f"{key} is cut into {parts:,} chunks by its header, more than the file can hold; it is "
                        "damaged, copy it again")
        return dataset

    def _check_room(self, key: str, size: int) -> None:
        if size > self._room[0]:
            self.refuse(f"{key} is {size:,} bytes by its header, more than {MOST_PACKED} times what the file holds; if "
                        "that is right, save it without compression")

    def _read(self, key: str, dataset: Any, rows: slice | None = None) -> Array:
        """All of a dataset, or some of its rows."""
        try:
            shape = dataset.shape if rows is None else (rows.stop - rows.start, *dataset.shape[1:])
            array = np.empty(shape, dataset.dtype.newbyteorder("="))
            if array.size:
                dataset.read_direct(array, rows)
        except DAMAGED as error:
            self._check_filters(key, dataset)
            self._damaged(key, error)
        self._room[0] -= array.nbytes
        return array

    def _check_filters(self, key: str, dataset: Any) -> None:
        """Refuse what is compressed in a way that this h5py does not know."""
        try:
            made = dataset.id.get_create_plist()
            filters = [made.get_filter(k) for k in range(made.get_nfilters())]
            missing = [(code, name) for code, _, _, name in filters if not self._h5py.h5z.filter_avail(code)]
        except DAMAGED:
            return
        for code, name in missing:
            self.refuse(f"{key} is compressed with filter {code} ({name.decode('utf-8', 'replace')[:40]}), which h5py "
                        "does not have; where it can be read, write it again with gzip: h5repack -f GZIP=4 IN OUT")

    def _damaged(self, key: str, error: BaseException) -> NoReturn:
        self.refuse(f"{key} cannot be read ({one_line(error)}); copy or record the file again")


def in_order(name: str) -> list[tuple[int, int | str]]:
    """A key by which numbers in names count as numbers: episode_2, episode_10."""
    return [(0, int(part)) if part.isdecimal() and len(part) < 20 else (1, part)
            for part in re.split(r"(\d+)", name)]
