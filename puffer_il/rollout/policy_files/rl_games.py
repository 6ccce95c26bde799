"""A checkpoint of rl_games (`nn/NAME.pth`): actor and observation normaliser; the activation and what becomes of
actions are in the run's configuration (`params/agent.yaml` of Isaac Lab, `config.yaml` of IsaacGymEnvs).
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from puffer_il.core.spec import Array, EnvSpec
from puffer_il.rollout.policy_files.file_policy import Choices, FilePolicy, Head, Normal, whole_range
from puffer_il.rollout.policy_files.networks import Refuse, beside, count, forward, linear, mlp, plain, setting, under

CONFIGS = ("params/agent.yaml", "agent.yaml", "config.yaml")
ACTIVATIONS = {"elu": nn.ELU, "selu": nn.SELU, "relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid,
               "softplus": nn.Softplus, "gelu": nn.GELU, "swish": nn.SiLU}
NET = "a2c_network."
PARTS = ("actor_mlp.", "critic_mlp.", "mu.", "logits.", "value.", "sigma")
EXPORT = "export it to TorchScript or ONNX and give that"


class Normaliser(nn.Module):
    """rl_games' RunningMeanStd: (x − mean) / sqrt(var + 1e-5), within ±5."""

    def __init__(self, weights: dict[str, Tensor]) -> None:
        super().__init__()
        self.mean, self.var = weights["running_mean"].float(), weights["running_var"].float()

    def forward(self, x: Tensor) -> Tensor:
        return ((x - self.mean) / torch.sqrt(self.var + 1e-5)).clamp(-5.0, 5.0)


class Stretched(Normal):
    """rl_games' `clip_actions`: actions within ±1 are stretched over the environment's range."""

    def __init__(self, spec: EnvSpec, log_std: Array | None) -> None:
        super().__init__(spec.action.width, log_std)
        self.low, self.high = whole_range(spec.action)

    def actions(self, outputs: Array, rng: np.random.Generator | None) -> Array:
        x = np.clip(super().actions(outputs, rng), -1, 1)
        return (x * (self.high - self.low) / 2 + (self.high + self.low) / 2).astype(np.float32)


def recognises(state: Any) -> bool:
    return isinstance(state, dict) and isinstance(state.get("model"), dict) and any(
        key.startswith(NET) for key in state["model"])


def read(path: Path, state: Any, spec: EnvSpec, refuse: Refuse) -> FilePolicy:
    """The policy in the file, which acts in environments of `spec`."""
    weights = under(state["model"], NET)
    other = [key for key in weights if not key.startswith(PARTS)]
    kind = "logits" if spec.action.discrete else "mu"
    if other or f"{kind}.weight" not in weights:
        refuse(f"is a checkpoint of rl_games with {other[0] if other else f'no {kind}'}; {EXPORT}")
    config = beside(path, CONFIGS)
    text = config.read_text() if config else ""
    names = setting(text, "activation")
    odd = (setting(text, "mu_activation") - {"none"}) or (setting(text, "d2rl") - {"false"})
    if len(names) != 1 or not names <= ACTIVATIONS.keys() or odd:
        found = f"{config} names {', '.join(sorted(names | odd)) or 'none'}" if config else (
            "there is no params/agent.yaml or config.yaml")
        refuse(f"is a checkpoint of rl_games, which does not say its activation, and {found}; {EXPORT}")
    fits = f"use a policy of {spec.name}"
    layers, width = mlp(under(weights, "actor_mlp."), plain(spec, refuse), refuse, ACTIVATIONS[names.pop()], fits,
                        last=False)
    last = linear(weights[f"{kind}.weight"], weights[f"{kind}.bias"])
    head = _head(spec, weights, setting(text, "clip_actions"))
    if last.in_features != width or last.out_features != head.width():
        refuse(f"has {last.out_features} outputs but {spec.name} needs {head.width()}; {fits}")
    norm = under(state["model"], "running_mean_std.")
    network = nn.Sequential(*([Normaliser(norm)] if "running_mean" in norm else []), layers, last)
    return FilePolicy(str(path), forward(network, spec), head, count([network]),
                      notices=(f"policy {path}: read as rl_games' actor, its activation from {config}",))


def _head(spec: EnvSpec, weights: dict[str, Tensor], clipped: set[str]) -> Head:
    if spec.action.discrete:
        return Choices(spec.action.nvec)
    log_std = weights["sigma"].numpy() if "sigma" in weights else None
    return Normal(spec.action.width, log_std) if clipped == {"false"} else Stretched(spec, log_std)
