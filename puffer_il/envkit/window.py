"""A window, in which keys count for as long as they are held, and a gamepad: what a terminal cannot tell. Needs pygame.

It takes the places of the terminal's screen and of its keyboard for a person who records (envkit/person.py).
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from puffer_il.core.errors import InputError
from puffer_il.core.spec import Array
from puffer_il.envkit.keys import QUIT, Controls, Keyboard

SIZE = 960, 720
LINE, LETTERS = 18, 14  # pixels of a line of text, and of its letters
COLUMNS = 96  # of text that stands for a picture
DEAD = 0.15  # of an axis that nobody moves
PAUSE_S = 0.002  # between two looks at what happens
HAT = {(-1, 0): "left", (1, 0): "right", (0, 1): "up", (0, -1): "down"}
ESCAPES = re.compile("\x1b\\[[0-9;]*m")


class Window(Keyboard):
    """Draws as terminal.Screen does, and gives keys as a Keyboard does: " ", which lets go, when the last one that was
    held is released."""

    def __init__(self, pygame: Any, title: str) -> None:
        super().__init__(None)
        self.pygame = pygame
        self.surface = pygame.display.set_mode(SIZE, pygame.RESIZABLE)
        pygame.display.set_caption(title)
        self.font = pygame.font.SysFont("monospace", LETTERS)
        self.names = {pygame.K_LEFT: "left", pygame.K_RIGHT: "right", pygame.K_UP: "up", pygame.K_DOWN: "down",
                      pygame.K_SPACE: " ", pygame.K_ESCAPE: QUIT}
        self.pads = [pygame.joystick.Joystick(k) for k in range(pygame.joystick.get_count())]
        self.held: list[str] = []

    def wait(self, until: float | None) -> Iterator[str]:
        """Every key until the moment `until`, None for one key however long it takes."""
        while True:
            for event in self.pygame.event.get():
                for key in self._keys(event):
                    yield key
                    if until is None:
                        return
            if until is not None and time.monotonic() >= until:
                return
            time.sleep(PAUSE_S)

    def steer(self, controls: Controls) -> None:
        """Continuous actions are where the axes of a gamepad are, if somebody moves them."""
        axes = [pad.get_axis(k) for pad in self.pads for k in range(pad.get_numaxes())]
        if controls.action.discrete or not any(abs(axis) > DEAD for axis in axes):
            return
        for k, axis in enumerate(axes[:controls.action.dim]):
            share = (axis if abs(axis) > DEAD else 0.0) / 2 + 0.5
            controls.value[k] = controls.low[k] + share * (controls.high[k] - controls.low[k])

    def room(self) -> tuple[int, int]:
        """Columns and rows for text."""
        return COLUMNS, max(1, self.surface.get_height() // LINE - 4)

    def draw(self, what: Array | Sequence[str], status: Sequence[str]) -> None:
        """A picture (height, width, 3) uint8 as large as there is room for, or lines; `status` below it."""
        width, height = self.surface.get_width(), self.surface.get_height() - 4 * LINE
        self.surface.fill((0, 0, 0))
        if isinstance(what, np.ndarray):
            rows, columns = what.shape[:2]
            scale = min(width / columns, height / rows)
            size = max(1, round(columns * scale)), max(1, round(rows * scale))
            picture = self.pygame.surfarray.make_surface(np.ascontiguousarray(what.swapaxes(0, 1)))
            self.surface.blit(self.pygame.transform.scale(picture, size), ((width - size[0]) // 2, 0))
        else:
            self._text(what, 0)
        self._text(status, height + LINE)
        self.pygame.display.flip()

    def _text(self, lines: Sequence[str], top: int) -> None:
        for k, line in enumerate(lines):
            self.surface.blit(self.font.render(ESCAPES.sub("", line), True, (220, 220, 220)), (8, top + k * LINE))

    def _keys(self, event: Any) -> Iterator[str]:
        pygame = self.pygame
        if event.type == pygame.QUIT:
            yield QUIT
        elif event.type == pygame.KEYDOWN:
            key = self.names.get(event.key, getattr(event, "unicode", ""))
            self.held.append(self.names.get(event.key, pygame.key.name(event.key)))
            if key:
                yield key
        elif event.type == pygame.KEYUP:
            name = self.names.get(event.key, pygame.key.name(event.key))
            self.held = [key for key in self.held if key != name]
            yield self.held[-1] if self.held else " "
        elif event.type == pygame.JOYHATMOTION:
            yield HAT.get(tuple(event.value), " ")
        elif event.type == pygame.JOYBUTTONDOWN:
            yield str(event.button)
        elif event.type == pygame.JOYBUTTONUP:
            yield " "


@contextmanager
def window(title: str) -> Iterator[Window]:
    """A window while it is needed. InputError where there is no pygame, or nothing to show it on."""
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    try:
        import pygame
    except ImportError:
        raise InputError("--gamepad: needs pygame; pip install pygame-ce, or play in the terminal with --keys"
                         ) from None
    try:
        pygame.init()
        yield Window(pygame, title)
    except pygame.error as error:
        raise InputError(f"--gamepad: there is no window ({error}); play in the terminal with --keys") from None
    finally:
        pygame.quit()
