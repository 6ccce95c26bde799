"""Numbers, durations and tables for people."""

from __future__ import annotations

import math


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
    """A large count in few characters: 950 · 12.3k · 312k · 1.20M."""
    if not math.isfinite(count):
        return "–"
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(count) >= size:
            scaled = count / size
            return f"{scaled:.0f}{unit}" if scaled >= 100 else f"{scaled:.3g}{unit}"
    return f"{count:.0f}"


def duration(seconds: float) -> str:
    """0:07 · 12:05 · 3:04:05 · 2d 03h."""
    if not math.isfinite(seconds):
        return "–:––"
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 48:
        return f"{hours // 24}d {hours % 24:02}h"
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
