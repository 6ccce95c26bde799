"""Tables of one's own, in a text file (CSV) or in Parquet: a row for each step, and a small TOML file that says which
columns are what (demos/columns.py). It is `demos.columns`, or lies beside the table under the same name with .toml.

We write CSV, with its TOML beside it; floats are printed so that they are read back as they were.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from puffer_il.core.errors import InputError
from puffer_il.core.rows import Layout
from puffer_il.core.spec import Array
from puffer_il.demos.actions import pack_actions
from puffer_il.demos.columns import ONE, Columns, Leaf, expand, read_columns
from puffer_il.demos.csv_text import CsvTable
from puffer_il.demos.csv_writer import write as write
from puffer_il.demos.dataset import WHOLE, Demos
from puffer_il.demos.formats import rllib
from puffer_il.demos.logs import after_ends, demos_of_log, packed, starts_of
from puffer_il.demos.parquet import MAGIC, Parquet
from puffer_il.demos.planned import Planned, numbers_of
from puffer_il.demos.rows import Lazy
from puffer_il.demos.spaces import is_nested

KIND, MARKS, KEYS = ("csv", "parquet"), (), ("columns",)
SHOWN = 30  # columns that a message lists
EXAMPLE = 'obs = ["{0}"], actions = ["{1}"], episode = "…", time = "…"'


def fits(path: Path) -> bool:
    return _is_parquet(path) is False or not rllib.fits(path)


def read(path: Path, time_limit: int | None = None, columns: str = "") -> Demos:
    """`columns` is the TOML file; by default the one beside the table."""
    return _planned(path, columns).whole()


def parts(path: Path, time_limit: int | None, most: float, columns: str = "") -> Iterator[Demos]:
    return _planned(path, columns).parts(most)


def _planned(path: Path, columns: str) -> Planned:
    told = _told(path, columns)
    table = Parquet(path) if _is_parquet(path) else CsvTable(path, told.decimal, lambda names: _beside(told, names))
    return _Rows(table, told).planned()


def _is_parquet(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def _told(path: Path, columns: str) -> Columns:
    beside = path.with_suffix(".toml")
    if columns or beside.is_file():
        return read_columns(Path(columns).expanduser() if columns else beside)
    names = (Parquet(path) if _is_parquet(path) else CsvTable(path)).columns
    some = ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")
    raise InputError(f"demos {path}: is a table with the columns {some}; say what they are with --columns FILE.toml "
                     f"(docs/formats/table.md): {EXAMPLE.format(names[0], names[-1])}")


class _Columns:
    """The columns of a table, or of a piece of one; `order` (n,) is that of its rows."""

    def __init__(self, table: Any, told: Columns) -> None:
        self.table, self.told, self.order = table, told, np.arange(table.rows)

    def obs(self) -> tuple[Array, Layout | None]:
        return packed(str(self.table.path), self._part(self.told.obs))

    def _part(self, leaves: Any, optional: Array | None = None, choices: bool = False) -> Any:
        """An array, or dicts of them; whole numbers stay such where they may be `choices`, or where dtype says so."""
        if isinstance(leaves, dict):
            return {name: self._part(part, optional, choices) for name, part in leaves.items()}
        found = [self._column(name, optional) for name in expand(leaves.columns, self.table.columns, self.told.where)]
        array = np.concatenate([one.reshape(len(one), -1) for one in found], axis=1)
        return self._shaped(leaves, array, choices)

    def _shaped(self, leaf: Leaf, array: Array, choices: bool) -> Array:
        if leaf.shape is not None and int(np.prod(leaf.shape)) != array.shape[1]:
            raise InputError(f"{self.told.where}: {len(leaf.columns)} columns hold {array.shape[1]} numbers, but shape "
                             f"is {list(leaf.shape)}; correct one of them")
        dtype = np.dtype(leaf.dtype or (array.dtype if choices else np.float64))
        made = array.astype(dtype)
        if dtype.kind in "biu" and (wrong := (made != array).any(1)).any():
            row = int(np.argmax(wrong))
            self.table.refuse(f"{self.table.place(int(self.order[row]))} holds {array[row].tolist()}, which {dtype} "
                              f"cannot hold; correct dtype in {self.told.where.removeprefix('columns ')}")
        return made if leaf.shape is None else made.reshape(len(made), *leaf.shape)

    def _numbers(self, name: str, optional: Array | None = None) -> Array:
        """(rows, …) of a column in order, in its unit and scale."""
        (name,) = expand([name], self.table.columns, self.told.where)
        return self._column(name, optional)

    def _column(self, name: str, optional: Array | None) -> Array:
        if name in self.told.choices:
            return self._choices(name, list(self.told.choices[name]), optional)[self.order]
        array, (scale, offset) = self.table.numbers(name, optional)[self.order], self.told.factor(name)
        return array if (scale, offset) == (1.0, 0.0) else array * scale + offset

    def _choices(self, name: str, texts: list[str], optional: Array | None) -> Array:
        """(rows,) int64 the place of each text in the list."""
        given = self.table.texts(name)
        found = np.full(len(given), -1)
        for number, text in enumerate(texts):
            found[given == text] = number
        if (wrong := (found < 0) & (True if optional is None else ~optional)).any():
            row = int(np.argmax(wrong))
            self.table.refuse(f"{self.table.place(row)}, column {name!r}: {str(given[row])[:80]!r} is none of "
                              f"choices.{name} ({', '.join(texts[:SHOWN])}); add it, or correct the cell")
        return np.maximum(found, 0)


class _Rows(_Columns):
    """The rows of a table in the order of their episodes and times."""

    def __init__(self, table: Any, told: Columns) -> None:
        super().__init__(table, told)
        self.notes = list[str]()
        if not table.rows:
            table.refuse("holds no rows; record it again")
        for name in (*told.choices, *told.units, *told.scale, *told.offset):
            expand([name], table.columns, told.where)
        self.starts = self._starts()
        self.optional = np.zeros(table.rows, bool)
        if told.final_rows:
            self.optional[self.order[np.append(self.starts[1:], table.rows) - 1]] = True

    def planned(self) -> Planned:
        """Demonstrations of these rows, whose observations are read later, a piece after the other."""
        table, names = self.table, expand(list(_names(self.told.obs)), self.table.columns, self.told.where)

        def pieces() -> Iterator[tuple[Array, Layout | None]]:
            return (_Columns(batch, self.told).obs() for batch in table.batches(list(dict.fromkeys(names))))

        first, layout = next(pieces())
        rows = Lazy((table.rows, *first.shape[1:]), first.dtype, lambda: (rows for rows, _ in pieces()))
        return Planned(self.demos(numbers_of(table.rows)[self.order]), rows, layout=layout)

    def demos(self, numbers: Array) -> Demos:
        """With `numbers` (n,) in place of observations."""
        told, more = self.told, dict[str, Any]()
        actions = None if told.actions is None else self._part(told.actions, self.optional, choices=True)
        if is_nested(actions):
            actions, more["action_parts"] = pack_actions(actions)
        arrays = {"obs": numbers, "actions": actions, "terminations": self._flags(told.terminated),
                  "truncations": self._flags(told.truncated)}
        for name in ("rewards", "weights", *WHOLE):
            if column := getattr(told, name):
                flags = WHOLE.get(name) is bool
                arrays[name] = self._flags(column) if flags else self._numbers(column, self.optional)
        if told.states:
            arrays["states"] = self._part(Leaf(told.states), self.optional)
        return demos_of_log(str(self.table.path), self.starts, arrays, notes=self.notes, final_rows=told.final_rows,
                            open_ends=told.open_ends, **more)

    def _starts(self) -> Array:
        """(episodes,) the first rows, once they are in order."""
        told, rows = self.told, np.arange(self.table.rows)
        labels = self._labels() if told.episode else np.zeros(len(rows), np.int64)
        time = _times(self.table, expand([told.time], self.table.columns, told.where)[0]) if told.time else rows
        self.order = np.lexsort((rows, time, labels))
        labels, time = labels[self.order], time[self.order]
        if told.time and (twice := (np.diff(labels) == 0) & (np.diff(time) == 0)).any():
            first, second = (self.table.place(int(row)) for row in self.order[np.argmax(twice):][:2])
            self.table.refuse(f"{first} and {second} are of the same episode and the same {told.time}; name the column "
                              "that tells them apart as well: episode = [\"…\", \"…\"]")
        if moved := int(np.sum(self.order != rows)):
            self.notes.append(f"{moved} of {len(rows)} rows were not in the order of episode and time: they were "
                              "sorted")
        starts = starts_of(labels)
        if told.gap > 0 and told.time:
            late = np.flatnonzero(np.diff(time) > told.gap) + 1
            self.notes.append(f"{len(np.setdiff1d(late, starts))} episodes begin after more than {told.gap:g} of "
                              f"{told.time} without a row")
            starts = np.union1d(starts, late)
        return self._with_ends(starts)

    def _with_ends(self, starts: Array) -> Array:
        """The same, checked against the columns of ends; where nothing else tells episodes apart, those do."""
        told, ends = self.told, np.zeros(self.table.rows, bool)
        for name in (told.terminated, told.truncated):
            flags = self._flags(name)
            ends |= False if flags is None else flags
        if not told.episode and not told.gap:
            if not ends.any():
                self.notes.append("no column tells episodes apart: all rows are one episode")
            return after_ends(ends)
        last = np.append(starts[1:], len(ends)) - 1
        inner = np.setdiff1d(np.flatnonzero(ends), np.append(last, last - 1) if told.final_rows else last)
        if len(inner):
            row, after = (self.table.place(int(self.order[k])) for k in (inner[0], inner[0] + 1))
            self.table.refuse(f"{row} ends an episode, which goes on in {after}; cut its rows there, or leave the "
                              "columns of ends out")
        return starts

    def _labels(self) -> Array:
        """(rows,) whole numbers that tell episodes apart, in the order in which they appear."""
        codes = np.zeros(self.table.rows, np.int64)
        for name in expand(self.told.episode, self.table.columns, self.told.where):
            texts = self.table.texts(name)
            if (blank := texts == "").any():
                self.table.refuse(f"{self.table.place(int(np.argmax(blank)))}, column {name!r}: names no episode; fill "
                                  "it, or remove the row")
            found = np.unique(texts, return_inverse=True)[1]
            codes = np.unique(codes * (found.max() + 1) + found, return_inverse=True)[1]
        first = np.unique(codes, return_index=True)[1]
        return np.argsort(np.argsort(first))[codes]

    def _flags(self, name: str) -> Array | None:
        if not name:
            return None
        (name,) = expand([name], self.table.columns, self.told.where)
        return self.table.flags(name)[self.order]


def _beside(told: Columns, columns: tuple[str, ...]) -> list[str]:
    """The columns of a table that are read for other things than observations."""
    given = [*(_names(told.actions) if told.actions is not None else ()), *told.episode, *told.states,
             *(name for key in ONE if (name := getattr(told, key)))]
    return expand(given, columns, told.where)


def _names(leaves: Any) -> Iterator[str]:
    """The columns of all leaves."""
    for part in leaves.values() if isinstance(leaves, dict) else ():
        yield from _names(part)
    yield from () if isinstance(leaves, dict) else leaves.columns


def _times(table: Any, name: str) -> Array:
    """(rows,) float64, seconds where the column holds dates."""
    texts = table.texts(name)
    try:
        found = np.char.replace(texts, getattr(table, "decimal", "."), ".").astype(np.float64)
    except ValueError:
        try:
            dates = texts.astype("datetime64[ns]")
            found = np.where(np.isnat(dates), np.nan, dates.astype(np.int64) / 1e9)
        except ValueError:
            row = next(_without_time(texts), 0)
            table.refuse(f"{table.place(row)}, column {name!r}: {str(texts[row])[:80]!r} is neither a number nor a "
                         "date such as 2024-05-01 12:00:00; correct it")
    if (wrong := ~np.isfinite(found)).any():
        row = int(np.argmax(wrong))
        table.refuse(f"{table.place(row)}, column {name!r}: {str(texts[row])!r} is no time; fill it, or remove the row")
    return found


def _without_time(texts: Array) -> Iterator[int]:
    for row, text in enumerate(texts):
        for kind in ("f8", "datetime64[ns]"):
            try:
                np.array(text).astype(kind)
                break
            except ValueError:
                continue
        else:
            yield row
