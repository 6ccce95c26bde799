"""Behaviour cloning in single calls of the C kernels against torch: the same losses, the same weights."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from puffer_il.core.spec import Array, EnvSpec
from puffer_il.kernels import _kernels as kernels
from puffer_il.learners.bc import BC
from puffer_il.learners.common.cloning import CloningLoss, clone_score, clone_spread
from puffer_il.nn import fused
from tests.support.kernel_learners import ACTIONS, BENT, CPU, config, make_spec, random_demos, shake, spoil_memory
from tests.support.kernels import ACTIVATIONS, EACH_SET, error

DISCRETE, CONTINUOUS = ("discrete", "multidiscrete"), ("box", "unbounded")
SMOOTH, RARE, SQUARES = {"label_smoothing": 0.2}, {"class_balanced": True}, {"loss": "mse"}
LOSSES: list[tuple[str, dict[str, Any]]] = [
    *((action, keys) for action in DISCRETE for keys in (SQUARES, SMOOTH, RARE, SQUARES | SMOOTH | RARE,
                                                         SMOOTH | RARE | {"ent_coef": 0.05})),
    *((action, SQUARES | more) for action in CONTINUOUS for more in ({}, {"ent_coef": 0.05}))]
EACH_LOSS = pytest.mark.parametrize(("action", "keys"), LOSSES, ids=[f"{a}-{'-'.join(k)}" for a, k in LOSSES])


def cloning_learner(spec: EnvSpec, batch_size: int = 64, policy: dict[str, Any] | None = None, weighted: bool = False,
                    **bc: Any) -> BC:
    torch.manual_seed(0)
    tables = {"bc": {"batch_size": batch_size, "validation": 0.0} | bc, "policy": {"hidden": [20, 33]} | (policy or {})}
    demos = random_demos(spec)
    if weighted:
        demos = replace(demos, weights=_some_weights(len(demos)))
    learner = BC(spec, demos, config("bc", **tables), CPU, 0)
    shake(learner.policy)
    return learner


def _some_weights(n: int) -> Array:
    """A third of them 0."""
    return (np.random.default_rng(6).random(n) * (np.arange(n) % 3)).astype(np.float32)


def cloned(spec: EnvSpec, on: bool, batch_size: int = 64, **keys: Any) -> tuple[list[float], list[Tensor]]:
    """Losses and weights after an epoch."""
    fused.enable(on)
    learner = cloning_learner(spec, batch_size, **keys)
    losses = learner._epoch()
    assert float(learner.optimizer.steps) == math.ceil(300 / batch_size)
    return losses, [p.detach().clone() for p in learner.policy.parameters()]


def check_epoch(spec: EnvSpec, tolerance: float = 1e-5, **keys: Any) -> None:
    """Losses and weights after an epoch in the kernels are those of one in torch."""
    (losses, ours), (expected_losses, expected) = (cloned(spec, on, **keys) for on in (True, False))
    np.testing.assert_allclose(losses, expected_losses, rtol=max(2e-5, tolerance))
    for a, b in zip(ours, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


@EACH_SET
@pytest.mark.parametrize("shared", [False, True], ids=["separate", "shared"])
@pytest.mark.parametrize("action", ACTIONS)
def test_cloning_epoch_matches_torch(action: str, shared: bool, isa: str) -> None:
    kernels.use_instruction_set(isa)
    for keys in ({}, {"ent_coef": 0.05, "weight_decay": 0.1, "max_grad_norm": 0.0}, {"batch_size": 299}):
        check_epoch(make_spec(action), policy={"shared": shared}, **keys)


@EACH_SET
@EACH_LOSS
def test_cloning_epoch_of_every_loss_matches_torch(action: str, keys: dict[str, Any], isa: str) -> None:
    kernels.use_instruction_set(isa)
    check_epoch(make_spec(action), **keys)


@EACH_SET
@EACH_LOSS
def test_gradients_of_every_loss_are_autograds(action: str, keys: dict[str, Any], isa: str) -> None:
    """Not behind Adam, which hides what all of a gradient is multiplied with."""
    kernels.use_instruction_set(isa)
    learner = cloning_learner(make_spec(action), 300, max_grad_norm=0.0, learning_rate=0.0, **keys)
    gradients = []
    for on in (True, False):
        fused.enable(on)
        learner.optimizer.grad.fill_(math.nan)
        learner._epoch()
        gradients.append(learner.optimizer.grad.clone())
    assert bool(gradients[1].any()) and error(gradients[:1], gradients[1:]) < 1e-5


@pytest.mark.parametrize("weighted", [False, True], ids=["alike", "weighted"])
@EACH_LOSS
def test_reports_of_every_loss_match_torch(action: str, keys: dict[str, Any], weighted: bool) -> None:
    """With held-out rows and the spread that squared distances leave to be fitted; of weights the loss alone knows."""
    reports = []
    for on in (True, False):
        fused.enable(on)
        learner = cloning_learner(make_spec(action), 64, weighted=weighted, validation=0.3, **keys)
        reports.append(learner.update(None, 0.0))
    assert reports[0].keys() == reports[1].keys() and "bc/val_loss" in reports[0]
    for name, value in reports[0].items():
        assert math.isclose(value, reports[1][name], rel_tol=1e-4, abs_tol=1e-5), name


def test_weights_change_the_score_of_held_out_rows() -> None:
    learner = cloning_learner(make_spec(), 64, weighted=True, validation=0.3)
    data = learner.held_out
    assert data.weights is not None
    plain, weighted = (clone_score(learner.policy, data.obs, data.actions, data.index, weights, CloningLoss())
                       for weights in (None, data.weights))
    assert plain is not None and weighted is not None
    assert plain[0] == plain[1] == weighted[1] != weighted[0] and plain[3] == weighted[3]


def test_a_spread_is_the_mean_square_about_the_means() -> None:
    learner = cloning_learner(make_spec("box"), 64)
    data, dist = learner.train, learner.policy.dist
    with torch.no_grad():
        off = (dist.unit(data.actions) - learner.policy.action_params(data.obs)).square()
    squares = clone_spread(learner.policy, data.obs, data.actions)
    none = clone_spread(learner.policy, data.obs, data.actions, weights=torch.zeros(len(off)))
    assert squares is not None and none is not None
    torch.testing.assert_close(squares, off.mean(0), rtol=1e-5, atol=0.0)
    assert not none.any()


@EACH_SET
@pytest.mark.parametrize("shared", [False, True], ids=["separate", "shared"])
@pytest.mark.parametrize("action", ACTIONS)
def test_cloning_score_matches_torch(action: str, shared: bool, isa: str) -> None:
    kernels.use_instruction_set(isa)
    learner = cloning_learner(make_spec(action), 64, policy={"shared": shared})
    learner._epoch()
    scores = []
    for on in (True, False):
        fused.enable(on)
        with torch.no_grad():
            scores.append([float(x) for x in learner._score(learner.train)])
        rows = learner.train
        assert (clone_score(learner.policy, rows.obs, rows.actions, rows.index) is not None) == on
    np.testing.assert_allclose(scores[0], scores[1], rtol=2e-5, atol=1e-6)


@EACH_SET
@pytest.mark.parametrize("loss", ["nll", "mse"])
@pytest.mark.parametrize("bent", BENT, ids=str)
def test_cloning_of_squashed_actions_and_spreads_of_each_state_matches_torch(bent: dict[str, bool], loss: str,
                                                                             isa: str) -> None:
    kernels.use_instruction_set(isa)
    spec, scores = make_spec("box"), []
    check_epoch(spec, 1e-4, policy=bent, ent_coef=0.05, loss=loss)
    learner = cloning_learner(spec, policy=bent, loss=loss)
    for on in (True, False):
        fused.enable(on)
        with torch.no_grad():
            scores.append([float(x) for x in learner._score(learner.train)])
    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-4, atol=1e-6)


@ACTIVATIONS
@pytest.mark.parametrize("dtype", ["float64", "uint8", "int16", "bool"])
def test_cloning_epoch_matches_torch_on_observations_of_every_dtype(dtype: str, activation: str) -> None:
    spec = make_spec("box", dtype, (3, 2))
    (losses, ours), (expected_losses, expected) = (cloned(spec, on, policy={"activation": activation})
                                                   for on in (True, False))
    np.testing.assert_allclose(losses, expected_losses, rtol=2e-5)
    assert error(ours, expected) < 1e-4


def test_cloning_has_the_same_bits_on_any_number_of_threads() -> None:
    results = []
    for threads in (1, 2, 3):
        kernels.set_threads(threads)
        results.append(cloned(make_spec("box"), True, 300, policy={"hidden": [256, 256]}))
    assert all(torch.equal(a, b) for other in results[1:] for a, b in zip(results[0][1], other[1], strict=True))


def test_cloning_of_a_smaller_last_minibatch_stays_within_its_memory() -> None:
    """15,361 rows go into fewer chunks of gradient sums than 15,360 do."""
    source = """
import numpy as np, torch
from puffer_il.kernels import _kernels as kernels
from puffer_il.core.config import PolicyConfig
from puffer_il.learners.common.cloning import CloningLoss, clone_epoch
from puffer_il.nn.optim import FlatAdam
from puffer_il.nn.policy import Policy
from puffer_il.core.spec import ActionSpec, EnvSpec
kernels.set_threads(1)
policy = Policy(EnvSpec("", (8,), np.dtype(np.float32), ActionSpec(nvec=(2,))), PolicyConfig(hidden=(256, 256)))
n = 15361 + 15360
print(clone_epoch(policy, torch.randn(n, 8), torch.zeros(n, 1, dtype=torch.int32), np.arange(n), 15361, CloningLoss(),
                  FlatAdam(policy.actor.parameters(), learning_rate=1e-3)))
"""
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@EACH_SET
def test_cloning_forgets_a_nan_of_an_earlier_call(isa: str) -> None:
    kernels.use_instruction_set(isa)
    before = cloning_learner(make_spec(), 7)._epoch()
    learner = cloning_learner(make_spec(), 7)
    spoil_memory(learner.policy.actor)
    assert learner._epoch() == before
