"""Building blocks that policy, critic and discriminator share: MLP, observation flattening, normalisation, encoder."""

from __future__ import annotations

import math
from typing import Any, Final, TypeVar

import torch
from torch import Tensor, nn

from puffer_il.core.spec import EnvSpec, ObsField
from puffer_il.nn.fused import FusedMLP


class _TanhBySigmoid(torch.autograd.Function):
    """tanh x = 2 σ(2x) − 1. torch's own tanh takes nearly three times as long on the CPU; the error is below 2e-7."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = x.mul(2).sigmoid_().mul_(2).sub_(1)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return torch.ops.aten.tanh_backward(gradients[0], ctx.saved_tensors[0])  # differentiable, as penalties need


class Tanh(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x) if x.is_cuda else _TanhBySigmoid.apply(x)


ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": Tanh, "relu": nn.ReLU, "silu": nn.SiLU, "elu": nn.ELU}
L = TypeVar("L", nn.Linear, nn.Conv2d)
OBS_CLIP = 10.0  # standard deviations; keeps a never-seen state from saturating the network
IMAGE_FEATURES = 128
_TORCH_DTYPES = {"f4": torch.float32, "f8": torch.float64, "i4": torch.int32, "i8": torch.int64, "u1": torch.uint8,
                 "i1": torch.int8, "i2": torch.int16, "b1": torch.bool}


def orthogonal(layer: L, gain: float = math.sqrt(2)) -> L:
    """Orthogonal weights (Saxe et al. 2014) of the given gain, zero bias; the layer itself is returned."""
    nn.init.orthogonal_(layer.weight, gain)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def mlp(inputs: int, hidden: tuple[int, ...], outputs: int | None, activation: str, gain: float = 1.0) -> nn.Sequential:
    """Linear and activation per hidden layer, then a linear output of the given gain (none if `outputs` is None).

    Whole MLPs are fused: on the CPU they run as C kernels (see fused.py).
    """
    layers: list[nn.Module] = []
    for units in hidden:
        layers += [orthogonal(nn.Linear(inputs, units)), ACTIVATIONS[activation]()]
        inputs = units
    if outputs is None or not hidden:
        return nn.Sequential(*layers, *([] if outputs is None else [orthogonal(nn.Linear(inputs, outputs), gain)]))
    return FusedMLP(*layers, orthogonal(nn.Linear(inputs, outputs), gain), activation=activation)


def one_hot(numbers: Tensor, n: int) -> Tensor:
    """Whole numbers (m,) in [0, n) → float32 (m, n). torch's own looks at the values first, which waits for them."""
    return (numbers.unsqueeze(1) == torch.arange(n, device=numbers.device)).float()


class Flatten:
    """Raw rows (n, *obs_shape) → float32 (n, dim): numeric columns, then one-hot ones, then pixels in [0, 1].

    Cuts the flat rows that PufferLib's emulation makes of Dict, Tuple and Discrete observations into their leaves.
    """

    def __init__(self, spec: EnvSpec) -> None:
        self.spec = spec
        fields = spec.obs_fields
        self.images = [f for f in fields if f.image]
        self.numeric = [f for f in fields if not f.image and not f.categories]
        self.categorical = [f for f in fields if f.categories]
        self.num_numeric = sum(math.prod(f.shape) for f in self.numeric)
        self.num_onehot = sum(f.categories for f in self.categorical)
        self.dim = self.num_numeric + self.num_onehot + sum(math.prod(f.shape) for f in self.images)
        self.plain = not spec.structured and not self.images

    def __call__(self, obs: Tensor) -> Tensor:
        if self.plain:
            return obs.reshape(-1, self.dim).float()
        if not self.spec.structured:
            return obs.reshape(-1, self.dim).float() / 255.0
        raw = obs.reshape(-1, math.prod(self.spec.obs_shape)).contiguous().view(torch.uint8)
        parts = [self._leaf(raw, f).float() for f in self.numeric]
        parts += [one_hot(self._leaf(raw, f)[:, 0], f.categories)
                  for f in self.categorical]
        parts += [self._leaf(raw, f).float() / 255.0 for f in self.images]
        return torch.cat(parts, dim=1)

    @staticmethod
    def _leaf(raw: Tensor, field: ObsField) -> Tensor:
        width = math.prod(field.shape)
        dtype = _TORCH_DTYPES[field.dtype.str[1:]]
        stop = field.offset + width * field.dtype.itemsize
        return raw[:, field.offset:stop].contiguous().view(dtype).reshape(-1, width)


