"""A made-up rollout for learners' tests: random rows of a small continuous or discrete environment."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from puffer_il.core.spec import ActionSpec, EnvSpec
from puffer_il.demos.dataset import Demos
from puffer_il.rollout.buffer import RolloutBuffer

SPEC = EnvSpec("made up", (3,), np.dtype(np.float32), ActionSpec(nvec=(2,)))


def sign_demos(n: int = 40, terminated: bool = True) -> Demos:
    """Four episodes of ten rows in which the action is the sign of the first observation."""
    rng = np.random.default_rng(0)
    obs = rng.normal(size=(n, 3)).astype(np.float32)
    ends = np.arange(n) % 10 == 9
    none = np.zeros(n, bool)
    return Demos(obs, (obs[:, :1] > 0).astype(np.int32), np.roll(obs, -1, 0), ends if terminated else none,
                 none if terminated else ends, np.arange(0, n, 10), np.ones(n, np.float32))


def expert_rows(learner: Any) -> Tensor:
    """What an adversarial learner's next update shows the discriminator of the demonstrations."""
    return learner._expert_rows(learner._draw_rows(1, None))


def policy_rows(learner: Any, obs: Tensor, paired: Any) -> Tensor:
    """And of a rollout of these rows."""
    return learner._policy_rows(obs, paired, learner._draw_rows(len(obs), None))


def make_buffer(num_steps: int = 8, num_envs: int = 6, invalid: bool = False, seed: int = 1,
                state_dim: int = 0) -> RolloutBuffer:
    rng = np.random.default_rng(seed)
    buffer = RolloutBuffer(SPEC, num_steps, num_envs, state_dim=state_dim)
    buffer.start()
    rows = slice(0, num_envs)
    for t in range(num_steps):
        obs = rng.normal(size=(num_envs, 3)).astype(np.float32)
        actions = rng.integers(0, 2, (num_envs, 1)).astype(np.int32)
        buffer.write_actions(t, rows, obs, actions, np.full(num_envs, -0.7, np.float32), np.zeros(num_envs, np.float32))
        ends, valid = rng.random(num_envs) < 0.2, np.ones(num_envs, bool)
        valid[0] = not (invalid and t % 2)
        rewards = rng.normal(size=num_envs).astype(np.float32)
        buffer.write_outcome(t, rows, rewards, ends & valid, np.zeros(num_envs, bool), valid, obs)
    return buffer
