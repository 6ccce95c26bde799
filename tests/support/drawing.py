"""Environments that draw, print, or show numbers alone, and random pictures."""

from __future__ import annotations

import gymnasium
import numpy as np


def random_picture(height: int = 40, width: int = 60, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


class Plain(gymnasium.Env):
    """Draws nothing; its observation is half an image."""

    observation_space = gymnasium.spaces.Dict(view=gymnasium.spaces.Box(0, 255, (6, 8, 1), np.uint8),
                                              speed=gymnasium.spaces.Box(-1, 1, (2,), np.float32))
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        return {"view": np.full((6, 8, 1), 7, np.uint8), "speed": np.array([0.5, -1], np.float32)}, {}

    def step(self, action):
        return (*self.reset()[:1], 1.0, True, False, {})


class Numbers(Plain):
    observation_space = gymnasium.spaces.Dict(speed=Plain.observation_space["speed"])

    def reset(self, *, seed=None, options=None):
        return {"speed": np.array([0.5, -1], np.float32)}, {}


class Drawing(Numbers):
    metadata = {"render_modes": ["rgb_array", "ansi"], "render_fps": 4}  # noqa: RUF012

    def __init__(self, render_mode=None, broken=True):
        self.render_mode, self.broken = render_mode, broken

    def render(self):
        if self.render_mode == "ansi":
            return "as text\n"
        if self.broken:
            raise ImportError("no screen\nin here")
        return np.full((4, 6, 3), 9, np.uint8)


def without_a_mode():
    return gymnasium.make("CartPole-v1")


def drawing_without_a_mode():
    return Drawing()
