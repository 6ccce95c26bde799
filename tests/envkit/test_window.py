"""A window for a person who records: keys that are held, a gamepad's axes, and what is shown."""

from __future__ import annotations

import sys
import time

import numpy as np
import pytest

from puffer_il.cli import main
from puffer_il.core.spec import ActionSpec
from puffer_il.demos import read_demos
from puffer_il.envkit.keys import Controls
from puffer_il.envkit.window import Window, window


@pytest.fixture
def shown(monkeypatch):
    pytest.importorskip("pygame", reason="pip install pygame-ce")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setenv("SDL_AUDIODRIVER", "dummy")
    with window("test") as opened:
        yield opened


def happen(opened, *events):
    for kind, more in events:
        opened.pygame.event.post(opened.pygame.event.Event(kind, more))
    return list(opened.wait(time.monotonic()))


def test_a_key_counts_for_as_long_as_it_is_held(shown):
    pg = shown.pygame
    happen(shown)
    left, right = {"key": pg.K_LEFT, "unicode": ""}, {"key": pg.K_RIGHT, "unicode": ""}
    assert happen(shown, (pg.KEYDOWN, left)) == ["left"]
    assert happen(shown, (pg.KEYDOWN, right), (pg.KEYUP, right)) == ["right", "left"]
    assert happen(shown, (pg.KEYUP, left)) == [" "]
    assert happen(shown, (pg.JOYHATMOTION, {"value": (0, 1)}), (pg.JOYBUTTONDOWN, {"button": 2})) == ["up", "2"]
    assert happen(shown, (pg.QUIT, {})) == ["q"]


class Pad:
    def __init__(self, *axes):
        self.axes = axes

    def get_numaxes(self):
        return len(self.axes)

    def get_axis(self, k):
        return self.axes[k]


def test_axes_are_continuous_actions_over_their_range(shown):
    bound = np.array([1, 4], np.float32)
    controls = Controls(ActionSpec(low=-bound, high=bound, shape=(2,)))
    shown.pads = [Pad(-0.5, 1.0, 0.3)]
    shown.steer(controls)
    assert controls.value.tolist() == [-0.5, 4.0]
    shown.pads = [Pad(0.05, -0.1)]  # nobody touches it: what keys have chosen stays
    shown.steer(controls)
    assert controls.value.tolist() == [-0.5, 4.0]


def test_pictures_and_lines_are_drawn_as_large_as_there_is_room(shown):
    shown.draw(np.full((10, 20, 3), 200, np.uint8), ["\x1b[2mstep\x1b[0m 3"])
    pixels = shown.pygame.surfarray.array3d(shown.surface)
    assert (pixels[shown.surface.get_width() // 2, 100] == 200).all() and (pixels[:, -3 * 18:] > 100).any()
    shown.draw(["obs[0]  1"], [])
    assert (shown.pygame.surfarray.array3d(shown.surface)[:, :18] > 100).any()


def test_a_person_records_in_a_window(tmp_path, monkeypatch):
    pytest.importorskip("pygame", reason="pip install pygame-ce")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    typed = iter(["2", "q"])
    monkeypatch.setattr(Window, "wait", lambda self, until: iter([next(typed)]))
    out = tmp_path / "d.npz"
    command = ["demos", "collect", "frozenlake", "--gamepad", "--episodes", "1", "--out", str(out), "--seed", "3"]
    assert main(command) == 130 and not out.exists()
    typed = iter(["2"] * 500)
    assert main(command) == 0
    assert (read_demos(out).actions == 2).all() and read_demos(out).num_episodes == 1


def test_without_pygame_the_remedy_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pygame", None)
    assert main(["demos", "collect", "frozenlake", "--gamepad", "--episodes", "1", "--out", str(tmp_path / "d")]) == 2
    assert "--gamepad: needs pygame; pip install pygame-ce" in capsys.readouterr().err
