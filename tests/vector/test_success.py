"""The share of episodes that succeeded, where environments say so in `info`."""

from __future__ import annotations

import functools

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

import puffer_il
from puffer_il.vector.vec import make_vec

LENGTH = 4


class Says(gymnasium.Env):
    """Episodes of 4 steps. `key` is true in the steps in which the action is 1."""

    observation_space = spaces.Box(-1, 1, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, key: str = "is_success", kind: type = bool) -> None:
        self.key, self.kind = key, kind

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.count += 1
        return np.zeros(1, np.float32), 0.0, False, self.count == LENGTH, {self.key: self.kind(action == 1)}


class Both:
    """Two agents, each with an `info` of its own."""

    possible_agents = ("a", "b")

    def observation_space(self, agent):
        return Says.observation_space

    def action_space(self, agent):
        return Says.action_space

    def reset(self, seed=None, options=None):
        self.agents, self.count = ["a", "b"], 0
        return dict.fromkeys(self.agents, np.zeros(1, np.float32)), {"a": {}, "b": {}}

    def step(self, actions):
        self.count += 1
        agents, over = self.agents, self.count == LENGTH
        self.agents = [] if over else agents
        return (dict.fromkeys(agents, np.zeros(1, np.float32)), dict.fromkeys(agents, 0.0),
                dict.fromkeys(agents, False), dict.fromkeys(agents, over),
                {agent: {"is_success": bool(actions[agent])} for agent in agents})


def rate(make, actions, rows=2, **how):
    """What is logged after the steps of `actions` (steps, rows)."""
    with make_vec(make, num_envs=rows, **how) as vec:
        vec.reset(0)
        for step in actions:
            vec.step(np.array(step, np.int32)[:, None])
        return vec.pop_log_means()


@pytest.mark.parametrize("kind", [bool, int, np.float64, lambda x: np.array([x])])
@pytest.mark.parametrize(("key", "wanted"), [("is_success", 0.5), ("success", 1.0)])
def test_is_success_counts_at_the_end_and_success_at_any_time(key, wanted, kind):
    make = functools.partial(Says, key, kind)
    assert rate(make, [(0, 0), (0, 1), (0, 0), (1, 0)]) == {"success_rate": wanted}


def test_an_episode_begins_without_success():
    twice = [(1, 1)] * LENGTH + [(0, 0)] * (1 + LENGTH)  # the first of them resets
    assert rate(functools.partial(Says, "success"), twice) == {"success_rate": 0.5}


def test_each_agent_succeeds_by_itself():
    assert rate(Both, [(0, 1)] * LENGTH) == {"success_rate": 0.5}


def test_workers_count_the_same():
    how = {"backend": "multiprocessing", "num_workers": 2}
    assert rate(functools.partial(Says), [(0, 1)] * LENGTH, **how) == {"success_rate": 0.5}


@pytest.mark.parametrize("mode", list(gymnasium.vector.AutoresetMode)[:2])
@pytest.mark.parametrize(("key", "wanted"), [("is_success", 0.5), ("success", 1.0)])
def test_vectors_of_gymnasium_count_the_same(mode, key, wanted):
    def make(num_envs=2):
        return gymnasium.vector.SyncVectorEnv([functools.partial(Says, key)] * num_envs, autoreset_mode=mode)

    assert rate(make, [(0, 0), (0, 1), (0, 0), (1, 0)]) == {"success_rate": wanted}
    again = [(1, 1)] * LENGTH + [(0, 0)] * (LENGTH + (mode is gymnasium.vector.AutoresetMode.NEXT_STEP))
    assert rate(make, again) == {"success_rate": 0.5}


@pytest.mark.parametrize("make", [functools.partial(Says, "score"), functools.partial(Says, "success", str)])
def test_without_success_there_is_no_rate(make):
    assert rate(make, [(0, 1)] * LENGTH) == {}
    assert "success_rate" not in puffer_il.evaluate(lambda obs: np.zeros(len(obs), int), make, episodes=2)


def test_an_evaluation_tells_the_rate():
    def every_other(obs):
        return np.arange(len(obs)) % 2

    played = puffer_il.evaluate(every_other, Says, episodes=4)
    assert played["success_rate"] == 0.5 == played["log"]["success_rate"]
