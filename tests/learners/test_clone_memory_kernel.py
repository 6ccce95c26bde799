"""Cloning with an LSTM or a GRU in single calls of the C kernels against torch: the same losses, weights and states."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from puffer_il.demos.dataset import Demos
from puffer_il.kernels import _kernels as kernels
from puffer_il.learners.bc import BC
from puffer_il.learners.common.demo_rows import DemoSequences
from puffer_il.learners.ppo import PPO
from puffer_il.nn import fused
from tests.support.kernel_learners import CPU, actions_for, config, make_spec, random_obs, shake
from tests.support.kernels import EACH_SET, error

LENGTHS = [4, 17, 2, 10, 7, 33, 1, 16]  # the waves of sequences lose episodes from their middle, and most have padding


def episodes(action: str = "discrete", lengths: list[int] = LENGTHS) -> Demos:
    spec, n = make_spec(action), sum(lengths)
    rng, ends = np.random.default_rng(5), np.isin(np.arange(n), np.cumsum(lengths) - 1)
    obs = random_obs(spec, n, rng)
    return Demos(obs, actions_for(spec, n, rng), np.roll(obs, -1, 0), ends, np.zeros(n, bool),
                 np.cumsum([0, *lengths[:-1]]))


def make(demos: Demos, action: str = "discrete", policy: dict[str, Any] | None = None, **bc: Any) -> BC:
    torch.manual_seed(0)
    cfg = config("bc", bc={"learning_rate": 1e-2, "validation": 0.3, "sequence_length": 5, "batch_size": 7} | bc,
                 policy={"hidden": [20], "lstm": 19} | (policy or {}))
    learner = BC(make_spec(action), demos, cfg, CPU, 0)
    shake(learner.policy)
    return learner


def both(action: str, epochs: int, policy: dict[str, Any] | None = None, **bc: Any) -> list[tuple[BC, list[Any]]]:
    found = []
    for on in (True, False):
        fused.enable(on)
        learner = make(episodes(action), action, policy, **bc)
        assert learner._covered(learner.train) == on
        found.append((learner, [learner.update(None, 0.0) for _ in range(epochs)]))
    return found


@EACH_SET
@pytest.mark.parametrize("policy", [{}, {"shared": True}, {"hidden": []}, {"lstm": 0, "gru": 19}],
                         ids=["separate", "shared", "heads alone", "gru"])
@pytest.mark.parametrize("action", ["multidiscrete", "box"])
def test_epochs_with_a_memory_are_torchs(action: str, policy: dict[str, Any], isa: str) -> None:
    kernels.use_instruction_set(isa)
    (ours, reported), (theirs, expected) = both(action, 3, policy, ent_coef=0.01)
    for a, b in zip(reported, expected, strict=True):
        assert a == pytest.approx(b, rel=2e-4, abs=2e-5)
    for p, q in zip(ours.policy.parameters(), theirs.policy.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-3, atol=2e-4)


@pytest.mark.parametrize("policy", [{}, {"lstm": 0, "gru": 19}], ids=["lstm", "gru"])
def test_states_between_sequences_are_torchs(policy: dict[str, Any]) -> None:
    (ours, _), (theirs, _) = both("discrete", 0, policy, validation=0.0)
    states = []
    for on, learner in ((True, ours), (False, theirs)):
        fused.enable(on)
        assert isinstance(learner.train, DemoSequences)
        learner.train.refresh(learner.policy)
        states.append(learner.train.states)
    assert error(states[:1], states[1:]) < 1e-5 and float(states[0].abs().max()) > 0.1


def test_an_epoch_with_an_lstm_has_the_same_bits_on_any_number_of_threads() -> None:
    found = []
    for threads in (1, 2, 3):
        kernels.set_threads(threads)
        learner = make(episodes(lengths=LENGTHS * 60), batch_size=300)
        learner.update(None, 0.0)
        found.append(learner.optimizer.flat.clone())
    assert all(torch.equal(a, found[0]) for a in found[1:])


def test_a_long_padding_changes_nothing_of_what_is_learned() -> None:
    """Neither the normalisation nor the loss nor its gradient counts what pads a sequence."""
    learners = [make(episodes(), sequence_length=length, validation=0.0, batch_size=1000) for length in (33, 400)]
    for learner in learners:
        learner.update(None, 0.0)
    norms = [learner.policy.encoder.norm for learner in learners]
    assert float(norms[0].count) == float(norms[1].count) == sum(LENGTHS)
    assert error([norms[0].mean, norms[0].var], [norms[1].mean, norms[1].var]) < 1e-6
    for a, b in zip(*(learner.policy.parameters() for learner in learners), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    obs = torch.from_numpy(episodes().obs)
    torch.testing.assert_close(norms[0].mean, obs.mean(0))


def test_demonstrated_sequences_beside_ppo_have_torchs_gradient() -> None:
    found = []
    for on in (True, False):
        fused.enable(on)
        torch.manual_seed(0)
        cfg = config("ppo", ppo={}, policy={"lstm": 9, "hidden": [8]}, mix={"bc_coef": 0.5, "batch_size": 40})
        learner = PPO(make_spec("box"), episodes("box"), cfg, CPU, 0)
        shake(learner.policy)
        assert learner.expert is not None and learner.expert.rows is not None
        learner.expert.rows.refresh(learner.policy)
        learner.expert.sources = [(learner.expert.rows, None, 0.7)]
        gradient, loss = learner.expert.gradients(np.random.default_rng(0))
        found.append([gradient.clone(), loss])
    assert error(*found) < 1e-5 and float(found[0][0].norm()) > 0


@pytest.mark.parametrize(("action", "loss"), [
    ("multidiscrete", {"loss": "mse"}), ("box", {"loss": "mse"}), ("discrete", {"label_smoothing": 0.2}),
    ("multidiscrete", {"class_balanced": True})], ids=str)
def test_every_loss_of_weighted_sequences_is_torchs(action: str, loss: dict[str, Any]) -> None:
    weights = np.random.default_rng(1).random(sum(LENGTHS)).astype(np.float32)
    found = []
    for on in (True, False):
        fused.enable(on)
        learner = make(dataclasses.replace(episodes(action), weights=weights), action, **loss)
        assert learner._covered(learner.train) == on
        found.append((learner, learner.update(None, 0.0)))
    (ours, reported), (theirs, expected) = found
    assert reported == pytest.approx(expected, rel=2e-4, abs=2e-5)
    for p, q in zip(ours.policy.parameters(), theirs.policy.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-3, atol=2e-4)


def test_the_entropy_of_weighted_sequences_is_left_to_torch() -> None:
    demos = dataclasses.replace(episodes(), weights=np.arange(sum(LENGTHS), dtype=np.float32))
    learner = make(demos, ent_coef=0.1)
    assert not learner._covered(learner.train) and np.isfinite(learner.update(None, 0.0)["bc/train_nll"])
