"""Environments that say before every action which ones may be taken, and raise an error at any other."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

STEPS = 8


class Board(gymnasium.Env):
    """Each of four columns takes two stones: a full one may not be played. A stone pays its column's number.

    `says`: how the mask is told: "dict" (in the observation), "info", "method" (`action_masks`), or "none".
    `start`: from where the columns are counted.
    """

    def __init__(self, says: str = "dict", start: int = 0) -> None:
        self.says, self.start = says, start
        box = spaces.Box(0, 2, (4,), np.float32)
        self.observation_space = box if says != "dict" else spaces.Dict({
            "observation": box, "action_mask": spaces.Box(0, 1, (4,), np.int8)})
        self.action_space = spaces.Discrete(4, start=start)
        if says == "method":
            self.action_masks = self.mask

    def mask(self) -> np.ndarray:
        return self.height < 2

    def expert(self) -> int:
        """The dearest column that is free, counted from 0."""
        return int(np.append(0, np.flatnonzero(self.mask()))[-1])

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        self.height = np.zeros(4, np.int64)
        self.height[self.np_random.integers(4)] = 2
        return self._obs()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        column = int(action) - self.start
        if not 0 <= column < 4 or self.height[column] >= 2:
            raise ValueError(f"column {column} is full")
        self.height[column] += 1
        obs, info = self._obs()
        return obs, float(column), bool((self.height >= 2).all()), False, info

    def _obs(self) -> tuple[Any, dict]:
        seen, mask = self.height.astype(np.float32), self.mask().astype(np.int8)
        obs = {"observation": seen, "action_mask": mask} if self.says == "dict" else seen
        return obs, {"action_mask": mask} if self.says == "info" else {}


class Pair(gymnasium.Env):
    """Two choices at once; the mask of both lies side by side in `info`. One value of each is always forbidden."""

    observation_space = spaces.Box(0, 4, (2,), np.float32)
    action_space = spaces.MultiDiscrete([3, 2])

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        self.t = 0
        return self._next()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        if action[0] == self.closed[0] or action[1] == self.closed[1]:
            raise ValueError(f"{action} may not be done: {self.closed}")
        self.t += 1
        return *(self._next()[0], 1.0, False, self.t >= STEPS), {"action_mask": self.mask}

    def _next(self) -> tuple[Any, dict]:
        self.closed = self.np_random.integers([3, 2])
        self.mask = np.concatenate([np.arange(3) != self.closed[0], np.arange(2) != self.closed[1]]).astype(np.int8)
        return self.closed.astype(np.float32), {"action_mask": self.mask}


class Called(Board):
    """A part of the observation that is called a mask and counts the free places instead."""

    def __init__(self) -> None:
        super().__init__("dict")
        self.observation_space = spaces.Dict({"observation": spaces.Box(0, 2, (2,), np.float32),
                                              "action_mask": spaces.Box(0, 2, (4,), np.int8)})

    def _obs(self) -> tuple[Any, dict]:
        return {"observation": self.height[:2].astype(np.float32), "action_mask": (2 - self.height).astype(np.int8)}, {}


class Boards:
    """Two agents with a Board each, as a parallel environment of PettingZoo: agents[1] ends first or last."""

    possible_agents = ("left", "right")
    metadata: dict[str, Any] = {}  # noqa: RUF012

    def __init__(self, says: str = "dict") -> None:
        self.boards = {agent: Board(says) for agent in self.possible_agents}
        self.agents = list(self.possible_agents)

    def observation_space(self, agent: str) -> spaces.Space:
        return self.boards[agent].observation_space

    def action_space(self, agent: str) -> spaces.Space:
        return self.boards[agent].action_space

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[dict, dict]:
        self.agents = list(self.possible_agents)
        begun = {agent: self.boards[agent].reset(seed=None if seed is None else seed + k)
                 for k, agent in enumerate(self.agents)}
        return {agent: obs for agent, (obs, _) in begun.items()}, {agent: info for agent, (_, info) in begun.items()}

    def step(self, actions: dict) -> tuple[dict, dict, dict, dict, dict]:
        done = {agent: self.boards[agent].step(action) for agent, action in actions.items()}
        obs, rewards, ends, cuts, infos = ({agent: given[k] for agent, given in done.items()} for k in range(5))
        self.agents = [agent for agent in self.agents if not ends[agent]]
        return obs, rewards, ends, cuts, infos
