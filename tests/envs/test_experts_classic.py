"""The scripted experts of the classic and the tabular environments reach what they say, and their states come back."""

import gymnasium
import numpy as np
import pytest

from puffer_il.native.native_env import NativeEnv
from tests.support.environments import FOLDERS, random_actions, record, same_bytes

REACHED = [  # the mean return and the least one of 500 episodes are at least
    ("cartpole", {}, 500, 500),
    ("cartpole", {"gravity": 15.0, "length": 0.8, "masspole": 0.3}, 500, 500),
    ("acrobot", {}, -76, -130),
    ("mountaincar", {}, -107, -125),
    ("mountaincarcontinuous", {}, 96.5, 93),
    ("pendulum", {}, -165, -420),
    ("frozenlake", {}, 0.68, 0),
    ("frozenlake", {"map_name": "8x8", "max_episode_steps": 200}, 0.84, 0),
    ("frozenlake", {"is_slippery": False}, 1, 1),
    ("frozenlake", {"map_name": "8x8", "is_slippery": False}, 1, 1),
    ("cliffwalking", {}, -13, -13),
    ("cliffwalking", {"is_slippery": True}, -71, -500),
    ("taxi", {}, 7.6, 3),
    ("taxi", {"is_rainy": True}, 3.2, -40),
    ("taxi", {"is_rainy": True, "fickle_passenger": True}, 3.2, -40),
]
NAMES = dict.fromkeys(name for name, *_ in REACHED)
TABLES = [("frozenlake", "FrozenLake-v1", {}), ("frozenlake", "FrozenLake-v1", {"map_name": "8x8"}),
          ("frozenlake", "FrozenLake-v1", {"success_rate": 0.8}), ("cliffwalking", "CliffWalking-v1", {}),
          ("cliffwalking", "CliffWalking-v1", {"is_slippery": True}), ("taxi", "Taxi-v4", {}),
          ("taxi", "Taxi-v4", {"is_rainy": True}), ("taxi", "Taxi-v4", {"is_rainy": True, "rainy_probability": 0.5})]


def first_returns(env: NativeEnv) -> np.ndarray:
    """(num_envs,) what the expert collects in the first episode of each environment."""
    env.reset()
    returns, running = np.zeros(env.num_envs), np.ones(env.num_envs, bool)
    for _ in range(2000):
        _, rewards, terminals, truncations, _ = env.step(env.expert_actions())
        returns += rewards * running
        running &= ~(terminals | truncations)
        if not running.any():
            return returns
    raise AssertionError("episodes that do not end")


@pytest.mark.parametrize(("name", "params", "mean", "least"), REACHED)
def test_experts_solve_their_environments(name: str, params: dict, mean: float, least: float):
    returns = first_returns(NativeEnv(FOLDERS[name], 500, seed=5, **params))
    assert returns.mean() >= mean and returns.min() >= least


@pytest.mark.parametrize(("name", "gymnasium_id", "params"), TABLES)
def test_experts_of_tables_are_the_best_there_are(name: str, gymnasium_id: str, params: dict):
    """No action is worth more than the expert's, by Gymnasium's table and with the discount that it plans with."""
    table = gymnasium.make(gymnasium_id, **params).unwrapped.P
    count, choices = len(table), len(table[0])
    discount = 0.99 if name == "frozenlake" else 1.0
    follow, reward = np.zeros((count, choices, count)), np.zeros((count, choices))
    for code, rows in table.items():
        for action, outcomes in rows.items():
            for probability, after, gain, terminated in outcomes:
                reward[code, action] += probability * gain
                follow[code, action, after] += discount * probability * (not terminated)
    values = np.zeros(count)
    for _ in range(1500):
        values = (reward + follow @ values).max(axis=1)
    codes = np.arange(count)
    states = codes[:, None].astype(float)
    if name == "taxi":
        states = np.stack([codes // 20, codes // 4 % 5, codes % 4, 0 * codes], axis=1).astype(float)
    env = NativeEnv(FOLDERS[name], count, **params)
    env.reset()
    env.set_env_states(states)
    chosen = (reward + follow @ values)[codes, env.expert_actions()]
    there = codes // 4 % 5 != codes % 4 if name == "taxi" else codes >= 0  # not: brought, and yet waiting
    np.testing.assert_allclose(chosen[there], values[there], atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_asking_the_expert_changes_nothing(name: str):
    asked, silent = (NativeEnv(FOLDERS[name], 16, seed=3, max_episode_steps=40) for _ in range(2))
    asked.reset()
    silent.reset()
    for actions in random_actions(asked, 100):
        assert asked.expert_actions().tobytes() == asked.expert_actions().tobytes()
        asked.step(actions)
        silent.step(actions)
        assert asked.get_state().tobytes() == silent.get_state().tobytes()
        assert asked.rewards.tobytes() == silent.rewards.tobytes()


@pytest.mark.parametrize(("name", "params"), [(name, params) for name, params, *_ in REACHED])
def test_states_go_on_in_another_environment(name: str, params: dict):
    env, other = (NativeEnv(FOLDERS[name], 32, seed=seed, **params | {"max_episode_steps": 0}) for seed in (1, 2))
    env.reset()
    other.reset()
    for actions in random_actions(env, 13):
        env.step(actions)
    states = env.env_states()
    other.set_env_states(states)
    assert other.env_states().tobytes() == states.tobytes()
    assert other.observations.tobytes() == env.observations.tobytes()
    other._clocks[:] = env._clocks  # the generators
    actions = random_actions(env, 200, seed=1)
    assert same_bytes(record(env, actions), record(other, actions))
    assert other.env_states().tobytes() == env.env_states().tobytes()
