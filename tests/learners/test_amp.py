"""AMP's own rules: the reward of least squares, and how style and task are mixed."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from puffer_il.learners.amp import AMP
from puffer_il.learners.experiment import build
from tests.support.rollouts import SPEC, expert_rows, make_buffer, sign_demos

CPU = torch.device("cpu")


def make(demos=None, **amp) -> AMP:
    torch.manual_seed(0)
    tables = {"amp": {"disc_updates": 3, "disc_batch_size": 64} | amp, "ppo": {"gamma": 0.9}, "policy": {"hidden": [8]}}
    return AMP(SPEC, demos or sign_demos(), build("amp", [("test", tables)]), CPU, 0)


def test_the_style_is_paid_by_the_squared_distance_from_the_experts_target():
    learner, buffer = make(reward_scale=False), make_buffer()
    metrics = learner.relabel(buffer)
    with torch.no_grad():
        rows = learner.discriminator.rows(torch.from_numpy(buffer.flat().obs), torch.from_numpy(buffer.next_obs()))
        scores = learner.discriminator(rows).numpy()
    expected = np.maximum(0, 1 - (scores - 1) ** 2 / 4)
    np.testing.assert_allclose(buffer.rewards.reshape(-1), expected, rtol=1e-4, atol=1e-6)
    assert 0 <= metrics["disc/absorbing_reward"] <= 1


def test_style_and_task_are_mixed_by_their_shares():
    style, task, mixed = (make_buffer() for _ in range(3))
    make().relabel(style)
    make(task_reward_coef=1.0).relabel(task)
    make(task_reward_coef=0.25).relabel(mixed)
    assert np.array_equal(task.rewards, task.env_rewards) and (task.final_values == 0).all()
    np.testing.assert_allclose(mixed.rewards, 0.75 * style.rewards + 0.25 * style.env_rewards, rtol=1e-5, atol=1e-6)
    # The task pays nothing in the absorbing state.
    np.testing.assert_allclose(mixed.final_values, 0.75 * style.final_values, rtol=1e-5)
    assert (style.final_values > 0).any()


def test_scores_go_to_the_targets_of_each_side():
    learner = make(disc_updates=300, disc_learning_rate=1e-2, gp_coef=0.0, disc_ent_coef=0.0, absorbing=False)
    demos, buffer = sign_demos(), make_buffer()
    buffer.obs[:] += np.float32([9, 0, 0])  # nothing in common
    metrics = learner.relabel(buffer)
    assert abs(metrics["disc/logit_expert"] - 1) < 0.2 and abs(metrics["disc/logit_policy"] + 1) < 0.2
    assert len(demos) == 40


def test_the_penalty_flattens_the_discriminator_on_demonstrations():
    norms = []
    for coef in (0.0, 2.5):
        learner = make(disc_updates=200, disc_learning_rate=1e-2, gp_coef=coef)
        learner.relabel(make_buffer())
        rows = expert_rows(learner).requires_grad_()
        gradient, = torch.autograd.grad(learner.discriminator(rows).sum(), rows)
        norms.append(float(gradient.square().sum(1).mean()))
    assert norms[1] < 0.5 * norms[0]


def test_no_action_is_read():
    demos = sign_demos()
    states = []
    for actions in (demos.actions, np.full((40, 1), 7, np.int32), None):
        learner, buffer = make(dataclasses.replace(demos, actions=actions)), make_buffer()
        learner.relabel(buffer)
        states.append(learner.discriminator.state_dict())
    assert all(torch.equal(state[k], states[0][k]) for state in states[1:] for k in state)
