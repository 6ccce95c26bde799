"""A small table with remarks: rich on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Sequence

FLAG = r"--[a-z][\w.-]* [^\s,;:)]+"  # as a remark tells it, to be typed


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], remarks: Sequence[str]) -> None:
    """Print them. The first column is text, the others are numbers."""
    if sys.stdout.isatty():
        _draw(title, columns, rows, remarks)
    else:
        print("\n".join(plain(title, columns, rows, remarks)), flush=True)


def plain(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], remarks: Sequence[str]) -> list[str]:
    """Lines for a log file or a pipe."""
    widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
    table = ["  ".join([f"{line[0]:<{widths[0]}}", *(f"{cell:>{width}}" for cell, width in
                                                     zip(line[1:], widths[1:], strict=True))]).rstrip()
             for line in (columns, *rows)]
    return [title, *(f"  {line}" for line in table), *(f"- {remark}" for remark in remarks)]


def _draw(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], remarks: Sequence[str]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), header_style="dim", show_edge=False)
    for k, column in enumerate(columns):
        table.add_column(column, justify="right" if k else "left", no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row))
    notes = Table.grid(padding=(0, 1))  # of two columns, so that a long remark hangs beside its bullet
    for remark in remarks:
        text = Text(remark)
        text.highlight_regex(FLAG, "cyan")
        notes.add_row(Text("•", "dim"), text)
    console.print(Text(title, "bold"), table, notes, Text(""), sep="\n")
