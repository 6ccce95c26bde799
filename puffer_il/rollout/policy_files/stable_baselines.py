"""A model.zip of Stable-Baselines3 or sb3_contrib: its actions are those of that library's own `predict`.

The file holds the weights, and a JSON that names the policy's class, its options and its spaces. Each kind of policy is
one function here, which builds the network that its class builds; whatever changes an action and is not known here
is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from puffer_il.core.spec import Array, EnvSpec
from puffer_il.demos.npz import Npz
from puffer_il.rollout.policy_files import vecnormalize
from puffer_il.rollout.policy_files.file_policy import Bits, Choices, FilePolicy, Head, Normal
from puffer_il.rollout.policy_files.networks import count, lstm, under
from puffer_il.rollout.policy_files.sb3_features import Features
from puffer_il.rollout.policy_files.sb3_model import RECORD, Model, check_spaces

Built = tuple[Features, list[nn.Module], Head]


def _actor_critic(model: Model) -> Built:
    """PPO, A2C and TRPO, and the feed-forward part of RecurrentPPO."""
    own = any(key.startswith("pi_features_extractor.") for key in model.weights)
    before = model.features("pi_features_extractor." if own else "features_extractor.")
    modules: list[nn.Module] = []
    width = before.size
    if memory := under(model.weights, "lstm_actor."):
        recurrent = lstm(memory, model.refuse)
        modules.append(recurrent)
        width = recurrent.hidden_size
    for part in ("shared_net", "policy_net"):  # shared_net: before version 1.8
        layers, width = model.layers(f"mlp_extractor.{part}.", width, "Tanh", last=False)
        modules.append(layers)
    modules.append(model.linear("action_net", width))
    if model.option("squash_output", False):
        return before, modules, model.squashed()
    return before, modules, _head(model)


def _head(model: Model) -> Head:
    log_std = model.weights.get("log_std")
    if model.action.kind == "Box":
        known = log_std is not None and log_std.ndim == 1  # else state-dependent exploration (gSDE)
        return Normal(int(np.prod(model.action.shape)), log_std.numpy() if known and log_std is not None else None)
    return Bits(model.action.size) if model.action.kind == "MultiBinary" else Choices(model.action.nvec)


def _soft_actor(model: Model) -> Built:
    """SAC, TQC and CrossQ."""
    before = model.features("actor.features_extractor.")
    latent, width = model.layers("actor.latent_pi.", before.size, "ReLU", last=False,
                                 epsilon=model.option("batch_norm_eps", 0.001))
    if "actor.mu.0.weight" in model.weights:  # state-dependent exploration keeps the mean within ±clip_mean
        bound = model.option("clip_mean", 2.0)
        return before, [latent, model.linear("actor.mu.0", width), nn.Hardtanh(-bound, bound)], model.squashed()
    mean = model.linear("actor.mu", width)
    return before, [latent, Beside(mean, model.linear("actor.log_std", width))], model.squashed(spread=True)


def _deterministic_actor(model: Model) -> Built:
    """TD3 and DDPG."""
    before = model.features("actor.features_extractor.")
    layers, _ = model.layers("actor.mu.", before.size, "ReLU")
    return before, [layers], model.squashed()


def _values(model: Model) -> Built:
    """DQN, and QR-DQN, whose quantiles are averaged."""
    net = "q_net" if any(key.startswith("q_net.") for key in model.weights) else "quantile_net"
    before = model.features(f"{net}.features_extractor.")
    layers, width = model.layers(f"{net}.{net}.", before.size, "ReLU")
    actions = sum(model.action.nvec)
    modules: list[nn.Module] = [layers] if net == "q_net" else [layers, Average(max(width // actions, 1), actions)]
    return before, modules, Choices(model.action.nvec, epsilon=float(model.data.get("exploration_rate", 0)))


def _random_search(model: Model) -> Built:
    """ARS."""
    before = model.features("features_extractor.")
    layers, width = model.layers("action_net.", before.size, "ReLU")
    if model.action.kind == "Discrete":
        return before, [layers], Choices(model.action.nvec, epsilon=0.0)
    squash = model.option("squash_output", "ARSLinearPolicy" not in model.name)
    return before, [layers], model.squashed() if squash else Normal(width)


class Beside(nn.Module):
    """The outputs of two layers, side by side."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([layer(x) for layer in self.layers], 1)


class Average(nn.Module):
    """(n, quantiles × actions) → (n, actions)."""

    def __init__(self, quantiles: int, actions: int) -> None:
        super().__init__()
        self.shape = quantiles, actions

    def forward(self, x: Tensor) -> Tensor:
        return x.view(-1, *self.shape).mean(1)


