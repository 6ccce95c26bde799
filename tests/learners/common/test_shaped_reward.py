"""A reward with a potential beside it: what is read, what its file keeps, and that no optimum moves."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from puffer_il.learners.common.discriminator import Discriminator
from puffer_il.learners.common.learned_reward import load_reward, save_reward
from puffer_il.learners.common.shaped_reward import ShapedReward
from tests.support.rollouts import SPEC, make_buffer

CPU, GAMMA = torch.device("cpu"), 0.9


def make(inputs="state") -> ShapedReward:
    torch.manual_seed(0)
    networks = [Discriminator(SPEC, (8,), "relu", False, kind) for kind in (inputs, "state")]
    for network in networks:
        network.update_norm(torch.tensor([0.1, 0.2, 0.3]), torch.tensor([1.0, 2.0, 0.5]), 10)
    return ShapedReward.of_networks(SPEC, "airl", *networks, hidden=(8,), shaping_hidden=(8,), activation="relu")


def potential(reward, obs) -> np.ndarray:
    return reward.potential.logits(torch.from_numpy(obs), None).numpy()


@pytest.mark.parametrize("inputs", ["state", "next_state", "state_action"])
def test_its_file_keeps_both_networks(inputs, tmp_path):
    reward, buffer = make(inputs), make_buffer()
    save_reward(reward, tmp_path / "reward.pt")
    again = load_reward(tmp_path)
    assert isinstance(again, ShapedReward) and again.reads == reward.reads and again.absorbing == reward.absorbing
    assert torch.equal(again.of_rollout(buffer, CPU), reward.of_rollout(buffer, CPU))
    assert torch.equal(again.shaping(buffer, CPU, GAMMA), reward.shaping(buffer, CPU, GAMMA))


def test_the_reward_itself_is_without_the_potential():
    reward, buffer = make(), make_buffer()
    before = reward.of_rollout(buffer, CPU)
    for parameter in reward.potential.parameters():
        parameter.data.add_(1.0)
    assert torch.equal(before, reward.of_rollout(buffer, CPU))


@pytest.mark.parametrize("ends", [True, False])
def test_each_step_is_paid_for_its_progress(ends):
    reward, buffer = make(), make_buffer()
    flat = buffer.flat()
    later = potential(reward, buffer.next_obs())
    later[flat.terminations] = reward.absorbing_potential() if ends else 0.0
    assert flat.terminations.any()
    np.testing.assert_allclose(reward.shaping(buffer, CPU, GAMMA, ends).numpy(),
                               GAMMA * later - potential(reward, flat.obs), rtol=1e-4, atol=1e-5)
