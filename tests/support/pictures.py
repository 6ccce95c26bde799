"""Picture environments of the tests, and the options for pictures written out slowly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from puffer_il.core.spec import Array
from tests.support.identified import Parallel

SIZE, STEPS = 16, 8


class MovingDot(gymnasium.Env):
    """A bright block goes left or right on a torus; the action that says which way is paid 1. A single picture does not
    tell. `first` puts the channels first; `states` says more beside the picture, which is then a Dict's "eye"."""

    def __init__(self, first: bool = False, states: bool = False, steps: int = STEPS, low: int = 0,
                 high: int = 255) -> None:
        shape = (3, SIZE, SIZE) if first else (SIZE, SIZE, 3)
        eye = spaces.Box(low, high, shape, np.uint8)
        self.observation_space = spaces.Dict(eye=eye, time=spaces.Box(0, np.inf, (1,))) if states else eye
        self.action_space = spaces.Discrete(2)
        self.first, self.states, self.steps, self.high = first, states, steps, high

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        self.row, self.place = (int(x) for x in self.np_random.integers(SIZE // 2, size=2))
        self.way, self.time = int(self.np_random.integers(2)), 0
        return self._seen(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        reward = float(int(action) == self.way)
        self.place = (self.place + 2 * self.way - 1) % (SIZE // 2)
        self.time += 1
        return self._seen(), reward, False, self.time == self.steps, {}

    def _seen(self) -> Any:
        picture = np.zeros((SIZE, SIZE, 3), np.uint8)
        picture[2 * self.row:2 * self.row + 2, 2 * self.place:2 * self.place + 2] = self.high
        picture = np.moveaxis(picture, 2, 0) if self.first else picture
        return {"eye": picture, "time": np.array([self.time], np.float32)} if self.states else picture


class Choosy(MovingDot):
    """The same, and its infos say that only the right way may be taken."""

    def reset(self, **kwargs: Any) -> tuple[Any, dict]:
        observation, info = super().reset(**kwargs)
        return observation, info | {"action_mask": np.arange(2) == self.way}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        *rest, info = super().step(action)
        return *rest, info | {"action_mask": np.arange(2) == self.way}


class Flat(gymnasium.ObservationWrapper):
    """The same with a picture of two axes."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(MovingDot(**kwargs))
        self.observation_space = spaces.Box(0, 255, (SIZE, SIZE), np.uint8)

    def observation(self, observation: Any) -> Array:
        return observation[..., 0]


def dot_demos(path: Path, episodes: int = 60, seed: int = 0) -> Path:
    """Raw pictures of MovingDot and the right way, which its expert knows from the beginning."""
    env, rows = MovingDot(), []
    for number in range(episodes):
        obs, _ = env.reset(seed=seed + number)
        for k in range(STEPS):
            way = env.way
            following, reward, *_ = env.step(way)
            rows.append((obs, way, following, False, k == STEPS - 1, reward))
            obs = following
    names = ("obs", "actions", "next_obs", "terminations", "truncations", "rewards")
    arrays = {name: np.array(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}
    np.savez(path, episode_starts=np.arange(episodes) * STEPS, **arrays)
    return path


def slow_grey(picture: Array) -> Array:
    """uint8 (height, width, 3) → (height, width, 1), in whole numbers as its definition says."""
    made = np.zeros((*picture.shape[:2], 1), np.uint8)
    for y, x in np.ndindex(picture.shape[:2]):
        red, green, blue = map(int, picture[y, x])
        made[y, x, 0] = (13926 * red + 46885 * green + 4725 * blue + 32768) // 65536
    return made


def slow_resize(picture: Array, height: int, width: int) -> Array:
    """uint8 (*, *, channels) → (height, width, channels): of each pixel the mean of the area that it covers."""
    own_height, own_width, channels = picture.shape
    made = np.zeros((height, width, channels), np.uint8)
    for y, x in np.ndindex(height, width):
        total = np.zeros(channels)
        for v, u in np.ndindex(own_height, own_width):
            tall = max(0.0, min((y + 1) * own_height / height, v + 1) - max(y * own_height / height, v))
            wide = max(0.0, min((x + 1) * own_width / width, u + 1) - max(x * own_width / width, u))
            total += tall * wide * picture[v, u]
        made[y, x] = np.floor(total * height * width / (own_height * own_width) + 0.5 + 1e-9)
    return made


class Agents(Parallel):
    """Agents that come and go, each of whose pictures is one of its own."""

    def observation_space(self, agent: str) -> spaces.Space:
        return spaces.Box(0, 255, (SIZE, SIZE, 3), np.uint8)

    def observe(self, agent: str) -> Array:
        place = (abs(3 * self.index + int(agent[-1])), self.episode, self.step_)
        return np.random.default_rng(place).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
