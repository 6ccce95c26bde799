"""A checkpoint of rsl_rl (`model_1500.pt`): actor and observation normaliser; the activation is in `params/agent.yaml`,
which Isaac Lab writes beside the checkpoints.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from puffer_il.core.spec import EnvSpec
from puffer_il.rollout.policy_files.file_policy import FilePolicy, Normal
from puffer_il.rollout.policy_files.networks import Refuse, beside, count, forward, mlp, plain, setting, under

CONFIGS = ("params/agent.yaml", "agent.yaml")
ACTIVATIONS = {"elu": nn.ELU, "selu": nn.SELU, "relu": nn.ReLU, "lrelu": nn.LeakyReLU, "tanh": nn.Tanh,
               "sigmoid": nn.Sigmoid, "softplus": nn.Softplus, "gelu": nn.GELU, "swish": nn.SiLU, "mish": nn.Mish,
               "identity": nn.Identity}
EXPORT = "give the policy.pt or policy.onnx that rsl_rl exports (runner.export_policy_to_jit, Isaac Lab's play)"


class Normaliser(nn.Module):
    """rsl_rl's EmpiricalNormalization: (x − mean) / (std + 0.01)."""

    def __init__(self, weights: dict[str, Tensor]) -> None:
        super().__init__()
        self.mean, self.std = weights["_mean"], weights["_std"]

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / (self.std + 1e-2)


def recognises(state: Any) -> bool:
    return isinstance(state, dict) and ("actor_state_dict" in state or "model_state_dict" in state)


def read(path: Path, state: Any, spec: EnvSpec, refuse: Refuse) -> FilePolicy:
    """The policy in the file, which acts in environments of `spec`."""
    if "actor_state_dict" in state:  # versions 4 and 5
        actor = state["actor_state_dict"]
        layers, norm = under(actor, "mlp."), under(actor, "obs_normalizer.")
        std, log_std = actor.get("distribution.std_param"), actor.get("distribution.log_std_param")
        known = ("mlp.", "obs_normalizer.", "distribution.")
        other = [key for key in actor if not key.startswith(known)]
    else:
        model = state["model_state_dict"]
        layers = under(model, "actor.")
        norm = under(model, "actor_obs_normalizer.") or state.get("obs_norm_state_dict") or {}
        std, log_std = model.get("std"), model.get("log_std")
        other = [key for key in model if not key.startswith(("actor", "critic", "std", "log_std"))]
    if other or not layers or spec.action.discrete:
        refuse(f"is a checkpoint of rsl_rl with {other[0] if other else 'no plain actor for these actions'}; {EXPORT}")
    config = beside(path, CONFIGS)
    names = setting(config.read_text(), "activation") if config else set()
    if len(names) != 1 or not names <= ACTIVATIONS.keys():
        found = f"{config} names {', '.join(sorted(names)) or 'none'}" if config else "there is no params/agent.yaml"
        refuse(f"is a checkpoint of rsl_rl, which does not say its activation, and {found}; {EXPORT}")
    actor_layers, width = mlp(layers, plain(spec, refuse), refuse, ACTIVATIONS[names.pop()],
                              f"use a policy of {spec.name}")
    if width != spec.action.width:
        refuse(f"has {width} outputs but {spec.name} needs {spec.action.width}; use a policy of this environment")
    network = nn.Sequential(*([Normaliser(norm)] if "_mean" in norm else []), actor_layers)
    log_std = torch.log(std) if std is not None else log_std
    return FilePolicy(str(path), forward(network, spec), Normal(width, None if log_std is None else log_std.numpy()),
                      count([network]),
                      notices=(f"policy {path}: read as rsl_rl's actor, its activation from {config}",))
