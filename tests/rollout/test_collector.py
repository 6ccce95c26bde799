"""A rollout holds what happened: each row's successor follows from it by the environment's own rules."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
import torch

from puffer_il.core.config import PolicyConfig
from puffer_il.nn.policy import Policy
from puffer_il.rollout.buffer import RolloutBuffer
from puffer_il.rollout.collector import Collector
from puffer_il.vector.vec import make_vec

CPU = torch.device("cpu")
VECS = {
    "native": {"name": "cartpole", "kwargs": {"max_episode_steps": 15}},
    "serial": {"name": "CartPole-v1", "backend": "serial", "kwargs": {"max_episode_steps": 15}},
    "workers": {"name": "cartpole", "backend": "multiprocessing", "num_workers": 2, "num_groups": 2,
                "kwargs": {"max_episode_steps": 15}},
}


def rollouts(kind: str, count: int, lstm: int = 0, num_steps: int = 40):
    """`count` rollouts in a row of 6 environments, each with its collector, while their arrays are good."""
    torch.manual_seed(0)
    with make_vec(num_envs=6, **VECS[kind]) as vec:
        policy = Policy(vec.spec, PolicyConfig(hidden=(8,), lstm=lstm))
        buffer = RolloutBuffer(vec.spec, num_steps, 6, state_dim=policy.state_dim)
        collector = Collector(vec, policy, buffer, CPU, seed=3)
        for _ in range(count):
            collector.collect()
            yield collector


@pytest.mark.parametrize("kind", VECS)
def test_successors_follow_the_physics(kind):
    env = gymnasium.make("CartPole-v1").unwrapped
    env.reset()
    for collector in rollouts(kind, 2):
        rows, successors = collector.buffer.flat(), collector.buffer.next_obs()
        assert rows.valid.sum() > 200
        for i in np.flatnonzero(rows.valid):
            env.state, env.steps_beyond_terminated = rows.obs[i].astype(np.float64), None
            obs, reward, terminated, *_ = env.step(int(rows.actions[i, 0]))
            np.testing.assert_allclose(successors[i], obs, atol=1e-5)
            assert rows.rewards[i] == reward and rows.terminations[i] == terminated


@pytest.mark.parametrize("kind", VECS)
def test_what_is_stored_of_an_action_is_what_the_policy_says_of_it(kind):
    for collector in rollouts(kind, 1):
        rows = collector.buffer.flat()
        logprobs, _, values = collector.policy.evaluate(torch.from_numpy(rows.obs), torch.from_numpy(rows.actions))
        np.testing.assert_allclose(rows.logprobs, logprobs.detach(), atol=1e-5)
        np.testing.assert_allclose(rows.values, values.detach(), atol=1e-5)


@pytest.mark.parametrize("kind", VECS)
def test_truncations_and_the_rollouts_end_are_bootstrapped_and_terminations_are_not(kind):
    for collector in rollouts(kind, 2):
        buffer, value = collector.buffer, collector.policy.value
        ended = (buffer.terminations | buffer.truncations).reshape(-1)[buffer.final_index]
        assert ended.all() and buffer.truncations.any() and buffer.terminations.any()
        expected = np.zeros(buffer.truncations.size, np.float32)
        expected[buffer.final_index] = value(torch.from_numpy(buffer.final_obs))
        expected *= buffer.truncations.reshape(-1)
        np.testing.assert_allclose(buffer.final_values.reshape(-1), expected, atol=1e-6)
        np.testing.assert_allclose(buffer.last_values, value(torch.from_numpy(buffer.last_obs)), atol=1e-6)


@pytest.mark.parametrize("kind", VECS)
def test_episodes_run_across_rollouts_and_are_counted_whole(kind):
    returns, rewards = [], 0.0
    for collector in rollouts(kind, 4, num_steps=15):
        returns += [r for part in collector.episode_returns for r in part]
        rewards += float(collector.buffer.rewards[collector.buffer.valid].sum())
    assert max(returns) == 15 and rewards - 6 * 15 <= sum(returns) <= rewards


@pytest.mark.parametrize("kind", VECS)
def test_every_first_row_of_an_episode_is_marked_as_a_start(kind):
    before = np.zeros(6, bool)  # the last step of a rollout: what it says of the first of the next
    for k, collector in enumerate(rollouts(kind, 3)):
        buffer = collector.buffer
        follows_an_end = buffer.terminations | buffer.truncations | ~buffer.valid
        expected = np.concatenate((before[None] | (k == 0), follows_an_end[:-1]))
        assert expected.sum() > 6 and np.array_equal(buffer.episode_starts, expected)
        before = follows_an_end[-1]


@pytest.mark.parametrize("kind", VECS)
def test_recurrent_rows_can_be_evaluated_again_from_the_state_that_was_stored(kind):
    for collector in rollouts(kind, 2, lstm=4):
        buffer = collector.buffer
        logprobs, _, values = collector.policy.evaluate(
            torch.from_numpy(buffer.obs), torch.from_numpy(buffer.actions), torch.from_numpy(buffer.initial_state),
            torch.from_numpy(buffer.episode_starts))
        np.testing.assert_allclose(buffer.logprobs.reshape(-1), logprobs.detach(), atol=1e-5)
        np.testing.assert_allclose(buffer.values.reshape(-1), values.detach(), atol=1e-5)
        assert (buffer.final_values[buffer.truncations] != 0).all()
    assert np.abs(buffer.initial_state).max() > 0


def test_where_new_episodes_begin_from_a_state_nothing_of_the_old_ones_is_remembered():
    """A run that has diverged goes back in the same process, with what its policy remembered."""
    for collector in rollouts("serial", 1, lstm=4):
        state = collector.state_dict()
        collector.state.fill_(torch.nan)
        assert not collector.vec.exact_state
        collector.load_state_dict(state)
        assert collector.episode_starts.all() and not collector.state.any()
        assert np.isfinite(collector.collect().logprobs).all()
