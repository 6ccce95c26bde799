"""What takes longer than people wait without a word says how far it is."""

from __future__ import annotations

import time
from collections.abc import Callable

from puffer_il.core.text import duration


class Slow:
    """Says how many of `total` episodes are over: after `first` seconds, and each time it has taken twice as long."""

    def __init__(self, say: Callable[[str], None], what: str, total: int, first: float = 3.0,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self.say, self.what, self.total, self.clock = say, what, total, clock
        self.begin, self.next = clock(), first

    def __call__(self, done: int) -> None:
        taken = self.clock() - self.begin
        if taken >= self.next:
            self.next = 2 * taken
            self.say(f"{self.what}: {done} of {self.total} episodes after {duration(taken)}")
