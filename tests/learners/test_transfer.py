"""A saved reward pays the policy, centred and scaled without changing what is best, and refuses what it cannot read."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from puffer_il.core.errors import InputError
from puffer_il.core.spec import ActionSpec
from puffer_il.learners.common.discriminator import Discriminator
from puffer_il.learners.common.learned_reward import NetworkReward, save_reward
from puffer_il.learners.common.shaped_reward import ShapedReward
from puffer_il.learners.experiment import build
from puffer_il.learners.transfer import Transfer
from tests.support.rollouts import SPEC, make_buffer

CPU, GAMMA = torch.device("cpu"), 0.9


@pytest.fixture
def reward(tmp_path):
    torch.manual_seed(0)
    made = NetworkReward(SPEC, "airl", absorbing=0.7, inputs="state_next_state", hidden=(8,))
    save_reward(made, tmp_path / "reward.pt")
    return made


def make(path, spec=SPEC, gamma=GAMMA, **own) -> Transfer:
    torch.manual_seed(1)
    tables = {"transfer": {"reward": str(path)} | own, "ppo": {"gamma": gamma}, "policy": {"hidden": [8]}}
    return Transfer(spec, None, build("transfer", [("test", tables)]), CPU, 0)


def rewards_of(reward, buffer) -> np.ndarray:
    rows = (torch.from_numpy(x) for x in (buffer.flat().obs, buffer.flat().actions, buffer.next_obs()))
    return reward.of_rows(*rows).numpy().reshape(buffer.rewards.shape)


def test_every_step_is_paid_the_saved_reward_and_ends_the_absorbing_one(reward, tmp_path):
    learner, buffer = make(tmp_path, center=False, reward_scale=False, true_reward_coef=2.0), make_buffer()
    learner.relabel(buffer)
    expected = rewards_of(reward, buffer) + 2 * buffer.env_rewards
    np.testing.assert_allclose(buffer.rewards, expected, rtol=1e-5, atol=1e-5)
    ended = buffer.terminations & buffer.valid
    np.testing.assert_allclose(buffer.final_values[ended], 0.7 / (1 - GAMMA), rtol=1e-5)
    assert (buffer.final_values[~ended] == 0).all()


def test_centring_takes_the_same_sum_from_every_endless_trajectory(reward, tmp_path):
    """What it takes from a step, it takes from each of the absorbing ones: 1/(1 − γ) of it at an end."""
    learner, buffer = make(tmp_path, reward_scale=False), make_buffer()
    learner.relabel(buffer)
    plain = rewards_of(reward, buffer)
    offset = plain.mean()
    np.testing.assert_allclose(buffer.rewards, plain - offset, rtol=1e-4, atol=1e-5)
    ended = buffer.terminations & buffer.valid
    np.testing.assert_allclose(buffer.final_values[ended], (0.7 - offset) / (1 - GAMMA), rtol=1e-4)
    second = make_buffer(seed=3)
    learner.relabel(second)
    np.testing.assert_allclose(second.rewards, rewards_of(reward, second) - offset, rtol=1e-4, atol=1e-5)  # for good


def test_where_ends_are_worth_nothing_nothing_is_centred(reward, tmp_path):
    learner, buffer = make(tmp_path, absorbing=False, reward_scale=False), make_buffer()
    learner.relabel(buffer)
    np.testing.assert_allclose(buffer.rewards, rewards_of(reward, buffer), rtol=1e-5, atol=1e-5)
    assert (buffer.final_values == 0).all()


@pytest.mark.parametrize("absorbing", [True, False])
def test_a_potential_adds_to_every_return_what_does_not_depend_on_the_actions(absorbing, tmp_path):
    """−h of the first state, whatever comes after (Ng et al. 1999): also where the episode ends, or breaks off."""
    torch.manual_seed(0)
    networks = [Discriminator(SPEC, (8,), "tanh", False, "state") for _ in range(2)]
    reward = ShapedReward.of_networks(SPEC, "airl", *networks, hidden=(8,), shaping_hidden=(8,), activation="tanh")
    save_reward(reward, tmp_path / "reward.pt")
    returns = []
    for shaping in (True, False):
        buffer = make_buffer()
        make(tmp_path, shaping=shaping, absorbing=absorbing, center=False, reward_scale=False).relabel(buffer)
        last, total = buffer.flat(), np.zeros(buffer.rewards.shape[1:])
        after = potential_of(reward, buffer.last_obs)  # the critic's value of where the rollout stops holds −h too
        final = dict(zip(buffer.final_index.tolist(), potential_of(reward, buffer.final_obs), strict=True))
        total = -after if shaping else total
        for t in reversed(range(buffer.num_steps)):
            for env in range(buffer.num_envs):
                row = t * buffer.num_envs + env
                if last.terminations[row]:
                    total[env] = buffer.final_values[t, env]
                elif row in final:  # broken off
                    total[env] = -final[row] if shaping else 0.0
            total = buffer.rewards[t] + GAMMA * total
        returns.append(total)
    np.testing.assert_allclose(returns[0] - returns[1], -potential_of(reward, buffer.obs[0]), rtol=1e-3, atol=1e-4)


def potential_of(reward, obs) -> np.ndarray:
    return reward.potential.logits(torch.from_numpy(np.ascontiguousarray(obs)), None).numpy()


def test_the_scale_is_that_of_the_reward(reward, tmp_path):
    learner, buffer = make(tmp_path), make_buffer()
    metrics = learner.relabel(buffer)
    assert metrics["transfer/reward_std"] == pytest.approx(1, abs=0.02)
    assert buffer.rewards.std() == pytest.approx(1, abs=0.02) and abs(buffer.rewards.mean()) < 1e-5


def test_invalid_rows_do_not_count(reward, tmp_path):
    save_reward(NetworkReward(SPEC, "airl", absorbing=0.7, inputs="state", hidden=(8,)), tmp_path / "reward.pt")
    found = []
    for spoil in (False, True):
        learner, buffer = make(tmp_path), make_buffer(invalid=True)
        if spoil:
            buffer.obs[~buffer.valid] = 50
        found.append((learner.relabel(buffer), buffer.rewards[buffer.valid]))
    assert found[0][0] == found[1][0] and np.array_equal(found[0][1], found[1][1])


def test_what_it_resumes_with_is_the_reward_that_it_had(reward, tmp_path):
    learner, buffer = make(tmp_path), make_buffer()
    learner.relabel(buffer)
    state = learner.state_dict()
    torch.manual_seed(5)
    save_reward(NetworkReward(SPEC, "airl", absorbing=0.7, inputs="state_next_state", hidden=(8,)),
                tmp_path / "reward.pt")
    again, other = make(tmp_path), make_buffer(seed=2)
    again.load_state_dict(state)
    same = make_buffer(seed=2)
    learner.relabel(same)
    again.relabel(other)
    assert np.array_equal(same.rewards, other.rewards)


def test_wrong_rewards_are_refused_in_a_line(reward, tmp_path):
    torch.manual_seed(0)
    save_reward(NetworkReward(SPEC, "gail", hidden=(8,)), tmp_path / "acts.pt")
    longer, acts_otherwise = (dataclasses.replace(SPEC, **change) for change in (
        {"obs_shape": (5,), "obs_fields": ()}, {"action": ActionSpec(nvec=(3,))}))
    cases = (
        (("",), {}, r"transfer\.reward is empty; give the run"),
        ((tmp_path / "none",), {}, r"none: holds no learned reward"),
        ((tmp_path,), {"spec": longer}, r"reads observations float32"),
        ((tmp_path / "acts.pt",), {"spec": acts_otherwise}, "reads actions"),
        ((tmp_path,), {"gamma": 1.0}, r"ppo\.gamma = 1\.0: absorbing states last for ever"),
    )
    for given, options, match in cases:
        with pytest.raises(InputError, match=match) as error:
            make(*given, **options)
        assert "\n" not in str(error.value)
    make(tmp_path, spec=acts_otherwise)  # it reads no actions
