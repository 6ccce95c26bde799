"""A terminal as a screen: pictures out of half blocks, two pixels a character, redrawn in place where they changed."""

import math
import os
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import TextIO

import numpy as np

from puffer_il.core.pictures import resized
from puffer_il.core.spec import Array

FULL, INDEXED, PLAIN = 24, 8, 0  # bits of colour
SHADES = " .:-=+*#%@"  # where there are no colours
STATUS_LINES = 2
ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def colors() -> int:
    """What the terminal says it can show."""
    term = os.environ.get("TERM", "")
    if os.environ.get("NO_COLOR") or term in ("", "dumb"):
        return PLAIN
    if os.environ.get("COLORTERM") in ("truecolor", "24bit") or "direct" in term:
        return FULL
    return INDEXED if "256color" in term or term.startswith(("xterm", "screen", "tmux")) else PLAIN


def blocks(picture: Array, columns: int, rows: int) -> Array:
    """(rows, columns, 2, 3) uint8: the upper and the lower pixel of each character, as large as it fits."""
    height, width, _ = picture.shape
    scale = min(columns / width, 2 * rows / height)
    wide, high = max(1, int(width * scale)), max(2, int(height * scale) // 2 * 2)
    return resized(picture, high, wide).reshape(high // 2, 2, wide, 3).swapaxes(1, 2)


def indexed(pixels: Array) -> Array:
    """The nearest of the 256 colours that terminals share: a cube of 6×6×6, and greys."""
    levels = np.array([0, 95, 135, 175, 215, 255])
    nearest = np.abs(pixels[..., None].astype(int) - levels).argmin(-1)
    cube = 16 + nearest @ np.array([36, 6, 1])
    grey = np.clip(np.round((pixels.mean(-1) - 8) / 10), 0, 23).astype(int)
    off_cube = np.abs(levels[nearest] - pixels.astype(int)).sum(-1)
    off_grey = np.abs(8 + 10 * grey[..., None] - pixels.astype(int)).sum(-1)
    return np.where(off_grey < off_cube, 232 + grey, cube)


class Screen:
    """Draws pictures or lines of text with a status below them, by as few characters as will do."""

    def __init__(self, out: TextIO, depth: int) -> None:
        self._out, self._depth, self._size, self._lines = out, depth, (0, 0), list[str]()
        self._shown: Array | None = None

    def room(self) -> tuple[int, int]:
        """Columns and rows for a picture."""
        columns, lines = shutil.get_terminal_size()
        return columns, max(1, lines - STATUS_LINES - 1)

    def draw(self, what: Array | Sequence[str], status: Sequence[str]) -> None:
        """A picture or lines, and up to STATUS_LINES of status, in one write that the terminal shows at once."""
        size = self.room()
        text = "\x1b[?2026h"
        if size != self._size:
            text, self._size, self._shown, self._lines = text + "\x1b[2J", size, None, []
        columns, rows = size
        if isinstance(what, np.ndarray):
            cells = blocks(what, columns, rows)
            if self._depth == PLAIN:
                lines, height = shades(cells), len(cells)
                text += self._text([" " * ((columns - len(line)) // 2) + line for line in lines], 0)
            else:
                text += self._cells(cells, columns)
                height = len(cells)
        else:
            height = min(len(what), rows)
            text += self._text(list(what[:rows]), 0)
        below = ["", *status][:STATUS_LINES + 1]
        text += self._text(below + [""] * (len(self._lines) - height - len(below)), height)
        self._out.write(text + "\x1b[?2026l")
        self._out.flush()

    def _cells(self, cells: Array, columns: int) -> str:
        """Those that differ from what is shown: a change of colour is written only where there is one."""
        at = (1, 1 + (columns - cells.shape[1]) // 2)
        codes = indexed(cells) if self._depth == INDEXED else cells.astype(np.uint32) @ (1 << 16, 1 << 8, 1)
        fresh = self._shown is None or self._shown.shape != codes.shape
        changed = np.ones(codes.shape[:2], bool) if fresh else (codes != self._shown).any(-1)
        parts = ["\x1b[2J"] * fresh
        if fresh:
            self._lines = []
        self._shown = codes
        upper = lower = -1
        places = np.argwhere(changed)
        for (row, column), (top, bottom) in zip(places.tolist(), codes[changed].tolist(), strict=True):
            if column == 0 or not changed[row, column - 1]:
                parts.append(f"\x1b[{at[0] + row};{at[1] + column}H")
            if top != upper:
                parts.append(f"\x1b[38;{_color(top, self._depth)}m")
            if bottom != lower:
                parts.append(f"\x1b[48;{_color(bottom, self._depth)}m")
            parts.append("▀")
            upper, lower = top, bottom
        return "".join([*parts, "\x1b[0m"])

    def _text(self, lines: list[str], start: int) -> str:
        """Lines from row `start` on, those that differ from what is shown."""
        text = ""
        self._lines += [""] * (start + len(lines) - len(self._lines))
        for row, line in enumerate(lines, start):
            line = cut(line, self._size[0])
            if line != self._lines[row]:
                self._lines[row] = line
                text += f"\x1b[{row + 1};1H{line}\x1b[0m\x1b[K"
        return text


def picture_lines(picture: Array, columns: int, depth: int = FULL) -> list[str]:
    """A picture (height, width, 3), no wider than `columns` and no larger than it is, two pixels to a character."""
    height, width, _ = picture.shape
    cells = blocks(picture, min(columns, width), height)
    codes = indexed(cells) if depth == INDEXED else cells.astype(np.uint32) @ (1 << 16, 1 << 8, 1)
    lines = []
    for row in codes.tolist():
        line, last = "", None
        for upper, lower in row:
            if (upper, lower) != last:  # colours hold until they change
                line += f"\x1b[38;{_color(upper, depth)};48;{_color(lower, depth)}m"
            line, last = line + "▀", (upper, lower)
        lines.append(line + "\x1b[0m")
    return lines


def _color(code: int, depth: int) -> str:
    return f"5;{code}" if depth == INDEXED else f"2;{code >> 16};{code >> 8 & 255};{code & 255}"


def cut(line: str, width: int) -> str:
    """At most `width` characters, colours aside."""
    plain = ESCAPES.sub("", line)
    return line if len(plain) <= width else plain[:max(0, width - 1)] + "…"


def shades(cells: Array) -> list[str]:
    """A picture in characters, the emptier the closer to what there is most of, be it dark or bright."""
    bright = cells.mean((2, 3)) / 255
    bright = 1 - bright if bright.mean() > 0.5 else bright
    return ["".join(SHADES[round(x * (len(SHADES) - 1))] for x in row) for row in bright.tolist()]


def bars(names: Sequence[str], values: Array, low: Array, high: Array, columns: int, rows: int) -> list[str]:
    """Numbers as marks between their bounds, as many as there is room for."""
    wide = max(map(len, names), default=0)
    room = max(8, min(60, columns - wide - 14))
    lines = []
    for name, value, a, b in zip(names, values.tolist(), low.tolist(), high.tolist(), strict=True):
        share = (value - a) / (b - a) if b > a else 0.5
        place = round(min(max(share, 0.0), 1.0) * (room - 1)) if math.isfinite(share) else 0
        zero = round(-a / (b - a) * (room - 1)) if a < 0 < b else 0
        cells = ["─"] * room
        for i in range(min(place, zero), max(place, zero) + 1):
            cells[i] = "━"
        cells[place] = "●"
        lines.append(f"{name:<{wide}}  {''.join(cells)}  {value:>9.4g}")
    if len(lines) > rows:
        lines = [*lines[:rows - 1], f"… and {len(lines) - rows + 1} more"]
    return lines


@contextmanager
def alternate(out: TextIO) -> Iterator[None]:
    """The terminal's other page, without a cursor; what was there before comes back afterwards."""
    out.write("\x1b[?1049h\x1b[?25l\x1b[2J")
    try:
        yield
    finally:
        out.write("\x1b[0m\x1b[?25h\x1b[?1049l")
        out.flush()


def is_terminal() -> bool:
    return sys.stdout.isatty() and os.environ.get("TERM", "") not in ("", "dumb")


@contextmanager
def others_on_stderr() -> Iterator[None]:
    """What libraries and environments print meanwhile goes to stderr, so that stdout holds the answer alone."""
    sys.stdout.flush()
    try:
        kept = os.dup(1)
    except OSError:  # there is none
        yield
        return
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
