"""CSIL: the reward is the clone's log-likelihood against chance, and the policy begins as the clone."""

from __future__ import annotations

import copy
import dataclasses
import math

import numpy as np
import pytest
import torch

from puffer_il.core.spec import ActionSpec, EnvSpec
from puffer_il.learners.common.learned_reward import load_reward, save_reward
from puffer_il.learners.csil import CSIL
from puffer_il.learners.experiment import build
from tests.support.rollouts import SPEC, make_buffer, sign_demos
from tests.support.runs import same_state

CPU = torch.device("cpu")
BOX = EnvSpec("box", (3,), np.dtype(np.float32), ActionSpec(low=np.float32([-2]), high=np.float32([2]), shape=(1,)))


def make(demos=None, spec=SPEC, sac=(), bc=(), **csil) -> CSIL:
    torch.manual_seed(0)
    tables = {"csil": {"bc_epochs": 30} | csil, "sac": {"updates": 2, "batch_size": 10, "gamma": 0.9} | dict(sac),
              "bc": {"learning_rate": 1e-2, "batch_size": 64} | dict(bc),
              "policy": {"hidden": [8], "activation": "tanh", "squash": not spec.action.discrete,
                         "state_std": not spec.action.discrete}}
    return CSIL(spec, demos or sign_demos(400), build("csil", [("test", tables)]), CPU, 0)


def step(learner: CSIL, buffer) -> dict[str, float]:
    return learner.relabel(buffer) | learner.update(buffer, 0.0)


def box_demos(n: int = 400):
    demos = sign_demos(n)
    return dataclasses.replace(demos, actions=np.clip(2.5 * demos.obs[:, :1], -2, 2).astype(np.float32))


def test_the_reward_is_the_clones_likelihood_ratio_against_chance():
    learner, buffer = make(reward_clip=100.0), make_buffer()
    learner.relabel(buffer)
    with torch.no_grad():
        logits = learner.clone.action_params(torch.from_numpy(buffer.flat().obs)).double()
    logp = logits.log_softmax(1).gather(1, torch.from_numpy(buffer.flat().actions).long())[:, 0]
    np.testing.assert_allclose(buffer.rewards.ravel(), logp + math.log(2), rtol=1e-4, atol=1e-5)


def test_the_reward_is_bounded():
    learner, buffer = make(reward_clip=0.3), make_buffer()
    learner.relabel(buffer)
    assert abs(buffer.rewards).max() == pytest.approx(0.3)
    assert abs(learner.demos.rewards).max() == pytest.approx(0.3)


def test_the_reward_of_continuous_actions_is_a_density_against_the_uniform_one():
    learner = make(box_demos(), BOX, reward_clip=100.0)
    obs = torch.zeros((1001, 3))
    actions = torch.linspace(-2, 2, 1001).unsqueeze(1) * 0.989
    ratios = learner.reward(obs, actions).detach().double().exp()
    # E_p[q / p] is the mass of q inside the range, up to the edge where actions are held.
    assert float(ratios.mean()) == pytest.approx(1.0, abs=0.05)


def test_actions_at_the_end_of_the_range_have_a_finite_reward():
    learner = make(box_demos(), BOX, reward_clip=1e6)
    rewards = learner.reward(torch.zeros((2, 3)), torch.tensor([[2.0], [-2.0]]))
    inside = learner.reward(torch.zeros((2, 3)), torch.tensor([[1.98], [-1.98]]))
    torch.testing.assert_close(rewards, inside)


@pytest.mark.parametrize("spec", [SPEC, BOX], ids=["discrete", "continuous"])
def test_the_policy_begins_as_the_clone_and_waits_for_the_critics(spec):
    demos = sign_demos(400) if spec is SPEC else box_demos()
    learner = make(demos, spec, critic_updates=3)
    clone = learner.clone.state_dict()
    assert same_state(dict(learner.policy.state_dict()), dict(clone))
    buffers = [make_buffer(seed=seed) for seed in range(3)]
    if spec is BOX:
        for seed, buffer in enumerate(buffers):
            buffers[seed] = box_buffer(buffer)
    for k, buffer in enumerate(buffers):  # two updates each
        step(learner, buffer)
        moved = not same_state(dict(learner.policy.state_dict()), dict(clone))
        assert moved == (k == 2)
    assert same_state(dict(learner.clone.state_dict()), dict(clone))


def box_buffer(like):
    """The same rollout with continuous actions."""
    from puffer_il.rollout.buffer import RolloutBuffer

    buffer = RolloutBuffer(BOX, like.num_steps, like.num_envs)
    buffer.start()
    for name in ("obs", "rewards", "terminations", "valid"):
        getattr(buffer, name)[:] = getattr(like, name)
    buffer.actions[:] = np.random.default_rng(0).uniform(-2, 2, buffer.actions.shape)
    return buffer


