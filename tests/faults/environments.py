"""Environments with a fault, named as tests.faults.environments:NAME."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

LONG = 2_000  # steps of one environment before it fails


class Faulty(gymnasium.Env):
    """Random observations, episodes of 20 steps; `fail` does something in its `after`-th step."""

    observation_space = spaces.Box(-1, 1, (3,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, fail: Callable[[], tuple[float, float]], after: int, length: int = 20) -> None:
        self.fail, self.after, self.length = fail, after, length
        self.steps = self.age = 0

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.age = 0
        return self.np_random.uniform(-1, 1, 3).astype(np.float32), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.steps += 1
        self.age += 1
        obs, reward = self.np_random.uniform(-1, 1, 3).astype(np.float32), float(action)
        if self.steps == self.after:
            scale, more = self.fail()
            obs, reward = obs * np.float32(scale), reward + more
        return obs, reward, self.age >= self.length, False, {}


def _raise() -> tuple[float, float]:
    raise RuntimeError("the simulator has lost its licence")


def _crash() -> tuple[float, float]:
    os.kill(os.getpid(), signal.SIGSEGV)
    return 1.0, 0.0


def _hang() -> tuple[float, float]:
    time.sleep(3600)
    return 1.0, 0.0


def raising(after: int = LONG) -> gymnasium.Env:
    return Faulty(_raise, after)


def crashing(after: int = LONG) -> gymnasium.Env:
    return Faulty(_crash, after)


def hanging(after: int = LONG) -> gymnasium.Env:
    return Faulty(_hang, after)


def nan_observation(after: int = LONG) -> gymnasium.Env:
    return Faulty(lambda: (float("nan"), 0.0), after)


def nan_reward(after: int = LONG) -> gymnasium.Env:
    return Faulty(lambda: (1.0, float("nan")), after)


def infinite_reward(after: int = LONG) -> gymnasium.Env:
    return Faulty(lambda: (1.0, float("inf")), after)


def endless() -> gymnasium.Env:
    """Its episodes have no end."""
    return Faulty(lambda: (1.0, 0.0), 0, length=10**9)
