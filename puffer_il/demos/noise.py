"""Noise on a demonstrator's actions, so that recordings show how to come back from where it would never go (DART,
arXiv:1703.09327). The noisy action is executed, the demonstrator's own one is stored."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from puffer_il.core.errors import InputError
from puffer_il.core.spec import Array, EnvSpec
from puffer_il.demos.record import Noise

STREAM = 1_703_09327  # beside the seed: other numbers than the environments and the actor draw from it


def noise_of(spec: EnvSpec, epsilon: float = 0.0, std: float = 0.0) -> Callable[[int], Noise] | None:
    """From a seed to the noise that it gives; None without any.

    epsilon  how often an action is replaced by a uniform one that may be taken
    std      standard deviation of what is added to continuous actions, as a share of half their range
    InputError where the actions have no such noise.
    """
    action = spec.action
    if std and action.discrete:
        raise InputError(f"--noise {std:g}: {spec.name} has no continuous actions that it could be added to; use "
                         "--epsilon")
    if epsilon and not action.bounded:
        raise InputError(f"--epsilon {epsilon:g}: actions of {spec.name} have no bounds to draw from; use --noise")
    if not (epsilon or std):
        return None

    def begin(seed: int) -> Noise:
        rng = np.random.default_rng((seed, STREAM))

        def noise(obs: Array, actions: Array) -> Array:
            if std:
                actions = actions + std * action.half_range * rng.standard_normal(actions.shape, np.float32)
            if epsilon:
                other = rng.random((len(actions), 1)) < epsilon
                actions = np.where(other, _uniform(spec, obs, rng), actions)
            return actions.astype(action.dtype)
        return noise
    return begin


def _uniform(spec: EnvSpec, obs: Array, rng: np.random.Generator) -> Array:
    """Actions (n, dim), all that may be taken being equally likely."""
    action, allowed = spec.action, spec.allowed(obs)
    if allowed is not None:
        return np.stack([(rng.random(part.shape) * part).argmax(1) for part in allowed], 1)
    if action.discrete:
        return rng.integers(0, action.nvec, (len(obs), action.dim))
    return rng.uniform(np.asarray(action.low), np.asarray(action.high), (len(obs), action.dim))
