"""GAIL's own rules: which rows the discriminator sees, what the reward is, what the absorbing state is worth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from puffer_il.core.errors import InputError
from puffer_il.learners.common.absorbing import SCORES
from puffer_il.learners.experiment import build
from puffer_il.learners.gail import GAIL
from tests.support.rollouts import SPEC, expert_rows, make_buffer, policy_rows, sign_demos

CPU = torch.device("cpu")


def make(demos=None, **gail) -> GAIL:
    torch.manual_seed(0)
    tables = {"gail": {"disc_updates": 3, "disc_batch_size": 64} | gail, "ppo": {"gamma": 0.9},
              "policy": {"hidden": [8]}}
    return GAIL(SPEC, demos or sign_demos(), build("gail", [("test", tables)]), CPU, 0)


def logits(learner: GAIL, buffer) -> np.ndarray:
    flat = buffer.flat()
    with torch.no_grad():
        rows = learner.discriminator.rows(torch.from_numpy(flat.obs), torch.from_numpy(flat.actions))
        return learner.discriminator(rows).numpy().reshape(buffer.rewards.shape)


def test_the_reward_is_the_clipped_form_of_the_logit_divided_by_its_std():
    learner, buffer = make(reward="logit", reward_clip=0.05), make_buffer()
    truth = buffer.env_rewards.copy()
    learner.relabel(buffer)
    clipped = logits(learner, buffer).clip(-0.05, 0.05)
    np.testing.assert_allclose(buffer.rewards, clipped / clipped.std(), rtol=1e-4)
    assert np.array_equal(buffer.env_rewards, truth)


def test_the_sign_of_a_reward_is_never_turned():
    learner, buffer = make(reward="softplus"), make_buffer()
    learner.relabel(buffer)
    assert (buffer.rewards > 0).all()  # −log(1−D) is positive; a subtracted mean would make half of it negative


def test_terminations_are_worth_the_absorbing_reward_for_ever():
    learner, buffer = make(), make_buffer()
    metrics = learner.relabel(buffer)
    worth = metrics["disc/absorbing_reward"] / (1 - 0.9)
    ended = buffer.terminations & buffer.valid
    assert ended.any()
    np.testing.assert_allclose(buffer.final_values[ended], worth, rtol=1e-5)
    assert (buffer.final_values[~ended] == 0).all()


def test_without_absorbing_states_terminations_are_worth_nothing_and_the_user_is_warned_once():
    learner = make(absorbing=False, reward="softplus")
    for _ in range(2):
        buffer = make_buffer()
        learner.relabel(buffer)
        assert (buffer.final_values == 0).all()
    assert len(learner.notices) == 1 and "pays for staying alive" in learner.notices[0]


def test_a_critic_learns_the_absorbing_state_from_rows_of_their_discounted_share():
    learner = make(loss="wasserstein")
    # 4 of 40 rows end, and each end is followed by 1 / (1 − 0.9) = 10 absorbing steps.
    assert learner.demo_absorbing == pytest.approx(40 / 80)
    rows = expert_rows(learner)
    flagged = rows[:, -1] == 1
    assert flagged.float().mean() == 0.5
    assert (rows[flagged][:, :-1] == 0).all()
    assert make(sign_demos(terminated=False), loss="wasserstein").demo_absorbing == 0
    learner.policy_absorbing = 0.25
    flat = make_buffer().flat()
    rows = policy_rows(learner, torch.from_numpy(flat.obs), torch.from_numpy(flat.actions))
    assert (rows[:, -1] == 1).float().mean() == 0.25


@pytest.mark.parametrize("loss", ["bce", "least_squares"])
def test_no_row_is_absorbing_where_a_formula_gives_the_score(loss):
    learner, buffer = make(loss=loss, reward="logit", reward_scale=False), make_buffer()
    metrics = learner.relabel(buffer)
    # 4 of 40 rows end, and half an end is counted beside those; each is followed by 1 / (1 − 0.9) = 10 absorbing steps.
    demo, ends = 45 / 85, int((buffer.terminations & buffer.valid).sum())
    policy = (ends + 0.5) * 10 / ((ends + 0.5) * 10 + buffer.rewards.size)
    assert (learner.demo_absorbing, learner.policy_absorbing) == pytest.approx((demo, policy)) and demo != policy
    flat = buffer.flat()
    for rows in (expert_rows(learner), policy_rows(learner, *map(torch.from_numpy, (flat.obs, flat.actions)))):
        assert not rows[:, -1].any()
    score = np.log(demo / policy) if loss == "bce" else (demo - policy) / (demo + policy)
    assert metrics["disc/absorbing_reward"] == pytest.approx(score, rel=1e-5)
    assert learner.learned_reward().absorbing == pytest.approx(score, rel=1e-5)


@pytest.mark.parametrize("loss", ["bce", "least_squares"])
def test_the_formula_is_what_a_discriminator_learns_from_absorbing_rows(loss):
    class InRows(GAIL):
        end_in_rows = True

    keys = {"loss": loss, "reward": "logit", "reward_scale": False, "gp_coef": 0.0, "disc_ent_coef": 0.0,
            "disc_learning_rate": 1e-2, "disc_updates": 300, "disc_batch_size": 200}
    learner = InRows(SPEC, sign_demos(), build("gail", [("test", {"gail": keys, "ppo": {"gamma": 0.9}})]), CPU, 0)
    learned = learner.relabel(make_buffer())["disc/absorbing_reward"]
    formula = SCORES[loss](learner.demo_absorbing, learner.policy_absorbing)
    assert abs(formula) > 0.1 and learned == pytest.approx(formula, abs=0.03)


@pytest.mark.parametrize("loss", SCORES)
def test_the_score_of_equal_shares_is_none_and_rises_with_the_demonstrated_one(loss):
    score = SCORES[loss]
    assert score(0.3, 0.3) == 0
    assert score(0.2, 0.4) < 0 < score(0.4, 0.2) == pytest.approx(-score(0.2, 0.4))


def test_the_absorbing_state_is_paid_in_the_form_of_the_rewards():
    for form, paid in (("softplus", np.log1p(0.5)), ("logsigmoid", np.log(1 / 3)), ("logit", np.log(0.5)),
                       ("auto", np.log1p(0.5))):
        learner = make(reward=form)
        learner.demo_absorbing, learner.policy_absorbing = 0.2, 0.4
        assert float(learner._absorbing_reward()) == pytest.approx(paid, rel=1e-5)


def test_a_run_without_terminations_on_either_side_pays_the_absorbing_state_for_neither():
    buffer = make_buffer(num_steps=5, num_envs=8)  # as many rows as are demonstrated
    buffer.truncations[:] |= buffer.terminations
    buffer.terminations[:] = False
    learner = make(sign_demos(terminated=False), reward="logit")
    assert learner.relabel(buffer)["disc/absorbing_reward"] == 0


def test_the_score_of_the_absorbing_state_goes_on_from_a_checkpoint():
    learner, again = make(), make()
    learner.relabel(make_buffer())
    assert float(again._absorbing_reward()) != float(learner._absorbing_reward())
    again.load_state_dict(learner.state_dict())
    assert float(again._absorbing_reward()) == float(learner._absorbing_reward())


@pytest.mark.parametrize(("loss", "form"), [("bce", "softplus"), ("least_squares", "logit"), ("wasserstein", "logit")])
def test_the_reward_has_the_form_of_its_loss_unless_another_is_asked_for(loss, form):
    paid = []
    for keys in ({}, {"reward": "auto"}, {"reward": form}):
        learner, buffer = make(loss=loss, **keys), make_buffer()
        learner.relabel(buffer)
        assert learner.form == form
        paid.append(buffer.rewards.copy())
    assert np.array_equal(paid[0], paid[1]) and np.array_equal(paid[0], paid[2])


def test_the_discriminators_batch_is_half_the_rollout_unless_it_is_set():
    learner = make(disc_batch_size=0)
    assert len(expert_rows(learner)) == 4096  # of a rollout that is not there yet
    for num_steps, num_envs, expected in ((8, 6, 24), (1, 2, 2), (200, 50, 4096)):
        buffer = make_buffer(num_steps, num_envs)
        learner.relabel(buffer)
        flat = buffer.flat()
        policy = policy_rows(learner, torch.from_numpy(flat.obs), torch.from_numpy(flat.actions))
        assert len(expert_rows(learner)) == len(policy) == expected
    asked = make(disc_batch_size=10)
    asked.relabel(make_buffer())
    assert len(expert_rows(asked)) == 10


def test_the_discriminator_tells_the_expert_from_the_policy():
    learner, buffer = make(disc_updates=200, gp_coef=0, disc_learning_rate=1e-2), make_buffer()
    metrics = learner.relabel(buffer)
    assert metrics["disc/logit_expert"] > 0 > metrics["disc/logit_policy"]
    right = (buffer.obs[..., 0] > 0) == (buffer.actions[..., 0] == 1)
    assert buffer.rewards[right].mean() > buffer.rewards[~right].mean() + 0.5


def test_invalid_rows_teach_nothing():
    states, rewards, metrics = [], [], []
    for spoil in (False, True):
        learner, buffer = make(), make_buffer(invalid=True)
        if spoil:
            buffer.obs[~buffer.valid] = 1e3
        metrics.append(learner.relabel(buffer))
        states.append(learner.discriminator.state_dict())
        rewards.append(buffer.rewards[buffer.valid])
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])
    assert np.array_equal(*rewards) and metrics[0] == metrics[1]  # nor do they enter the reward's scale


def test_the_true_reward_can_be_mixed_in_or_taken_alone():
    plain, mixed, truth = make_buffer(), make_buffer(), make_buffer()
    make().relabel(plain)
    make(true_reward_coef=2.0).relabel(mixed)
    np.testing.assert_allclose(mixed.rewards, plain.rewards + 2 * plain.env_rewards, rtol=1e-5, atol=1e-6)
    make(debug_use_ground_truth=True).relabel(truth)
    assert np.array_equal(truth.rewards, truth.env_rewards) and (truth.final_values == 0).all()


def test_normalisation_is_that_of_an_equal_mix_and_frozen_within_an_iteration():
    learner, buffer = make(), make_buffer()
    learner.relabel(buffer)
    expert, policy = np.asarray(learner.demo_obs), buffer.flat().obs
    norm = learner.discriminator.encoder.norm
    mean = (expert.mean(0) + policy.mean(0)) / 2
    np.testing.assert_allclose(norm.mean, mean, atol=1e-6)
    square = ((expert**2).mean(0) + (policy**2).mean(0)) / 2
    np.testing.assert_allclose(norm.var, square - mean**2, rtol=1e-4)


def test_spectral_norm_bounds_every_layer():
    learner = make(spectral_norm=True)
    learner.relabel(make_buffer())
    for layer in learner.discriminator.net:
        if hasattr(layer, "weight"):
            assert torch.linalg.matrix_norm(layer.weight, 2) < 1.2


@pytest.mark.parametrize(("loss", "reward"), [("least_squares", "least_squares"), ("least_squares", "logit"),
                                              ("wasserstein", "logit")])
def test_other_losses_tell_the_expert_from_the_policy_and_pay_in_their_own_form(loss, reward):
    learner = make(loss=loss, reward=reward, disc_updates=200, disc_learning_rate=1e-2, reward_scale=False)
    buffer = make_buffer()
    metrics = learner.relabel(buffer)
    assert metrics["disc/logit_expert"] > metrics["disc/logit_policy"] + 0.3
    assert loss == "wasserstein" or metrics["disc/logit_expert"] > 0 > metrics["disc/logit_policy"]
    expected = logits(learner, buffer)
    expected = np.maximum(0, 1 - (expected - 1) ** 2 / 4) if reward == "least_squares" else expected
    np.testing.assert_allclose(buffer.rewards, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("keys", "text"), [
    ({"loss": "least_squares", "reward": "softplus"}, r"gail\.reward = 'softplus'.*choose logit or least_squares"),
    ({"reward": "least_squares"}, r"gail\.reward = 'least_squares'.*choose softplus or logsigmoid or logit"),
    ({"loss": "wasserstein", "reward": "logsigmoid"}, r"choose logit"),
    ({"loss": "wasserstein", "label_smoothing": 0.1}, r"gail\.label_smoothing = 0\.1.*no labels to smooth"),
])
def test_what_a_loss_has_no_use_for_is_refused(keys, text):
    with pytest.raises(InputError, match=text):
        make(**keys)


def test_old_policies_stay_in_the_batches():
    learner = make(replay_size=16, replay_share=0.5, absorbing=False)
    learner.relabel(make_buffer())
    assert len(learner.replay) > 0
    learner.replay.obs[:] = 77.0
    flat = make_buffer(seed=2).flat()
    rows = policy_rows(learner, torch.from_numpy(flat.obs), torch.from_numpy(flat.actions))
    assert (rows[:, 0] == 10).float().mean() == 0.5  # normalised and clipped


def test_undiscounted_runs_have_no_absorbing_state():
    tables = {"ppo": {"gamma": 1.0}}
    with pytest.raises(InputError, match=r"ppo\.gamma = 1\.0"):
        GAIL(SPEC, sign_demos(), build("gail", [("test", tables)]), CPU, 0)


def test_a_warm_start_clones_the_expert_before_the_first_rollout():
    demos = sign_demos(200)
    cold, warm = make(demos), make(demos, bc_epochs=60)
    obs, actions = torch.tensor(demos.obs), torch.tensor(demos.actions)
    accuracy = [(learner.policy.act(obs, deterministic=True)[0] == actions).float().mean() for learner in (cold, warm)]
    assert accuracy[1] > 0.85 > accuracy[0]


def test_demonstrations_without_weight_are_never_shown_to_the_discriminator():
    weights = np.repeat(np.float32([0, 0, 1, 3]), 10)
    learner = make(replace(sign_demos(terminated=False), weights=weights), disc_batch_size=4000)
    every = learner.discriminator.rows(learner.demo_obs, learner.demo_paired)
    shown = (expert_rows(learner)[:, None] == every[None]).all(2).float().mean(0).reshape(4, 10).sum(1)
    assert shown[:2].tolist() == [0, 0]
    np.testing.assert_allclose(shown[2:], [0.25, 0.75], atol=0.03)


def test_the_share_of_the_absorbing_state_follows_the_weights():
    ends = np.arange(40) % 10 == 9
    ends[:20] = False  # two of four episodes terminate
    demos = replace(sign_demos(terminated=False), terminations=ends, truncations=np.zeros(40, bool))
    plain, weighted = (make(replace(demos, weights=w), loss="wasserstein").demo_absorbing
                       for w in (None, np.repeat(np.float32([1, 1, 3, 3]), 10)))
    assert plain == pytest.approx(20 / (20 + 40))  # two ends, each followed by 1 / (1 − 0.9) absorbing steps
    assert weighted == pytest.approx(60 / (60 + 80))
    shares = [make(replace(demos, weights=np.repeat(np.float32([x, x, 3 * x, 3 * x]), 10))).demo_absorbing
              for x in (1, 100)]  # weights are relative, also to what is counted beside them
    assert shares == pytest.approx([(30 + 5) / (30 + 5 + 40)] * 2)
