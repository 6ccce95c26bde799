"""A checkpoint of skrl (`agent_1000.pt`) whose networks skrl's own instantiators made: policy and observation scaler.

The networks' activations and what becomes of their outputs are in the run's configuration (`params/agent.yaml`, which
Isaac Lab writes beside the checkpoints, or the `agent.yaml` of skrl's Runner). Versions 1.4 and 2.1; what was made by
hand, or has more than one network before its output, is refused.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from puffer_il.core.spec import EnvSpec
from puffer_il.rollout.policy_files.file_policy import Choices, FilePolicy, Head, Normal
from puffer_il.rollout.policy_files.networks import Refuse, beside, count, forward, linear, mlp, plain, under

CONFIGS = ("params/agent.yaml", "agent.yaml")
ACTIVATIONS = {"elu": nn.ELU, "leaky_relu": nn.LeakyReLU, "relu": nn.ReLU, "selu": nn.SELU, "sigmoid": nn.Sigmoid,
               "softplus": nn.Softplus, "softsign": nn.Softsign, "tanh": nn.Tanh}
ROLES = ("policy", "q_network")
NONE = {"", "null", "none", "~", "{}"}
EXPORT = ("trace one that maps observations to mean actions, with its preprocessor, and give that: "
          "torch.jit.trace(net, obs).save('policy.pt')")


class Scaler(nn.Module):
    """skrl's RunningStandardScaler: (x − mean) / (sqrt(var) + epsilon), within ± threshold."""

    def __init__(self, weights: dict[str, Tensor], epsilon: float, threshold: float) -> None:
        super().__init__()
        self.mean, self.var = weights["running_mean"].float(), weights["running_variance"].float()
        self.epsilon, self.threshold = epsilon, threshold

    def forward(self, x: Tensor) -> Tensor:
        return ((x - self.mean) / (self.var.sqrt() + self.epsilon)).clamp(-self.threshold, self.threshold)


