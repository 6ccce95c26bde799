"""Numbers, durations, facts and tables for people: one way to write each."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from rich.console import Console

FLAG = r"--[a-z][\w.-]* [^\s,;:)]+"  # as a note tells it, to be typed
CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
SHORTEST_NAME = 15  # columns that the first one keeps where a terminal is narrow


def number(value: float) -> str:
    """Two to five significant figures: 12,346 · 487.2 · -9.84 · 0.021 · 0.0031 · 2.1e-05."""
    size = abs(value)
    if not math.isfinite(value):
        return "–" if math.isnan(value) else str(value)
    if size == 0 or size >= 1000:
        return f"{value:,.0f}"
    if size >= 0.995:
        return f"{value:.1f}" if size >= 9.95 else f"{value:.2f}"
    return f"{value:.3f}" if size >= 0.00995 else f"{value:.2g}"


def quantity(count: float) -> str:
    """A count or a rate in at most three figures: 12 · 950 · 9.84 · 12.3k · 312k · 1.2M."""
    if not math.isfinite(count):
        return "–"
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(count) >= 0.9995 * size:
            return f"{count / size:.3g}{unit}"
    return f"{count:.3g}"


def duration(seconds: float) -> str:
    """0:07 · 12:05 · 3:04:05 · 2d 03h."""
    if not math.isfinite(seconds):
        return "–:––"
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 48:
        return f"{hours // 24}d {hours % 24:02}h"
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def shown(text: str) -> str:
    """Text from a file as a terminal may be given it: what would move the cursor, colour, forge a line or turn the
    direction of writing stands there as its code, such as \\x1b."""
    return CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def facts(pairs: Sequence[tuple[str, str]]) -> list[str]:
    """A line for each name and value, the values below one another."""
    width = max([12, *(len(shown(name)) + 1 for name, _ in pairs)])
    return [f"  {shown(name):<{width}}{shown(value)}" for name, value in pairs]


@dataclass(frozen=True)
class Table:
    """Rows of short texts with notes below them. Without columns, the title and the notes alone.

    layout  "numbers": every column but the first is aligned to the right; "wrap" and "cut": all are words, and on a
            terminal the last one is wrapped, or cut, where a line would be too long
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()
    layout: Literal["numbers", "wrap", "cut"] = "numbers"

    def show(self, console: Console | None = None) -> None:
        """Print it: drawn on a terminal, or on `console`; elsewhere its lines."""
        if console is None and not sys.stdout.isatty():
            print("\n".join(self.lines()), flush=True)
        else:
            self._draw(console)

    def lines(self) -> list[str]:
        """For a log file or a pipe: a line for each row, whatever its length."""
        cells = [self.columns, *self.rows] if self.columns else []
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        side = ["<", *("><"[self.layout != "numbers"] for _ in widths[1:])]
        table = ["  ".join(f"{cell:{at}{width}}" for cell, at, width in zip(row, side, widths, strict=True)).rstrip()
                 for row in cells]
        indent = "  " if self.title else ""
        return [*[self.title] * bool(self.title), *(indent + line for line in table),
                *(f"- {note}" for note in self.notes)]

    def _draw(self, console: Console | None) -> None:
        from rich import box
        from rich import table as rich_table
        from rich.console import Console
        from rich.text import Text

        console = console or Console(highlight=False)
        table = rich_table.Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim",
                                 show_edge=False)
        numbers, last = self.layout == "numbers", len(self.columns) - 1
        widths = [max(map(len, column)) for column in zip(self.columns, *self.rows, strict=True)]
        for k, column in enumerate(self.columns):
            folds = k == (0 if numbers else last)  # rich takes what is missing in width from it, to its last letter
            table.add_column(column, justify="right" if numbers and k else "left", no_wrap=not folds, overflow="fold",
                             min_width=min(SHORTEST_NAME, widths[k]) if numbers and folds else None)
        room = console.width - sum(widths[:-1]) - 2 * last if self.layout == "cut" else sys.maxsize
        for row in self.rows:
            table.add_row(*map(Text, row[:-1]), Text(row[-1] if len(row[-1]) <= room else f"{row[-1][:room - 1]}…"))
        notes = rich_table.Table.grid(padding=(0, 1))  # of two columns, so that a long note hangs beside its bullet
        for note in self.notes:
            text = Text(note)
            text.highlight_regex(FLAG, "cyan")
            notes.add_row(Text("•", "dim"), text)
        for part, shown in ((Text(self.title, "bold"), self.title), (table, self.columns), (notes, self.notes),
                            (Text(""), self.title)):
            if shown:
                console.print(part)
