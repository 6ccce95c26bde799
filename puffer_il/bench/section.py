"""One table, and numbers as text: three digits and a unit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from puffer_il.bench.measure import Figure

Entries = Sequence[dict[str, Any]]


@dataclass(frozen=True)
class Section:
    """One table; the first column is text, the others are numbers. Without columns, its notes alone."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()


def short(x: float) -> str:
    """Three significant digits, with k, M or G."""
    for limit, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if x >= 0.9995 * limit:
            return f"{_digits(x / limit)}{unit}"
    return _digits(x)


def _digits(x: float) -> str:
    return f"{x:.0f}" if x >= 99.95 else f"{x:.1f}" if x >= 9.995 else f"{x:.2f}"


def milliseconds(seconds: float) -> str:
    """Three significant digits from 1 ms on."""
    return f"{1e3 * seconds:,.0f}" if seconds >= 0.1 else f"{1e3 * seconds:.3g}" if seconds >= 1e-5 else "0"


def span(figure: Figure) -> str:
    """The unit stands once where both have the same."""
    low, high = short(figure["min"]), short(figure["max"])
    return f"{low.split()[0] if low.split()[1:] == high.split()[1:] else low}–{high}"


def both(figure: Figure | None) -> list[str]:
    """Median and range, dashes where nothing was measured."""
    return [short(figure["median"]), span(figure)] if figure else ["–", "–"]


def percent(figure: Figure) -> list[str]:
    return [f"{100 * figure['median']:.0f} %", f"{100 * figure['min']:.0f}–{100 * figure['max']:.0f}"]


def failed(entries: Entries) -> list[str]:
    return [f"{e['name']} was not measured: {e['error']}." for e in entries if e.get("error")]
