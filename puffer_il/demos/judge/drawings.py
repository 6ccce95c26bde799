"""Pictures of demonstrations as SVG: plain text that a browser draws, without scripts and without the network."""

from collections.abc import Sequence
from html import escape

import numpy as np

from puffer_il.core.rows import Array
from puffer_il.core.text import number

WIDTH, HEIGHT = 640, 150
POINTS = 400  # of a line, at most: a picture has no more pixels
BINS = 24


def bars(title: str, values: Array, marked: Sequence[int], unit: str) -> str:
    """A bar for each of `values`, those `marked` in another colour."""
    ends = [f"{x:,}" if values.dtype.kind == "i" else number(float(x)) for x in (values.min(), values.max())]
    told = f"{len(values)} episodes, {' to '.join(dict.fromkeys(ends))} {unit}"
    if len(values) > POINTS:  # the marked ones stay to be seen
        kept = np.union1d(np.linspace(0, len(values) - 1, POINTS), list(marked)).astype(np.int64)
        marked, values = np.flatnonzero(np.isin(kept, list(marked))).tolist(), values[kept]
    low, high = min(0.0, float(values.min())), max(0.0, float(values.max()))
    span, step = (high - low) or 1.0, WIDTH / len(values)
    parts, odd = [], set(marked)
    for k, value in enumerate(values):
        top, bottom = (HEIGHT * (1 - (x - low) / span) for x in (max(value, 0), min(value, 0)))
        name = "bad" if k in odd else "bar"
        parts.append(f'<rect class="{name}" x="{k * step:.1f}" y="{top:.1f}" width="{max(0.7 * step, 0.6):.1f}" '
                     f'height="{max(bottom - top, 1):.1f}"/>')
    return _figure(title, parts, told)


def strips(title: str, lengths: Array, places: Sequence[tuple[int, int]]) -> str:
    """A strip for each of the first episodes, as long as it is, with a mark at (episode, row in it)."""
    shown = sorted({*range(min(len(lengths), 12)), *(e for e, _ in places)})[:24]
    each, longest = 12, float(lengths[shown].max())
    parts = []
    for k, e in enumerate(shown):
        parts.append(f'<text x="0" y="{k * each + 9}">{e}</text><rect class="bar" x="30" y="{k * each + 2}" '
                     f'width="{(WIDTH - 30) * lengths[e] / longest:.1f}" height="{each - 4}"/>')
        for episode, row in places:
            if episode == e:
                parts.append(f'<rect class="bad" x="{30 + (WIDTH - 30) * row / longest:.1f}" y="{k * each}" width="3" '
                             f'height="{each}"/>')
    return _figure(title, parts, f"{len(shown)} of {len(lengths)} episodes, the longest of {int(longest)} rows",
                   each * len(shown))


def histogram(title: str, values: Array, low: float, high: float) -> str:
    """How often values occur; the environment's range is drawn where it is finite."""
    ends = [x for x in (low, high) if np.isfinite(x)]
    left, right = min([float(values.min()), *ends]), max([float(values.max()), *ends])
    right += (right == left) * 1.0
    counts, _ = np.histogram(values, BINS, (left, right))
    step = WIDTH / BINS
    parts = [f'<rect class="bar" x="{k * step:.1f}" y="{HEIGHT * (1 - c / counts.max()):.1f}" width="{step - 1:.1f}" '
             f'height="{HEIGHT * c / counts.max():.1f}"/>' for k, c in enumerate(counts)]
    for x in ends:
        at = WIDTH * (x - left) / (right - left)
        parts.append(f'<line class="edge" x1="{at:.1f}" x2="{at:.1f}" y1="0" y2="{HEIGHT}"/>')
    told = f"{number(float(values.min()))} to {number(float(values.max()))}"
    return _figure(title, parts, told + (f"; dashed: the range {number(low)} to {number(high)}" if ends else ""))


def line(title: str, values: Array, marked: Sequence[int]) -> str:
    """A number from row to row, with upright lines at the rows `marked`."""
    kept = np.linspace(0, len(values) - 1, min(len(values), POINTS)).astype(int)
    low, high = float(values.min()), float(values.max())
    places = np.stack([WIDTH * kept / max(len(values) - 1, 1),
                       HEIGHT * (1 - (values[kept] - low) / ((high - low) or 1.0))], 1)
    parts = [f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{HEIGHT}"/>'
             for x in (WIDTH * row / max(len(values) - 1, 1) for row in marked)]
    parts.append('<polyline class="line" points="' + " ".join(f"{x:.1f},{y:.1f}" for x, y in places) + '"/>')
    return _figure(title, parts, f"{number(low)} to {number(high)}, {len(values)} rows")


def dots(title: str, own: Array, theirs: Array, names: tuple[str, str]) -> str:
    """(n, 2) and (m, 2) points: the environment's, and those of the demonstrations."""
    both = np.concatenate([own, theirs])
    low, span = both.min(0), np.ptp(both, axis=0) + 1e-9

    def at(points: Array, name: str, size: float) -> list[str]:
        places = (points - low) / span * (WIDTH - 12, HEIGHT - 12) + 6
        return [f'<circle class="{name}" cx="{x:.1f}" cy="{HEIGHT - y:.1f}" r="{size}"/>' for x, y in places]

    return _figure(title, [*at(own, "bar", 3), *at(theirs[:POINTS], "bad", 4)],
                   f"grey: the environment's, orange: the demonstrations'; {names[0]} to the right, {names[1]} up")


def _figure(title: str, parts: list[str], told: str, height: int = HEIGHT) -> str:
    return (f'<figure><figcaption><b>{escape(title)}</b> <span>{escape(told)}</span></figcaption>'
            f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}: {escape(told)}" '
            f'preserveAspectRatio="none" style="aspect-ratio: {WIDTH} / {height}">{"".join(parts)}</svg></figure>')