MASKED = "sb3_contrib.common.maskable.policies"
KINDS: dict[str, Callable[[Model], Built]] = {
    "stable_baselines3.common.policies": _actor_critic,
    "sb3_contrib.common.recurrent.policies": _actor_critic,
    MASKED: _actor_critic,
    "stable_baselines3.sac.policies": _soft_actor,
    "sb3_contrib.tqc.policies": _soft_actor,
    "sb3_contrib.crossq.policies": _soft_actor,
    "stable_baselines3.td3.policies": _deterministic_actor,
    "stable_baselines3.dqn.policies": _values,
    "sb3_contrib.qrdqn.policies": _values,
    "sb3_contrib.ars.policies": _random_search,
}
def recognises(file: Npz) -> bool:
    return "policy.pth" in file


def read(file: Npz, spec: EnvSpec) -> FilePolicy:
    """The policy in the file, which acts in environments of `spec`."""
    model = Model(file, spec)
    if model.module == MASKED and spec.mask is None:
        file.refuse(f"is a MaskablePPO, but {spec.name} has no masks; give it a method action_masks(), or "
                    "info['action_mask']")
    if model.module not in KINDS:
        file.refuse(f"has a policy of its own ({model.module}); {RECORD}")
    check_spaces(model)
    statistics, notices = _statistics(model)
    try:
        before, modules, head = KINDS[model.module](model)
    except KeyError as error:
        file.refuse(f"has no weights {error.args[0]!r}; {RECORD}")
    outputs = getattr(_last(modules), "out_features", head.width())
    if outputs != head.width():
        file.refuse(f"has {outputs} outputs but {spec.name} needs {head.width()}; use a policy of this environment")
    network = _Network(spec, statistics, before, modules, model.module == MASKED)
    return FilePolicy(file.source, network, head, count([before.module, *modules]), network.memoryless, notices)


def _last(modules: list[nn.Module]) -> nn.Module:
    last = modules[-1]
    return list(last)[-1] if isinstance(last, nn.Sequential) and len(last) else last


def _statistics(model: Model) -> tuple[vecnormalize.Statistics | None, tuple[str, ...]]:
    """The statistics that normalised the observations of training, if the file shows that something did."""
    path = vecnormalize.beside(Path(model.file.source))
    if model.data.get("_last_original_obs") is None:
        unused = f"policy {model.file.source}: was trained without VecNormalize, so that {path} beside it is not used"
        return None, (unused,) if path else ()
    if path is None:
        model.refuse("was trained on observations that VecNormalize normalised, whose statistics are in another file; "
                     f"{vecnormalize.EXPORT}")
    statistics = vecnormalize.read_statistics(path)
    told = "are normalised with the statistics of" if statistics else "are not normalised, as says"
    return statistics, (f"policy {model.file.source}: observations {told} {path}",)


class _Network:
    """rows → outputs, as FilePolicy calls it."""

    def __init__(self, spec: EnvSpec, statistics: vecnormalize.Statistics | None, before: Features,
                 modules: list[nn.Module], masked: bool) -> None:
        self.spec, self.statistics, self.before, self.masked = spec, statistics, before, masked
        self.recurrent = modules[0] if isinstance(modules[0], nn.LSTM) else None
        self.rest = nn.Sequential(*modules[self.recurrent is not None:]).eval()
        self.memoryless = self.recurrent is None

    def __call__(self, rows: Array, state: Any, starts: Array | None) -> tuple[Array, Any]:
        obs = self.spec.unpack(rows)
        if self.statistics is not None:
            obs = self.statistics(obs)
        with torch.no_grad():
            x = self.before(obs)
            if self.recurrent is not None:
                x, state = self._remember(self.recurrent, x, state, starts)
            outputs = self.rest(x).numpy()
        allowed = self.spec.allowed(rows) if self.masked else None
        if allowed is not None:
            outputs = np.where(np.concatenate(allowed, 1), outputs, -np.inf)
        return outputs, state

    def _remember(self, recurrent: nn.LSTM, x: Tensor, state: Any, starts: Array | None) -> tuple[Tensor, Any]:
        if state is None:
            zero = torch.zeros(recurrent.num_layers, len(x), recurrent.hidden_size)
            state = zero, zero
        elif starts is not None:
            keep = 1 - torch.from_numpy(np.asarray(starts, np.float32)).view(1, -1, 1)
            state = state[0] * keep, state[1] * keep
        out, state = recurrent(x.unsqueeze(0), state)
        return out[0], state
