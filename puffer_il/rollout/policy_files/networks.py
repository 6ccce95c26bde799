"""The parts of other people's networks, built from their weights: torch modules that hold exactly those."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from puffer_il.core.spec import Array, EnvSpec
from puffer_il.rollout.policy_files.file_policy import Network

Weights = Mapping[str, Tensor]
Refuse = Callable[[str], Any]
ACTIVATIONS = {name: getattr(nn, name) for name in (
    "Tanh", "ReLU", "LeakyReLU", "ELU", "GELU", "SiLU", "Sigmoid", "Softplus", "Softsign", "Mish", "SELU", "CELU",
    "ReLU6", "Hardtanh", "Hardswish", "Hardsigmoid", "LogSigmoid", "Tanhshrink", "Identity")}


class Renormalised(nn.Module):
    """Batch renormalisation by its running statistics (Ioffe 2017), as sb3_contrib's CrossQ has it."""

    def __init__(self, weights: Weights, epsilon: float) -> None:
        super().__init__()
        self.mean, self.scale, self.bias = weights["ra_mean"], weights["scale"], weights["bias"]
        self.deviation = (weights["ra_var"] + epsilon).sqrt()

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * ((x - self.mean[None]) / self.deviation[None]) + self.bias


def under(weights: Weights, prefix: str) -> dict[str, Tensor]:
    """The weights whose names begin with `prefix`, without it."""
    return {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}


def linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    if weight.ndim != 2 or (bias is not None and bias.shape != weight.shape[:1]):  # torch would spread it over rows
        raise ValueError(f"a layer {tuple(weight.shape)} has a bias of {bias if bias is None else tuple(bias.shape)}")
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    layer.weight = nn.Parameter(weight, requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias, requires_grad=False)
    return layer


def mlp(weights: Weights, inputs: int, refuse: Refuse, activation: type[nn.Module], fits: str, *,
        last: bool = True, epsilon: float = 0.001) -> tuple[nn.Sequential, int]:
    """The network of an nn.Sequential's weights ("0.weight", "2.weight", …; between them stand activations) and its
    outputs' number. Without `last` an activation follows the last layer. `fits` names what `inputs` are those of."""
    layers: list[nn.Module] = []
    width, gap = inputs, True
    for index in range(1 + max((int(key.split(".")[0]) for key in weights), default=-1)):
        own = under(weights, f"{index}.")
        if "scale" in own:
            layers.append(Renormalised(own, epsilon))
        elif "weight" in own:
            if own["weight"].ndim != 2:
                refuse("has layers between its linear ones that are not known; export it to TorchScript and give that")
            layer = linear(own["weight"], own.get("bias"))
            if layer.in_features != width:
                refuse(f"has a layer of shape {(layer.in_features, layer.out_features)} for {width} inputs; {fits}")
            layers.append(layer)
            width = layer.out_features
        elif gap:
            refuse("has layers that have no weights beside one another; export it to TorchScript and give that")
        else:
            layers.append(activation())
        gap = not own
    if layers and not last and isinstance(layers[-1], nn.Linear):
        layers.append(activation())
    return nn.Sequential(*layers), width


def nature_cnn(weights: Weights, refuse: Refuse) -> tuple[nn.Sequential, int]:
    """Stable-Baselines3's NatureCNN (Mnih et al. 2015): three convolutions, of strides 4, 2 and 1, and a layer."""
    layers: list[nn.Module] = []
    kernels = []
    for index, stride in ((0, 4), (2, 2), (4, 1)):
        weight = weights[f"cnn.{index}.weight"]
        conv = nn.Conv2d(weight.shape[1], weight.shape[0], tuple(weight.shape[2:]), stride)  # type: ignore[arg-type]
        conv.weight = nn.Parameter(weight, requires_grad=False)
        conv.bias = nn.Parameter(weights[f"cnn.{index}.bias"], requires_grad=False)
        layers += [conv, nn.ReLU()]
        kernels.append(weight.shape[2])
    if kernels != [8, 4, 3]:
        refuse(f"has convolutions of sizes {kernels}, not NatureCNN's; export it to TorchScript and give that")
    last = linear(weights["linear.0.weight"], weights["linear.0.bias"])
    return nn.Sequential(*layers, nn.Flatten(), last, nn.ReLU()), last.out_features


def lstm(weights: Weights, refuse: Refuse) -> nn.LSTM:
    """An LSTM of the layers "weight_ih_l0", …"""
    known = re.compile(r"(weight|bias)_(ih|hh)_l\d+")
    if any(not known.fullmatch(key) for key in weights) or "bias_ih_l0" not in weights:
        refuse("has an LSTM with projections, two directions or no biases; export it to TorchScript and give that")
    first = weights["weight_ih_l0"]
    depth = sum(key.startswith("weight_ih") for key in weights)
    module = nn.LSTM(first.shape[1], first.shape[0] // 4, num_layers=depth)
    module.load_state_dict(dict(weights))
    return module.requires_grad_(False)


def count(modules: list[nn.Module]) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


def load_weights(data: Any, refuse: Refuse) -> Any:
    """What torch saved, tensors and plain data only."""
    scalars: list[Any] = [np.dtype, np.float32(0).__reduce__()[0]]
    scalars += [type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8")]
    try:
        with torch.serialization.safe_globals(scalars):  # a mean return beside the weights, as rl_games has it
            return torch.load(data, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever the damage leads to
        return refuse(f"cannot be read as plain weights ({type(error).__name__}); save its state_dict() alone with "
                      "torch.save, or export it to TorchScript")


def plain(spec: EnvSpec, refuse: Refuse) -> int:
    """The width of an observation that is one row of numbers; another kind is refused, because the file does not say
    what becomes of it."""
    given = spec.unpack(np.zeros((1, *spec.obs_shape), spec.obs_dtype))  # without the masks that a row may hold
    if not isinstance(given, np.ndarray) or given.ndim != 2 or any(field.categories for field in spec.obs_fields):
        refuse(f"takes one row of numbers, but an observation of {spec.name} is of shape {spec.obs_shape}, or has "
               "parts or categories; record its demonstrations with its own package")
    return given.shape[1]


def numbers(spec: EnvSpec, rows: Array) -> torch.Tensor:
    """n such observations as the network takes them."""
    return torch.from_numpy(np.ascontiguousarray(spec.unpack(rows), np.float32))


def forward(module: nn.Module, spec: EnvSpec) -> Network:
    """A module without a state as the network of a FilePolicy, for observations that are rows of numbers."""
    module.eval()

    def network(rows: Array, state: Any, starts: Array | None) -> tuple[Array, Any]:
        with torch.no_grad():
            return module(numbers(spec, rows)).numpy(), state

    return network


def beside(path: Path, names: tuple[str, ...]) -> Path | None:
    """The first of these files that is in the folder of `path` or one of the two above it."""
    folders = (path.parent, path.parent.parent, path.parent.parent.parent)
    return next((found for folder in folders for name in names if (found := folder / name).is_file()), None)


def setting(text: str, name: str) -> set[str]:
    """All values of a key in a YAML file, wherever it stands."""
    found = re.findall(rf"^[ \t-]*{name}:[ \t]*['\"]?([\w.]+)['\"]?[ \t]*(?:#.*)?$", text, re.MULTILINE)
    return {value.lower() for value in found}
