"""Evaluations of chunks, mixtures and flows in C are those of single steps, to the episode and to what it logs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from puffer_il.core.config import PolicyConfig
from puffer_il.nn import FusedPolicy, Policy, fused
from puffer_il.rollout import evaluate as evaluate_file
from puffer_il.rollout.actors import PolicyActor
from puffer_il.rollout.evaluate import evaluate
from puffer_il.vector.vec import make_vec

CASES = [("cartpole", {"chunk": 4, "execute": 3}), ("detour", {"chunk": 5, "shared": True}),
         ("detour", {"head": "mixture"}), ("detour", {"head": "mixture", "chunk": 5}),
         ("detour", {"head": "flow", "flow_steps": 3}), ("detour", {"head": "flow", "chunk": 5, "execute": 5}),
         ("detour", {"chunk": 4, "ensemble": 0.2})]


@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize(("env", "keys"), CASES)
def test_whole_rollouts_give_the_episodes_of_single_steps(env, keys, deterministic, monkeypatch):
    calls: list[int] = []
    inner = evaluate_file.native_rollout
    monkeypatch.setattr(evaluate_file, "native_rollout", lambda *a: calls.append(1) or inner(*a))
    scores = []
    for on in (True, False):
        fused.enable(on)
        torch.manual_seed(1)
        with make_vec(env, num_envs=50) as vec:
            policy = Policy(vec.spec, PolicyConfig(hidden=(16,), **keys))
            with torch.no_grad():
                for p in policy.parameters():
                    p.add_(torch.randn_like(p) / 5)
            assert (FusedPolicy.of(policy) is not None) == on
            scores.append(evaluate(vec, PolicyActor(policy, 50, deterministic, seed=3), 70, 7))
        assert bool(calls)
    assert np.mean(scores[0].lengths == scores[1].lengths) > 0.95  # a rounding may decide a close one
    np.testing.assert_allclose(np.median(scores[0].returns), np.median(scores[1].returns), rtol=1e-3, atol=1e-3)
    assert scores[0].log.keys() == scores[1].log.keys()
    assert all(abs(scores[0].log[name] - mean) < 0.03 for name, mean in scores[1].log.items())
