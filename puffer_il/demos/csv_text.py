"""Tables in text files: cells are found by the name of their column, and what is wrong with one is told by its line."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import numpy as np

from puffer_il.core.errors import InputError, one_line
from puffer_il.core.spec import Array

CHUNK = 2**16  # rows that are taken apart at once
LONGEST = 256  # characters of a cell that is used
MISSING = ("", "nan", "na", "n/a", "null", "none", "-")  # cells that say that there is no value
WHOLE = set("0123456789+- ")  # letters of whole numbers
TRUTH = {"true": "1", "yes": "1", "false": "0", "no": "0"}


class CsvTable:
    """One file in UTF-8 with a header, whose columns are parted by commas, semicolons or tabs.

    columns  the names in the header
    rows     how many rows of cells there are; empty lines are none
    decimal  what parts a number's whole part from its fraction: "." or ","
    Raises InputError for a file that is missing or no such table.
    """

    def __init__(self, path: Path, decimal: str = ".") -> None:
        self.path, self.decimal = path, decimal
        try:
            text = path.read_bytes().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            self.refuse(f"byte {error.start} is not UTF-8; save it as CSV in UTF-8")
        except OSError as error:
            self.refuse(f"cannot be read ({one_line(error)}); check the path")
        head = text.partition("\n")[0]
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=head.count), strict=True)
        try:
            self.columns = self._header(next(reader, []))
            self._parts: list[list[str]] = [[] for _ in self.columns]
            self._lines: list[Array] = []
            for lines, cells in self._chunks(reader):
                self._lines.append(lines)
                for part, column in zip(self._parts, zip(*cells, strict=True), strict=True):
                    part.extend(column)
        except csv.Error as error:
            self.refuse(f"line {reader.line_num}: {one_line(error)}; mend its quotes")
        self.rows = sum(map(len, self._lines))

    def numbers(self, name: str, optional: Array | None = None) -> Array:
        """(rows,) int64 where all cells are whole numbers, float64 otherwise. A missing cell is NaN in the rows that
        `optional` (rows,) says; elsewhere it is refused."""
        plain = self._plain_numbers(name)
        return plain if plain is not None else self._odd_numbers(name, optional)

    def _plain_numbers(self, name: str) -> Array | None:
        """The same of a column that is well throughout, None for any other."""
        cells = self._parts[self.columns.index(name)]
        letters = set("".join(cells))
        try:
            if letters <= WHOLE:
                return np.array(list(map(int, cells)), np.int64)
            if self.decimal == "." and "_" not in letters:  # which Python takes for a part of a number
                found = np.array(list(map(float, cells)))
                return found if np.isfinite(found).all() else None
        except (ValueError, OverflowError):
            pass
        return None

    def _odd_numbers(self, name: str, optional: Array | None) -> Array:
        """The same of a column in which cells are missing or wrong, or numbers have another decimal."""
        cells = self._cells(name)
        if self.decimal != ".":
            cells = np.char.replace(cells, self.decimal, ".")
        absent = np.isin(np.char.lower(np.char.strip(cells)), MISSING)
        row = int(np.argmax(absent if optional is None else absent & ~optional))
        if absent[row] and (optional is None or not optional[row]):
            self.refuse(f"{self.place(row)}, column {name!r}: the cell is {str(cells[row])!r}, no value; fill it, or "
                        "remove the row")
        try:
            found = np.where(absent, "nan", cells).astype(np.float64)
        except ValueError:
            row = next(k for k, cell in enumerate(cells) if not absent[k] and not _is_number(cell))
            self.refuse(f"{self.place(row)}, column {name!r}: {str(cells[row])[:80]!r} is no number; correct it, or "
                        f"say what texts mean: choices.{name} = [\"…\", …]")
        whole = absent | (found == np.round(found)) & ~np.char.count(cells, ".").astype(bool)
        if not np.isfinite(found[~absent]).all():
            row = int(np.argmax(~np.isfinite(found) & ~absent))
            self.refuse(f"{self.place(row)}, column {name!r}: {str(cells[row])!r} is not finite; correct it")
        if absent.any() and whole.all() and (np.abs(found[~absent]) < 2**53).all():
            return np.where(absent, 0, found).astype(np.int64)
        return found

    def flags(self, name: str) -> Array:
        """(rows,) bool: true, yes and numbers that are not 0; an empty cell is false."""
        texts, place = np.unique(self._cells(name), return_inverse=True)
        known = [TRUTH.get(text, text or "0") for text in (str(text).strip().lower() for text in texts)]
        for k, text in enumerate(known):
            if not _is_number(text):
                self.refuse(f"{self.place(int(np.argmax(place == k)))}, column {name!r}: {text[:80]!r} is neither true "
                            "nor false; write 1 or 0")
        return np.array(known).astype(np.float64)[place] != 0

    def texts(self, name: str) -> Array:
        """(rows,) cells as they are, without spaces around them."""
        return np.char.strip(self._cells(name))

    def place(self, row: int) -> str:
        """Where a row is in the file, for messages."""
        return f"line {np.concatenate(self._lines)[row]}"

    def refuse(self, what: str) -> NoReturn:
        raise InputError(f"demos {self.path}: {what}") from None

    def _cells(self, name: str) -> Array:
        cells = self._parts[self.columns.index(name)]
        if (longest := max(map(len, cells), default=0)) > LONGEST:  # an array has room for the longest in every row
            row = next(k for k, cell in enumerate(cells) if len(cell) == longest)
            self.refuse(f"{self.place(row)}, column {name!r}: the cell has {longest} characters, no number or name; "
                        "choose another column")
        return np.array(cells, str)

    def _header(self, names: list[str]) -> tuple[str, ...]:
        found = [name.strip() for name in names]
        if not found or any(_is_number(name) for name in found):
            self.refuse("the first line holds no names of columns; add a header line")
        twice = [name for name in found if found.count(name) > 1]
        if twice:
            self.refuse(f"two columns are called {twice[0]!r}; rename one")
        return tuple(found)

    def _chunks(self, reader: csv._reader) -> Iterator[tuple[Array, list[list[str]]]]:  # type: ignore[name-defined]
        """The lines that rows end in, and their cells."""
        lines: list[int] = []
        cells: list[list[str]] = []
        for row in reader:
            if not row or not any(row):
                continue
            if len(row) != len(self.columns):
                self.refuse(f"line {reader.line_num} has {len(row)} cells but the header {len(self.columns)}; complete "
                            "it, or remove it")
            lines.append(reader.line_num)
            cells.append(row)
            if len(lines) == CHUNK:
                yield np.array(lines), cells
                lines, cells = [], []
        if lines:
            yield np.array(lines), cells


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
