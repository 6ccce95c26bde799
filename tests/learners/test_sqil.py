"""SQIL: who is paid what, in which shares, and what the end of an episode is worth."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from puffer_il.core.spec import ActionSpec, EnvSpec
from puffer_il.learners.experiment import build
from puffer_il.learners.sqil import SQIL
from puffer_il.rollout.replay import Transitions
from tests.support.rollouts import SPEC, make_buffer, sign_demos

CPU = torch.device("cpu")


def make(demos=None, sac=(), **sqil) -> SQIL:
    torch.manual_seed(0)
    tables = {"sqil": sqil, "sac": {"updates": 4, "batch_size": 10, "gamma": 0.9} | dict(sac),
              "policy": {"hidden": [8]}}
    return SQIL(SPEC, demos or sign_demos(), build("sqil", [("test", tables)]), CPU, 0)


def seen_by(learner: SQIL, monkeypatch) -> list[tuple[Transitions, float]]:
    """What the learner hands to SAC from now on."""
    seen: list[tuple[Transitions, float]] = []
    learn = learner.sac.learn
    monkeypatch.setattr(learner.sac, "learn", lambda rows, end: seen.append((rows, end)) or learn(rows, end))
    return seen


def step(learner: SQIL, buffer) -> dict[str, float]:
    return learner.relabel(buffer) | learner.update(buffer, 0.0)


@pytest.mark.parametrize(("share", "shown"), [(0.5, 5), (0.3, 3), (0.9, 9)])
def test_demonstrated_rows_are_paid_one_and_the_policys_own_nothing(share, shown, monkeypatch):
    learner, demos = make(demo_share=share), sign_demos()
    seen = seen_by(learner, monkeypatch)
    step(learner, make_buffer())
    rows, _ = seen[0]
    assert rows.rewards.shape == (4, 10)
    assert (rows.rewards[:, :shown] == 1).all() and (rows.rewards[:, shown:] == 0).all()
    demonstrated = {tuple(row) for row in demos.obs.tolist()}
    assert {tuple(row) for row in rows.obs[:, :shown].reshape(-1, 3).tolist()} <= demonstrated
    assert not {tuple(row) for row in rows.obs[:, shown:].reshape(-1, 3).tolist()} & demonstrated


def test_the_true_reward_is_never_read():
    states = []
    for factor in (1, -100):
        learner, buffer = make(), make_buffer()
        buffer.rewards[:] *= factor
        buffer.env_rewards[:] *= factor
        step(learner, buffer)
        states.append(learner.sac.engine.optimizer.flat.clone())
    assert torch.equal(*states)


def test_an_absorbing_state_is_shared_like_any_other(monkeypatch):
    # Four terminations in 40 demonstrated rows, each followed by 10 absorbing steps: one half of all steps.
    learner, buffer = make(), make_buffer()
    seen = seen_by(learner, monkeypatch)
    metrics = step(learner, buffer)
    terminations = int(buffer.terminations.sum())
    own = 10 * terminations / (10 * terminations + 48)
    assert metrics["reward/absorbing"] == pytest.approx(0.5 / (0.5 + own))
    assert seen[0][1] == pytest.approx(metrics["reward/absorbing"] / (1 - 0.9))


@pytest.mark.parametrize("demos_end", [True, False])
def test_an_end_is_worth_all_if_only_the_expert_knows_it_and_nothing_if_only_the_policy_does(demos_end):
    learner, buffer = make(sign_demos(terminated=demos_end)), make_buffer()
    buffer.terminations[:] = not demos_end
    assert step(learner, buffer)["reward/absorbing"] == float(demos_end)


def test_without_absorbing_states_an_end_is_worth_nothing():
    assert step(make(absorbing=False), make_buffer())["reward/absorbing"] == 0


def test_it_takes_the_experts_actions_where_the_expert_was():
    demos = sign_demos(400)
    learner = make(demos, {"updates": 600, "batch_size": 64, "learning_rate": 3e-3}.items())
    step(learner, make_buffer(32, 32))
    with torch.no_grad():
        chosen = learner.policy.dist.mode(learner.policy.action_params(torch.tensor(demos.obs))).numpy()
    assert np.mean(chosen == demos.actions) > 0.85


def test_no_value_of_continuous_actions_is_above_the_demonstrations_reward_for_ever():
    spec = EnvSpec("box", (3,), np.dtype(np.float32), ActionSpec(low=np.float32([-2]), high=np.float32([2]),
                                                                 shape=(1,)))
    demos = dataclasses.replace(sign_demos(), actions=sign_demos().obs[:, :1])
    learner = SQIL(spec, demos, build("sqil", [("test", {"sac": {"gamma": 0.9}})]), CPU, 0)
    assert learner.sac.engine.most == pytest.approx(10)
