"""Tables in text files: cells are found by the name of their column, and what is wrong with one is told by its line.

A file is read a block after the other. Of most columns nothing stays but the array that is made of them; those that are
asked for before that are held as text, without an object for each cell.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from puffer_il.core.errors import InputError, one_line
from puffer_il.core.spec import Array
from puffer_il.demos.grown import Grown

CELLS = 2**17  # that are taken apart at once
LONGEST = 256  # characters of a cell that is used
MISSING = ("", "nan", "na", "n/a", "null", "none", "-")  # cells that say that there is no value
WHOLE = set("0123456789+- ")  # letters of whole numbers
TRUTH = {"true": "1", "yes": "1", "false": "0", "no": "0"}
BREAK, BETWEEN = re.compile("\r\n|\r|\n"), "\x1f"
Lines = range | Array  # that rows end in


class CsvRows:
    """Some rows of a file.

    columns  the names in the header
    rows     how many rows of cells there are; empty lines are none
    decimal  what parts a number's whole part from its fraction: "." or ","
    """

    def __init__(self, path: Path, decimal: str, columns: tuple[str, ...] = ()) -> None:
        self.path, self.decimal, self.columns, self.rows = path, decimal, columns, 0
        self._places = {name: k for k, name in enumerate(columns)}
        self._lines: list[Lines] = []
        self._parts: dict[str, list[list[str] | str]] = {}
        self._cells: Sequence[list[str]] = []
        self._plain: dict[str, Array] = {}  # of these cells

    def hold(self, lines: Lines, cells: Sequence[list[str]], names: Iterable[str]) -> None:
        """Rows behind the others, of which these columns can be asked for later."""
        self._lines.append(lines)
        self.rows += len(lines)
        for name in names:
            k = self._places[name]
            self._parts.setdefault(name, []).append(_packed([row[k] for row in cells]))

    def take(self, lines: Lines, cells: Sequence[list[str]], names: Sequence[str]) -> None:
        """These rows alone, of which these columns are asked for now."""
        self._lines, self.rows, self._cells = [lines], len(lines), cells
        places = [self._places[name] for name in names]
        table = self._table(cells if places == list(range(len(self.columns))) else (
            [[row[k] for k in places] for row in cells]))
        self._plain = {} if table is None else dict(zip(names, table.T, strict=True))

    def _table(self, cells: Sequence[list[str]]) -> Array | None:
        """(rows, columns) of cells with plain numbers throughout, some of them with a point; None for others."""
        given = list(chain.from_iterable(cells))
        if self.decimal != "." or "." not in (text := "".join(given)) or "_" in text:
            return None
        try:
            found = np.fromiter(map(float, given), np.float64, len(given)).reshape(len(cells), -1)
        except ValueError:
            return None
        return found if (np.abs(found) < 2**53).all() else None  # beyond, whole numbers are more exact than floats

    def numbers(self, name: str, optional: Array | None = None) -> Array:
        """(rows,) int64 where all cells are whole numbers, float64 otherwise. A missing cell is NaN in the rows that
        `optional` (rows,) says; elsewhere it is refused."""
        if name in self._plain:
            return self._plain[name]
        made, absent, whole = Grown(), False, True
        for first, cells in self._blocks(name):
            found = self._plain_numbers(cells)
            if found is None:
                given = None if optional is None else optional[first:first + len(cells)]
                found = self._odd_numbers(name, cells, first, given)
                absent |= bool(np.isnan(found).any())
            whole = whole and (found.dtype.kind == "i" or self._are_whole(found, cells))
            made.append(found)
        array = made.array()
        if absent and whole and (np.abs(array[~np.isnan(array)]) < 2**53).all():
            return np.where(np.isnan(array), 0, array).astype(np.int64)
        return array

    def _are_whole(self, numbers: Array, cells: list[str]) -> bool:
        points = any("." in cell or self.decimal in cell for cell in cells)
        return not points and bool((np.isnan(numbers) | (numbers == np.round(numbers))).all())

    def _plain_numbers(self, cells: list[str]) -> Array | None:
        """The same of cells that are well throughout, None for any other."""
        text = "".join(cells)
        try:
            if "." not in text and WHOLE.issuperset(text):
                return np.fromiter(map(int, cells), np.int64, len(cells))
            if self.decimal == "." and "_" not in text:  # which Python takes for a part of a number
                found = np.fromiter(map(float, cells), np.float64, len(cells))
                return found if np.isfinite(found).all() else None
        except (ValueError, OverflowError):
            pass
        return None

    def _odd_numbers(self, name: str, given: list[str], first: int, optional: Array | None) -> Array:
        """(rows,) float64 where cells are missing or wrong, or numbers have another decimal; NaN for those that are
        missing. `first` is the number of the first row."""
        cells = self._array(name, given, first)
        if self.decimal != ".":
            cells = np.char.replace(cells, self.decimal, ".")
        absent = np.isin(np.char.lower(np.char.strip(cells)), MISSING)
        row = int(np.argmax(absent if optional is None else absent & ~optional))
        if absent[row] and (optional is None or not optional[row]):
            self.refuse(f"{self.place(first + row)}, column {name!r}: the cell is {str(cells[row])!r}, no value; fill "
                        "it, or remove the row")
        try:
            found = np.where(absent, "nan", cells).astype(np.float64)
        except ValueError:
            row = next(k for k, cell in enumerate(cells) if not absent[k] and not _is_number(cell))
            self.refuse(f"{self.place(first + row)}, column {name!r}: {str(cells[row])[:80]!r} is no number; correct "
                        f"it, or say what texts mean: choices.{name} = [\"…\", …]")
        if not np.isfinite(found[~absent]).all():
            row = int(np.argmax(~np.isfinite(found) & ~absent))
            self.refuse(f"{self.place(first + row)}, column {name!r}: {str(cells[row])!r} is not finite; correct it")
        return found

    def flags(self, name: str) -> Array:
        """(rows,) bool: true, yes and numbers that are not 0; an empty cell is false."""
        made = Grown()
        for first, cells in self._blocks(name):
            texts, place = np.unique(self._array(name, cells, first), return_inverse=True)
            known = [TRUTH.get(text, text or "0") for text in (str(text).strip().lower() for text in texts)]
            for k, text in enumerate(known):
                if not _is_number(text):
                    self.refuse(f"{self.place(first + int(np.argmax(place == k)))}, column {name!r}: {text[:80]!r} is "
                                "neither true nor false; write 1 or 0")
            made.append(np.array(known).astype(np.float64)[place] != 0)
        return made.array()

    def texts(self, name: str) -> Array:
        """(rows,) cells as they are, without spaces around them."""
        parts = [np.char.strip(self._array(name, cells, first)) for first, cells in self._blocks(name)]
        return np.concatenate(parts) if parts else np.array([], str)

    def place(self, row: int) -> str:
        """Where a row is in the file, for messages."""
        for lines in self._lines:
            if row < len(lines):
                return f"line {lines[row]}"
            row -= len(lines)
        raise IndexError(row)

    def refuse(self, what: str) -> NoReturn:
        raise InputError(f"demos {self.path}: {what}") from None

    def _blocks(self, name: str) -> Iterator[tuple[int, list[str]]]:
        """The first row of each part of a column, and its cells."""
        first, place = 0, self._places[name]
        for part in self._parts.get(name, [[row[place] for row in self._cells]] if self._cells else ()):
            cells = part.split(BETWEEN) if isinstance(part, str) else part
            yield first, cells
            first += len(cells)

    def _array(self, name: str, cells: list[str], first: int) -> Array:
        if (longest := max(map(len, cells))) > LONGEST:  # an array has room for the longest in every row
            row = first + next(k for k, cell in enumerate(cells) if len(cell) == longest)
            self.refuse(f"{self.place(row)}, column {name!r}: the cell has {longest} characters, no number or name; "
                        "choose another column")
        return np.array(cells, str)


class CsvTable(CsvRows):
    """One file in UTF-8 with a header, whose columns are parted by commas, semicolons or tabs.

    `held` tells of the names in the header which columns are asked for, all rows of them; of others `batches` are.
    Raises InputError for a file that is missing or no such table.
    """

    def __init__(self, path: Path, decimal: str = ".",
                 held: Callable[[tuple[str, ...]], Iterable[str]] = lambda columns: columns) -> None:
        super().__init__(path, decimal)
        names = None
        for lines, cells in self._read():
            names = list(dict.fromkeys(held(self.columns))) if names is None else names
            self.hold(lines, cells, names)

    def batches(self, names: Sequence[str]) -> Iterator[CsvRows]:
        """These columns, so many rows as are taken apart at once after the others."""
        for lines, cells in self._read():
            batch = CsvRows(self.path, self.decimal, self.columns)
            batch.take(lines, cells, names)
            yield batch

    def _read(self) -> Iterator[tuple[Lines, list[list[str]]]]:
        """All rows, some after the others: the lines that they end in, and their cells."""
        try:
            with self.path.open(encoding="utf-8-sig", newline="") as file:
                head = file.readline()
                cut = _Cut(chain((head,), file), max(",;\t", key=head.count))
                try:
                    _, names, failure = cut.take(1)
                    if failure is not None:
                        raise failure
                    self.columns = self._header(names[0] if names and any(names[0]) else [])
                    self._places = {name: k for k, name in enumerate(self.columns)}
                    yield from self._some(cut)
                except csv.Error as error:
                    self.refuse(f"line {cut.line}: {one_line(error)}; mend its quotes")
        except UnicodeDecodeError:
            self.refuse(f"byte {_not_utf8(self.path)} is not UTF-8; save it as CSV in UTF-8")
        except OSError as error:
            self.refuse(f"cannot be read ({one_line(error)}); check the path")

    def _some(self, cut: _Cut) -> Iterator[tuple[Lines, list[list[str]]]]:
        size, count, failure = max(1, CELLS // len(self.columns)), 1, None
        while count and failure is None:
            lines, cells, failure = cut.take(size)
            count = len(cells)
            if not all(kept := [any(row) for row in cells]):
                lines, cells = np.array(lines)[kept], [row for row, keep in zip(cells, kept, strict=True) if keep]
            for row, line in zip(cells, lines, strict=True) if set(map(len, cells)) - {len(self.columns)} else ():
                if len(row) != len(self.columns):
                    self.refuse(f"line {line} has {len(row)} cells but the header {len(self.columns)}; complete it, or "
                                "remove it")
            if cells:
                yield lines, cells
        if failure is not None:  # told after what is wrong before it
            raise failure

    def _header(self, names: list[str]) -> tuple[str, ...]:
        found = [name.strip() for name in names]
        if not found or any(_is_number(name) for name in found):
            self.refuse("the first line holds no names of columns; add a header line")
        twice = [name for name in found if found.count(name) > 1]
        if twice:
            self.refuse(f"two columns are called {twice[0]!r}; rename one")
        return tuple(found)


class _Cut:
    """Lines of text cut into cells: by the delimiter alone until one of them has a quote, then by the csv module, which
    takes three times as long. `line` is how many were read."""

    def __init__(self, text: Iterator[str], delimiter: str) -> None:
        self._text, self._delimiter, self.line = text, delimiter, 0
        self._reader: csv._reader | None = None  # type: ignore[name-defined]
        self._before = 0  # lines that it did not read

    def take(self, count: int) -> tuple[Lines, list[list[str]], Exception | None]:
        """The next rows, up to so many: the lines that they end in, their cells, and what went wrong behind them."""
        if self._reader is None:
            text, failure = _taken(self._text, count)
            most = csv.field_size_limit()
            if not any('"' in line or len(line) > most for line in text):
                self.line += len(text)
                cells = [line.rstrip("\r\n").split(self._delimiter) for line in text]
                return range(self.line - len(text) + 1, self.line + 1), cells, failure
            self._before = self.line
            self._reader = csv.reader(chain(text, self._text if failure is None else _raising(failure)),
                                      delimiter=self._delimiter, strict=True)
        before = self.line
        cells, failure = _taken(self._reader, count)
        self.line = self._before + self._reader.line_num
        if self.line - before == len(cells):
            return range(before + 1, self.line + 1), cells, failure
        breaks = [1 + sum(len(BREAK.findall(cell)) for cell in row) for row in cells]  # cells may hold some
        return before + np.cumsum(breaks, dtype=np.int64), cells, failure


def _taken(source: Iterator[Any], count: int) -> tuple[list[Any], Exception | None]:
    """Up to `count` of what comes, and what stopped it."""
    found: list[Any] = []
    try:
        found.extend(islice(source, count))
    except (csv.Error, UnicodeDecodeError, OSError) as error:
        return found, error
    return found, None


def _raising(error: Exception) -> Iterator[str]:
    raise error
    yield


def _packed(cells: list[str]) -> list[str] | str:
    """Cells in one text, from which they can be told apart again."""
    text = BETWEEN.join(cells)
    return text if text.count(BETWEEN) == len(cells) - 1 else cells


def _not_utf8(path: Path) -> int:
    """The first byte that cannot be decoded."""
    decoder, done = codecs.getincrementaldecoder("utf-8")(), 0
    with path.open("rb") as file:
        while block := file.read(2**20):
            waiting = len(decoder.getstate()[0])
            try:
                decoder.decode(block)
            except UnicodeDecodeError as error:
                return done - waiting + error.start
            done += len(block)
    return done  # it ends within a letter


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
