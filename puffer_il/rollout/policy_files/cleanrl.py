"""Weights of CleanRL's scripts (`runs/…/NAME.cleanrl_model`): dqn, ppo, ddpg_continuous_action and
td3_continuous_action, whose networks the names of the weights tell. Scripts that normalise observations and do not
save how are refused.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from puffer_il.core.spec import EnvSpec
from puffer_il.rollout.policy_files.file_policy import Choices, FilePolicy, Head, Squashed, whole_range
from puffer_il.rollout.policy_files.networks import Refuse, count, forward, mlp, plain

ACTOR = {f"{layer}.{part}" for layer in ("fc1", "fc2", "fc_mu") for part in ("weight", "bias")} | {
    "action_scale", "action_bias"}
VALUES = {f"network.{i}.{part}" for i in (0, 2, 4) for part in ("weight", "bias")}
DISCRETE = {f"{net}.{i}.{part}" for net in ("actor", "critic") for i in (0, 2, 4) for part in ("weight", "bias")}


def recognises(state: Any) -> bool:
    actor = _actor(state)
    return actor is not None and (actor.keys() in (ACTOR, VALUES, DISCRETE) or "actor_logstd" in actor)


def read(path: Path, state: Any, spec: EnvSpec, refuse: Refuse) -> FilePolicy:
    """The policy in the file, which acts in environments of `spec`."""
    weights = _actor(state)
    assert weights is not None
    if "actor_logstd" in weights:
        refuse("is of CleanRL's ppo_continuous_action, which normalises observations and does not save how; record "
               "its demonstrations with that script, or trace the network with its normaliser to TorchScript")
    if (weights.keys() == ACTOR) == spec.action.discrete:
        refuse(f"acts in another kind of actions than {spec.name}; use a policy of this environment")
    names = ("fc1", "fc2", "fc_mu") if weights.keys() == ACTOR else tuple(
        f"{'network' if weights.keys() == VALUES else 'actor'}.{i}" for i in (0, 2, 4))
    ordered = {f"{2 * i}.{part}": weights[f"{name}.{part}"]
               for i, name in enumerate(names) for part in ("weight", "bias")}
    activation = nn.Tanh if weights.keys() == DISCRETE else nn.ReLU
    network, width = mlp(ordered, plain(spec, refuse), refuse, activation, f"use a policy of {spec.name}")
    head = _head(weights, spec, refuse)
    if width != head.width():
        refuse(f"has {width} outputs but {spec.name} needs {head.width()}; use a policy of this environment")
    script = {True: "ddpg_continuous_action or td3_continuous_action", False: "dqn"}[weights.keys() == ACTOR]
    script = "ppo" if weights.keys() == DISCRETE else script
    return FilePolicy(str(path), forward(network, spec), head, count([network]),
                      notices=(f"policy {path}: read as the network of CleanRL's {script}",))


def _head(weights: dict[str, Tensor], spec: EnvSpec, refuse: Refuse) -> Head:
    if weights.keys() != ACTOR:
        return Choices(spec.action.nvec, known=weights.keys() == DISCRETE)
    scale, bias = (torch.broadcast_to(weights[key].flatten(), (weights["fc_mu.bias"].numel(),)).numpy()
                   for key in ("action_scale", "action_bias"))
    low, high = bias - scale, bias + scale
    own = whole_range(spec.action)
    if low.shape == own[0].shape and not (np.allclose(low, own[0]) and np.allclose(high, own[1])):
        refuse(f"acts from {low.min():.4g} to {high.max():.4g}, which is not the range of {spec.name}; wrap the "
               "environment as in its training")
    return Squashed(low, high)


def _actor(state: Any) -> dict[str, Tensor] | None:
    """The weights that act: alone, or the first of actor and critics."""
    if isinstance(state, tuple | list) and state:
        state = state[0]
    known = isinstance(state, dict) and all(isinstance(value, Tensor) for value in state.values())
    return state if known else None
