"""PPO on a learner's own reward: what is paid, where an episode ends, and what is saved."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from puffer_il.core.config import setting
from puffer_il.core.errors import InputError
from puffer_il.learners import registry
from puffer_il.learners.common.ppo_on_reward import PPOOnReward, valid_rows
from puffer_il.learners.experiment import build
from tests.support.rollouts import SPEC, make_buffer, sign_demos

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Config:
    absorbing: bool = setting(True, "")
    true_reward_coef: float = setting(0.0, "")
    debug_use_ground_truth: bool = setting(False, "")


class Paid(PPOOnReward):
    section = Config

    def relabel(self, buffer):
        rewards = torch.arange(1.0, buffer.rewards.size + 1)
        self.pay(buffer, rewards, 2.0, "1 is never negative")
        return {}


@pytest.fixture
def make(monkeypatch):
    monkeypatch.setattr(registry, "_learners", dict(registry._learners))
    registry.register("paid", uses=("ppo",))(Paid)

    def made(gamma: float = 0.9, **keys) -> Paid:
        config = build("paid", [("test", {"paid": keys, "ppo": {"gamma": gamma}, "policy": {"hidden": [4]}})])
        torch.manual_seed(0)
        return Paid(SPEC, sign_demos(), config, CPU, 0)

    return made


def test_rewards_stand_beside_the_true_ones_and_terminations_lead_to_the_absorbing_state(make):
    buffer = make_buffer(invalid=True)
    make(true_reward_coef=0.5).relabel(buffer)
    own = np.arange(1, buffer.rewards.size + 1).reshape(buffer.rewards.shape)
    assert buffer.rewards == pytest.approx(own + 0.5 * buffer.env_rewards)
    ended = buffer.terminations & buffer.valid
    assert ended.any() and (buffer.final_values[ended] == pytest.approx(20.0)) and not buffer.final_values[~ended].any()


def test_on_the_true_reward_alone_the_buffer_stays_as_it_is(make):
    buffer, learner = make_buffer(), make(debug_use_ground_truth=True)
    learner.relabel(buffer)
    assert np.array_equal(buffer.rewards, buffer.env_rewards) and not buffer.final_values.any()


def test_what_the_sign_teaches_is_said_once_where_nothing_prevents_it(make):
    learner = make(absorbing=False)
    for _ in range(2):
        learner.relabel(make_buffer())
    notice, = learner.notices
    assert notice.startswith("paid.absorbing is off, episodes terminate and 1 is never negative; set paid.absorbing to")
    resumed = make(absorbing=False)
    resumed.load_state_dict(learner.state_dict())
    resumed.relabel(make_buffer())
    assert not resumed.notices
    make(absorbing=True).relabel(buffer := make_buffer())
    assert buffer.final_values.any()


def test_an_absorbing_state_needs_a_discount(make):
    with pytest.raises(InputError, match=r"ppo\.gamma = 1\.0: .* or set paid\.absorbing to false"):
        make(gamma=1.0)
    assert make(gamma=1.0, absorbing=False).gamma == 1


def test_the_ppo_that_is_held_learns_and_its_state_goes_on(make):
    one, two, buffer = make(), make(), make_buffer()
    one.relabel(buffer)
    one.advantages(buffer)
    assert buffer.advantages.any()
    before = [p.clone() for p in one.policy.parameters()]
    assert one.update(buffer, 0.0).keys() >= set(Paid.promised_metrics)
    assert any(not torch.equal(a, b) for a, b in zip(before, one.policy.parameters(), strict=True))
    two.load_state_dict(one.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(one.policy.parameters(), two.policy.parameters(), strict=True))


def test_valid_rows_are_numbered_where_not_all_are_valid():
    assert valid_rows(make_buffer(), CPU) is None
    buffer = make_buffer(invalid=True)
    assert torch.equal(valid_rows(buffer, CPU), torch.from_numpy(buffer.valid.reshape(-1)).nonzero()[:, 0])
