"""Environments stepped by themselves, one at a time: what the rows of a vector of them should be."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces


class Alone:
    """One environment, stepped by itself, and what a row of the vector should be."""

    def __init__(self, env: gymnasium.Env, seed: int, mode: str) -> None:
        self.env, self.mode, self.over = env, mode, False
        self.obs = env.reset(seed=seed)[0]
        self.total, self.length = 0.0, 0
        self.final: Any = None

    def step(self, action: Any) -> tuple[float, bool, bool, bool]:
        """Reward, termination, truncation, valid; `episode` is then what ended, if something did."""
        self.episode, self.final = None, None
        if self.over:
            self.obs, self.over = self.env.reset()[0], False
            return 0.0, False, False, False
        self.obs, reward, terminated, truncated, _ = self.env.step(action)
        self.total, self.length = self.total + float(np.float32(reward)), self.length + 1
        if terminated or truncated:
            self.final, self.episode = self.obs, (self.total, self.length)
            self.total, self.length = 0.0, 0
            if self.mode == "NEXT_STEP":
                self.over = True
            else:
                self.obs = self.env.reset()[0]
        return float(reward), terminated, truncated and not terminated, True


def compare(vec: Any, alone: list[Alone], steps: int, seed: int = 0) -> np.ndarray:
    """Step both with the same random actions; how often episodes terminated and were truncated."""
    rng, ends, action = np.random.default_rng(seed), np.zeros(2, int), vec.spec.action
    for _ in range(steps):
        rows = rng.integers(0, action.nvec, (vec.num_envs, action.dim)).astype(np.int32) if action.discrete else (
            rng.uniform(-2, 2, (vec.num_envs, action.dim)).astype(np.float32))
        batch, ended = vec.step(rows), []
        for i, env in enumerate(alone):
            reward, terminated, truncated, valid = env.step(own_action(env.env.action_space, action, rows[i]))
            got = batch.rewards[i], batch.terminations[i], batch.truncations[i], batch.valid[i]
            assert got == (np.float32(reward), terminated, truncated, valid)
            assert same(vec, batch.obs[i], env.obs)
            if env.episode is not None:
                assert same(vec, batch.final_obs[i], env.final)
                ended.append(env.episode)
            ends += (terminated, truncated)
        assert list(zip(batch.episode_returns, batch.episode_lengths, strict=True)) == ended
    return ends


def own_action(space: spaces.Space, spec: Any, row: np.ndarray) -> Any:
    """A row as the environment's own action, one number after the other."""
    numbers = iter(row.tolist() if spec.low is None else np.clip(row, spec.low, spec.high).tolist())

    def take(part: spaces.Space) -> Any:
        if isinstance(part, spaces.Dict):
            return {key: take(inner) for key, inner in part.items()}
        if isinstance(part, spaces.Tuple):
            return tuple(take(inner) for inner in part)
        if isinstance(part, spaces.Discrete):
            return next(numbers) + int(part.start)
        shape = part.shape or ()
        return np.array([next(numbers) for _ in range(int(np.prod(shape)))], part.dtype).reshape(shape)

    return take(space)


def same(vec: Any, row: np.ndarray, obs: Any) -> bool:
    return np.array_equal(row, vec.spec.pack(obs)[0][0])
