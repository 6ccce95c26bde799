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

from puffer_il.core.spec import ActionSpec, Array, EnvSpec
from puffer_il.nn.distributions import Noise
from puffer_il.nn.numpy_policy import NumpyActorCritic, NumpyPolicy
from puffer_il.nn.policy import Policy

Actor = Callable[[Array, Array], Array]  # (obs (n, …), episode_starts (n,) bool) → actions (n, dim)


def policy_actor(policy: Policy | NumpyPolicy, n: int, deterministic: bool, seed: int) -> Actor:
    """An Actor for n rows that keeps the recurrent state between calls."""
    if not isinstance(policy, Policy):
        return numpy_actor(policy, deterministic, seed)
    device = next(policy.parameters()).device
    noise = Noise.on(device, seed)
    state = policy.initial_state(n)

    def act(obs: Array, starts: Array) -> Array:
        nonlocal state
        if state is not None:
            state = state * (1 - torch.as_tensor(starts, dtype=torch.float32, device=device)).unsqueeze(1)
        actions, _, _, state = policy.act(torch.from_numpy(obs).to(device), state, noise, deterministic=deterministic)
        noise.step += 1
        return actions.cpu().numpy()

    return act


def random_actor(spec: EnvSpec, seed: int) -> Actor:
    """Uniform over the action space; standard normal where a continuous range has no bounds."""
    rng, action = np.random.default_rng(seed), spec.action
    if action.discrete:
        return lambda obs, starts: rng.integers(0, action.nvec, (len(obs), action.dim)).astype(np.int32)
    assert action.low is not None and action.high is not None
    bounded = np.isfinite(action.low) & np.isfinite(action.high)
    low, high = np.where(bounded, action.low, 0), np.where(bounded, action.high, 1)

    def act(obs: Array, starts: Array) -> Array:
        uniform = rng.uniform(low, high, (len(obs), action.dim))
        return np.where(bounded, uniform, rng.standard_normal(uniform.shape)).astype(np.float32)

    return act


def num_parameters(policy: Policy | NumpyPolicy) -> int:
    if isinstance(policy, torch.nn.Module):
        return sum(p.numel() for p in policy.parameters())
    return policy.num_parameters


def numpy_actor(policy: NumpyPolicy, deterministic: bool, seed: int) -> Callable[[Array, Array], Array]:
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