class RunningNorm(nn.Module):
    """Normalises columns by a running mean and variance (Chan et al. 1979), which only `update` moves.

    `forward` is therefore frozen within an iteration; all state is in buffers, so checkpoints hold it.
    """

    EPS: Final = 1e-8

    mean: Tensor
    var: Tensor
    count: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("var", torch.ones(dim))
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))

    @torch.no_grad()
    def update(self, mean: Tensor, var: Tensor, count: float | Tensor) -> None:
        """Merge the moments of a batch of `count` rows."""
        total = self.count + count
        share = (count / total).float()
        delta = mean - self.mean
        self.var.copy_(torch.where(self.count > 0, (1 - share) * self.var + share * var
                                   + share * (1 - share) * delta.square(), var))
        self.mean.add_(share * delta)
        self.count.copy_(total)

    def forward(self, x: Tensor) -> Tensor:
        return ((x - self.mean) * torch.rsqrt(self.var + self.EPS)).clamp(-OBS_CLIP, OBS_CLIP)


def moments(x: Tensor, weight: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Column mean and variance of (n, dim); rows count by `weight` (n,) if given."""
    if x.shape[1] == 0:  # pixels and categories are not normalised
        return x.new_zeros(0), x.new_zeros(0)
    if weight is None:
        return x.mean(0), x.var(0, unbiased=False)
    w = (weight / weight.sum()).unsqueeze(1)
    mean = (w * x).sum(0)
    return mean, (w * (x - mean).square()).sum(0)


class Encoder(nn.Module):
    """Flat float observations (n, Flatten.dim) → features (n, dim): numeric columns normalised, images convolved."""

    def __init__(self, flatten: Flatten, normalise: bool) -> None:
        super().__init__()
        self.num_numeric, self.num_onehot = flatten.num_numeric, flatten.num_onehot
        self.norm = RunningNorm(self.num_numeric) if normalise and self.num_numeric else None
        self.convs = nn.ModuleList(SmallCNN(f.shape) for f in flatten.images)
        self.dim = self.num_numeric + self.num_onehot + IMAGE_FEATURES * len(self.convs)

    def forward(self, x: Tensor) -> Tensor:
        return self.encode(self.prepare(x))

    def prepare(self, x: Tensor) -> Tensor:
        """Normalise the numeric columns; the others pass."""
        if self.norm is None:
            return x
        if self.num_numeric == x.shape[1]:
            return self.norm(x)
        return torch.cat((self.norm(x[:, :self.num_numeric]), x[:, self.num_numeric:]), 1)

    def encode(self, x: Tensor) -> Tensor:
        """Replace the pixels by convolutional features; the other columns pass."""
        if not self.convs:
            return x
        start = self.num_numeric + self.num_onehot
        parts = [x[:, :start]]
        for conv in self.convs:
            assert isinstance(conv, SmallCNN)
            parts.append(conv(x[:, start:start + conv.pixels]))
            start += conv.pixels
        return torch.cat(parts, dim=1)

    def update_norm(self, mean: Tensor, var: Tensor, count: float | Tensor) -> None:
        """Merge the moments of `count` rows' numeric columns into the running statistics."""
        if self.norm is not None:
            self.norm.update(mean, var, count)


class SmallCNN(nn.Module):
    """Three strided 3×3 convolutions and a linear layer; channels are the smaller of the outer axes (CHW or HWC)."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape, self.pixels = shape, math.prod(shape)
        self.channels_last = shape[2] <= shape[0]
        channels, height, width = (shape[2], shape[0], shape[1]) if self.channels_last else shape
        for _ in range(3):
            height, width = math.ceil(height / 2), math.ceil(width / 2)
        self.layers = nn.Sequential(
            orthogonal(nn.Conv2d(channels, 16, 3, stride=2, padding=1)), nn.ReLU(),
            orthogonal(nn.Conv2d(16, 32, 3, stride=2, padding=1)), nn.ReLU(),
            orthogonal(nn.Conv2d(32, 32, 3, stride=2, padding=1)), nn.ReLU(),
            nn.Flatten(), orthogonal(nn.Linear(32 * height * width, IMAGE_FEATURES)), nn.ReLU())

    def forward(self, pixels: Tensor) -> Tensor:
        image = pixels.reshape(-1, *self.shape)
        return self.layers(image.permute(0, 3, 1, 2) if self.channels_last else image)
