"""Policies that are no torch module: `types.NumpyPolicy`, as evaluation and rollouts use the torch one.

A learner is free in its framework. What it shows of its policy are arrays, and this is where they become what the rest
of the loop knows. Without the C kernels such a policy costs a call of its own per vector step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from puffer_il.config import Config
from puffer_il.distributions import Noise
from puffer_il.policy import Policy
from puffer_il.registry import get_learner
from puffer_il.types import ActionSpec, Array, EnvSpec, NumpyActorCritic, NumpyPolicy


def make_policy(spec: EnvSpec, config: Config, device: str = "cpu") -> Policy | NumpyPolicy:
    """An untrained policy of the kind that the learner of `config` has; its weights come from a checkpoint."""
    made = getattr(get_learner(config.algo), "make_policy", None)
    return Policy(spec, config.policy).to(device).eval() if made is None else made(spec, config)


def num_parameters(policy: Policy | NumpyPolicy) -> int:
    if isinstance(policy, torch.nn.Module):
        return sum(p.numel() for p in policy.parameters())
    return policy.num_parameters


def actor(policy: NumpyPolicy, deterministic: bool, seed: int) -> Callable[[Array, Array], Array]:
    """`act(obs (n, *obs_shape), episode_start (n,) bool) -> actions (n, dim)` that keeps the recurrent state."""
    policy.set_random_seed(seed)
    state: Any = None

    def act(obs: Array, starts: Array) -> Array:
        nonlocal state
        actions, state = policy.predict(obs, state, starts, deterministic)
        return np.asarray(actions).reshape(len(obs), -1)

    return act


class Tensors:
    """An actor-critic of arrays whose `act` and `value` take and give tensors, as those of `policy.Policy` do.

    Its noise is a function of (seed, step, first row), as the torch policy's is on the CPU, so that nothing of it needs
    to be saved.
    """

    state_dim = 0

    def __init__(self, policy: NumpyActorCritic, action: ActionSpec) -> None:
        self.policy, self.action = policy, action

    def initial_state(self, n: int) -> None:
        return None

    def act(self, obs: Tensor, state: None, noise: Noise, first_row: int) -> tuple[Tensor, Tensor, Tensor, None]:
        actions, logprobs, values = self.policy.act(obs.numpy(), np.random.default_rng(
            (noise.seed, noise.step, first_row)))
        return (torch.from_numpy(np.ascontiguousarray(actions, self.action.dtype)).reshape(len(obs), self.action.dim),
                _column(logprobs), _column(values), None)

    def value(self, obs: Tensor, state: None = None) -> Tensor:
        return _column(self.policy.value(obs.numpy()))


def _column(numbers: Array) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(numbers, np.float32)).reshape(-1)
