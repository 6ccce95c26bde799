"""Named arrays from outside, in memory or in an .npz: every defect is one line that names the file, nothing is ever
unpickled, and sizes are compared with the file's before memory is taken for them. And the way to write an .npz whole or
not at all.
"""

from __future__ import annotations

import gzip
import math
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from puffer_il.core.checkpoint import whole
from puffer_il.core.errors import InputError, one_line
from puffer_il.core.npz import DAMAGED, HEADERS, check_members, misfit
from puffer_il.core.spec import Array
from puffer_il.demos.dataset import check_starts
from puffer_il.demos.rows import PIECE_BYTES, Lazy, blocks

SAVE_DEMOS = "see puffer-il demos import --help"
LISTED = 40  # letters of the names that a message lists

# What to run where a pickle is trusted: each episode's arrays under names of their own, as formats/plain.py reads them.
UNPICKLE = ("import pickle, numpy as np; d = {load}; d = d if isinstance(d, list) else [d]; flat = {{f'{{k}}_{{i}}': "
            "np.asarray(v) for i, e in enumerate(d) for k, v in e.items()}}; np.savez('plain.npz', **{{k: v for k, v "
            "in flat.items() if v.dtype != object}})")
GZIP = b"\x1f\x8b"
LOADS = {b"\x80": "pickle.load(open({!r}, 'rb'))", GZIP: "pickle.load(__import__('gzip').open({!r}))",
         b"PK": "__import__('torch').load({!r}, weights_only=False)"}
LOAD_ARRAYS = "[dict(zip(z, e)) for z in [np.load({!r}, allow_pickle=True)] for e in zip(*z.values())]"


class Arrays:
    """Named arrays, each looked at when it is asked for.

    where   begins every message: "demos d.npz"
    source  the file, or what else the arrays are called
    remedy  ends the messages about arrays that are missing or not usable at all: how to save them
    """

    def __init__(self, arrays: Mapping[str, Any], source: str = "arrays", kind: str = "demos",
                 remedy: str = SAVE_DEMOS) -> None:
        self._arrays, self.keys = arrays, frozenset(arrays)
        self.source, self.where, self.remedy = source, f"{kind} {source}", remedy

    def __contains__(self, key: str) -> bool:
        return key in self.keys

    def __getitem__(self, key: str) -> Array:
        if key not in self.keys:
            self.refuse(f"has no array {key!r}, only {self.listing()}; {self.remedy}")
        return self._decoded(key)

    def _decoded(self, key: str) -> Array:
        try:
            return np.array(self._arrays[key])  # a copy: Demos freeze theirs
        except ValueError as error:
            self.refuse(f"{key} is not an array ({one_line(error)}); give plain numbers")

    def rows(self, key: str) -> Array:
        """An array of plain numbers, one row per transition or episode."""
        array = self[key]
        if array.dtype.kind not in "biuf":
            self.refuse(f"{key} has dtype {array.dtype}; save plain numbers")
        if array.ndim == 0:
            self.refuse(f"{key} is a single number; give one row per transition or episode")
        return array

    def get(self, key: str) -> Array | None:
        """The same, None where there is no such array."""
        return self.rows(key) if key in self.keys else None

    def starts(self, count: int) -> Array:
        """`episode_starts` (episodes,) int64, refused unless they cut `count` transitions into episodes. One flag per
        transition, True where an episode begins, says the same."""
        starts = self.rows("episode_starts")
        if starts.dtype == bool and starts.shape == (count,):
            starts = np.flatnonzero(starts)
        return check_starts(self.where, starts, count)

    def shape(self, key: str) -> tuple[int, ...]:
        """The shape of an array; () for what is none of plain numbers."""
        try:
            return np.shape(self._arrays[key])
        except ValueError:
            return ()

    def lazy(self, key: str) -> Lazy | None:
        """An array of rows of plain numbers, to be read a piece after the other; None where it can only be asked for
        as a whole, which then says what is wrong."""
        array = self._arrays[key]
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf" or array.ndim == 0:
            return None
        return Lazy(array.shape, array.dtype, lambda: (array[part] for part in blocks(array)))

    def flags(self, key: str, count: int) -> Array:
        """(count,) bool, one for each row. InputError for another number of them."""
        flags = self.rows(key).reshape(-1).astype(bool)
        if len(flags) != count:
            self.refuse(f"{key} has {len(flags)} rows but there are {count} observations; give one per transition")
        return flags

    def pickled(self, load: str = LOAD_ARRAYS) -> str:
        """Why what is pickled is refused, and how to save it plainly; `load` is what reads it, with the place of its
        path."""
        remedy = self.remedy
        if remedy is SAVE_DEMOS:
            recipe = UNPICKLE.format(load=load.format(self.source))
            remedy = f"where you trust the file, run this in the package that wrote it, and give plain.npz: {recipe}"
        return f"holds pickled Python objects, which are never loaded (they can run code); {remedy}"

    def listing(self) -> str:
        """The first of the names, for a message."""
        names = sorted(self.keys)
        fitting = int(np.searchsorted(np.cumsum([len(name) + 2 for name in names]), LISTED, side="right"))
        return ", ".join(names[:max(1, fitting)]) + ", …" * (fitting < len(names)) or "nothing"

    def refuse(self, what: str) -> NoReturn:
        raise InputError(f"{self.where}: {what}") from None


