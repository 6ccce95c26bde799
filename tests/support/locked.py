"""Robots whose action range has a locked joint, half a bound, or none."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

STEPS = 10
INF = np.inf
RANGES = {"locked": ([-1, 0.25, -2], [1, 0.25, 2]), "half": ([0, -INF, 5], [INF, 0, INF]),
          "open": ([-INF, -3.4e38], [INF, 3.4e38])}


class Robot(gymnasium.Env):
    """The first action moves it; it should stay at 0. An action outside the space raises an error."""

    def __init__(self, kind: str = "locked", dtype: str = "float32") -> None:
        low, high = (np.array(bound, dtype) for bound in RANGES[kind])
        self.action_space = spaces.Box(low, high, dtype=np.dtype(dtype).type)
        self.observation_space = spaces.Box(np.array([-5, 0.5], np.float32), np.array([5, 0.5], np.float32))

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        self.t, self.x = 0, float(self.np_random.uniform(-1, 1))
        return self._obs(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        assert self.action_space.contains(action), f"{action!r} is not in {self.action_space}"
        self.t += 1
        self.x = float(np.clip(self.x + 0.3 * np.clip(action[0], -1, 1), -5, 5))
        return self._obs(), -abs(self.x), False, self.t >= STEPS, {}

    def _obs(self) -> np.ndarray:
        return np.array([self.x, 0.5], np.float32)
