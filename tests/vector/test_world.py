"""What an environment answers to those who judge its demonstrations: the same every time, and in time."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

import puffer_il
from puffer_il.vector import world as world_module
from puffer_il.vector.world import World


@pytest.fixture(scope="module")
def pendulum():
    with World("pendulum") as world:
        yield world


def test_an_environment_repeats_what_was_recorded_in_it(pendulum):
    demos = puffer_il.collect("random", "pendulum", episodes=7)
    played = pendulum.replay(demos.states, demos.actions)
    np.testing.assert_array_equal(played.next_obs, demos.next_obs)
    np.testing.assert_array_equal(played.obs, demos.obs)
    np.testing.assert_allclose(played.rewards, demos.rewards)


def test_states_that_there_are_not_are_not_played(pendulum):
    assert pendulum.replay(np.zeros((3, 5)), np.zeros((3, 1), np.float32)) is None
    assert pendulum.replay(np.full((3, 2), np.nan), np.zeros((3, 1), np.float32)) is None
    assert pendulum.states_of(np.zeros((3, 3), np.float32)) is None  # a sine and a cosine are no angle


def test_observations_that_are_the_state_are_told_by_looking():
    obs = np.full((2, 4), 0.25, np.float32)
    with World("cartpole") as world:
        np.testing.assert_array_equal(world.states_of(obs), obs)
        assert world.replay(world.states_of(obs), np.zeros((2, 1), np.int32)).next_obs.shape == (2, 4)


def test_starts_and_practice_are_the_same_every_time(pendulum):
    with World("pendulum") as other:
        np.testing.assert_array_equal(other.starts(256), pendulum.starts(256))
        own = other.practice(500)
        np.testing.assert_array_equal(own.next_obs, pendulum.practice(500).next_obs)
    assert len(own.obs) >= 500 and np.ptp(own.actions) > 3.5


class Slow(gymnasium.Env):
    """An environment whose resets and steps take their time."""

    observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        world_module.time.sleep(0.02)
        return np.zeros(2, np.float32), {}

    def step(self, action):
        world_module.time.sleep(0.02)
        return np.zeros(2, np.float32), 0.0, False, False, {}


def test_a_slow_environment_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(world_module, "PATIENCE_S", 0.3)
    with World(Slow) as world:
        assert 0 < len(world.starts(256)) < 100 and 0 < len(world.practice(2_000).obs) < 100
        assert world.replay(np.zeros((1, 2)), np.zeros((1, 1), np.int32)) is None
