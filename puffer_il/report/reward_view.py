"""`puffer-il reward show`: the facts of a learned reward as lines, bars and a heat map, or as a picture."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from puffer_il.core import terminal
from puffer_il.core.errors import InputError
from puffer_il.core.pictures import needed, resized
from puffer_il.core.spec import Array
from puffer_il.core.text import number

BARS = " ▁▂▃▄▅▆▇█"
MOST_BARS = 10
RAMP = np.array([(68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37)])  # of viridis, low to high
WIDE, MAP_COLUMNS = 100, 2  # a terminal from this width on has two columns per cell of the map
PICTURE = (480, 480)


def check_path(path: Path) -> None:
    """InputError if no picture can be written there."""
    if path.suffix != ".png":
        raise InputError(f"--out {path}: the picture is a PNG; give a name that ends in .png")
    needed("PIL.Image", path)


def plain(value: Any) -> Any:
    """As JSON takes it: NumPy's numbers as Python's."""
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    return value.item() if isinstance(value, np.generic) else value


def lines(facts: dict[str, Any], width: int, depth: int) -> list[str]:
    """Everything, in lines of no more than `width` characters."""
    made = [*_what(facts), "", *_sources(facts["sources"]), "", *_truth(facts["truth"])]
    moved = facts["moved_by"]
    if moved:
        made += ["", "What moves it: its change, in its own sd, when a part is shuffled among steps",
                 *_bars(moved, width)]
    for one in facts["slices"]["one"]:
        made += ["", f"Mean reward by {one['part']}, from {number(one['low'])} to {number(one['high'])}",
                 *_columns(one["means"], width)]
    two = facts["slices"]["two"]
    if two and max(len(two["means"]), len(two["means"][0])) > 2:
        made += ["", f"Mean reward by {two['x']} (across) and {two['y']} (up){_legend(two['means'], depth)}",
                 *_map(two["means"], width, depth)]
    return [*(terminal.cut(line, width) for line in made), *(f"note: {note}" for note in facts["notes"])]


def _what(facts: dict[str, Any]) -> Iterator[str]:
    made, names = facts["arguments"], {"obs": "observations", "next_obs": "next observations"}
    size = (f"{'×'.join(map(str, made['hidden']))} {made['activation']}" if "hidden" in made else
            "×".join(map(str, made.get("shape", ()))) or f"{facts['parameters']:,} parameters")
    absorbing, gamma = facts["absorbing"], facts["gamma"]
    worth = "" if absorbing is None or gamma == 1 else f", {number(absorbing / (1 - gamma))} in all"
    yield facts["reward"]
    yield f"  reward      {facts['kind']} ({size}) of {facts['algo']}, from {facts['learned_on']}"
    yield f"  reads       {', '.join(names.get(x, x) for x in facts['reads'])}"
    yield "  terminated  " + ("is worth nothing more" if absorbing is None else
                              f"pays {number(absorbing)} a step for ever{worth}")
    yield f"  seen on     {facts['env']}{''.join(f' {key}={value}' for key, value in facts['kwargs'].items())}"


def _sources(sources: dict[str, dict[str, Any]]) -> Iterator[str]:
    yield f"{'':<15}{'episodes':>9}{'steps':>8}{'a step':>9}{'sd':>7}{'lowest':>9}{'highest':>9}{'true return':>13}"
    for name, one in sources.items():
        true = one["true_return_mean"]
        numbers = "".join(f"{number(one[key]):>{wide}}" for key, wide in
                          (("mean", 9), ("sd", 7), ("min", 9), ("max", 9)))
        yield (f"{name:<15}{one['episodes']:>9,}{one['steps']:>8,}{numbers}"
               f"{'–' if true is None else number(true):>13}")


def _truth(truth: dict[str, float | None]) -> Iterator[str]:
    def shown(name: str) -> str:
        value = truth[name]
        return "–" if value is None else f"{value:.2f}"

    yield "Correlation with the true reward"
    yield (f"  single steps {shown('step')} (ranks {shown('step_rank')}), discounted returns of episodes "
           f"{shown('returns')}")
    yield f"  without shaping: a distance of {shown('distance')} (0 equal, 0.71 unrelated, 1 opposite)"


def _bars(moved: list[dict[str, Any]], width: int) -> Iterator[str]:
    most = max(one["sd"] for one in moved) or 1.0
    wide = max(len(one["part"]) for one in moved[:MOST_BARS])
    room = max(8, min(60, width - wide - 12))
    for one in moved[:MOST_BARS]:
        yield f"  {one['part']:<{wide}}  {one['sd']:>5.2f} {'━' * max(round(one['sd'] / most * room), 0)}"
    if len(moved) > MOST_BARS:
        yield f"  … and {len(moved) - MOST_BARS} that move it less"


def _columns(means: Sequence[float | None], width: int) -> Iterator[str]:
    """A bar per place, two characters high; empty where no step was."""
    known = [x for x in means if x is not None]
    low, spread = min(known), max(max(known) - min(known), 1e-12)
    heights = [None if x is None else 1 + round((x - low) / spread * 15) for x in means]  # of 16 eighths
    wide = max(1, min(3, (width - 14) // len(means)))
    for level, value in ((8, max(known)), (0, low)):
        cells = (BARS[0 if h is None else min(max(h - level, 0), 8)] * wide for h in heights)
        yield f"  {number(value):>8}  {''.join(cells)}"


def _map(means: list[list[float | None]], width: int, depth: int) -> Iterator[str]:
    grid = np.array([[math.nan if x is None else x for x in row] for row in means][::-1])
    wide = MAP_COLUMNS if width >= WIDE else 1
    across = max(wide, min(2 * wide, (width - 4) // grid.shape[1]))
    if depth == terminal.PLAIN:
        share = _shares(grid)
        for row in share:
            yield "  " + "".join((" " if math.isnan(x) else terminal.SHADES[1:][round(x * 8)]) * across for x in row)
        return
    grid = np.vstack((grid, np.full((len(grid) % 2, grid.shape[1]), math.nan))).repeat(across, 1)
    colors = painted(grid)
    codes = terminal.indexed(colors) if depth == terminal.INDEXED else None
    for row in range(0, len(grid), 2):
        cells = []
        for column in range(grid.shape[1]):
            upper, lower = (None if math.isnan(grid[row + k, column]) else
                            f"5;{codes[row + k, column]}" if codes is not None else
                            f"2;{';'.join(map(str, colors[row + k, column]))}" for k in (0, 1))
            cells.append(" " if upper is None and lower is None else
                         f"\x1b[38;{lower}m▄\x1b[0m" if upper is None else
                         f"\x1b[38;{upper}m▀\x1b[0m" if lower is None else f"\x1b[38;{upper};48;{lower}m▀\x1b[0m")
        yield "  " + "".join(cells)


def _legend(means: list[list[float | None]], depth: int) -> str:
    known = [x for row in means for x in row if x is not None]
    marks = ("dark", "bright") if depth != terminal.PLAIN else (terminal.SHADES[1], terminal.SHADES[-1])
    return f": {marks[0]} {number(min(known))}, {marks[1]} {number(max(known))}"


def _shares(grid: Array) -> Array:
    """Between the lowest and the highest, 0 to 1; NaN stays."""
    low, high = np.nanmin(grid), np.nanmax(grid)
    return (grid - low) / max(high - low, 1e-12)


def painted(grid: Array) -> Array:
    """(…, 3) uint8 colours of numbers, white where there is none."""
    share = _shares(grid)
    place = np.nan_to_num(share) * (len(RAMP) - 1)
    colors = np.stack([np.interp(place, np.arange(len(RAMP)), RAMP[:, k]) for k in range(3)], -1)
    colors[np.isnan(share)] = 255
    return colors.round().astype(np.uint8)


def picture(facts: dict[str, Any], path: Path) -> None:
    """The heat map (or the one slice there is) and the bars, with their numbers, as PNG."""
    image, draw_on = needed("PIL.Image", path), needed("PIL.ImageDraw", path)
    two, one = facts["slices"]["two"], facts["slices"]["one"]
    means = two["means"] if two else [one[0]["means"]] if one else [[0.0]]
    grid = np.array([[math.nan if x is None else x for x in row] for row in means][::-1])
    height, width = PICTURE
    canvas = image.new("RGB", (width + 340, height + 80), "white")
    canvas.paste(image.fromarray(resized(painted(grid), height, width)), (20, 40))
    ink = draw_on.Draw(canvas)
    known = grid[~np.isnan(grid)]
    names = (two["x"], two["y"]) if two else (one[0]["part"], "") if one else ("", "")
    bounds = [f"{x['part']} from {number(x['low'])} to {number(x['high'])}" for x in one]
    ink.text((20, 12), f"{facts['algo']}'s reward on {facts['env']}: mean by {names[0]} (across)"
             + (f" and {names[1]} (up)" if names[1] else ""), fill="black")
    ink.text((20, height + 50), ", ".join(bounds), fill="black")
    for k in range(120):
        color = tuple(int(x) for x in painted(np.array([k / 119, 0.0, 1.0]))[0])
        ink.rectangle((width + 50 + 2 * k, 60, width + 52 + 2 * k, 76), fill=color)
    ink.text((width + 50, 80), number(float(known.min())), fill="black")
    ink.text((width + 270, 80), number(float(known.max())), fill="black")
    for row, part in enumerate(facts["moved_by"][:MOST_BARS]):
        y, most = 130 + 30 * row, facts["moved_by"][0]["sd"] or 1.0
        ink.text((width + 50, y), f"{part['part']}  {part['sd']:.2f}", fill="black")
        ink.rectangle((width + 50, y + 14, width + 50 + int(240 * part["sd"] / most), y + 20), fill=(33, 145, 140))
    canvas.save(path)
