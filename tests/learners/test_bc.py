"""Behaviour cloning against what maximum likelihood must give."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from puffer_il.core.errors import InputError
from puffer_il.core.spec import ActionSpec, EnvSpec
from puffer_il.learners.bc import BC
from puffer_il.learners.common.demo_rows import DemoRows, DemoSequences
from puffer_il.learners.experiment import build
from puffer_il.nn import fused
from tests.support.rollouts import SPEC, sign_demos

CPU = torch.device("cpu")


def make(demos, spec=SPEC, policy=(), **bc) -> BC:
    torch.manual_seed(0)
    tables = {"bc": {"weight_decay": 0.0, "learning_rate": 1e-2} | bc, "policy": {"hidden": [8]} | dict(policy)}
    return BC(spec, demos, build("bc", [("test", tables)]), CPU, 0)


def fit(learner: BC, epochs: int) -> dict[str, float]:
    for _ in range(epochs):
        metrics = learner.update(None, 0.0)
    learner.finish()
    return metrics


def test_the_likelihood_reaches_the_entropy_of_the_demonstrators_choice(route):
    demos = sign_demos(2000)
    rng = np.random.default_rng(3)
    noisy = dataclasses.replace(demos, actions=(rng.random((2000, 1)) < 0.8).astype(np.int32))
    share = float(noisy.actions.mean())
    entropy = -share * math.log(share) - (1 - share) * math.log(1 - share)
    metrics = fit(make(noisy, validation=0.0, policy={"hidden": [2]}.items()), 30)
    assert metrics["bc/train_nll"] == pytest.approx(entropy, abs=0.02)
    assert metrics["bc/accuracy"] == pytest.approx(share, abs=0.01)


def test_a_gaussian_policy_finds_mean_and_spread(route):
    rng = np.random.default_rng(0)
    demos = sign_demos(3000)
    actions = (0.5 * demos.obs[:, :1] + rng.normal(scale=0.2, size=(3000, 1))).astype(np.float32)
    action = ActionSpec(low=np.float32([-4]), high=np.float32([4]), shape=(1,))
    spec = EnvSpec("box", (3,), np.dtype(np.float32), action)
    learner = make(dataclasses.replace(demos, actions=actions), spec, validation=0.1)
    metrics = fit(learner, 60)
    optimum = 0.5 * math.log(2 * math.pi * math.e * 0.2**2)
    assert metrics["bc/val_nll"] == pytest.approx(optimum, abs=0.08)
    assert metrics["bc/accuracy"] == pytest.approx(0.25 / (0.25 + 0.04), abs=0.03)  # the share that can be explained
    assert float(learner.policy.dist.log_std.exp() * 4) == pytest.approx(0.2, abs=0.02)


@pytest.mark.parametrize("batch_size", [1, 7, 30, 36, 10_000])
def test_minibatches_of_any_size_cover_every_row_once(batch_size, monkeypatch):
    """In torch every row is seen; the kernels' epoch is then the same epoch, in its losses and in what it learns."""
    batches: list[np.ndarray] = []
    evaluate = DemoRows.evaluate
    monkeypatch.setattr(DemoRows, "evaluate",
                        lambda rows, policy, index, *shift: batches.append(index)
                        or evaluate(rows, policy, index, *shift))
    losses, learners = [], []
    for on in (False, True):
        fused.enable(on)
        learner = make(sign_demos(), batch_size=batch_size, validation=0.1)
        learner.train.obs = learner.train.obs * torch.arange(1, 41).unsqueeze(1) / 20  # none is like another
        batches.clear()
        losses.append(learner._epoch())
        learners.append(learner)
        if on:
            assert not batches, "torch did what the kernels are for"
        else:
            assert sorted(np.concatenate(batches)) == list(range(36)) == list(range(learner.steps_per_update))
            assert [len(b) for b in batches] == [batch_size] * (36 // batch_size) + [36 % batch_size] * (
                36 % batch_size > 0)
        assert float(learner.optimizer.steps) == -(-36 // batch_size)
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)
    for ours, expected in zip(learners[1].policy.parameters(), learners[0].policy.parameters(), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=2e-6)


