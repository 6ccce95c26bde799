"""The tables on a terminal, and docs/benchmarks.md."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from puffer_il.bench.section import Section
from puffer_il.bench.tables import sections

INTRODUCTION = """\
# Benchmarks

Written by `{command}`, not by hand; `make bench` does it again. {machine}

Every figure is the median of several repeats with the lowest and highest beside it. What is compared was measured in
turn, so that a slow moment of the machine hits all alike; a ratio is the median of such pairs. `--json FILE` keeps all
of it. The other packages run in virtual environments of their own, which are made on first use: some minutes and about
3 GB, in the folder that `PUFFER_IL_PEERS` names (default `~/.cache/puffer_il/peers`).
"""

SHORTEST_NAME = 15  # columns that the first one keeps on a narrow terminal


def describe(machine: dict[str, Any]) -> str:
    return (f"{machine['cpu']}, {machine['cores']} usable, {machine['instruction_set']}, "
            f"{machine['gpu'] or 'no GPU'}, torch {machine['torch']}, Python {machine['python']}, {machine['date']}")


def show(section: Section, console: Console) -> None:
    table = Table(title=section.title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False,
                  padding=(0, 1))
    # Rich takes what is missing in width from what may be folded, to the last letter.
    named = min(SHORTEST_NAME, max((len(row[0]) for row in section.rows), default=0))
    for k, column in enumerate(section.columns):
        table.add_column(column, justify="right" if k else "left", no_wrap=k > 0, overflow="fold",
                         min_width=None if k else named)
    for row in section.rows:
        table.add_row(*map(Text, row))
    console.print(table if section.columns else Text(section.title, style="bold"))
    for note in section.notes:
        console.print(Padding(Text(note, style="dim"), (0, 0, 0, 2)))
    console.print()


def markdown(data: dict[str, Any]) -> str:
    machine = data["machine"]
    parts = [INTRODUCTION.format(command=machine["command"], machine=f"Machine: {describe(machine)}.")]
    if data["interrupted"]:
        parts.append("This run did not come to its end (it was interrupted): what is missing was not measured.\n")
    parts += [markdown_table(section) for section in sections(data)]
    return "\n".join(parts)


def markdown_table(section: Section) -> str:
    lines = [f"## {section.title}", "", *(f"{note}\n" for note in section.notes)]
    if section.columns:
        lines += [_line(section.columns), "|---|" + "---:|" * (len(section.columns) - 1), *map(_line, section.rows)]
    return "\n".join(lines) + "\n"


def _line(cells: Any) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"
