"""A terminal as a screen: what is written to it, and no more than has changed."""

from __future__ import annotations

import io
import os

import numpy as np
import pytest

from puffer_il.core import terminal
from tests.support.drawing import random_picture


def drawn(depth: int, *whats, size: tuple[int, int] = (40, 16), monkeypatch) -> list[str]:
    """What each drawing writes, without the bracket that makes it appear at once."""
    monkeypatch.setattr(terminal.shutil, "get_terminal_size", lambda: os.terminal_size(size))
    out, texts = io.StringIO(), []
    screen = terminal.Screen(out, depth)
    for what in whats:
        screen.draw(what, ["status", "keys"])
        texts.append(out.getvalue().removeprefix("\x1b[?2026h").removesuffix("\x1b[?2026l"))
        out.seek(0)
        out.truncate()
    return texts


def test_two_pixels_share_a_character_and_only_changes_are_drawn(monkeypatch):
    one = np.zeros((2, 3, 3), np.uint8)
    one[0], one[1, 2] = (255, 0, 0), (0, 0, 255)
    two = one.copy()
    two[1, 1] = (1, 2, 3)
    first, again, changed = drawn(terminal.FULL, one, one.copy(), two, size=(3, 4), monkeypatch=monkeypatch)
    assert "\x1b[1;1H\x1b[38;2;255;0;0m\x1b[48;2;0;0;0m▀▀\x1b[48;2;0;0;255m▀" in first
    assert "\x1b[3;1Hst…" in first
    assert again == "\x1b[0m"
    assert changed == "\x1b[1;2H\x1b[38;2;255;0;0m\x1b[48;2;1;2;3m▀\x1b[0m"


def test_a_picture_is_as_large_as_it_fits_and_in_the_middle(monkeypatch):
    text, = drawn(terminal.FULL, random_picture(40, 40), size=(80, 23), monkeypatch=monkeypatch)
    assert text.count("▀") == 20 * 40 and "\x1b[1;21H" in text
    assert terminal.blocks(random_picture(400, 600), 60, 100).shape == (20, 60, 2, 3)
    assert terminal.blocks(random_picture(3, 1000), 50, 10).shape == (1, 50, 2, 3)


def test_picture_lines_pair_pixels():
    two = np.zeros((4, 2, 3), np.uint8)
    two[0], two[1, 1] = (255, 0, 0), (0, 255, 0)
    assert terminal.picture_lines(two, 80) == [
        "\x1b[38;2;255;0;0;48;2;0;0;0m▀\x1b[38;2;255;0;0;48;2;0;255;0m▀\x1b[0m", "\x1b[38;2;0;0;0;48;2;0;0;0m▀▀\x1b[0m"]
    assert terminal.picture_lines(two, 80, terminal.INDEXED)[1] == "\x1b[38;5;16;48;5;16m▀▀\x1b[0m"
    assert len(terminal.picture_lines(np.zeros((100, 200, 3), np.uint8), 50)) == 12


def test_pictures_are_drawn_with_fewer_colours_or_none(monkeypatch):
    colors = np.array([[255, 0, 0], [0, 0, 0], [255, 255, 255], [128, 128, 128], [95, 135, 175]], np.uint8)
    assert terminal.indexed(colors).tolist() == [196, 16, 231, 244, 67]
    paper = np.full((8, 8, 3), 250, np.uint8)
    paper[:4, :4] = 0
    text, = drawn(terminal.PLAIN, paper, size=(8, 7), monkeypatch=monkeypatch)
    assert "@@@@" in text and "▀" not in text and "38;" not in text


def test_lines_that_are_gone_are_wiped(monkeypatch):
    _, shorter = drawn(terminal.FULL, ["a", "b", "\x1b[41mc\x1b[0m"], ["a", "x"], monkeypatch=monkeypatch)
    assert shorter.startswith("\x1b[2;1Hx") and "\x1b[6;1H\x1b[0m\x1b[K" in shorter and "\x1b[1;1H" not in shorter
    assert terminal.cut("\x1b[1mlong\x1b[0m words", 5) == "long…"


@pytest.mark.parametrize("environment, depth", [
    ({"TERM": "xterm", "COLORTERM": "truecolor"}, 24), ({"TERM": "xterm-256color"}, 8), ({"TERM": "tmux-direct"}, 24),
    ({"TERM": "vt100"}, 0), ({"TERM": "dumb", "COLORTERM": "truecolor"}, 0),
    ({"TERM": "xterm", "COLORTERM": "truecolor", "NO_COLOR": "1"}, 0)])
def test_colours_are_those_that_the_terminal_says_it_has(monkeypatch, environment, depth):
    for name in ("TERM", "COLORTERM", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert terminal.colors() == depth


def test_numbers_stand_between_their_bounds():
    values, low, high = np.array([0.0, 2, -9, np.nan]), np.array([-1.0, 0, -1, -1]), np.array([1.0, 2, 1, 1])
    lines = terminal.bars(["a", "bb", "c", "d"], values, low, high, 40, 10)
    assert [line.index("●") for line in lines] == [16, 27, 4, 4] and lines[1].endswith("        2")
    assert all(len(line) == len(lines[0]) for line in lines)
    assert terminal.bars(["a"] * 30, np.zeros(30), np.zeros(30), np.ones(30), 40, 5)[-1] == "… and 26 more"
