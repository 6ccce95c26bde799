"""GAIfO's own rules: it sees transitions, true ones, and never an action."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from puffer_il.core.errors import InputError
from puffer_il.learners.experiment import build
from puffer_il.learners.gaifo import GAIfO
from tests.support.rollouts import SPEC, expert_rows, make_buffer, sign_demos

CPU = torch.device("cpu")


def make(demos=None, **gaifo) -> GAIfO:
    torch.manual_seed(0)
    tables = {"gaifo": {"disc_updates": 3, "disc_batch_size": 64, "replay_size": 16} | gaifo, "ppo": {"gamma": 0.9},
              "policy": {"hidden": [8]}}
    return GAIfO(SPEC, demos or sign_demos(), build("gaifo", [("test", tables)]), CPU, 0)


def test_what_the_actions_of_the_demonstrations_are_changes_nothing():
    states = []
    demos = sign_demos()
    for actions in (demos.actions, 1 - demos.actions, np.full((40, 1), 10**6, np.int32), None):
        learner, buffer = make(dataclasses.replace(demos, actions=actions)), make_buffer()
        learner.relabel(buffer)
        learner.advantages(buffer)
        learner.update(buffer, 0.0)
        states.append((learner.discriminator.state_dict(), learner.policy.state_dict(), buffer.rewards.copy()))
    for discriminator, policy, rewards in states[1:]:
        assert all(torch.equal(discriminator[k], states[0][0][k]) for k in discriminator)
        assert all(torch.equal(policy[k], states[0][1][k]) for k in policy)
        assert np.array_equal(rewards, states[0][2])


def test_nor_do_the_policys_own_actions_reach_the_discriminator():
    rewards = []
    for change in (False, True):
        learner, buffer = make(), make_buffer()
        if change:
            buffer.actions[:] = 1 - buffer.actions
        learner.relabel(buffer)
        rewards.append(buffer.rewards.copy())
    assert np.array_equal(*rewards)


def test_the_successor_of_an_ended_row_is_its_final_observation():
    learner, buffer = make(reward="logit"), make_buffer()
    learner.relabel(buffer)
    ended = buffer.final_index
    assert len(ended) and (ended < len(buffer.flat().obs) - buffer.num_envs).any()
    with torch.no_grad():
        rows = learner.discriminator.rows(torch.from_numpy(buffer.flat().obs[ended]),
                                          torch.from_numpy(buffer.final_obs.copy()))
        scores = learner.discriminator(rows) / learner.scale(torch.ones(1)).reciprocal()
    np.testing.assert_allclose(buffer.rewards.reshape(-1)[ended], scores, rtol=1e-4, atol=1e-6)


def test_the_discriminator_tells_the_experts_transitions():
    demos = sign_demos()
    moved = dataclasses.replace(demos, next_obs=demos.obs + np.float32([0.5, 0, 0]), actions=None)
    learner, buffer = make(moved, disc_updates=200, gp_coef=0, disc_learning_rate=1e-2, absorbing=False), make_buffer()
    metrics = learner.relabel(buffer)
    assert metrics["disc/logit_expert"] > 0 > metrics["disc/logit_policy"]
    obs = torch.from_numpy(buffer.flat().obs)  # states of the policy, from which it goes on as the expert does, or not
    expert, policy = (learner._scores(obs, later).mean() for later in (obs + torch.tensor([0.5, 0, 0]), obs.roll(9, 0)))
    assert expert > policy + 1


def test_absorbing_rows_are_worth_their_reward_for_ever():
    learner, buffer = make(), make_buffer()
    metrics = learner.relabel(buffer)
    ended = buffer.terminations & buffer.valid
    np.testing.assert_allclose(buffer.final_values[ended], metrics["disc/absorbing_reward"] / (1 - 0.9), rtol=1e-5)
    critic = make(loss="wasserstein")
    flagged = expert_rows(critic)[:, -1] == 1
    assert flagged.float().mean() == 0.5  # as gail's: 4 ends of 40 rows, each worth 10 absorbing steps


def test_a_warm_start_by_cloning_is_not_offered():
    with pytest.raises(InputError, match="bc_epochs"):
        make(bc_epochs=1)
