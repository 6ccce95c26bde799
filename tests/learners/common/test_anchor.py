"""The anchor: how far a policy is from its origin, what that costs, and how the price follows."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from puffer_il.core.config import PolicyConfig
from puffer_il.core.spec import ActionSpec, EnvSpec
from puffer_il.learners.common.anchor import RATE, Anchor
from puffer_il.nn import Policy

BOX = EnvSpec("box", (3,), np.dtype(np.float32),
              ActionSpec(low=np.float32([-2, 0]), high=np.float32([2, 1]), shape=(2,)))
OBS = torch.randn((16, 3), generator=torch.Generator().manual_seed(0))


def make_policy(seed: int = 0, state_std: bool = True) -> Policy:
    torch.manual_seed(seed)
    policy = Policy(BOX, PolicyConfig(hidden=(8,), squash=True, state_std=state_std, obs_norm=False))
    with torch.no_grad():  # a head that says something
        for p in policy.actor_parameters():
            p.add_(0.3 * torch.randn(p.shape))
    return policy


@pytest.mark.parametrize("state_std", [True, False])
def test_the_distance_is_the_mean_divergence_of_the_gaussians_before_they_are_squashed(state_std: bool) -> None:
    origin, policy = make_policy(0, state_std), make_policy(1, state_std)
    anchor, params = Anchor(origin, 1.0), policy.params(OBS)
    cost = anchor.cost(policy, params, OBS)
    normals = [torch.distributions.Normal(mean, log_std.exp().expand_as(mean)) for mean, log_std in
               (policy.dist.moments(params), origin.dist.moments(origin.params(OBS)))]
    expected = torch.distributions.kl_divergence(*normals).sum(1).mean()
    torch.testing.assert_close(anchor.distance, expected.detach())
    assert float(cost.detach()) == pytest.approx(10 * float(expected.detach()), rel=1e-5)


def test_at_the_origin_nothing_is_paid_and_the_origin_stays_where_it_was() -> None:
    policy = make_policy()
    anchor = Anchor(policy, 1.0)
    with torch.no_grad():
        assert float(anchor.cost(policy, policy.params(OBS), OBS)) == pytest.approx(0, abs=1e-5)
        policy.dist.log_std.add_(1.0)
        assert float(anchor.cost(policy, policy.params(OBS), OBS)) > 1


@pytest.mark.parametrize(("bound", "step"), [(1e-3, RATE), (1e3, -RATE)])
def test_the_price_rises_beyond_the_bound_and_falls_within(bound: float, step: float) -> None:
    anchor, policy = Anchor(make_policy(0), bound), make_policy(1)
    before = float(anchor.log_price)
    anchor.cost(policy, policy.params(OBS), OBS)
    assert float(anchor.log_price) == pytest.approx(before + step, rel=0.1)
    anchor.log_price += 1_000 * step
    anchor.cost(policy, policy.params(OBS), OBS)
    assert math.isclose(math.exp(float(anchor.log_price)), 1e4 if step > 0 else 1e-3, rel_tol=1e-4)


def test_a_policy_that_is_pulled_away_is_held_at_the_bound() -> None:
    """It wants the first action's mean as high as can be, at any price."""
    policy = make_policy()
    anchor, optimizer = Anchor(policy, 0.3), torch.optim.Adam(policy.actor_parameters(), lr=1e-2)
    for _ in range(400):
        params = policy.params(OBS)
        optimizer.zero_grad()
        (anchor.cost(policy, params, OBS) - 50 * policy.dist.moments(params)[0][:, 0].mean()).backward()
        optimizer.step()
    assert float(anchor.distance) == pytest.approx(0.3, rel=0.1)
