"""Moment matching's own rules: the reward is the critic, known up to a constant and with a bounded slope."""

from __future__ import annotations

import numpy as np
import torch

from puffer_il.learners.experiment import build
from puffer_il.learners.mm import MM
from tests.support.rollouts import SPEC, expert_rows, make_buffer, sign_demos

CPU = torch.device("cpu")


def make(demos=None, **mm) -> MM:
    torch.manual_seed(0)
    tables = {"mm": {"disc_updates": 3, "disc_batch_size": 64} | mm, "ppo": {"gamma": 0.9}, "policy": {"hidden": [8]}}
    return MM(SPEC, demos or sign_demos(), build("mm", [("test", tables)]), CPU, 0)


def scores(learner: MM, buffer) -> np.ndarray:
    flat = buffer.flat()
    with torch.no_grad():
        rows = learner.discriminator.rows(torch.from_numpy(flat.obs), torch.from_numpy(flat.actions))
        return learner.discriminator(rows).numpy().reshape(buffer.rewards.shape)


def test_the_reward_is_the_critics_value():
    learner, buffer = make(reward_scale=False), make_buffer()
    learner.relabel(buffer)
    np.testing.assert_allclose(buffer.rewards, scores(learner, buffer), rtol=1e-5, atol=1e-6)


def test_the_loss_is_half_the_difference_of_the_means():
    metrics = make(disc_updates=1).relabel(make_buffer())
    assert not any("accuracy" in name for name in metrics)  # no side of 0 is the expert's
    difference = metrics["disc/logit_policy"] - metrics["disc/logit_expert"]
    np.testing.assert_allclose(metrics["disc/loss"], difference / 2, rtol=1e-5, atol=1e-7)


def test_a_constant_of_the_critic_changes_no_advantage():
    advantages = []
    for constant in (0.0, 2.0):
        learner, buffer = make(reward_scale=False, disc_learning_rate=0.0), make_buffer()
        with torch.no_grad():
            list(learner.discriminator.net.parameters())[-1].add_(constant)  # the last bias
        worth = constant / (1 - 0.9)
        buffer.values[:], buffer.last_values[:] = worth, worth  # what a critic of returns would have learned
        learner.relabel(buffer)
        learner.advantages(buffer)
        advantages.append(buffer.advantages.copy())
    np.testing.assert_allclose(*advantages, rtol=1e-4, atol=1e-4)  # living, dying: neither is paid by the constant


def test_the_slope_stays_at_the_target_however_long_the_critic_learns():
    learner, buffer = make(disc_updates=300, disc_learning_rate=1e-2, gp_target=0.4, disc_ent_coef=0.0), make_buffer()
    learner.relabel(buffer)
    rows = expert_rows(learner).requires_grad_()
    gradient, = torch.autograd.grad(learner.discriminator(rows).sum(), rows)
    norm = gradient.norm(dim=1).mean()
    assert 0.2 < norm < 0.6
