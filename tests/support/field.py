"""Small environments that misbehave in one way each, as people have reported it; and a run that takes a second."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

import puffer_il

FAST: dict[str, dict[str, Any]] = {
    "env": {"num_envs": 2, "backend": "serial"}, "train": {"num_steps": 16, "threads": 1},
    "policy": {"hidden": [8]}, "eval": {"episodes": 2, "final_episodes": 2}}


class Steps(gymnasium.Env):
    """Ten steps, cut off; it shows the step and a number that the episode drew."""

    observation_space: spaces.Space = spaces.Box(-np.inf, np.inf, (3,), np.float32)
    action_space: spaces.Space = spaces.Discrete(2)
    limit = 10
    t, drawn = 0, 0.0

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        self.t, self.drawn = 0, self.np_random.random()
        return self.show(), {}

    def show(self) -> Any:
        return np.array([self.t, self.drawn, 1], np.float32)

    def reward(self) -> Any:
        return 1.0

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict]:
        self.t += 1
        return self.show(), self.reward(), False, self.t >= self.limit, {}


class Pair(Steps):
    """The same with two continuous actions."""

    action_space = spaces.Box(-1, 1, (2,), np.float32)


class Mixed(Steps):
    """Half of the episodes last one step, the others 40."""

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[Any, dict]:
        result = super().reset(seed=seed)
        self.limit = 1 if self.drawn < 0.5 else 40
        return result


class BothEnds(Steps):
    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict]:
        self.t += 1
        return self.show(), 1.0, self.t >= 10, self.t >= 10, {}


class OneBuffer(Steps):
    """It writes every observation into the same array."""

    def __init__(self) -> None:
        self.buffer = np.zeros(3, np.float32)

    def show(self) -> Any:
        self.buffer[:] = super().show()
        return self.buffer


class KeepsActions(Pair):
    """It keeps the array that it was given, and shows the last two actions."""

    observation_space = spaces.Box(-np.inf, np.inf, (4,), np.float32)
    kept: tuple = ()

    def show(self) -> Any:
        last = [np.zeros(2), np.zeros(2), *self.kept][-2:]
        return np.concatenate(last).astype(np.float32)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[Any, dict]:
        self.kept = ()
        return super().reset(seed=seed)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict]:
        self.kept = (*self.kept, action)
        return super().step(action)


class ScalesInPlace(Pair):
    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict]:
        action *= 0
        return super().step(action)


class GlobalNumbers(Steps):
    """It draws from NumPy's global generator."""

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[Any, dict]:
        result = super().reset(seed=seed)
        self.drawn = np.random.random()
        return self.show(), result[1]


class Chatty(Steps):
    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[Any, dict]:
        print("the simulator says hello")
        return super().reset(seed=seed)


class NoReward(Steps):
    def reward(self) -> Any:
        return None


class RewardOfOne(Steps):
    def reward(self) -> Any:
        return np.array([0.5])


class NotANumber(Steps):
    """Its reward, or its observation, is `what` in one step: the `at`-th since it was opened; and every further one of
    a hundred."""

    def __init__(self, where: str, at: int = 20, what: float = np.nan) -> None:
        self.where, self.at, self.what, self.count = where, at, what, 0

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict]:
        self.count += 1
        return super().step(action)

    def reward(self) -> Any:
        return self.what if self.where == "reward" and self.now else 1.0

    def show(self) -> Any:
        seen = super().show()
        seen[1] = self.what if self.where == "observation" and self.now else seen[1]
        return seen

    @property
    def now(self) -> bool:
        return self.count >= self.at and (self.count - self.at) % 100 == 0


class EmptyPart(Steps):
    """A part of its observation has no numbers."""

    observation_space = spaces.Dict({"none": spaces.Box(-1, 1, (0,), np.float32),
                                     "some": spaces.Box(-np.inf, np.inf, (3,), np.float32)})

    def show(self) -> Any:
        return {"none": np.zeros(0, np.float32), "some": super().show()}


class InfosOfEveryKind(Steps):
    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict]:
        *result, _ = super().step(action)
        return *result, {"text": "a", "none": None, "nan": np.nan, "array": np.zeros(self.t), f"key {self.t}": 1,
                         "nested": {"a": 1}, "episode": {"r": 99.0, "l": 99}, 5: True}  # type: ignore[return-value]


class Pictures(Steps):
    """Pictures with shares of 1."""

    observation_space = spaces.Box(0, 1, (3, 8, 8), np.float32)

    def show(self) -> Any:
        return np.full((3, 8, 8), self.t / 10, np.float32)


def recorded(lengths: tuple[int, ...] = (20, 20, 20, 20), seed: int = 0, **changes: Any) -> dict[str, Any]:
    """Arrays of demonstrations of `Steps`, whose observations are noise; `changes` replace some."""
    rng, n, ends = np.random.default_rng(seed), sum(lengths), np.cumsum(lengths) - 1
    obs = rng.normal(size=(n, 3)).astype(np.float32)
    following = np.roll(obs, -1, 0)
    following[ends] = rng.normal(size=(len(lengths), 3))
    truncations = np.zeros(n, bool)
    truncations[ends] = True
    return {"obs": obs, "next_obs": following, "actions": rng.integers(0, 2, n), "terminations": np.zeros(n, bool),
            "truncations": truncations, "episode_starts": np.cumsum([0, *lengths[:-1]]),
            "rewards": np.ones(n, np.float32), **changes}


def trained(algo: str, environment: Any, total_steps: int = 64, **given: Any) -> puffer_il.Run:
    """A short run; sections that are given go over FAST."""
    shared = FAST if algo != "bc" else {k: v for k, v in FAST.items() if k != "train"}
    sections = {name: {**shared.get(name, {}), **given.pop(name, {})} for name in {*shared, *given}
                if isinstance(given.get(name, {}), dict) and name != "demos"}
    return puffer_il.train(algo, environment, seed=1, total_steps=total_steps, progress=False, **sections, **given)
