"""RED's own rules: a fixed reward that is high where the demonstrations are, and what the absorbing state is worth."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from puffer_il.core.errors import InputError
from puffer_il.learners.experiment import build
from puffer_il.learners.red import RED
from tests.support.rollouts import SPEC, make_buffer, sign_demos

CPU = torch.device("cpu")


def make(demos=None, gamma: float = 0.9, seed: int = 0, **red) -> RED:
    torch.manual_seed(seed)
    tables = {"red": {"fit_updates": 20, "fit_batch_size": 64, "hidden": [32]} | red, "ppo": {"gamma": gamma},
              "policy": {"hidden": [8]}}
    return RED(SPEC, demos or sign_demos(200), build("red", [("test", tables)]), CPU, seed)


def rewards_of(learner: RED, obs: np.ndarray, actions: np.ndarray) -> np.ndarray:
    return learner.reward.of_rows(torch.tensor(obs), torch.tensor(actions), None).numpy()


FORMS = pytest.mark.parametrize("form", ["log", "exp"])


@FORMS
def test_demonstrated_pairs_are_paid_more_than_others(form):
    learner, demos = make(fit_updates=500, form=form), sign_demos(200)
    expert = rewards_of(learner, demos.obs, demos.actions)
    assert ((expert > 0) & (expert <= 1)).all() and expert.mean() > np.exp(-1)
    assert 1 - rewards_of(learner, demos.obs, 1 - demos.actions).mean() > 1.5 * (1 - expert.mean())
    assert rewards_of(learner, demos.obs + np.float32(8), demos.actions).max() < 0.2


def test_rewards_are_the_forms_of_the_error():
    errors = torch.tensor([0.0, 0.5, 1.5, 31.5, 200.0])
    rewards = {}
    for form in ("log", "exp"):
        reward = make(form=form).reward
        reward.scale.fill_(2.0), reward.untrained.fill_(31.5)
        rewards[form] = reward.pay(errors).tolist()
    assert rewards["log"] == pytest.approx([1, 5 / 6, 2 / 3, 0, 0], abs=1e-6)  # 1 + 2e are powers of 2
    assert rewards["exp"] == pytest.approx([1, np.exp(-1), np.exp(-3), 0, 0], abs=1e-6)


def test_far_from_the_demonstrations_one_form_tells_directions_and_the_published_one_does_not():
    obs = np.outer(np.linspace(3, 8, 11), np.ones(3)).astype(np.float32)
    slopes = {form: np.diff(rewards_of(make(fit_updates=2000, form=form), obs, np.ones((11, 1), np.int32)))
              for form in ("log", "exp")}
    assert abs(slopes["exp"]).max() < 1e-6
    assert slopes["log"].sum() < -0.05


@FORMS
def test_held_out_demonstrations_are_paid_what_the_sharpness_says(form):
    for sharpness in (0.5, 3.0):
        learner = make(sharpness=sharpness, form=form)
        mean_error = torch.tensor(sharpness) / learner.reward.scale
        # By Jensen's inequality the mean reward is at least that of the mean error.
        assert float(learner.reward.pay(mean_error)) <= float(learner.expert_reward) < 1
    whole = float(learner.reward.scale * learner.reward.untrained)
    assert float(learner.reward.pay(mean_error)) == pytest.approx(
        np.exp(-3) if form == "exp" else 1 - np.log(4) / np.log1p(whole), abs=1e-5)


def test_an_untrained_predictor_is_paid_nothing_at_its_mean_error():
    learner = make(fit_updates=1)
    assert float(learner.reward.pay(learner.reward.untrained)) == pytest.approx(0, abs=1e-6)


def test_the_reward_never_changes():
    learner, first, second = make(), make_buffer(), make_buffer()
    learner.relabel(first)
    learner.advantages(first)
    learner.update(first, 0.0)
    learner.relabel(second)
    assert np.array_equal(first.rewards, second.rewards)
    expected = rewards_of(learner, second.flat().obs, second.flat().actions)
    np.testing.assert_allclose(second.rewards.reshape(-1), expected, rtol=1e-5)


def test_dying_is_paid_where_the_demonstrations_die_and_not_where_they_live_on():
    demos = sign_demos(200)
    some = demos.terminations & (np.arange(200) < 50)  # five of twenty
    for terminations, share in ((demos.terminations, 1), (some, 0.25), (np.zeros(200, bool), 0)):
        learner, buffer = make(dataclasses.replace(demos, terminations=terminations)), make_buffer()
        metrics = learner.relabel(buffer)
        assert metrics["disc/absorbing_reward"] == pytest.approx(share * metrics["disc/reward_expert"])
        ended = buffer.terminations & buffer.valid
        np.testing.assert_allclose(buffer.final_values[ended], metrics["disc/absorbing_reward"] / (1 - 0.9), rtol=1e-5)
        assert (buffer.final_values[~ended] == 0).all()


def test_without_the_absorbing_state_the_user_is_warned_once():
    learner = make(absorbing=False)
    for _ in range(2):
        buffer = make_buffer()
        learner.relabel(buffer)
        assert (buffer.final_values == 0).all()
    assert len(learner.notices) == 1 and "pays for staying alive" in learner.notices[0]


def test_rows_of_weight_zero_are_not_learned():
    demos = sign_demos(200)
    weights = (demos.obs[:, 1] > 0).astype(np.float32)
    learner = make(dataclasses.replace(demos, weights=weights), fit_updates=500)
    seen, unseen = (rewards_of(learner, demos.obs[side], demos.actions[side])
                    for side in (weights > 0, demos.obs[:, 1] < -0.5))
    assert 1 - unseen.mean() > 2 * (1 - seen.mean())


def test_held_out_rows_count_by_their_weights():
    """A fifth of the rows, the first of the seed's permutation."""
    demos = sign_demos(200)
    weights = np.where(np.arange(200) % 2, 9, 1).astype(np.float32)
    learner = make(dataclasses.replace(demos, weights=weights))
    others = np.random.default_rng(0).permutation(200)[:40]
    rows = learner.reward.inputs.rows(torch.tensor(demos.obs[others]), torch.tensor(demos.actions[others]))
    errors = learner.reward.errors(rows).detach().numpy()
    mean = np.average(errors, weights=weights[others])
    assert float(1 / learner.reward.scale) == pytest.approx(mean, rel=1e-4)
    assert abs(mean / errors.mean() - 1) > 1e-3


def test_the_true_reward_can_be_added_or_taken_alone():
    plain, mixed, truth = make_buffer(), make_buffer(), make_buffer()
    make(debug_use_ground_truth=True).relabel(truth)
    assert np.array_equal(truth.rewards, truth.env_rewards) and (truth.final_values == 0).all()
    make().relabel(plain)
    make(true_reward_coef=2.0).relabel(mixed)
    np.testing.assert_allclose(mixed.rewards, plain.rewards + 2 * plain.env_rewards, rtol=1e-5, atol=1e-6)


def test_invalid_rows_are_not_counted():
    metrics = []
    for spoil in (0.0, 50.0):
        learner, buffer = make(), make_buffer(invalid=True)
        buffer.obs[~buffer.valid] += spoil
        metrics.append(learner.relabel(buffer))
    assert metrics[0] == metrics[1]


def test_undiscounted_runs_have_no_absorbing_state():
    with pytest.raises(InputError, match=r"ppo\.gamma = 1\.0"):
        make(gamma=1.0)
    assert make(gamma=1.0, absorbing=False).gamma == 1
