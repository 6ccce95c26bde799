"""States from somebody's file, in which episodes begin or from which a run goes on: those that an environment can be
in, or a refusal of one line. What C does with any others is in the contract test, under sanitizers."""

from __future__ import annotations

import numpy as np
import pytest

from puffer_il.core.errors import InputError
from puffer_il.core.spec import Starts
from puffer_il.native.native_env import NativeEnv
from tests.support.environments import FOLDERS

STEPS = 5
WITH_PLACES = ("tron", "snake", "breakout", "taxi", "frozenlake", "cliffwalking", "mdp", "ngsim", "highway", "glucose")


def played(name: str, num_envs: int = 3) -> NativeEnv:
    env = NativeEnv(FOLDERS[name], num_envs, seed=3)
    env.reset()
    for _ in range(STEPS):
        env.step(np.zeros_like(env.actions))
    return env


@pytest.mark.parametrize("name", WITH_PLACES)
def test_episodes_begin_in_states_that_there_are(name: str):
    env = played(name)
    states, before = env.env_states(), env.get_state()
    env.begin_in(Starts(np.repeat(states, 3, axis=0), 1.0))  # more states than environments
    assert np.array_equal(env.get_state(), before)  # looking at them changes nothing
    env.reset()
    assert all(any(np.array_equal(state, known) for known in states) for state in env.env_states())


@pytest.mark.parametrize("odd", [1e9, -1e9, 1e300, 0.3])
@pytest.mark.parametrize("name", WITH_PLACES[:-1])
def test_demonstrated_states_that_no_episode_is_in_are_refused(name: str, odd: float):
    env = played(name)
    states = env.env_states()
    place = {"breakout": 0, "ngsim": 1, "highway": 4, "tron": -1, "snake": -5}.get(name, 0)
    states[1, place] = 1e9 if name == "breakout" else odd
    with pytest.raises(InputError, match=f"environment {name} cannot be in the demonstrations' state 1: its number"
                       ) as refusal:
        env.begin_in(Starts(states, 0.5))
    assert "\n" not in str(refusal.value) and "collect them again" in str(refusal.value)


@pytest.mark.parametrize("name", ["tron", "snake", "mdp", "taxi", "breakout"])
def test_bytes_of_a_checkpoint_become_no_index(name: str):
    env = played(name, 1)
    saved, own = env.get_state(), len(env._envs)
    refused = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        crafted = saved.copy()
        crafted[rng.integers(0, own, 8)] = rng.integers(0, 256, 8)
        try:
            env.set_state(crafted)
        except ValueError as error:
            assert "in no state that there is" in str(error)
            refused += 1
            env.set_state(saved)
        env.step(np.zeros_like(env.actions))
        if env._api.render:
            env.render()
    assert refused


@pytest.mark.parametrize("name", WITH_PLACES)
def test_a_checkpoint_goes_on_exactly(name: str):
    env, other = played(name), NativeEnv(FOLDERS[name], 3, seed=9)
    other.set_state(env.get_state())
    for _ in range(30):
        for one in (env, other):
            one.step(np.ones_like(one.actions))
        assert np.array_equal(env.observations, other.observations) and np.array_equal(env.rewards, other.rewards)
        assert np.array_equal(env.env_states(), other.env_states())


def test_a_snake_that_fills_the_board_has_no_food():
    env = played("snake", 1)
    states, cells = env.env_states(), env.state_size - 6
    states[0, cells + 4] = cells  # its length
    with pytest.raises(InputError, match="cannot be in the demonstrations' state 0"):
        env.begin_in(Starts(states, 1.0))
    env.set_env_states(states)
    assert env.env_states()[0, cells + 3] == -1
    for action in range(4):
        env.step(np.full_like(env.actions, action))
        env.render()