class Npz(Arrays):
    """The arrays of one file, decoded one by one. A context manager.

    Raises InputError for a file that is missing, empty, cut off, or no .npz.
    """

    def __init__(self, path: Path | str, kind: str = "demos", remedy: str = SAVE_DEMOS) -> None:
        super().__init__({}, str(path), kind, remedy)
        try:
            self._check_container(Path(path))
            self._file = np.load(path, allow_pickle=False)
        except DAMAGED as error:
            self.refuse(f"cannot be read ({one_line(error)}); copy or record it again")
        self.keys = frozenset(self._file.files)
        self._check_sizes(Path(path).stat().st_size)

    def __enter__(self) -> Npz:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _decoded(self, key: str) -> Array:
        try:
            self._check_header(key)
            array = self._file[key]
        except InputError:
            raise
        except Exception as error:  # what a crafted header makes of numpy's parser can raise anything
            if "pickle" in str(error):
                self.refuse(f"array {key!r} {self.pickled()}")
            self.refuse(f"array {key!r} is damaged ({one_line(error)}); copy or record the file again")
        if not isinstance(array, np.ndarray):
            self.refuse(f"member {key!r} is not an array; save the file with np.savez")
        return array

    def shape(self, key: str) -> tuple[int, ...]:
        try:
            with self._file.zip.open(f"{key}.npy") as file:
                reader = HEADERS.get(np.lib.format.read_magic(file))
                return () if reader is None else reader(file)[0]
        except DAMAGED:
            return ()  # which is told when it is read

    def lazy(self, key: str) -> Lazy | None:
        try:
            self._check_header(key)
            with self._file.zip.open(f"{key}.npy") as file:
                shape, fortran, dtype = HEADERS[np.lib.format.read_magic(file)](file)
        except (InputError, *DAMAGED):
            return None
        if fortran or dtype.kind not in "biuf" or not shape or math.prod(shape) == 0:
            return None
        return Lazy(shape, dtype.newbyteorder("="), lambda: self._pieces(key, shape, dtype))

    def _pieces(self, key: str, shape: tuple[int, ...], dtype: np.dtype) -> Iterator[Array]:
        row = math.prod(shape[1:]) * dtype.itemsize
        size = max(1, PIECE_BYTES // row)
        try:
            with self._file.zip.open(f"{key}.npy") as file:
                HEADERS[np.lib.format.read_magic(file)](file)
                for first in range(0, shape[0], size):
                    count = min(size, shape[0] - first)
                    if len(data := file.read(count * row)) != count * row:
                        raise EOFError(f"it ends in row {first + len(data) // row}")
                    rows = np.frombuffer(data, dtype).reshape(count, *shape[1:])
                    yield rows.astype(dtype.newbyteorder("="), copy=False)
        except DAMAGED as error:
            self.refuse(f"array {key!r} is damaged ({one_line(error)}); copy or record the file again")

    def raw(self, key: str) -> bytes:
        """A member that is not an array, undecoded."""
        try:
            return self._file.zip.read(key)
        except Exception as error:  # as above
            self.refuse(f"member {key!r} is missing or damaged ({one_line(error)}); copy the file again")

    def _check_container(self, path: Path) -> None:
        if not path.exists():
            self.refuse("no such file; check the path")
        if path.is_dir():
            self.refuse("is a folder; give the .npz file itself")
        with path.open("rb") as file:
            head = file.read(6)
        if not head:
            self.refuse("is empty; copy or record it again")
        if zipfile.is_zipfile(path):
            if self.remedy is SAVE_DEMOS:  # policies are such files, and read by their weights alone
                self._check_torch(path)
            return
        if head.startswith(b"PK"):
            self.refuse("is cut off in the middle; copy or record it again")
        if head.startswith(GZIP) and not _packed_head(path).startswith(b"\x80"):
            self.refuse(f"is packed with gzip; unpack it with gunzip --keep {path}, and give what comes out")
        for magic, load in LOADS.items():
            if head.startswith(magic):
                self.refuse(self.pickled(load))
        what = "a single array (.npy)" if head == b"\x93NUMPY" else "no .npz file"
        self.refuse(f"is {what}; {self.remedy}")

    def _check_torch(self, path: Path) -> None:
        """Refuse what torch.save wrote, which is a zip file too."""
        with zipfile.ZipFile(path) as archive:
            if any(name.endswith("/data.pkl") for name in archive.namelist()):
                self.refuse(self.pickled(LOADS[b"PK"]))

    def _check_sizes(self, size: int) -> None:
        """Refuse what says of itself that it is far larger than the file, before any of it is unpacked."""
        try:
            check_members(self._file.zip.infolist(), size)
        except ValueError as error:
            self.refuse(str(error))

    def _check_header(self, key: str) -> None:
        """Refuse an array that its header makes larger than what the file holds of it, before memory is taken."""
        member = self._file.zip.getinfo(key if key in self._file.zip.namelist() else f"{key}.npy")
        with self._file.zip.open(member) as file:
            wrong = misfit(file, member.file_size)
        if wrong:
            self.refuse(f"array {key!r} is damaged ({wrong}); copy or record the file again")


def _packed_head(path: Path) -> bytes:
    """The first byte of what a gzip file holds; nothing of one that is damaged."""
    try:
        with gzip.open(path) as file:
            return file.read(1)
    except (OSError, EOFError, zlib.error):
        return b""


def save_npz(path: Path | str, arrays: dict[str, Array]) -> None:
    """Compress `arrays` to a temporary file beside `path`, then rename it; the folder is made if it is missing.

    The same arrays give the same bytes. Raises InputError if the file cannot be written; an old one then stays.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    except OSError as error:
        raise InputError(f"demos {path}: cannot be written ({one_line(error)}); choose another place") from None
