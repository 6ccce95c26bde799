"""Behaviour cloning against what maximum likelihood must give."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from puffer_il import fused
from puffer_il.config import build
from puffer_il.learners.bc import BC, Rows, Sequences
from puffer_il.types import ActionSpec, EnvSpec
from tests.learners.rollout import SPEC, make_demos

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
    demos = make_demos(2000)
    rng = np.random.default_rng(3)
    noisy = dataclasses.replace(demos, actions=(rng.random((2000, 1)) < 0.8).astype(np.int32))
    share = float(noisy.actions.mean())
    entropy = -share * math.log(share) - (1 - share) * math.log(1 - share)
    metrics = fit(make(noisy, validation=0.0, policy={"hidden": [2]}.items()), 30)
    assert metrics["bc/train_nll"] == pytest.approx(entropy, abs=0.02)
    assert metrics["bc/accuracy"] == pytest.approx(share, abs=0.01)


def test_a_gaussian_policy_finds_mean_and_spread(route):
    rng = np.random.default_rng(0)
    demos = make_demos(3000)
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
    evaluate = Rows.evaluate
    monkeypatch.setattr(Rows, "evaluate",
                        lambda rows, policy, index: batches.append(index.numpy()) or evaluate(rows, policy, index))
    losses, learners = [], []
    for on in (False, True):
        fused.enable(on)
        learner = make(make_demos(), batch_size=batch_size, validation=0.1)
        learner.train.obs[:] = learner.train.obs * torch.arange(1, 37).unsqueeze(1) / 20  # none is like another
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


def test_whole_episodes_are_held_out():
    demos = make_demos(100)
    train, held_out = make(demos, validation=0.2)._split(demos)
    assert len(held_out) == 20 and {*train, *held_out} == {*range(100)}
    assert {len(np.flatnonzero(held_out // 10 == e)) for e in held_out // 10} == {10}


def test_rows_are_held_out_where_episodes_are_few():
    demos = dataclasses.replace(make_demos(), episode_starts=np.array([0]), terminations=np.arange(40) == 39)
    train, held_out = make(demos, validation=0.1)._split(demos)
    assert len(held_out) == 4 and {*train, *held_out} == {*range(40)}


def test_the_best_weights_come_back_when_validation_gets_worse():
    learner = make(make_demos(), validation=0.25, learning_rate=0.05, patience=8)
    losses = []
    while not learner.done and len(losses) < 400:
        losses.append(learner.update(None, 0.0)["bc/val_nll"])
    assert learner.done and len(losses) == int(np.argmin(losses)) + 1 + 8
    learner.finish()
    with torch.no_grad():
        assert float(learner._score(learner.held_out)[0]) == pytest.approx(min(losses), rel=1e-5)


def test_an_lstm_starts_every_chunk_where_a_running_policy_would_be():
    lengths = [4, 17, 2, 10, 7]  # the waves of chunks lose episodes from their middle
    ends, none = np.isin(np.arange(40), np.cumsum(lengths) - 1), np.zeros(40, bool)
    demos = dataclasses.replace(make_demos(), terminations=ends, truncations=none,
                                episode_starts=np.cumsum([0, *lengths[:-1]]))
    learner = make(demos, policy={"lstm": 4}.items(), sequence_length=3, validation=0.0)
    chunks = learner.train
    assert isinstance(chunks, Sequences)
    chunks.refresh(learner.policy)
    episodes = torch.tensor(demos.obs).split(lengths)
    start = torch.zeros(1, learner.policy.state_dim)
    whole = torch.cat([learner.policy.actor(learner.policy.unroll(obs.unsqueeze(1), start)[0]) for obs in episodes])
    actions = torch.tensor(demos.actions)
    expected = learner.policy.dist.log_prob(whole, actions)
    logprobs, _, _ = chunks.evaluate(learner.policy, torch.arange(len(chunks)))
    assert float(logprobs.sum()) == pytest.approx(float(expected.sum()), rel=1e-5) and len(logprobs) == 40
    assert torch.allclose(logprobs.sort().values, expected.sort().values, atol=1e-6)


def test_actions_that_never_vary_are_explained_or_not():
    rows = Rows(np.zeros((4, 2), np.float32), np.ones((4, 1), np.float32), torch.device("cpu"))
    assert (rows.explained(0.0), rows.explained(0.1)) == (1.0, 0.0)
