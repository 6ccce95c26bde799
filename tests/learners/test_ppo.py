"""PPO: the step is the paper's, what is not valid does not count, and the schedule is what the keys say."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from puffer_il.learners.experiment import build
from puffer_il.learners.ppo import PPO
from tests.support.rollouts import SPEC, make_buffer

CPU = torch.device("cpu")


def make(**ppo) -> PPO:
    torch.manual_seed(0)
    usual = {"learning_rate": 1e-3, "anneal_lr": False, "update_epochs": 4, "num_minibatches": 4, "target_kl": 0.0}
    tables = {"ppo": usual | ppo, "policy": {"hidden": [8]}}
    return PPO(SPEC, None, build("ppo", [("test", tables)]), CPU, 0)


def test_one_step_is_the_equation_written_out(route):
    learner = make(update_epochs=1, num_minibatches=1, max_grad_norm=0.0, ent_coef=0.02, minibatch="columns")
    buffer = make_buffer()
    learner.advantages(buffer)
    reference = copy.deepcopy(learner.policy)
    rows = buffer.flat()
    logits = reference.actor(reference.encoder(torch.from_numpy(rows.obs)))
    logp = logits.log_softmax(-1)
    chosen = logp.gather(1, torch.from_numpy(rows.actions).long())[:, 0]
    advantages = torch.from_numpy((rows.advantages - rows.advantages.mean()) / (rows.advantages.std() + 1e-8))
    ratio = (chosen - torch.from_numpy(rows.logprobs)).exp()
    surrogate = torch.min(ratio * advantages, ratio.clamp(0.8, 1.2) * advantages).mean()
    values = reference.critic(reference.encoder(torch.from_numpy(rows.obs)))[:, 0]
    value_loss = 0.5 * (values - torch.from_numpy(rows.returns)).square().mean()
    entropy = -(logp.exp() * logp).sum(-1).mean()
    optimizer = torch.optim.Adam(reference.parameters(), lr=1e-3, eps=1e-5)
    (-surrogate - 0.02 * entropy + 0.5 * value_loss).backward()
    optimizer.step()

    metrics = learner.update(buffer, 0.0)
    for ours, expected in zip(learner.policy.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-6)
    assert metrics["losses/policy"] == pytest.approx(-float(surrogate), abs=1e-5)
    assert metrics["losses/value"] == pytest.approx(float(value_loss), rel=1e-4)
    assert metrics["losses/entropy"] == pytest.approx(float(entropy), rel=1e-4)


@pytest.mark.parametrize("minibatch", ["columns", "rows"])
def test_invalid_rows_teach_nothing(minibatch, route):
    states = []
    for spoil in (False, True):
        learner, buffer = make(num_minibatches=2, minibatch=minibatch), make_buffer(invalid=True)
        if spoil:
            hidden = ~buffer.valid
            buffer.obs[hidden], buffer.logprobs[hidden], buffer.rewards[hidden] = 50.0, -30.0, 1e4
        learner.advantages(buffer)
        learner.update(buffer, 0.0)
        states.append(learner.policy.state_dict())
    for key in states[0]:
        torch.testing.assert_close(states[0][key], states[1][key])


def test_every_row_is_used_once_an_epoch():
    for minibatch in ("columns", "rows"):
        learner, buffer = make(num_minibatches=3, minibatch=minibatch), make_buffer()
        buffer.logprobs[:] = np.arange(buffer.logprobs.size).reshape(buffer.logprobs.shape)
        minibatches = [(buffer.minibatch if columns else buffer.minibatch_rows)(part).logprobs.reshape(-1).copy()
                       for part, columns in learner._minibatches(buffer)]
        assert sorted(np.concatenate(minibatches)) == list(range(buffer.logprobs.size))
        assert [len(seen) for seen in minibatches] == [16] * 3


@pytest.mark.parametrize("minibatch", ["columns", "rows"])
def test_the_losses_of_an_epoch_are_those_of_the_whole_rollout(minibatch, route):
    """With a policy that stands still, minibatches of one size that leave no row out have the rollout's own mean."""
    learner, buffer = make(num_minibatches=3, minibatch=minibatch, learning_rate=0.0, update_epochs=2), make_buffer()
    learner.advantages(buffer)
    buffer.returns[:] = np.random.default_rng(5).normal(size=buffer.returns.shape)
    rows = buffer.flat()
    metrics = learner.update(buffer, 0.0)
    learner = make()  # the same policy, and no statistics yet
    logprobs, entropy, values = (x.detach().numpy() for x in learner.policy.evaluate(torch.from_numpy(rows.obs),
                                                                                      torch.from_numpy(rows.actions)))
    assert metrics["losses/value"] == pytest.approx(0.5 * np.mean((values - rows.returns) ** 2), rel=1e-5)
    assert metrics["losses/entropy"] == pytest.approx(entropy.mean(), rel=1e-5)
    change = logprobs.astype(np.float64) - rows.logprobs
    assert metrics["losses/approx_kl"] == pytest.approx(np.mean(np.expm1(change) - change), rel=1e-3)


def test_the_learning_rate_falls_to_zero_if_annealed():
    learner, buffer = make(anneal_lr=True, learning_rate=0.02), make_buffer()
    learner.advantages(buffer)
    assert learner.update(buffer, 0.25)["losses/learning_rate"] == pytest.approx(0.015)
    before = copy.deepcopy(dict(learner.policy.named_parameters()))
    learner.update(buffer, 1.0)
    assert all(torch.equal(p, before[name]) for name, p in learner.policy.named_parameters())


def test_the_update_ends_early_when_the_policy_has_moved_too_far(route):
    for target, expected in ((0.0, 20), (1e-9, 2)):
        learner, buffer = make(update_epochs=10, num_minibatches=2, target_kl=target, learning_rate=0.01), make_buffer()
        learner.advantages(buffer)
        learner.update(buffer, 0.0)
        assert float(learner.optimizer.steps) == expected


def test_the_gradient_is_clipped_to_the_norm_asked_for(route):
    learner, buffer = make(max_grad_norm=0.01, update_epochs=1, num_minibatches=1), make_buffer()
    buffer.rewards[:] *= 100
    learner.advantages(buffer)
    reported = learner.update(buffer, 0.0)["losses/grad_norm"]
    norm = torch.linalg.vector_norm(torch.cat([p.grad.reshape(-1) for p in learner.policy.parameters()]))
    assert reported == pytest.approx(float(norm), rel=1e-5) and reported > 0.1  # the norm before clipping is reported
    # What Adam was given shows in its mean, which begins at a tenth of the first gradient.
    assert float(torch.linalg.vector_norm(learner.optimizer.mean)) == pytest.approx(0.1 * 0.01, rel=1e-3)
