"""Rewards of several numbers: weighted into one where the user says how, refused in one line where not."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import SyncVectorEnv

from puffer_il import cli
from puffer_il.core.errors import InputError
from puffer_il.vector.make import find_creator
from puffer_il.vector.vec import make_vec
from tests.support.command_line import one_line

HERE = "tests.vector.test_rewards"


class Two(gymnasium.Env):
    """Treasure and time, as mo-gymnasium has them."""

    observation_space, action_space = spaces.Box(-1, 1, (1,)), spaces.Discrete(2)
    reward_space: Any = spaces.Box(-10, 10, (2,))

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple:
        self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple:
        self.t += 1
        return np.zeros(1, np.float32), np.array([3.0, -1.0]), False, self.t == 4, {}


class Undeclared(Two):
    reward_space = None


class One(Undeclared):
    """Its reward is an array of one number, as some environments have it."""

    def step(self, action: Any) -> tuple:
        obs, reward, *rest = super().step(action)
        return (obs, reward[:1], *rest)


class Owner(Undeclared):
    """It has a parameter of that name itself."""

    def __init__(self, reward_weights: list[float]) -> None:
        self.weights = reward_weights

    def step(self, action: Any) -> tuple:
        obs, reward, *rest = super().step(action)
        return (obs, float(reward @ self.weights), *rest)


class Pair(Two):
    """Both players get two numbers."""

    possible_agents = ("a", "b")
    reward_space = None

    def observation_space(self, agent: str) -> spaces.Space:  # type: ignore[override]
        return Two.observation_space

    def action_space(self, agent: str) -> spaces.Space:  # type: ignore[override]
        return Two.action_space

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple:
        self.agents = list(self.possible_agents)
        obs, info = super().reset()
        return dict.fromkeys(self.agents, obs), dict.fromkeys(self.agents, info)

    def step(self, actions: Any) -> tuple:
        return tuple(dict.fromkeys(self.agents, part) for part in super().step(0))


def several(num_envs: int = 1) -> SyncVectorEnv:
    return Stacked([Undeclared] * num_envs)


class Stacked(SyncVectorEnv):
    """(n, 2) rewards, as mo_gymnasium's MOSyncVectorEnv gives them."""

    def step(self, actions: Any) -> tuple:
        self._rewards = np.zeros(self.num_envs)  # SyncVectorEnv has room for single ones
        obs = np.zeros((self.num_envs, 1), np.float32)
        return obs, np.tile([3.0, -1.0], (self.num_envs, 1)), *np.zeros((2, self.num_envs), bool), {}


def first_rewards(name: Any, **kwargs: Any) -> list[float]:
    with make_vec(name, num_envs=2, backend="auto" if name is several else "serial", kwargs=kwargs) as vec:
        vec.reset(0)
        return vec.step(np.zeros((2, 1), np.int32)).rewards.tolist()


@pytest.mark.parametrize("name", [Two, Undeclared, Pair, several])
def test_weights_make_one_number_of_them(name: Any):
    assert first_rewards(name, reward_weights=[1, 0.5]) == [2.5, 2.5]
    assert first_rewards(name, reward_weights=[0, -2]) == [2, 2]


def test_an_array_of_one_number_is_one():
    assert first_rewards(One) == [3, 3]
    assert first_rewards(One, reward_weights=[2.0]) == [6, 6]


def test_a_parameter_of_that_name_stays_its_own():
    assert first_rewards(Owner, reward_weights=[1, 1]) == [2, 2]


@pytest.mark.parametrize("name", [Two, Undeclared, Pair, several])
def test_without_weights_they_are_refused_in_one_line(name: Any):
    with pytest.raises(InputError, match=r"its reward is 2 numbers; give their weights as env\.kwargs\.reward_weights"):
        first_rewards(name)
    with pytest.raises(InputError, match=r"its reward is 2 numbers, but env\.kwargs\.reward_weights has 3; give"):
        first_rewards(name, reward_weights=[1, 2, 3])


def test_weights_of_a_single_number_are_refused():
    with pytest.raises(InputError, match=r"its reward is 1 number, but env\.kwargs\.reward_weights has 2; leave it"):
        first_rewards("CartPole-v1", reward_weights=[1, 2])


@pytest.mark.parametrize("weights", ["much", [], [1, float("nan")], 3, [[1, 2]]])
def test_weights_that_are_none_are_refused(weights: Any):
    with pytest.raises(InputError, match=r"env\.kwargs\.reward_weights = .*: give a list of numbers"):
        find_creator(Two, {"reward_weights": weights}).facts()


def test_the_command_line_says_so(tmp_path, capsys):
    arguments = ["demos", "collect", f"{HERE}:Two", "--random", "--episodes", "1", "--out", str(tmp_path / "d.npz")]
    assert cli.main(arguments) == 2
    assert "its reward is 2 numbers" in one_line(capsys)
    assert cli.main([*arguments, "--env.kwargs.reward_weights", "[1.0, 0.5]"]) == 0
    assert "mean return 10" in capsys.readouterr().out
