"""`puffer-il reward show`: what was measured of a learned reward as lines, bars and a heat map, or as a picture."""

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from puffer_il.core import terminal
from puffer_il.core.errors import InputError
from puffer_il.core.pictures import needed, resized
from puffer_il.core.spec import Array
from puffer_il.core.text import Table, facts, number

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


def lines(told: dict[str, Any], width: int, depth: int) -> list[str]:
    """The results of `measure`, in lines of at most `width` characters."""
    made = [told["reward"], *facts(list(_what(told))), "", *_sources(told["sources"]), "",
            "Correlation with the true reward", *facts(list(_truth(told["truth"])))]
    if told["moved_by"]:
        made += ["", "What moves it: its change, in its own sd, when a part is shuffled among steps",
                 *_bars(told["moved_by"], width)]
    for one in told["slices"]["one"]:
        made += ["", f"Mean reward by {one['part']}, from {number(one['low'])} to {number(one['high'])}",
                 *_columns(one["means"], width)]
    two = told["slices"]["two"]
    if two and max(len(two["means"]), len(two["means"][0])) > 2:
        made += ["", f"Mean reward by {two['x']} (across) and {two['y']} (up){_legend(two['means'], depth)}",
                 *_map(two["means"], width, depth)]
    return [*(terminal.cut(line, width) for line in made), *(f"note: {note}" for note in told["notes"])]


def _what(told: dict[str, Any]) -> Iterator[tuple[str, str]]:
    made, names = told["arguments"], {"obs": "observations", "next_obs": "next observations"}
    size = (f"{'×'.join(map(str, made['hidden']))} {made['activation']}" if "hidden" in made else
            "×".join(map(str, made.get("shape", ()))) or f"{told['parameters']:,} parameters")
    absorbing, gamma = told["absorbing"], told["gamma"]
    worth = "" if absorbing is None or gamma == 1 else f", {number(absorbing / (1 - gamma))} in all"
    yield "reward", f"{told['kind']} ({size}) of {told['algo']}, from {told['learned_on']}"
    yield "reads", ", ".join(names.get(x, x) for x in told["reads"])
    yield "terminated", ("is worth nothing more" if absorbing is None else
                         f"pays {number(absorbing)} a step for ever{worth}")
    yield "seen on", f"{told['env']}{''.join(f' {key}={value}' for key, value in told['kwargs'].items())}"


def _sources(sources: dict[str, dict[str, Any]]) -> list[str]:
    keys = ("mean", "sd", "min", "max", "true_return_mean")
    rows = [(name, f"{one['episodes']:,}", f"{one['steps']:,}", *(_known(one[key], number) for key in keys))
            for name, one in sources.items()]
    return Table("", ("", "episodes", "steps", "a step", "sd", "lowest", "highest", "true return"), rows).lines()


def _truth(truth: dict[str, float | None]) -> Iterator[tuple[str, str]]:
    told = {name: _known(value, "{:.2f}".format) for name, value in truth.items()}
    yield "steps", f"{told['step']} of single ones, {told['step_rank']} of their ranks"
    yield "episodes", f"{told['returns']} of discounted returns"
    yield "distance", f"{told['distance']} without shaping (0 equal, 0.71 unrelated, 1 opposite)"


def _known(value: float | None, written: Callable[[float], str]) -> str:
    return "–" if value is None else written(value)


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
    grid = _grid(means)
    wide = MAP_COLUMNS if width >= WIDE else 1
    across = max(wide, min(2 * wide, (width - 4) // grid.shape[1]))
    if depth == terminal.PLAIN:
        rows = ["".join((" " if math.isnan(x) else terminal.SHADES[1:][round(x * 8)]) * across for x in row)
                for row in _shares(grid)]
    else:
        rows = terminal.picture_lines(painted(grid.repeat(across, 1)), width - 2, depth)
    return (f"  {row}" for row in rows)


def _grid(means: list[list[float | None]]) -> Array:
    """The lowest row of means at the bottom; NaN where there is none."""
    return np.array([[math.nan if x is None else x for x in row] for row in reversed(means)])


def _legend(means: list[list[float | None]], depth: int) -> str:
    known = [x for row in means for x in row if x is not None]
    marks = ("dark", "bright") if depth != terminal.PLAIN else (terminal.SHADES[1], terminal.SHADES[-1])
    return f": {marks[0]} {number(min(known))}, {marks[1]} {number(max(known))}"


def _shares(grid: Array) -> Array:
    """Between the lowest and the highest, 0 to 1; NaN stays."""
    low, high = np.nanmin(grid), np.nanmax(grid)
    return (grid - low) / max(high - low, 1e-12)


def painted(grid: Array) -> Array:
    """(…, 3) uint8 colours of numbers, a light grey where there is none."""
    share = _shares(grid)
    place = np.nan_to_num(share) * (len(RAMP) - 1)
    colors = np.stack([np.interp(place, np.arange(len(RAMP)), RAMP[:, k]) for k in range(3)], -1)
    colors[np.isnan(share)] = 200
    return colors.round().astype(np.uint8)


def picture(told: dict[str, Any], path: Path) -> None:
    """The heat map (or the one slice there is) and the bars, with their numbers, as PNG."""
    image, draw_on = needed("PIL.Image", path), needed("PIL.ImageDraw", path)
    two, one = told["slices"]["two"], told["slices"]["one"]
    means: list[list[float | None]] = two["means"] if two else [one[0]["means"]] if one else [[0.0]]
    grid = _grid(means)
    height, width = PICTURE
    canvas = image.new("RGB", (width + 340, height + 80), "white")
    canvas.paste(image.fromarray(resized(painted(grid), height, width)), (20, 40))
    ink = draw_on.Draw(canvas)
    known = grid[~np.isnan(grid)]
    names = (two["x"], two["y"]) if two else (one[0]["part"], "") if one else ("", "")
    bounds = [f"{x['part']} from {number(x['low'])} to {number(x['high'])}" for x in one]
    ink.text((20, 12), f"{told['algo']}'s reward on {told['env']}: mean by {names[0]} (across)"
             + (f" and {names[1]} (up)" if names[1] else ""), fill="black")
    ink.text((20, height + 50), ", ".join(bounds), fill="black")
    for k in range(120):
        color = tuple(int(x) for x in painted(np.array([k / 119, 0.0, 1.0]))[0])
        ink.rectangle((width + 50 + 2 * k, 60, width + 52 + 2 * k, 76), fill=color)
    ink.text((width + 50, 80), number(float(known.min())), fill="black")
    ink.text((width + 270, 80), number(float(known.max())), fill="black")
    for row, part in enumerate(told["moved_by"][:MOST_BARS]):
        y, most = 130 + 30 * row, told["moved_by"][0]["sd"] or 1.0
        ink.text((width + 50, y), f"{part['part']}  {part['sd']:.2f}", fill="black")
        ink.rectangle((width + 50, y + 14, width + 50 + int(240 * part["sd"] / most), y + 20), fill=(33, 145, 140))
    canvas.save(path)
