"""Detour: the expert goes round by either way, and what is observed does not tell by which."""

import numpy as np

from puffer_il.native.native_env import NativeEnv
from tests.support.environments import FOLDERS, random_actions, record, same_bytes

SIDE = 4  # of the state


def played(**params: float) -> tuple[dict[str, float], np.ndarray]:
    """What the first episodes of the expert logged, and the side that each of 400 had in mind."""
    env = NativeEnv(FOLDERS["detour"], 400, seed=5, **params)
    env.reset()
    sides = env.env_states()[:, SIDE].copy()
    for _ in range(200):
        env.step(env.expert_actions())
    return env.pop_log_means(), sides


def test_the_expert_arrives_by_either_way_as_often():
    log, sides = played()
    assert log["success"] > 0.9 and 0.4 < log["above"] < 0.6 and 0.4 < (sides > 0).mean() < 0.6


def test_without_a_wall_and_a_tremor_it_always_arrives():
    assert played(half_width=0.0, tremor=0.0)[0]["success"] == 1


def test_the_way_in_mind_is_not_observed():
    env = NativeEnv(FOLDERS["detour"], 64, seed=1)
    env.reset()
    states, before = env.env_states().copy(), env.observations.copy()
    states[:, SIDE] *= -1
    env.set_env_states(states)
    assert np.array_equal(env.observations, before)


def test_the_wall_ends_the_episode_and_its_end_does_not():
    env = NativeEnv(FOLDERS["detour"], 2, seed=1, half_width=0.7)
    env.reset()
    states = env.env_states().copy()
    states[:, :4] = [[-0.11, 0.5, 1, 0], [-0.11, 0.75, 1, 0]]
    env.set_env_states(states)
    _, rewards, terminals, *_ = env.step(np.float32([[1, 0], [1, 0]]))
    assert terminals.tolist() == [True, False] and rewards[0] < -1 < rewards[1]


def test_the_tremor_is_of_the_experts_hand_alone():
    """The same state, the same generator of the expert's: the same action; without a tremor always."""
    still = NativeEnv(FOLDERS["detour"], 8, seed=1, tremor=0.0)
    still.reset()
    assert still.expert_actions().tobytes() == still.expert_actions().tobytes()
    first, again = (NativeEnv(FOLDERS["detour"], 8, seed=1) for _ in range(2))
    first.reset(), again.reset()
    action = first.expert_actions().copy()
    assert action.tobytes() == again.expert_actions().tobytes() != first.expert_actions().tobytes()


def test_states_go_on_in_another_environment():
    env, other = (NativeEnv(FOLDERS["detour"], 32, seed=seed, max_episode_steps=0) for seed in (1, 2))
    env.reset(), other.reset()
    for actions in random_actions(env, 13):
        env.step(actions)
    other.set_env_states(env.env_states())
    other._clocks[:] = env._clocks  # the generators
    actions = random_actions(env, 200, seed=1)
    assert same_bytes(record(env, actions), record(other, actions))
