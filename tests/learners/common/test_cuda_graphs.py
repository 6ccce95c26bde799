"""A recorded step gives what the step itself gives, and recording it leaves no trace.

Without a GPU a stand-in records and replays, so that everything but the recording itself is tested everywhere.
"""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from puffer_il.learners.common.cuda_graphs import GraphedStep
from puffer_il.learners.experiment import build
from puffer_il.learners.ppo import PPO
from puffer_il.rollout.tensors import DeviceRollout
from tests.support.rollouts import SPEC, make_buffer

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture
def graphs(monkeypatch):
    """How many graphs were recorded; on the CPU a graph is the function that it replays."""
    made: list[object] = []

    class Graph:
        def __init__(self) -> None:
            made.append(self)

        def replay(self) -> None:
            owner = next(g for g in owners if any(entry[0] is self for entry in g.recorded.values()))
            _, inputs, moments, result = next(e for e in owner.recorded.values() if e[0] is self)
            result.copy_(owner.step(inputs, moments))

    owners: list[GraphedStep] = []
    if DEVICE.type == "cpu":
        stream = SimpleNamespace(wait_stream=lambda other: None)
        monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
        monkeypatch.setattr(torch.cuda, "graph", lambda graph: nullcontext())
        monkeypatch.setattr(torch.cuda, "Stream", lambda: stream)
        monkeypatch.setattr(torch.cuda, "stream", lambda s: nullcontext())
        monkeypatch.setattr(torch.cuda, "current_stream", lambda: stream)
    return owners


def ppo() -> PPO:
    torch.manual_seed(0)
    tables = {"policy": {"hidden": [8]}, "train": {"fused": False}, "ppo": {"learning_rate": 1e-2}}
    learner = PPO(SPEC, None, build("ppo", [("test", tables)]), DEVICE, 0)
    learner.optimizer.kernel = None  # graphs are for devices, where the optimiser's step is torch's
    learner.optimizer.prepare()
    return learner


def test_replaying_equals_stepping(graphs):
    buffer = make_buffer(num_steps=8, num_envs=6)
    buffer.rollout = DeviceRollout(buffer, DEVICE)
    buffer.compute_advantages(0.9, 0.95)
    moments = torch.tensor([0.1, 1.3], device=DEVICE)
    parts = [(slice(0, 3), True), (slice(3, 6), True), (slice(0, 2), True), (slice(1, 3), True)]
    losses, weights = [], []
    for recorded in (False, True):
        learner = ppo()
        step = learner._torch_minibatch
        if recorded:
            step = GraphedStep(step, learner.optimizer)
            graphs.append(step)
        losses.append(torch.stack([step(buffer.rollout.select(*part), moments) for part in parts]))
        weights.append(learner.optimizer.flat.clone())
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(weights[1], weights[0], rtol=1e-5, atol=1e-6)
    assert len(graphs[0].recorded) == 2  # minibatches of two shapes
