"""Value normalisation: it changes the units in which the critic learns, and nothing that the critic says."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from puffer_il.learners.common.value_scale import LEAST_STD, MEMORY, ValueScale
from puffer_il.learners.experiment import build
from puffer_il.learners.ppo import PPO
from puffer_il.rollout.buffer import RolloutBuffer
from puffer_il.rollout.tensors import DeviceRollout
from tests.support.rollouts import SPEC, make_buffer

CPU = torch.device("cpu")
GAMMA, LAMBDA = 0.9, 0.8
POLICIES = {"plain": {}, "shared": {"shared": True}, "linear": {"hidden": []}, "lstm": {"lstm": 5}}


def make(policy: str = "plain", **ppo) -> PPO:
    torch.manual_seed(0)
    usual = {"gamma": GAMMA, "gae_lambda": LAMBDA, "num_minibatches": 2, "update_epochs": 3, "target_kl": 0.0}
    tables = {"ppo": usual | ppo, "policy": {"hidden": [8]} | POLICIES[policy]}
    return PPO(SPEC, None, build("ppo", [("test", tables)]), CPU, 0)


def rollout(learner: PPO, factor: float = 1.0, seed: int = 1, invalid: bool = False) -> RolloutBuffer:
    """A rollout with what the collector would have asked the critic, whose rewards are `factor` times what they are."""
    buffer = make_buffer(seed=seed, invalid=invalid, state_dim=learner.policy.state_dim)
    rng = np.random.default_rng(seed + 100)
    buffer.rewards[:] *= factor
    buffer.truncations[:] = (rng.random(buffer.truncations.shape) < 0.2) & ~buffer.terminations & buffer.valid
    buffer.last_obs[:] = rng.normal(size=buffer.last_obs.shape)
    if learner.policy.lstm is not None:  # the values of a recurrent critic need not be its own here
        buffer.values[:] = rng.normal(size=buffer.values.shape)
        return buffer
    for values, obs in ((buffer.values, buffer.obs), (buffer.last_values, buffer.last_obs)):
        values[:] = learner.policy.value(torch.from_numpy(obs.reshape(-1, 3))).reshape(values.shape)
    buffer.final_values[buffer.truncations] = rng.normal(size=int(buffer.truncations.sum()))
    return buffer


def said(learner: PPO) -> torch.Tensor:
    """The critic's values of some observations in the reward's units."""
    obs = torch.from_numpy(np.random.default_rng(9).normal(size=(50, 3)).astype(np.float32))
    values = learner.policy.value(obs, learner.policy.initial_state(50))
    return values * learner.value_scale.std + learner.value_scale.mean


@pytest.mark.parametrize("policy", POLICIES)
def test_the_critic_says_the_same_in_the_rewards_units_when_the_scale_moves(policy):
    learner = make(policy)
    learner.advantages(rollout(learner, 30.0))
    for seed in range(2, 5):
        before, mean, std = said(learner), learner.value_scale.mean, learner.value_scale.std
        raw = learner.policy.value_head.weight.clone()
        learner.advantages(rollout(learner, 10.0 * seed, seed))
        assert (learner.value_scale.mean, learner.value_scale.std) != (mean, std)
        assert not torch.equal(raw, learner.policy.value_head.weight)
        torch.testing.assert_close(said(learner), before, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("invalid", [False, True])
def test_advantages_are_those_of_values_in_the_rewards_units(invalid):
    learner = make()
    scale = learner.value_scale
    scale.mean, scale.var, scale.updates = 12.0, 49.0, 3
    buffer = rollout(learner, 5.0, invalid=invalid)
    ended = buffer.terminations & buffer.valid
    assert ended.any() and buffer.truncations.any()
    buffer.final_values[ended] = 33.0  # what a learner says that a termination is worth, in the reward's units
    by_hand = copy.deepcopy(buffer)
    by_hand.values[:] = buffer.values * 7 + 12
    by_hand.last_values[:] = buffer.last_values * 7 + 12
    by_hand.final_values[buffer.truncations] = buffer.final_values[buffer.truncations] * 7 + 12
    by_hand.compute_advantages(GAMMA, LAMBDA)
    learner.advantages(buffer)
    np.testing.assert_allclose(buffer.advantages, by_hand.advantages, rtol=1e-5, atol=1e-4)
    assert (buffer.final_values[ended] == 33.0).all()
    # Returns and old values come in the units of the critic as it is now.
    assert scale.mean != 12.0
    np.testing.assert_allclose(buffer.returns, (by_hand.returns - scale.mean) / scale.std, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(buffer.values, (by_hand.values - scale.mean) / scale.std, rtol=1e-4, atol=1e-4)


def test_the_scale_is_the_returns_mean_and_deviation_and_forgets_old_rollouts():
    learner = make()
    scale, every = learner.value_scale, []
    for seed in range(1, 4):
        buffer = rollout(learner, 3.0, seed, invalid=True)
        learner.advantages(buffer)
        every.append((buffer.returns * scale.std + scale.mean)[buffer.valid])
    equal = np.mean([x.mean() for x in every])
    assert scale.mean == pytest.approx(equal, rel=1e-4, abs=1e-4)  # of few rollouts each counts as much
    assert scale.var == pytest.approx(np.mean([(x - equal).__pow__(2).mean() for x in every]), rel=1e-4)
    scale = ValueScale(torch.nn.Linear(2, 1))
    scale._follow(np.zeros(4, np.float32))
    for _ in range(5 * MEMORY):
        scale._follow(np.float32([99.0, 101.0]))
    assert scale.mean == pytest.approx(100, abs=1.5) and scale.std == pytest.approx(1, abs=11)


def test_returns_that_do_not_differ_are_not_blown_up():
    learner = make()
    for _ in range(3):
        buffer = rollout(learner, 0.0)
        for values in (buffer.values, buffer.last_values, buffer.final_values):
            values[:] = 0
        learner.advantages(buffer)
        assert np.isfinite(buffer.returns).all() and abs(buffer.returns).max() < 1e-3
    assert learner.value_scale.std == LEAST_STD


def trained(factor: float, **ppo) -> PPO:
    """A learner after three rollouts whose rewards are `factor` times the same; its critic knows nothing at first."""
    learner = make(**ppo)
    with torch.no_grad():
        learner.policy.value_head.weight.zero_()
    for seed in range(1, 4):
        buffer = rollout(learner, factor, seed)
        buffer.final_values[:] = 0.0
        learner.advantages(buffer)
        learner.update(buffer, 0.0)
    return learner


def weights(learner: PPO) -> torch.Tensor:
    return torch.cat([p.detach().reshape(-1) for p in learner.policy.parameters()])


def test_the_update_does_not_depend_on_the_scale_of_the_reward(route):
    small, large = weights(trained(1.0)), weights(trained(1000.0))
    torch.testing.assert_close(small, large, rtol=1e-3, atol=1e-4)
    raw = [weights(trained(factor, norm_values=False)) for factor in (1.0, 1000.0)]
    assert (raw[0] - raw[1]).abs().max() > 1e-3


def test_without_it_the_critic_learns_returns_as_they_are():
    learner = make(norm_values=False)
    buffer = rollout(learner, 5.0)
    by_hand = copy.deepcopy(buffer)
    by_hand.compute_advantages(GAMMA, LAMBDA)
    learner.advantages(buffer)
    for name in ("values", "advantages", "returns"):
        assert np.array_equal(getattr(buffer, name), getattr(by_hand, name))


def test_a_resumed_learner_goes_on_with_the_same_scale():
    learner = trained(7.0)
    again = make()
    again.load_state_dict(copy.deepcopy(learner.state_dict()))
    assert again.value_scale.state_dict() == learner.value_scale.state_dict()
    assert again.value_scale.updates == 3
    for one in (learner, again):
        buffer = rollout(one, 2.0, seed=8)
        one.advantages(buffer)
        one.update(buffer, 0.0)
    assert torch.equal(weights(learner), weights(again))


def test_the_values_on_a_device_are_those_in_the_critics_present_units():
    learner = make()
    learner.value_scale.mean, learner.value_scale.var, learner.value_scale.updates = 12.0, 49.0, 3
    buffer = rollout(learner, 5.0)
    buffer.rollout = DeviceRollout(buffer, CPU)
    for name in ("obs", "values"):  # as the collector leaves them
        buffer.rollout.place(name).copy_(torch.from_numpy(getattr(buffer, name)))
        buffer.rollout.resident.add(name)
    before = buffer.values.copy()
    learner.advantages(buffer)
    assert not np.allclose(buffer.values, before)
    assert np.array_equal(buffer.rollout["values"].numpy(), buffer.values)
    assert np.array_equal(buffer.rollout.select(slice(0, 2), True).values.numpy(), buffer.values[:, :2])
    assert "obs" in buffer.rollout.resident  # which need not travel again
