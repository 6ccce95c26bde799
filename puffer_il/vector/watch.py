"""How long the answer of environments is waited for, and what happens to those that do not give it.

Nothing of this is looked at while environments answer: a wait has to be slow already (workers.PATIENCE_S) before it is
held against a clock.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from puffer_il.core.errors import InputError, Quit

ON_TIMEOUT = ("wait", "restart", "stop")
STOP_S = 2.0  # after somebody has asked for the end, what is under way may still come to its own
REPEAT = 2.0  # each report comes after so many times the last one's time
RESTARTS = 5  # of one worker within RESTART_STEPS of its steps; with more, it never gets anywhere
RESTART_STEPS = 1000


def to_stderr(text: str) -> None:
    print(f"puffer-il: {text}", file=sys.stderr, flush=True)


@dataclass
class Watch:
    """What a vector does about environments that do not answer.

    timeout_s   seconds after which a step or a reset is reported; 0 never reports
    on_timeout  then `wait` on, reporting; `restart` the worker process with new episodes, its rows not valid in that
                step; or `stop`, with an EnvFailure. `restart` is also what becomes of a worker that has died
    guard       environments that are neither C nor a batch step in a process of their own, so that one that crashes
                does not take this one along
    say         is told of every report
    asked_s     seconds since somebody asked for the end, 0 if nobody has: waits end by Quit STOP_S later
    """

    timeout_s: float = 30.0
    on_timeout: str = "wait"
    guard: bool = False
    say: Callable[[str], None] = to_stderr
    asked_s: Callable[[], float] = field(default=lambda: 0.0)

    def __post_init__(self) -> None:
        if self.on_timeout not in ON_TIMEOUT:
            raise InputError(f"env.on_timeout = {self.on_timeout!r}: choose one of {', '.join(ON_TIMEOUT)}")

    def check_end(self) -> None:
        """Quit if somebody has asked for the end and what is under way takes too long."""
        if self.asked_s() > STOP_S:
            raise Quit


class Wait:
    """One answer that is waited for, since now. One that is `needed` is, whoever has asked for the end."""

    def __init__(self, watch: Watch, needed: bool = False) -> None:
        self.watch, self.needed, self.begin = watch, needed, time.monotonic()
        self._next = watch.timeout_s or float("inf")

    def over(self, who: Callable[[], str]) -> str:
        """What is to be done now: "" to wait on, otherwise `restart` or `stop`. `who` says who does not answer, and in
        what. Quit if somebody wants the end."""
        waited = time.monotonic() - self.begin
        if self.watch.asked_s() > STOP_S and not self.needed:
            self.watch.say(f"{who()} has not answered for {waited:.0f} s, and is not waited for")
            raise Quit
        if waited < self._next:
            return ""
        self._next = REPEAT * waited
        if self.watch.on_timeout == "wait":
            self.watch.say(f"{self.told(who())}; waiting on (env.on_timeout = 'restart' or 'stop' does not)")
            return ""
        return self.watch.on_timeout

    def told(self, who: str) -> str:
        """One line for the user of who has not answered."""
        return f"{who} has not answered for {time.monotonic() - self.begin:.0f} s"


class Restarts:
    """How often workers were restarted, for the seeds of their new episodes and for an end to it."""

    def __init__(self, workers: int) -> None:
        self.counts = [0] * workers
        self._steps: list[list[int]] = [[] for _ in range(workers)]

    def add(self, worker: int, step: int) -> bool:
        """Note one more, in the worker's step `step` of all; False if that was one too many."""
        self.counts[worker] += 1
        self._steps[worker] = [old for old in self._steps[worker] if step - old < RESTART_STEPS] + [step]
        return len(self._steps[worker]) <= RESTARTS

    def seed(self, seed: int, worker: int) -> int:
        """Of the new episodes of a worker whose vector was seeded by `seed`: another for each restart."""
        return int(np.random.SeedSequence((seed, worker + 1, self.counts[worker])).generate_state(1)[0])
