"""What rows of other kinds cost: one Python environment with plain observations, as a Dict, and with masks. On one
thread, so that other programs on the machine disturb little."""

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from puffer_il.bench.loops import Keys, Loop, entry
from puffer_il.bench.measure import Say
from puffer_il.bench.peers.run import Entry, interleave, ratio
from puffer_il.demos import collect
from puffer_il.rollout.actors import RandomActor
from puffer_il.vector.vec import make_vec

FORMS = {"plain": "8 numbers", "dict": "a Dict of 3 and 5 numbers", "mixed": "a Dict of 3 numbers and 5 whole ones",
         "masked": "8 numbers, and a mask in info", "masked dict": "a Dict of 3 and 5 numbers and a mask"}
ALGOS = ("ppo", "bc")
NAME, NUM_ENVS, EPISODES = "puffer_il.bench.rows:Walk", 64, 128


class Walk(gymnasium.Env):
    """A hundred steps of numbers that follow from the seed alone; the first of them says which of two choices pays."""

    def __init__(self, form: str = "plain") -> None:
        def box(count: int, dtype: Any = np.float32) -> spaces.Box:
            return spaces.Box(-9, 9, (count,), dtype)

        self.form, self.action_space = form, spaces.Discrete(4)
        self.mask = np.array([1, 1, 1, 0], np.int8)
        parts: dict[str, spaces.Space] = {"a": box(3), "b": box(5, np.int32 if form == "mixed" else np.float32)}
        if form == "masked dict":
            parts["action_mask"] = spaces.Box(0, 1, (4,), np.int8)
        self.observation_space = box(8) if form in ("plain", "masked") else spaces.Dict(parts)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        self.t, self.numbers = 0, self.np_random.integers(-8, 9, (101, 8)).astype(np.float32)
        return self._seen()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        reward = float(action == (self.numbers[self.t, 0] > 0))
        self.t += 1
        obs, info = self._seen()
        return obs, reward, False, self.t == 100, info

    def _seen(self) -> tuple[Any, dict]:
        x = self.numbers[self.t]
        if self.form in ("plain", "masked"):
            return x, {"action_mask": self.mask} if self.form == "masked" else {}
        obs = {"a": x[:3], "b": x[3:].astype(np.int32) if self.form == "mixed" else x[3:]}
        return obs | ({"action_mask": self.mask} if self.form == "masked dict" else {}), {}


def rows(results: list[dict[str, Any]], size: Keys, rounds: int, seconds: float, say: Say,
         episodes: int = EPISODES) -> None:
    """PPO in the environment and cloning of its random actions, each form in turn, relative to plain rows."""
    for algo in ALGOS:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            entries, keys = [], {form: size | _keys(form, folder, episodes) for form in FORMS}
            for form in FORMS:
                say(f"rows: setting up {algo} on {form}")
                entries.append(Entry(form, Loop(algo, keys[form], stack, seconds)))
            done = interleave(entries, rounds, lambda line: say(f"rows: {line}"))
        for result in done:  # our rate over theirs is their cost over ours
            results.append(entry(result, algo, keys[result.name], cost=ratio(done[0], result)))


def _keys(form: str, folder: Path, episodes: int) -> Keys:
    kwargs, file = {"form": form}, folder / f"{form}.npz"
    with make_vec(NAME, num_envs=min(NUM_ENVS, episodes), backend="serial", kwargs=kwargs) as vec:
        collect(vec, RandomActor(vec.spec, 0), episodes, "rows").save(file)
    return {"env.name": NAME, "env.kwargs": kwargs, "env.backend": "serial", "train.threads": 1,
            "demos.source": str(file), "bc.patience": 0}
