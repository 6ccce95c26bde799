"""The one door to pyarrow's Parquet reader: files are compared with what they would unpack to before memory is taken,
and columns become arrays, or are refused in one line that names the file, the column and the row.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from puffer_il.core.errors import InputError, one_line
from puffer_il.core.npz import LEAST_BOUND, MOST_PACKED
from puffer_il.core.spec import Array
from puffer_il.demos.grown import Grown
from puffer_il.demos.packed_pictures import picture_shape, unpack_pictures
from puffer_il.demos.rows import PIECE_BYTES

MAGIC = b"PAR1"
PIECE, LEAST_PIECE = 2**12, 64  # rows that are unpacked at once, and of wide ones
INSTALL = "pip install 'puffer-il[parquet]', or convert it with `puffer-il demos import` where pyarrow is installed"


class Parquet:
    """One file. Raises InputError for one that is missing, damaged, or claims to hold far more than it could."""

    def __init__(self, path: Path) -> None:
        self.path, pyarrow = path, import_pyarrow(str(path))
        self._lib = pyarrow
        with self._refusing("cannot be read"):
            self._file = pyarrow.parquet.ParquetFile(path, memory_map=False)
            self.columns = tuple(self._file.schema_arrow.names)
            self.rows = self._file.metadata.num_rows
            self._bound = LEAST_BOUND + MOST_PACKED * path.stat().st_size
            self._check_size(8 * self.rows)
            self.metadata = dict(self._file.schema_arrow.metadata or {})

    def array(self, name: str) -> Array:
        """(rows, …) of a column of numbers, or of lists of them that are all of the same length."""
        with self._refusing(f"column {name!r} cannot be read"):
            return self._grown(name, Grown()).array() if self.rows else array_of(self._column(name), name,
                                                                                str(self.path))

    def _grown(self, name: str, made: Grown) -> Grown:
        for piece in self.pieces([name]):
            try:
                made.append(piece[name])
            except ValueError:
                self.refuse(f"column {name!r} has rows of {piece[name].shape[1:]} but {made.rows.shape[1:]} before; "
                            "rows must be alike")
        return made

    def pieces(self, names: Sequence[str]) -> Iterator[dict[str, Array]]:
        """The same of several columns, so many rows as are unpacked at once after the others."""
        return ({name: batch.array(name) for name in names} for batch in self.batches(names))

    def batches(self, names: Sequence[str]) -> Iterator[Batch]:
        """These columns, so many rows as are unpacked at once after the others."""
        size, row = 0, 0
        with self._refusing(f"columns {', '.join(names)} cannot be read"):
            for piece in self._pieces(names):
                self._check_size(size := size + piece.nbytes)
                if len(piece):
                    yield Batch(self, piece, row)
                row += len(piece)
            self._lib.default_memory_pool().release_unused()

    def numbers(self, name: str, optional: Array | None = None) -> Array:
        """(rows, …) int64 or float64, as `CsvTable.numbers`; NaN is no value, except in the rows `optional`."""
        array = self.array(name)
        if array.dtype.kind != "f":
            return array.astype(np.int64)
        absent = ~np.isfinite(array).reshape(len(array), -1).all(1)
        wrong = absent if optional is None else absent & ~optional
        if wrong.any():
            self.refuse(f"{self.place(int(np.argmax(wrong)))}, column {name!r}: holds NaN or infinity; fill it, or "
                        "remove the row")
        return array.astype(np.float64)

    def flags(self, name: str) -> Array:
        """(rows,) bool, True where the number is not 0."""
        return self.array(name).reshape(-1) != 0

    def texts(self, name: str) -> Array:
        """(rows,) of a column as texts, "" for no value."""
        with self._refusing(f"column {name!r} cannot be read"):
            column = self._column(name)
            return np.array(["" if cell is None else str(cell) for cell in column.to_pylist()])

    def pictures(self, name: str) -> Array:
        """(rows, height, width, channels) of a column of packed pictures: their bytes, or structs that have "bytes"."""
        with self._refusing(f"column {name!r} cannot be read"):
            column = self._column(name)
            column = column.field("bytes") if hasattr(column, "field") else column
            pieces = column.to_pylist()
        what = f"column {name!r}"
        if None in pieces:
            self.refuse(f"{what} has no picture in row {pieces.index(None)}, only the path of one; save the data set "
                        "with its pictures in it")
        if not pieces or not all(isinstance(piece, bytes) for piece in pieces):
            self.refuse(f"{what} holds {self.kind(name)}, no packed pictures; choose another")
        shape = picture_shape(pieces[0], what, self.refuse)
        self._check_size(len(pieces) * math.prod(shape))
        return unpack_pictures(len(pieces), pieces, shape, what, self.refuse)

    def _pieces(self, names: Sequence[str]) -> Iterator[Any]:
        """Arrow's batches of columns, of about PIECE_BYTES each, as the first rows tell."""
        options = {"columns": list(names), "use_threads": False}
        first = next(self._file.iter_batches(LEAST_PIECE, **options), None)
        if first is not None:
            size = PIECE_BYTES * len(first) // max(1, first.nbytes)
            yield from self._file.iter_batches(max(LEAST_PIECE, min(PIECE, size)), **options)

    def kind(self, name: str) -> str:
        """Arrow's name for the type of a column."""
        return str(self._file.schema_arrow.field(name).type).removeprefix("large_")

    def place(self, row: int) -> str:
        return f"row {row}"

    def _column(self, name: str) -> Any:
        """A column as one Arrow array. It is unpacked piece by piece: what the file says of the sizes may be wrong, and
        pyarrow ends the process where its statistics are."""
        pieces, size = [], 0
        for piece in self._pieces([name]):
            self._check_size(size := size + piece.nbytes)
            pieces.append(piece)
        schema = pieces[0].schema if pieces else self._lib.schema([self._file.schema_arrow.field(name)])
        return self._lib.Table.from_batches(pieces, schema)[0].combine_chunks()

    def _check_size(self, size: int) -> None:
        if size > self._bound:
            self.refuse(f"would unpack to {size:,} bytes or more, over {MOST_PACKED} times what the file has; write it "
                        "again without such a compression")

    def refuse(self, what: str) -> NoReturn:
        raise InputError(f"demos {self.path}: {what}") from None

    @contextmanager
    def _refusing(self, what: str) -> Iterator[None]:
        try:
            yield
        except InputError:
            raise
        except Exception as error:  # what a crafted file makes of pyarrow can raise anything
            self.refuse(f"{what} ({one_line(error)}); copy or record it again")