class Stretched(nn.Module):
    """Its output `factor * tanh(ACTIONS)`."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * torch.tanh(x)


def recognises(state: Any) -> bool:
    return isinstance(state, dict) and any(isinstance(state.get(role), dict) for role in ROLES) and (
        "value" in state or any("optimizer" in key or "preprocessor" in key for key in state if isinstance(key, str)))


def read(path: Path, state: Any, spec: EnvSpec, refuse: Refuse) -> FilePolicy:
    """The policy in the file, which acts in environments of `spec`."""
    role = next(role for role in ROLES if isinstance(state.get(role), dict))
    weights = state[role]
    names = {key.partition("_container.")[0] for key in weights if "_container." in key}
    known = ("policy_layer.", "value_layer.", "log_std_parameter", *(f"{name}_container." for name in names))
    other = [key for key in weights if not key.startswith(known)]
    if other or len(names) != 1:
        found = other[0] if other else ", ".join(sorted(names)) or "nothing"
        refuse(f"is a checkpoint of skrl, which does not describe the network of {found}; {EXPORT}")
    config = beside(path, CONFIGS)
    if config is None:
        refuse("is a checkpoint of skrl, which does not say its activation, and there is no params/agent.yaml beside "
               f"it; lay its agent.yaml there, or {EXPORT}")
    assert config is not None
    text = config.read_text()
    said = Said(config, section(text, role), refuse)
    layers = under(weights, f"{names.pop()}_container.")
    shared = "policy_layer.weight" in weights
    width, fits = plain(spec, refuse), f"use a policy of {spec.name}"
    network, outputs = mlp(layers, width, refuse, said.activation(), fits, last=not shared)
    parts: list[nn.Module] = [network]
    if shared:
        last = linear(weights["policy_layer.weight"], weights.get("policy_layer.bias"))
        if last.in_features != outputs:
            refuse(f"has a layer of {last.in_features} inputs behind {outputs} outputs; save it again")
        parts, outputs = [network, last], last.out_features
    head = _head(spec, weights, said, role)
    if outputs != head.width():
        refuse(f"has {outputs} outputs but {spec.name} needs {head.width()}; {fits}")
    behind = said.output(spec.action.discrete)
    scaler = _scaler(state, text, said, width, refuse)
    whole = nn.Sequential(*([scaler] if scaler else []), *parts, *behind)
    return FilePolicy(str(path), forward(whole, spec), head, count([whole]),
                      notices=(f"policy {path}: read as skrl's policy, its activation from {config}",))


def _head(spec: EnvSpec, weights: dict[str, Tensor], said: "Said", role: str) -> Head:
    if spec.action.discrete:  # probabilities have the same mode as logits
        logits = said.values("unnormalized_log_prob") <= {"true"}
        return Choices(spec.action.nvec, known=role == "policy" and logits)
    log_std = weights.get("log_std_parameter")
    if log_std is not None and said.values("clip_log_std") != {"false"}:
        log_std = log_std.clamp(said.number("min_log_std", -20), said.number("max_log_std", 2))
    return Normal(spec.action.width, None if log_std is None else log_std.flatten().numpy().astype(np.float32))


def _scaler(state: dict[str, Any], text: str, said: "Said", width: int, refuse: Refuse) -> Scaler | None:
    """What scales the observations of the policy: until version 1.4 they are called states, which version 2 has apart
    from them."""
    name = "observation_preprocessor"
    if name not in state and "state_preprocessor" in state and not re.search(rf"^\s*{name}:", text, re.MULTILINE):
        name = "state_preprocessor"
        if said.values("input") != {"states"}:
            refuse("is a checkpoint of skrl that scales states, and its agent.yaml does not say whether those are the "
                   f"observations (input: STATES); {EXPORT}")
    if name not in state:
        return None
    weights, kwargs = state[name], Said(said.config, section(text, f"{name}_kwargs"), refuse)
    if not {"running_mean", "running_variance"} <= weights.keys() or weights["running_mean"].shape != (width,):
        refuse(f"is a checkpoint of skrl whose {name} is not a RunningStandardScaler of {width} numbers; {EXPORT}")
    if given := values(text, f"{name}_kwargs") - NONE:
        refuse(f"is a checkpoint of skrl whose agent.yaml has {name}_kwargs: {min(given)} in one line; write a line "
               "for each of them")
    return Scaler(weights, kwargs.number("epsilon", 1e-8), kwargs.number("clip_threshold", 5.0))


class Said:
    """What a part of the configuration says, as far as it can be told apart without a parser of YAML."""

    def __init__(self, config: Path, text: str, refuse: Refuse) -> None:
        self.config, self.text, self._refuse = config, text, refuse

    def values(self, name: str) -> set[str]:
        return values(self.text, name)

    def number(self, name: str, default: float) -> float:
        found = self.values(name) - NONE
        try:
            return float(found.pop()) if len(found) == 1 else default
        except ValueError:
            return float(self.refuse(name, "no number"))

    def refuse(self, name: str, what: str) -> Any:
        return self._refuse(f"is a checkpoint of skrl, and {self.config} says for {name} {what}; {EXPORT}")

    def activation(self) -> type[nn.Module]:
        given = {name for value in self.values("activations") for name in re.findall(r"\w+", value)}
        if len(given) != 1 or not given <= ACTIVATIONS.keys():
            self.refuse("activations", ", ".join(sorted(given)) or "none")
        return ACTIVATIONS[given.pop()]

    def output(self, discrete: bool) -> list[nn.Module]:
        """What follows the last layer."""
        inputs, given = self.values("input"), self.values("output")
        if len(inputs) != 1 or not inputs <= {"states", "observations"}:
            self.refuse("input", ", ".join(sorted(inputs)) or "none")
        if self.values("clip_mean_actions") - {"false"}:
            self.refuse("clip_mean_actions", "true")
        if given == {"actions"}:
            return []
        found = re.fullmatch(r"(?:(\d+(?:\.\d*)?) ?\* ?)?tanh\(actions\)", given.pop()) if len(given) == 1 else None
        if found is None or discrete:
            self.refuse("output", ", ".join(sorted(self.values("output"))) or "none")
        assert found is not None
        return [Stretched(float(found[1] or 1))]


def section(text: str, name: str) -> str:
    """The lines of a YAML file that belong to a key, the first of this name."""
    lines = text.splitlines()
    start = next((k for k, line in enumerate(lines) if re.match(rf"\s*{name}:\s*(#.*)?$", line)), None)
    if start is None:
        return ""
    depth = len(lines[start]) - len(lines[start].lstrip())
    end = next((k for k in range(start + 1, len(lines)) if lines[k].strip() and not lines[k].lstrip().startswith("#")
                and len(lines[k]) - len(lines[k].lstrip()) <= depth), len(lines))
    return "\n".join(lines[start + 1:end])


def values(text: str, name: str) -> set[str]:
    """All values of a key in lines of YAML, in small letters."""
    found = re.findall(rf"^[ \t-]*{name}:[ \t]*(.*?)[ \t]*(?:[ \t]#.*)?$", text, re.MULTILINE)
    return {value.strip("'\"").lower() for value in found}
