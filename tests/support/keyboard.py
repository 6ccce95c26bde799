"""Somebody at the keyboard, and a terminal of a process's own."""

from __future__ import annotations

import signal
import termios

from puffer_il.envkit.keys import Keyboard


class Typist(Keyboard):
    """A keyboard on which somebody types one word at each opportunity."""

    def __init__(self, *words: str) -> None:
        self.words, self.waits = list(words), []

    def wait(self, until):
        self.waits.append(until)
        yield from self.words.pop(0).split("+") if self.words else ["q"]


def own_terminal() -> None:
    import fcntl

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # which whoever runs the tests in the background has it ignore