def test_a_window_is_made_of_runs_from_all_over_and_an_epoch_still_has_every_row_once():
    learner = make(sign_demos(4000), validation=0.1, window=600)
    windows = list(learner._orders())
    assert [len(window) for window in windows] == [600] * 6
    assert sorted(np.concatenate(windows)) == list(range(3600))
    for window in windows:
        assert np.ptp(window) > 3000 and (np.diff(np.sort(window)) == 1).mean() > 0.4 and (np.diff(window) != 1).any()
    assert [len(window) for window in make(sign_demos(4000), validation=0.1, window=3600)._orders()] == [3600]


def test_whole_episodes_are_held_out():
    demos = sign_demos(100)
    learner = make(demos, validation=0.2)
    held_out = np.flatnonzero(learner._split(demos))
    assert len(held_out) == 20 == len(learner.held_out) and len(learner.train) == 80
    assert {len(np.flatnonzero(held_out // 10 == e)) for e in held_out // 10} == {10}


def test_rows_are_held_out_where_episodes_are_few():
    demos = dataclasses.replace(sign_demos(), episode_starts=np.array([0]), terminations=np.arange(40) == 39)
    learner = make(demos, validation=0.1)
    assert learner._split(demos).sum() == 4 == len(learner.held_out) and len(learner.train) == 36


def test_the_best_weights_come_back_when_validation_gets_worse():
    learner = make(sign_demos(), validation=0.25, learning_rate=0.05, patience=8)
    losses = []
    while not learner.done and len(losses) < 400:
        losses.append(learner.update(None, 0.0)["bc/val_nll"])
    assert learner.done and len(losses) == int(np.argmin(losses)) + 1 + 8
    learner.finish()
    with torch.no_grad():
        assert float(learner._score(learner.held_out)[0]) == pytest.approx(min(losses), rel=1e-5)


def test_an_lstm_starts_every_sequence_where_a_running_policy_would_be():
    lengths = [4, 17, 2, 10, 7]  # the waves of sequences lose episodes from their middle
    ends, none = np.isin(np.arange(40), np.cumsum(lengths) - 1), np.zeros(40, bool)
    demos = dataclasses.replace(sign_demos(), terminations=ends, truncations=none,
                                episode_starts=np.cumsum([0, *lengths[:-1]]))
    learner = make(demos, policy={"lstm": 4}.items(), sequence_length=3, validation=0.0)
    chunks = learner.train
    assert isinstance(chunks, DemoSequences)
    chunks.refresh(learner.policy)
    episodes = torch.tensor(demos.obs).split(lengths)
    start = torch.zeros(1, learner.policy.state_dim)
    whole = torch.cat([learner.policy.actor(learner.policy.unroll(obs.unsqueeze(1), start)[0]) for obs in episodes])
    actions = torch.tensor(demos.actions)
    expected = learner.policy.dist.log_prob(whole, actions)
    params, chosen, *_ = chunks.evaluate(learner.policy, np.arange(len(chunks)))
    logprobs = learner.policy.dist.log_prob(params, chosen)
    assert float(logprobs.sum()) == pytest.approx(float(expected.sum()), rel=1e-5) and len(logprobs) == 40
    assert torch.allclose(logprobs.sort().values, expected.sort().values, atol=1e-6)


def test_actions_that_never_vary_are_explained_or_not():
    rows = DemoRows(np.zeros((4, 2), np.float32), np.ones((4, 1), np.float32), torch.device("cpu"))
    assert (rows.explained(0.0), rows.explained(0.1)) == (1.0, 0.0)


BOX = EnvSpec("box", (3,), np.dtype(np.float32),
              ActionSpec(low=np.float32([-4, 0]), high=np.float32([4, 1]), shape=(2,)))
PAIR = EnvSpec("pair", (3,), np.dtype(np.float32), ActionSpec(nvec=(3, 2)))


def boxed(n: int = 3000):
    """Two continuous actions, of which only the first depends on the observation; standard deviations 0.2 and 0.1."""
    rng, demos = np.random.default_rng(0), sign_demos(n)
    actions = np.concatenate((0.5 * demos.obs[:, :1], np.full((n, 1), 0.4)), 1) + rng.normal(size=(n, 2)) * [0.2, 0.1]
    return dataclasses.replace(demos, actions=actions.astype(np.float32))


@pytest.mark.parametrize("squash", [False, True])
def test_squared_distance_finds_the_same_mean_and_the_spread_about_it(squash):
    """Where the noise does not depend on the state both losses have the same optimum, spread included."""
    results = []
    for loss in ("nll", "mse"):
        learner = make(boxed(), BOX, {"squash": squash}.items(), loss=loss, validation=0.1)
        metrics = fit(learner, 60)
        results.append((metrics["bc/val_nll"], metrics["bc/accuracy"], *learner.policy.dist.log_std.tolist()))
        if loss == "mse":  # half ranges: 4 and 0.5
            assert metrics["bc/val_loss"] == pytest.approx((0.2 / 4)**2 + (0.1 / 0.5)**2, rel=0.2)
    np.testing.assert_allclose(results[1], results[0], atol=0.08)


def test_the_brier_score_is_least_at_the_demonstrators_probabilities():
    demos = sign_demos(2000)
    share, rng = 0.7, np.random.default_rng(3)
    noisy = dataclasses.replace(demos, actions=(rng.random((2000, 1)) < share).astype(np.int32))
    metrics = fit(make(noisy, validation=0.0, loss="mse", policy={"hidden": [2]}.items()), 30)
    share = float(noisy.actions.mean())
    entropy = -share * math.log(share) - (1 - share) * math.log(1 - share)
    assert metrics["bc/val_loss"] == pytest.approx(2 * share * (1 - share), abs=0.01)
    assert metrics["bc/val_nll"] == pytest.approx(entropy, abs=0.02)


def probabilities(learner: BC, obs: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        parts = learner.policy.action_params(torch.tensor(obs)).split(learner.policy.spec.action.nvec, -1)
        return np.concatenate([part.softmax(-1).numpy() for part in parts], 1)


def test_smoothed_labels_bound_the_policys_certainty():
    """At the optimum π(a|s) of the demonstrated action is 1 − x + x / K."""
    demos = dataclasses.replace(sign_demos(400), actions=np.tile(np.int32([[2, 1]]), (400, 1)))
    learner = make(demos, PAIR, validation=0.0, label_smoothing=0.3)
    fit(learner, 200)
    expected = [0.1, 0.1, 0.8, 0.15, 0.85]
    np.testing.assert_allclose(probabilities(learner, demos.obs).mean(0), expected, atol=0.01)


def test_classes_that_are_balanced_weigh_the_same_however_rare():
    """Where observations say nothing, the likeliest policy gives the shares of the labels, or even odds if balanced."""
    rng, demos = np.random.default_rng(0), sign_demos(1000)
    actions = np.stack((rng.choice(3, 1000, p=[0.7, 0.3, 0]), rng.random(1000) < 0.1), 1).astype(np.int32)
    demos = dataclasses.replace(demos, actions=actions, obs=np.zeros_like(demos.obs), next_obs=np.zeros_like(demos.obs))
    for balanced, expected in ((False, [0.7, 0.3, 0, 0.9, 0.1]), (True, [0.5, 0.5, 0, 0.5, 0.5])):
        learner = make(demos, PAIR, validation=0.0, class_balanced=balanced)
        fit(learner, 80)
        np.testing.assert_allclose(probabilities(learner, demos.obs)[0], expected, atol=0.04)


def test_balancing_weights_by_hand():
    learner = make(dataclasses.replace(sign_demos(4), actions=np.int32([[0, 1], [0, 1], [0, 1], [2, 1]]),
                                       episode_starts=np.array([0])), PAIR, validation=0.0, class_balanced=True)
    first, second = learner.balance
    torch.testing.assert_close(first, torch.tensor([4 / (2 * 3), 0, 4 / 2]))
    torch.testing.assert_close(second, torch.tensor([0, 1.0]))
    assert first[[0, 0, 0, 2]].mean() == 1


def test_multi_discrete_actions_are_learned_dimension_by_dimension(route):
    demos = sign_demos(2000)
    actions = np.stack((np.digitize(demos.obs[:, 0], [-0.5, 0.5]), demos.obs[:, 1] > 0), 1).astype(np.int32)
    metrics = fit(make(dataclasses.replace(demos, actions=actions), PAIR, validation=0.1), 40)
    assert metrics["bc/accuracy"] > 0.95 and metrics["bc/val_nll"] < 0.15


@pytest.mark.parametrize("options", [{}, {"loss": "mse"}, {"label_smoothing": 0.1}])
def test_of_sequences_a_weight_of_two_is_the_row_twice(options):
    """Exactly the same steps: whole-batch gradients of weighted rows, and of rows that are there twice."""
    demos = dataclasses.replace(sign_demos(40), next_obs=sign_demos(40).obs)
    twice = np.repeat([0, 1, 1, 2, 3, 3], 10) * 10 + np.tile(np.arange(10), 6)  # episodes 1 and 3 twice
    doubled = dataclasses.replace(demos, obs=demos.obs[twice], actions=demos.actions[twice], next_obs=demos.obs[twice],
                                  terminations=demos.terminations[twice], truncations=np.zeros(60, bool),
                                  episode_starts=np.arange(0, 60, 10), rewards=None)
    weighted = dataclasses.replace(demos, weights=np.repeat(np.float32([1, 2, 1, 2]), 10))
    learners = []
    for data in (weighted, doubled):
        learner = make(data, policy={"lstm": 3, "obs_norm": False}.items(), validation=0.0, batch_size=1000,
                       sequence_length=4, **options)
        for _ in range(5):
            metrics = learner.update(None, 0.0)
        learners.append((learner, metrics))
    (ours, reported), (theirs, expected) = learners
    assert ours.train.weights.mean() == pytest.approx(1, abs=0.3) and theirs.train.weights is None
    for a, b in zip(ours.policy.parameters(), theirs.policy.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    if options:
        assert reported["bc/val_loss"] == pytest.approx(expected["bc/val_loss"], rel=1e-4)


@pytest.mark.parametrize("options", [{}, {"loss": "mse"}])
def test_a_row_is_drawn_as_often_as_its_weight_says(options):
    """The same state with either action, one of them weighing three times as much."""
    demos, choice = sign_demos(400), np.arange(400) % 2
    data = dataclasses.replace(demos, obs=np.zeros_like(demos.obs), next_obs=np.zeros_like(demos.obs),
                               actions=np.int32(choice)[:, None], weights=np.float32([1, 3])[choice])
    learner = make(data, validation=0.0, batch_size=50, policy={"obs_norm": False}.items(), **options)
    drawn = np.bincount(np.concatenate([learner._drawn() for _ in range(50)]), minlength=400)
    assert drawn.sum() == 50 * 400 and drawn[choice == 1].sum() == pytest.approx(15_000, rel=0.02)
    fit(learner, 60)
    assert probabilities(learner, data.obs[:1])[0, 1] == pytest.approx(0.75, abs=0.03)


def test_rows_without_weight_teach_nothing():
    demos = sign_demos(400)
    wrong = np.arange(400) % 2 == 0
    actions = np.where(wrong[:, None], 1 - demos.actions, demos.actions)
    data = dataclasses.replace(demos, actions=actions, weights=(~wrong).astype(np.float32))
    learner = make(data, validation=0.0)
    fit(learner, 60)
    assert (probabilities(learner, demos.obs).argmax(1) == demos.actions[:, 0]).mean() > 0.97


def test_a_held_out_objective_chooses_the_weights_that_are_kept():
    learner = make(sign_demos(), validation=0.25, learning_rate=0.05, patience=8, label_smoothing=0.2)
    losses = []
    while not learner.done and len(losses) < 400:
        losses.append(learner.update(None, 0.0)["bc/val_loss"])
    learner.finish()
    with torch.no_grad():
        assert float(learner._score(learner.held_out)[0]) == pytest.approx(min(losses), rel=1e-5)


@pytest.mark.parametrize("options", [{"label_smoothing": 0.1}, {"class_balanced": True}])
def test_options_of_classes_are_refused_where_there_are_none(options):
    with pytest.raises(InputError, match=rf"bc.{next(iter(options))}.*continuous"):
        make(boxed(50), BOX, **options)
