"""SAC: what enters the replay, when learning begins, what goes on after a stop. Equations: test_off_policy.py."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from puffer_il.learners.experiment import build
from puffer_il.learners.sac import SAC
from tests.support.rollouts import SPEC, make_buffer
from tests.support.runs import same_state

CPU = torch.device("cpu")


def make(seed: int = 0, **sac) -> SAC:
    torch.manual_seed(seed)
    tables = {"sac": {"updates": 3, "batch_size": 8} | sac, "policy": {"hidden": [8]}}
    return SAC(SPEC, None, build("sac", [("test", tables)]), CPU, 0)


def test_the_replay_gets_the_valid_rows_and_the_normaliser_sees_them():
    learner, buffer = make(), make_buffer(invalid=True)
    learner.update(buffer, 0.0)
    valid = buffer.flat().valid
    assert len(learner.replay) == valid.sum() < len(valid)
    norm = learner.policy.encoder.norm
    np.testing.assert_allclose(norm.mean, buffer.flat().obs[valid].mean(0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(norm.var, buffer.flat().obs[valid].var(0), rtol=1e-4)


def test_nothing_is_learned_before_the_warmup_is_over():
    learner = make(warmup=100)
    before = [p.clone() for p in learner.policy.parameters()]
    reports = [learner.update(make_buffer(seed=seed), 0.0) for seed in range(2)]  # 48 rows each
    assert all(torch.equal(a, b) for a, b in zip(before, learner.policy.parameters(), strict=True))
    reports.append(learner.update(make_buffer(seed=2), 0.0))
    assert not all(torch.equal(a, b) for a, b in zip(before, learner.policy.parameters(), strict=True))
    assert all(report.keys() == set(SAC.promised_metrics) for report in reports)
    assert [report["replay/rows"] for report in reports] == [48, 96, 144]
    assert reports[0]["losses/critic"] == 0 < reports[2]["losses/critic"]


def test_invalid_rows_teach_nothing(route):
    states = []
    for spoil in (False, True):
        learner, buffer = make(), make_buffer(invalid=True)
        if spoil:
            hidden = ~buffer.valid
            buffer.rewards[hidden], buffer.actions[hidden], buffer.terminations[hidden] = 1e4, 1, True
        learner.update(buffer, 0.0)
        states.append(learner.state_dict())
    assert same_state(*states)


@pytest.mark.parametrize("ends", [True, False])
def test_a_termination_is_worth_its_reward_and_a_truncation_goes_on(ends):
    """One state, in which the first action is always taken and pays 1."""
    learner, buffer = make(gamma=0.5, updates=500, learning_rate=1e-2, tau=0.1, alpha=0.1), make_buffer()
    buffer.obs[:] = buffer.last_obs[:] = buffer.final_obs[:] = 1.0
    buffer.rewards[:], buffer.actions[:] = 1.0, 0
    buffer.terminations[:], buffer.truncations[:] = ends, not ends
    learner.update(buffer, 0.0)
    with torch.no_grad():
        q = 0.1 * learner.policy.action_params(torch.ones((1, 3)))[0].double()
    following = 0.0 if ends else 0.1 * float((q / 0.1).exp().mean().log())
    assert float(q[0]) == pytest.approx(1 + 0.5 * following, abs=0.03)
    assert ends or following > 0.5


def test_a_restored_learner_goes_on_as_the_saved_one():
    learner = make()
    learner.update(make_buffer(), 0.0)
    state = learner.state_dict()
    other = make(seed=5)
    other.load_state_dict(state)
    for one in (learner, other):
        one.update(make_buffer(seed=3), 0.5)
    assert same_state(learner.state_dict(), other.state_dict())


@pytest.mark.parametrize("updates, expected", [(0, 11), (5, 5)])  # 44 valid rows: one for every four of them
def test_the_updates_are_a_fixed_number_or_follow_from_the_rows_of_the_rollout(updates, expected, monkeypatch):
    learner, buffer, seen = make(updates=updates), make_buffer(invalid=True), []
    monkeypatch.setattr(learner.engine, "learn", lambda rows, *_: seen.append(rows.rewards.shape) or torch.zeros(6))
    learner.update(buffer, 0.0)
    assert len(learner.replay) == 44 and seen == [(expected, 8)]
