"""Environments for tests in which the observation says which action pays, one for each kind of space."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

STEPS = 10


class Clue(gymnasium.Env):
    """Ten steps; each pays 1 for the action that the observation names."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        self.t = 0
        return self._next(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        reward = float(np.all(action == self.right))
        self.t += 1
        return self._next(), reward, False, self.t == STEPS, {}

    def _next(self) -> Any:
        raise NotImplementedError


class Mixed(Clue):
    """A Dict of a vector, a category and an image; the category names one choice, the vector's sign the other."""

    observation_space = spaces.Dict({
        "vector": spaces.Box(-1, 1, (2,), np.float32), "kind": spaces.Discrete(3),
        "image": spaces.Box(0, 255, (8, 8, 3), np.uint8)})
    action_space = spaces.MultiDiscrete([3, 2])

    def _next(self) -> dict[str, Any]:
        vector, kind = self.np_random.uniform(-1, 1, 2).astype(np.float32), int(self.np_random.integers(3))
        self.right = np.array([kind, vector[0] > 0])
        return {"vector": vector, "kind": kind, "image": self.np_random.integers(0, 40, (8, 8, 3), dtype=np.uint8)}


class Picture(Clue):
    """An image whose bright half names the choice."""

    observation_space = spaces.Box(0, 255, (12, 12, 1), np.uint8)
    action_space = spaces.Discrete(2)

    def _next(self) -> np.ndarray:
        self.right = int(self.np_random.integers(2))
        image = self.np_random.integers(0, 40, (12, 12, 1), dtype=np.uint8)
        image[:, 6 * self.right:6 * self.right + 6] += 200
        return image


class Remember(Clue):
    """The choice was named one step ago: without memory half of the reward is the best there is."""

    observation_space = spaces.Box(-1, 1, (1,), np.float32)
    action_space = spaces.Discrete(2)
    shown = 0

    def _next(self) -> np.ndarray:
        self.right, self.shown = self.shown if self.t else 0, int(self.np_random.integers(2))
        return np.float32([2 * self.shown - 1])


class Deep(Clue):
    """Dicts and Tuples in one another, keys with "." and "/", categories and choices that count from elsewhere."""

    observation_space = spaces.Dict({
        "arm.left": spaces.Dict({"angle/rad": spaces.Box(-4, 4, (2,), np.float64),
                                 "grip": spaces.Discrete(2, start=-1)}),
        "marks": spaces.Tuple([spaces.Box(0, 60_000, (2,), np.uint16), spaces.Dict({"on": spaces.MultiBinary(3)})])})
    action_space = spaces.Discrete(2, start=3)

    def _next(self) -> dict[str, Any]:
        grip = int(self.np_random.integers(2)) - 1
        self.right = 4 + grip
        return {"arm.left": {"angle/rad": self.np_random.uniform(-4, 4, 2), "grip": grip},
                "marks": (self.np_random.integers(0, 60_000, 2, dtype=np.uint16), {"on": np.array([1, 0, 1], np.int8)})}
