"""Networks by themselves: the fused ones of the CPU against torch's own, and PPO's update with either."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

import puffer_il.kernels._kernels as kernels
from puffer_il.bench.measure import Effort, Say, Work, interleaved, quotient, rate
from puffer_il.bench.memory import random_rollout
from puffer_il.core.spec import ActionSpec, EnvSpec
from puffer_il.learners.experiment import build
from puffer_il.learners.ppo import PPO
from puffer_il.nn import fused
from puffer_il.nn.networks import mlp

INPUTS, OUTPUTS = 4, 2
BATCHES = (1, 16, 256, 4096, 65_536)
ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "relu": nn.ReLU, "silu": nn.SiLU, "elu": nn.ELU}
HALFCHEETAH = EnvSpec("halfcheetah", (17,), np.dtype(np.float32),
                      ActionSpec(low=np.full(6, -1, np.float32), high=np.full(6, 1, np.float32), shape=(6,)))


def mlps(results: list[dict[str, Any]], threads: int, effort: Effort, say: Say, *, batches: Sequence[int] = BATCHES,
         hidden: Sequence[int] = (64, 256, 512), activations: Sequence[str] = tuple(ACTIVATIONS)) -> None:
    """Every batch and width with tanh, the other activations at one size."""
    some = batches[-2] if len(batches) > 1 else batches[0]
    cases = [(width, batch, activations[0]) for width in hidden for batch in batches]
    cases += [(hidden[0], some, activation) for activation in activations[1:]]
    for width, batch, activation in cases:
        say(f"mlp: 2×{width} {activation}, batch {batch:,}")
        results.append(fused_against_torch(width, batch, activation, threads, effort))


def fused_against_torch(width: int, batch: int, activation: str, threads: int, effort: Effort) -> dict[str, Any]:
    """Forward, and forward with backward, interleaved. torch has one thread or all, whichever is the faster."""
    ours = mlp(INPUTS, (width, width), OUTPUTS, activation)
    theirs = torch_mlp(width, activation)
    theirs.load_state_dict(ours.state_dict())
    x, gradient = torch.randn(batch, INPUTS), torch.randn(batch, OUTPUTS)
    found: dict[str, Any] = {"name": f"2×{width} {activation}, batch {batch:,}", "hidden": width, "batch": batch,
                             "activation": activation, "threads": threads}
    counts = sorted({1, threads})
    for name, run in (("forward", _forward), ("forward_backward", _both)):
        works = {"fused": _with_threads(partial(run, ours, x, gradient), threads, True)}
        works |= {f"torch {n}": _with_threads(partial(run, theirs, x, gradient), n, False) for n in counts}
        seconds = interleaved(works, effort)
        best = min(counts, key=lambda n: float(np.median(seconds[f"torch {n}"])))
        torch_seconds = seconds[f"torch {best}"]
        found[name] = {"fused_rows_per_s": rate(batch, seconds["fused"]), "torch_threads": best,
                       "torch_rows_per_s": rate(batch, torch_seconds),
                       "ratio": quotient(torch_seconds, seconds["fused"])}
    fused.enable(True)
    return found


def torch_mlp(width: int, activation: str) -> nn.Sequential:
    """As anybody would write it."""
    act = ACTIVATIONS[activation]
    return nn.Sequential(nn.Linear(INPUTS, width), act(), nn.Linear(width, width), act(), nn.Linear(width, OUTPUTS))


@torch.no_grad()
def _forward(net: nn.Module, x: torch.Tensor, gradient: torch.Tensor) -> None:
    net(x)


def _both(net: nn.Module, x: torch.Tensor, gradient: torch.Tensor) -> None:
    net.zero_grad()
    net(x).backward(gradient)


def _with_threads(work: Work, threads: int, use_fused: bool) -> Work:
    def chosen() -> None:
        fused.enable(use_fused)
        torch.set_num_threads(threads)
        kernels.set_threads(threads)
        work()

    return chosen


def continuous_update(results: list[dict[str, Any]], threads: int, effort: Effort, say: Say, *, num_envs: int = 1024,
                      num_steps: int = 16, hidden: tuple[int, ...] = (256, 256)) -> None:
    """PPO's update, one epoch, on rollouts as HalfCheetah's: 17 → 2×256 → 6, Gaussian; fused against torch."""
    say(f"mlp: PPO update, 17 → {'×'.join(map(str, hidden))} → 6")
    buffer = random_rollout(HALFCHEETAH, num_steps, num_envs)
    works = {}
    for name, use_fused in (("fused", True), ("torch", False)):
        tables = {"policy": {"hidden": hidden}, "ppo": {"update_epochs": 1, "num_minibatches": 4, "learning_rate": 0}}
        config = build("ppo", [("bench", tables)])
        learner = PPO(HALFCHEETAH, None, config, torch.device("cpu"), 1)
        works[name] = _with_threads(partial(learner.update, buffer, 0.0), threads, use_fused)
    seconds, rows = interleaved(works, effort), num_envs * num_steps
    fused.enable(True)
    results.append({"name": "HalfCheetah's sizes", "hidden": list(hidden), "rows": rows, "threads": threads,
                    "fused_rows_per_s": rate(rows, seconds["fused"]), "torch_rows_per_s": rate(rows, seconds["torch"]),
                    "ratio": quotient(seconds["torch"], seconds["fused"])})
