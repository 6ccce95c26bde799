"""Networks that other packages save, the environment that they act in, and what is read of their files."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch import nn

from puffer_il.core.spec import ActionSpec, EnvSpec
from puffer_il.rollout.policy_files import read_policy

OBS = np.random.default_rng(0).normal(size=(1000, 4)).astype(np.float32)


def spec(outputs=2, *, discrete=False, low=-2.0, high=3.0, obs=4):
    bounds = [np.full(outputs, bound, np.float32) for bound in (low, high)]
    action = ActionSpec(nvec=(outputs,)) if discrete else ActionSpec(low=bounds[0], high=bounds[1], shape=(outputs,))
    return EnvSpec("toy", (obs,), np.dtype(np.float32), action)


def mlp(*sizes, activation=nn.ELU, seed=0):
    torch.manual_seed(seed)
    layers = [layer for a, b in itertools.pairwise(sizes) for layer in (nn.Linear(a, b), activation())]
    return nn.Sequential(*layers[:-1])


def acted(path, environment=None, obs=OBS, **kwargs):
    return read_policy(path, environment or spec()).predict(obs, deterministic=True, **kwargs)[0]


def given(net, obs=OBS):
    with torch.no_grad():
        return net(torch.from_numpy(obs)).numpy()


def named(net, prefix):
    return {f"{prefix}{key}": value for key, value in net.state_dict().items()}