def test_a_policy_of_continuous_actions_is_held_as_near_the_clone_as_trust_says():
    learner = make(box_demos(), BOX, trust=0.3, bc_epochs=2)
    engine, clone = learner.sac.engine, learner.clone.state_dict()
    assert engine.anchor is learner.anchor and engine.anchor.bound == pytest.approx(0.3)  # of one dimension
    assert same_state(dict(engine.anchor.origin.state_dict()), dict(clone))
    assert "losses/distance" in step(learner, box_buffer(make_buffer()))


def test_a_restored_learner_is_held_by_the_same_price():
    learner = make(box_demos(), BOX, bc_epochs=2, critic_updates=0)
    buffers = [box_buffer(make_buffer(seed=seed)) for seed in range(2)]
    step(learner, buffers[0])
    state = copy.deepcopy(learner.state_dict())
    other = make(box_demos(), BOX, bc_epochs=1, critic_updates=0)
    other.load_state_dict(state)
    for one in (learner, other):
        step(one, buffers[1])
    assert float(learner.anchor.log_price) != float(state["sac"]["engine"]["anchor"]["log_price"])
    assert same_state(learner.state_dict(), other.state_dict())


@pytest.mark.parametrize("trust, spec", [(0.0, BOX), (0.3, SPEC)], ids=["without trust", "discrete"])
def test_without_a_bound_or_of_discrete_actions_the_policy_is_free(trust, spec):
    learner = make(box_demos() if spec is BOX else sign_demos(400), spec, trust=trust, bc_epochs=2)
    assert learner.anchor is None and getattr(learner.sac.engine, "anchor", None) is None
    buffer = make_buffer()
    assert "losses/distance" not in step(learner, box_buffer(buffer) if spec is BOX else buffer)


def test_no_value_is_above_the_greatest_reward_for_ever():
    assert make(box_demos(), BOX, reward_clip=0.5, bc_epochs=2).sac.engine.most == pytest.approx(5)


def test_noise_keeps_the_clone_unsure_away_from_the_demonstrations():
    far = torch.randn((500, 3), generator=torch.Generator().manual_seed(1)) * 6
    surety = []
    for share in (0.0, 1.0):
        learner = make(prior_share=share, bc_epochs=60, bc={"patience": 0, "validation": 0.0}.items())
        with torch.no_grad():
            surety.append(float(learner.clone.action_params(far).softmax(1).amax(1).mean()))
    assert surety[0] > 0.98 and surety[1] < 0.9


@pytest.mark.parametrize("demos_end", [True, False])
def test_an_end_is_worth_what_the_demonstrations_pay_if_they_know_it(demos_end):
    learner, buffer = make(sign_demos(400, terminated=demos_end)), make_buffer()
    buffer.terminations[:] = not demos_end
    metrics = step(learner, buffer)
    assert metrics["reward/absorbing"] == pytest.approx(metrics["reward/demos"] if demos_end else 0.0)
    assert metrics["reward/demos"] > 0.3


def test_without_absorbing_states_an_end_is_worth_nothing():
    assert step(make(absorbing=False), make_buffer())["reward/absorbing"] == 0


@pytest.mark.parametrize("spec", [SPEC, BOX], ids=["discrete", "continuous"])
def test_the_reward_can_be_kept(spec, tmp_path):
    learner = make(sign_demos(400) if spec is SPEC else box_demos(), spec)
    buffer = make_buffer() if spec is SPEC else box_buffer(make_buffer())
    metrics = step(learner, buffer)
    save_reward(learner.learned_reward(), tmp_path / "reward.pt")
    kept = load_reward(tmp_path / "reward.pt")
    assert kept.absorbing == pytest.approx(metrics["reward/absorbing"])
    flat = buffer.flat()
    np.testing.assert_allclose(kept(torch.from_numpy(flat.obs), torch.from_numpy(flat.actions)), flat.rewards,
                               rtol=1e-5, atol=1e-6)


def test_refining_takes_the_reward_away_where_only_the_policy_is():
    """The policy is always at one place, where the clone has been sure of itself."""
    place = torch.tensor([[1.5, 0.0, 0.0]])
    learner = make(refine=60, prior_share=0.0, critic_updates=10_000, sac={"updates": 1, "batch_size": 64}.items())
    demos = torch.tensor(sign_demos(400).obs), torch.tensor(sign_demos(400).actions)
    before = learner.reward.of_rows(place, torch.ones((1, 1)).int(), None)
    buffer = make_buffer(16, 32)
    buffer.obs[:] = buffer.last_obs[:] = buffer.final_obs[:] = place.numpy()
    for _ in range(5):
        metrics = step(learner, buffer)
    after = learner.reward.of_rows(place, torch.ones((1, 1)).int(), None)
    assert float(before) > 0.6 and abs(float(after)) < 0.35
    assert float(learner.reward.of_rows(*demos, None).mean()) > 0.3
    assert metrics["reward/demos"] > 0.3
    assert same_state(dict(learner.learned_reward().state_dict()), dict(learner.reward.state_dict()))