class Batch(Parquet):
    """Some rows of a file, from number `first` on, which are unpacked."""

    def __init__(self, file: Parquet, piece: Any, first: int) -> None:
        self.path, self.columns, self.rows, self._batch, self._first, self._bound = (
            file.path, tuple(piece.schema.names), len(piece), piece, first, file._bound)

    def array(self, name: str) -> Array:
        with self._refusing(f"column {name!r} cannot be read"):
            return array_of(self._column(name), name, str(self.path), self._first)

    def kind(self, name: str) -> str:
        return str(self._batch.schema.field(name).type)

    def place(self, row: int) -> str:
        return super().place(self._first + row)

    def _column(self, name: str) -> Any:
        return self._batch[name]


def joined(files: Sequence[Parquet], name: str) -> Array:
    """A column of several files, end to end. InputError for one whose rows are made otherwise than the first's."""
    made = Grown()
    for piece in all_pieces(files, [name]):
        made.append(piece[name])
    return made.array() if made.count else files[0].array(name)


def all_pieces(files: Sequence[Parquet], names: Sequence[str], pictures: Sequence[str] = ()
               ) -> Iterator[dict[str, Array]]:
    """Columns of several files, a piece after the other; those of `pictures` are unpacked."""
    shapes: dict[str, tuple[int, ...]] = {}
    for file in files:
        for batch in file.batches(names):
            piece = {name: batch.pictures(name) if name in pictures else batch.array(name) for name in names}
            for name, part in piece.items():
                if part.shape[1:] != shapes.setdefault(name, part.shape[1:]):
                    raise InputError(f"demos {file.path}: column {name!r} has rows of {part.shape[1:]} but "
                                     f"{shapes[name]} in {files[0].path.name}; rows must be alike")
            yield piece


def import_pyarrow(source: str) -> Any:
    """The package, or InputError with the way to install it."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise InputError(f"demos {source}: is Parquet, which needs pyarrow; {INSTALL}") from None
    return pyarrow


def array_of(column: Any, name: str, source: str, first: int = 0) -> Array:
    """An Arrow column, or its rows from number `first` on, as an array: its lists may be nested, and are all of the
    same length."""
    shape = [len(column)]
    while True:
        if hasattr(column, "storage"):  # tensors of other packages, whose shape is told beside
            column = column.storage
        if hasattr(column, "dictionary_decode"):
            column = column.dictionary_decode()
        if column.null_count:
            row = first + int(np.argmax(column.is_null().to_numpy(zero_copy_only=False))) // max(
                int(np.prod(shape[1:])), 1)
            raise InputError(f"demos {source}: column {name!r} has no value in row {row}; fill it, or remove the row")
        if not hasattr(column.type, "value_type"):
            break
        inner = column.flatten()
        width = getattr(column.type, "list_size", None)
        if width is None:
            lengths = np.diff(column.offsets.to_numpy(zero_copy_only=False))
            width = int(lengths[0]) if len(lengths) else 0
            if (wrong := lengths != width).any():
                row = first + int(np.argmax(wrong)) // max(int(np.prod(shape[1:])), 1)
                raise InputError(f"demos {source}: column {name!r} holds {lengths[np.argmax(wrong)]} values in row "
                                 f"{row} but {width} in the first; rows must be alike")
        shape.append(width)
        column = inner
    array = column.to_numpy(zero_copy_only=False).reshape(shape)
    if array.dtype.kind not in "biuf":
        raise InputError(f"demos {source}: column {name!r} holds {column.type}, no numbers; choose another")
    return array
