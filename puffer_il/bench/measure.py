"""Time: repeats with their median and range, and comparisons that are interleaved pair by pair."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

Work = Callable[[], Any]
Figure = dict[str, float]  # median, min, max, samples
Say = Callable[[str], None]


@dataclass(frozen=True)
class Effort:
    """How long to measure: the number of repeats, and the least seconds of each."""

    repeats: int = 7
    seconds: float = 0.1


def figure(samples: Sequence[float]) -> Figure:
    return {"median": median(samples), "min": min(samples), "max": max(samples), "samples": len(samples)}


def interleaved(works: Mapping[str, Work], effort: Effort) -> dict[str, list[float]]:
    """Seconds per call of each work, one sample per round; every round measures all of them, one after the other, so
    that a slow moment of the machine affects all alike."""
    calls = {name: _calls(work, effort.seconds) for name, work in works.items()}
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(effort.repeats):
        for name, work in works.items():
            begin = time.perf_counter()
            for _ in range(calls[name]):
                work()
            seconds[name].append((time.perf_counter() - begin) / calls[name])
    return seconds


def rate(amount: float, seconds: Sequence[float]) -> Figure:
    """Amount per second."""
    return figure([amount / s for s in seconds])


def quotient(above: Sequence[float], below: Sequence[float]) -> Figure:
    """above / below, pair by pair."""
    return figure([a / b for a, b in zip(above, below, strict=True)])


def _calls(work: Work, seconds: float) -> int:
    """How many calls last `seconds`; the first two are for memory to be touched and threads to start."""
    work()
    begin = time.perf_counter()
    work()
    return max(1, math.ceil(seconds / (time.perf_counter() - begin)))
