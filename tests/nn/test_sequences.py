"""A memory over whole sequences in one call gives what single steps give, with all gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from puffer_il.core.config import PolicyConfig
from puffer_il.nn import Policy, fused, sequences
from tests.support.rollouts import SPEC

CELLS = {"lstm": nn.LSTMCell, "gru": nn.GRUCell}


def stepwise(cell, x, state, starts):
    hidden = []
    for t, features in enumerate(x):
        if starts is not None:
            state = state * ~starts[t].unsqueeze(1)
        state = cell(features, state) if isinstance(cell, nn.GRUCell) else torch.cat(
            cell(features, tuple(state.chunk(2, 1))), 1)
        hidden.append(state[:, :cell.hidden_size])
    return torch.cat(hidden), state


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("share", [None, 0.0, 0.05, 0.4, 1.0])
@pytest.mark.parametrize(("steps", "columns"), [(1, 1), (1, 4), (7, 1), (6, 5), (16, 9)])
def test_one_call_is_the_loop_over_steps(kind, share, steps, columns):
    torch.manual_seed(0)
    rng, cell = np.random.default_rng(steps), CELLS[kind](3, 4)
    starts = None if share is None else torch.from_numpy(rng.random((steps, columns)) < share)
    x = torch.randn(steps, columns, 3, requires_grad=True)
    state = torch.randn(columns, 8 if kind == "lstm" else 4, requires_grad=True)
    results = [stepwise(cell, x, state, starts), sequences.run(cell, x, state, starts)]
    weights = [torch.randn_like(part) for part in results[0]]
    inputs = [x, state, *cell.parameters()]
    gradients = [torch.autograd.grad(sum((a * b).sum() for a, b in zip(result, weights, strict=True)), inputs)
                 for result in results]
    for ours, expected in zip((*results[1], *gradients[1]), (*results[0], *gradients[0]), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-6)


def test_pieces_are_cut_where_episodes_begin():
    starts = np.array([[False, True], [False, False], [True, False], [False, True]])
    pieces = sequences.cut(starts)
    # Column 0: rows 0 and 1 from the given state, 2 and 3 from zeros; column 1: rows 0 to 2 from zeros, row 3.
    assert pieces.columns.tolist() == [1, 0, 0, 1] and pieces.counts.tolist() == [4, 3, 1]
    assert pieces.given.tolist() == [False, True, False, False] and pieces.last.tolist() == [2, 3]
    assert pieces.order.tolist() == [1, 0, 4, 7, 3, 2, 6, 5]  # rows t · 2 + column
    assert pieces.order[pieces.back].tolist() == list(range(8))


@pytest.mark.parametrize("memory", [{"lstm": 5}, {"gru": 6}])
def test_a_policy_on_a_gpu_unrolls_in_one_call_as_on_the_cpu(monkeypatch, memory):
    torch.manual_seed(0)
    policy, rng = Policy(SPEC, PolicyConfig(hidden=(8,), **memory)), np.random.default_rng(0)
    obs, actions = torch.randn(9, 4, 3), torch.from_numpy(rng.integers(0, 2, (9, 4, 1)))
    starts, state = torch.from_numpy(rng.random((9, 4)) < 0.2), torch.randn(4, policy.state_dim)
    found, calls = [], []
    fused.enable(False)
    for one_call in (False, True):
        monkeypatch.setattr(sequences, "in_one_call", lambda x, once=one_call: calls.append(1) or once)
        policy.zero_grad()
        results = policy.evaluate(obs, actions, state, starts)
        torch.stack(results).square().sum().backward()
        after = policy.unroll(obs, state, starts)[1].detach()
        found.append([*map(torch.Tensor.detach, results), after, *(p.grad.clone() for p in policy.parameters())])
    fused.enable(True)
    assert len(calls) == 4
    for ours, expected in zip(found[1], found[0], strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-6)
