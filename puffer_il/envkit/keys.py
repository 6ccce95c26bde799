"""The keyboard: single keys from a terminal, and what they mean as actions."""

import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from puffer_il.core.errors import Quit
from puffer_il.core.spec import ActionSpec, Array

ARROWS = {"A": "up", "B": "down", "C": "right", "D": "left"}  # as ESC [ A or ESC O A
SIGNS = {"left": "←", "right": "→", "up": "↑", "down": "↓", " ": "space"}
PAIRS = (("left", "right"), ("down", "up"), ("a", "d"), ("s", "w"), ("j", "l"), ("k", "i"))  # less, more
FOUR = ("left", "down", "right", "up")  # as Gymnasium's FrozenLake numbers them
NAMED = {"taxi": ("down", "up", "right", "left"), "cliffwalking": ("up", "right", "down", "left"),
         "snake": ("up", "right", "down", "left"), "tron": ("up", "left", "right")}  # what each choice is, in others
QUIT, PAUSE, STEP = "q", " ", "."


class Keyboard:
    """Keys as they are pressed: "left", "a", " ". Nothing, where there is no terminal to read from."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor, self._bytes = descriptor, ""

    def wait(self, until: float | None) -> Iterator[str]:
        """Every key pressed before the moment `until` of time.monotonic(), None for one key however long it takes."""
        while True:
            yield from self._parsed()
            left = None if until is None else until - time.monotonic()
            if left is not None and left <= 0:
                return
            if self._descriptor is None:
                time.sleep(left or 0)
                return
            if select.select([self._descriptor], [], [], left)[0]:
                data = os.read(self._descriptor, 1024)
                if not data:  # the other side of the terminal has gone
                    yield QUIT
                    return
                self._bytes += data.decode(errors="ignore")
                if until is None:
                    yield from self._parsed()
                    return

    def listen(self, press: Callable[[str], bool], waits: Callable[[], bool], until: float) -> None:
        """Hand keys to `press` until the moment `until`; while `waits()`, until `press` says that one asks for a step.
        Raises Quit for the key QUIT."""
        while True:
            waiting = waits()
            for key in self.wait(None if waiting else until):
                if key == QUIT:
                    raise Quit
                if press(key) and waiting:
                    return
            if not waits() and time.monotonic() >= until:
                return

    def _parsed(self) -> Iterator[str]:
        while self._bytes:
            if self._bytes[0] == "\x1b" and len(self._bytes) >= 3 and self._bytes[1] in "[O":
                key, self._bytes = ARROWS.get(self._bytes[2], ""), self._bytes[3:]
            else:
                key, self._bytes = self._bytes[0], self._bytes[1:]
            if key:
                yield key


@contextmanager
def keyboard() -> Iterator[Keyboard]:
    """Keys without waiting for Enter and without showing them; the terminal is as it was afterwards."""
    if not sys.stdin.isatty():
        yield Keyboard(None)
        return
    import termios
    import tty

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    stopping = signal.signal(signal.SIGTSTP, signal.SIG_IGN)  # a stopped program would leave the terminal like this
    try:
        tty.setcbreak(descriptor)
        yield Keyboard(descriptor)
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
        signal.signal(signal.SIGTSTP, stopping)


class Controls:
    """What keys do to an action: it stays until another key changes it, and space lets go.

    One choice: the digits, and the arrows for up to four. Several choices: a pair of keys goes through each. Numbers: a
    pair of keys for each sets it to its bounds (or to ±1). The environment's `name` tells which arrow is which choice,
    where that is known: Taxi-v3 and taxi are the same.
    """

    def __init__(self, action: ActionSpec, name: str = "") -> None:
        self.action, self.named = action, NAMED.get(name.rpartition("/")[2].partition("-")[0].lower(), ())
        if action.discrete:
            self.neutral: Array = np.array([1 if n == 3 else 0 for n in action.nvec], np.int32)
        else:
            assert action.low is not None and action.high is not None
            self.low = np.where(np.isfinite(action.low), action.low, -1).astype(np.float32)
            self.high = np.where(np.isfinite(action.high), action.high, 1).astype(np.float32)
            self.neutral = np.clip(np.zeros(action.dim, np.float32), self.low, self.high)
        self.value = self.neutral.copy()
        self.choices = self._choices() if len(action.nvec) == 1 else {}

    def _choices(self) -> dict[str, int]:
        n = self.action.nvec[0]
        arrows = self.named if len(self.named) <= n and self.named else {
            2: ("left", "right"), 3: ("left", "", "right"), 4: FOUR}.get(n, FOUR if n > 4 else ())
        digits = {str(i): i for i in range(min(n, 10))}
        return {key: i for i, key in enumerate(arrows) if key} | digits

    def press(self, key: str) -> bool:
        """True if the key changes the action (or asks for it once more)."""
        if key == " ":
            self.value[:] = self.neutral
            return True
        if self.choices:
            self.value[0] = self.choices.get(key, self.value[0])
            return key in self.choices
        for k, pair in enumerate(PAIRS[:self.action.dim]):
            if key in pair:
                more = key == pair[1]
                if self.action.discrete:
                    self.value[k] = min(max(self.value[k] + (1 if more else -1), 0), self.action.nvec[k] - 1)
                else:
                    self.value[k] = (self.high if more else self.low)[k]
                return True
        return False

    def help(self) -> str:
        """One line: which key does what."""
        if self.choices:
            n = self.action.nvec[0]
            arrows = " ".join(f"{SIGNS[key]}{i}" for key, i in self.choices.items() if key in SIGNS)
            digits = [f"digits 0 to {min(n, 10) - 1}"] if n > 1 else []
            return " · ".join([*([arrows] if arrows else []), f"space {self.neutral[0]}", *digits])
        pairs = " ".join(f"{SIGNS.get(less, less)}{SIGNS.get(more, more)}" for less, more in PAIRS[:self.action.dim])
        what = "a choice down or up" if self.action.discrete else "a number to its lowest or highest"
        rest = self.action.dim - len(PAIRS)
        return f"{pairs} {what}{f' (the other {rest} stay)' if rest > 0 else ''} · space lets go"
