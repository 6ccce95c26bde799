"""The share of episodes that succeeded, where environments say so in `info`."""

from __future__ import annotations

import functools

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

import puffer_il
from puffer_il.cli import main
from puffer_il.vector.success import Successes
from puffer_il.vector.vec import make_vec
from tests.support.runs import run, tiny

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


@pytest.mark.parametrize("kind", [bool, int, np.float32, np.bool_, lambda x: np.array([x])])
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


@pytest.mark.parametrize("kind", [bool, np.float32, np.bool_, np.array, lambda x: np.array([x])])
@pytest.mark.parametrize("mode", list(gymnasium.vector.AutoresetMode)[:2])
@pytest.mark.parametrize(("key", "wanted"), [("is_success", 0.5), ("success", 1.0)])
def test_vectors_of_gymnasium_count_the_same(mode, key, wanted, kind):
    def make(num_envs=2):
        return gymnasium.vector.SyncVectorEnv([functools.partial(Says, key, kind)] * num_envs, autoreset_mode=mode)

    assert rate(make, [(0, 0), (0, 1), (0, 0), (1, 0)]) == {"success_rate": wanted}
    again = [(1, 1)] * LENGTH + [(0, 0)] * (LENGTH + (mode is gymnasium.vector.AutoresetMode.NEXT_STEP))
    assert rate(make, again) == {"success_rate": 0.5}


def test_final_infos_as_they_were_before_gymnasium_1_count_too():
    """An array of dicts, None where nothing ended."""
    logs = np.zeros((3, 2))
    seen = Successes(3, logs)
    acted, ended = np.ones(3, bool), np.array([True, False, True])
    final = np.array([{"is_success": True}, None, {"is_success": np.float32(0)}], object)
    seen.step_all({"final_info": final, "is_success": np.array([False, True, True])}, acted, ended)
    assert logs.tolist() == [[1, 1], [0, 0], [1, 0]]
    seen.step_all({"is_success": np.array([False, True, False])}, acted, np.array([False, True, False]))
    assert logs.tolist() == [[1, 1], [1, 1], [1, 0]]


def test_what_a_c_environment_logs_as_success_is_its_rate():
    with make_vec("detour", num_envs=8) as vec:
        vec.reset(0)
        means = {}
        while not means:
            vec.step(np.zeros((8, vec.spec.action.dim), np.float32))
            means = vec.pop_log_means()
    assert means["success_rate"] == means["success"] and "above" in means


def test_a_run_tells_the_rate_everywhere(tmp_path, capsys):
    recorder = run(tiny("ppo", tmp_path / "run", env__name=f"{__name__}:Says", env__num_envs=4, env__backend="serial",
                        train__num_steps=8, train__total_steps=64, eval__interval_steps=32, ppo__num_minibatches=2))
    assert all("rollout/success_rate" in metrics for metrics in recorder.metrics[:-1])
    assert "eval/success_rate" in recorder.metrics[0]
    parts = [recorder.summary[name] for name in ("eval", "eval_last", "eval_greedy", "eval_sampled")]
    assert all(0 <= part["success_rate"] <= 1 for part in parts)
    assert main(["eval", str(tmp_path / "run"), "--episodes", "4"]) == 0
    assert "% succeeded" in capsys.readouterr().out


@pytest.mark.parametrize("make", [functools.partial(Says, "score"), functools.partial(Says, "success", str)])
def test_without_success_there_is_no_rate(make):
    assert rate(make, [(0, 1)] * LENGTH) == {}
    assert "success_rate" not in puffer_il.evaluate(lambda obs: np.zeros(len(obs), int), make, episodes=2)


def test_an_evaluation_tells_the_rate():
    def every_other(obs):
        return np.arange(len(obs)) % 2

    played = puffer_il.evaluate(every_other, Says, episodes=4)
    assert played["success_rate"] == 0.5 == played["log"]["success_rate"]
