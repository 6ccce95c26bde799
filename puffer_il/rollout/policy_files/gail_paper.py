"""The experts of the GAIL paper (Ho and Ermon 2016): an .npz of the arrays W0 b0 … Wout bout obs_mean obs_std act
[logstd]; logits or means are a network of (obs − obs_mean) / obs_std.
"""

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from puffer_il.core.spec import Array, EnvSpec
from puffer_il.demos.npz import Npz
from puffer_il.rollout.policy_files.file_policy import Choices, FilePolicy, Head, Normal

ACTIVATIONS: tuple[Callable[[Array], Array], ...] = (np.tanh, lambda x: np.maximum(x, 0.01 * x))  # act 0 and 1


def recognises(file: Npz) -> bool:
    return "Wout" in file


def read(file: Npz, spec: EnvSpec) -> FilePolicy:
    """The policy in the file, which acts in environments of `spec`."""
    kind = float(file["act"].reshape(-1)[0])
    if kind not in (0.0, 1.0):
        file.refuse(f"act is {kind}; known are 0 (tanh) and 1 (leaky ReLU)")
    depth = sum(re.fullmatch(r"W\d+", key) is not None for key in file.keys)
    layers = [(file[f"W{name}"], file[f"b{name}"]) for name in [*map(str, range(depth)), "out"]]
    mean, std, log_std = file["obs_mean"], file["obs_std"], file.get("logstd")
    log_std = None if log_std is None else log_std.reshape(-1)
    head: Head = Choices(spec.action.nvec) if spec.action.discrete else Normal(spec.action.width, log_std)
    _check_shapes(file, layers, {"obs_mean": mean, "obs_std": std, "logstd": log_std}, head, spec)
    activation = ACTIVATIONS[int(kind)]

    def network(obs: Array, state: Any, starts: Array | None) -> tuple[Array, Any]:
        x = (obs.reshape(len(obs), -1).astype(np.float32) - mean) / std
        for weight, bias in layers[:-1]:
            x = activation(x @ weight + bias)
        weight, bias = layers[-1]
        return x @ weight + bias, state

    return FilePolicy(file.source, network, head, sum(weight.size + bias.size for weight, bias in layers))


def _check_shapes(file: Npz, layers: list[tuple[Array, Array]], others: dict[str, Array | None], head: Head,
                  spec: EnvSpec) -> None:
    """Layers must fit one another, the observation and the action."""
    inputs = width = int(np.prod(spec.obs_shape))
    for weight, bias in layers:
        if weight.ndim != 2 or weight.shape[0] != width or bias.shape != weight.shape[1:]:
            file.refuse(f"has a layer of shape {weight.shape} for {width} inputs; use a policy of {spec.name}")
        width = weight.shape[1]
    if width != head.width():
        file.refuse(f"has {width} outputs but {spec.name} needs {head.width()}; use a policy of this environment")
    for name, array in others.items():
        size = width if name == "logstd" else inputs
        if array is not None and array.shape != (size,):
            file.refuse(f"{name} has shape {array.shape}, not ({size},); use a policy of {spec.name}")
