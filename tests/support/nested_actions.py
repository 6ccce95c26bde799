"""An environment whose action is a Tuple of a Dict and an array of whole numbers; each part has one right value."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

STEPS = 10


class Parts(gymnasium.Env):
    """Ten steps; the observation's sign names the right value of each part, and each right one pays 1."""

    observation_space = spaces.Box(-1, 1, (3,), np.float32)
    action_space: spaces.Space = spaces.Tuple([
        spaces.Dict({"gear": spaces.Discrete(2, start=5), "dial": spaces.Box(-1, 1, (), np.int16)}),
        spaces.Box(3, 4, (1,), np.uint8)])

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        self.t = 0
        return self._next(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        reward = float(sum(a == b for a, b in zip(self.values(action), self.right(self.seen), strict=True)))
        self.t += 1
        return self._next(), reward, False, self.t == STEPS, {}

    def values(self, action: Any) -> list[int]:
        """In the order of `right`; an action that is not in the space is an error."""
        assert self.action_space.contains(action), action
        return [int(action[0]["dial"]), int(action[0]["gear"]), int(action[1][0])]

    @staticmethod
    def right(obs: Any) -> list[int]:
        up = obs > 0
        return [int(2 * up[0] - 1), int(5 + up[1]), int(3 + up[2])]

    def _next(self) -> Any:
        self.seen = self.np_random.uniform(-1, 1, 3).astype(np.float32)
        return self.seen


class Reordered(Parts):
    """The same with the Dict's parts in another order, which Gymnasium keeps for a list of pairs."""

    action_space = spaces.Tuple([
        spaces.Dict([("gear", spaces.Discrete(2, start=5)), ("dial", spaces.Box(-1, 1, (), np.int16))]),
        spaces.Box(3, 4, (1,), np.uint8)])


class Pair(Parts):
    """Its observations, with two whole numbers as the action."""

    action_space = spaces.Box(np.array([-2, 10]), np.array([1, 12]), dtype=np.int64)

    def values(self, action: Any) -> list[int]:
        assert self.action_space.contains(action), action
        return [int(x) for x in action]

    @staticmethod
    def right(obs: Any) -> list[int]:
        return [-2 + 3 * int(obs[0] > 0), 10 + int(obs[1] > 0) + int(obs[2] > 0)]


def experts_actions(obs: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The right actions of n observations, as a recorder of `Parts` holds them."""
    rows = np.array([Parts.right(row) for row in obs])
    return {"gear": rows[:, 1], "dial": rows[:, 0].astype(np.int16)}, rows[:, 2:].astype(np.uint8)
