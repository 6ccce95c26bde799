"""Networks that policy, critic and discriminator share: MLP, and the encoder of observations."""

import math
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from puffer_il.core.rows import ObsField
from puffer_il.nn.fused import FusedMLP
from puffer_il.nn.fused_pictures import IMAGE_FEATURES, PictureLayers
from puffer_il.nn.observations import Flatten, RunningNorm


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


def orthogonal(layer: L, gain: float = math.sqrt(2)) -> L:
    """Orthogonal weights (Saxe et al. 2014) of the given gain, zero bias; the layer itself is returned."""
    nn.init.orthogonal_(layer.weight, gain)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def mlp(inputs: int, hidden: tuple[int, ...], outputs: int | None, activation: str, gain: float = 1.0,
        norm: bool = False) -> nn.Sequential:
    """Linear and activation per hidden layer, then a linear output of the given gain (none if `outputs` is None).

    With `norm` there is layer normalisation before each activation. Whole MLPs without it are fused: on the CPU they
    run as C kernels (see fused.py).
    """
    layers: list[nn.Module] = []
    for units in hidden:
        layers += [orthogonal(nn.Linear(inputs, units)), *([nn.LayerNorm(units)] if norm else []),
                   ACTIVATIONS[activation]()]
        inputs = units
    if outputs is None or not hidden or norm:
        return nn.Sequential(*layers, *([] if outputs is None else [orthogonal(nn.Linear(inputs, outputs), gain)]))
    return FusedMLP(*layers, orthogonal(nn.Linear(inputs, outputs), gain), activation=activation)


class Encoder(nn.Module):
    """Flat float observations (n, Flatten.dim) → features (n, dim): numeric columns normalised, images convolved.
    Columns after those, which say what may be done, pass."""

    def __init__(self, flatten: Flatten, normalise: bool) -> None:
        super().__init__()
        self.num_numeric, self.num_onehot = flatten.num_numeric, flatten.num_onehot
        self.norm = RunningNorm(self.num_numeric) if normalise and self.num_numeric else None
        self.convs = nn.ModuleList(SmallCNN(f.shape, f.channels_last) for f in flatten.images)
        self.dim = self.num_numeric + self.num_onehot + IMAGE_FEATURES * len(self.convs)

    def forward(self, x: Tensor) -> Tensor:
        return self.encode(self.prepare(x))

    def observe(self, flatten: Flatten, obs: Tensor) -> Tensor:
        """Features (n, dim) of raw rows (n, *obs_shape), as `forward` makes them of what `flatten` gives. Where the C
        kernels cover it, pixels are read where they are."""
        raw = flatten.in_bytes(obs) if self.convs else obs
        if not self.convs or not all(isinstance(conv, SmallCNN) and conv.usable(raw) for conv in self.convs):
            return self(flatten(obs))
        before, behind = flatten.beside_pictures(obs)
        parts = [] if before is None else [self.prepare(before)]
        parts += [conv.read(raw, field)  # type: ignore[operator]
                  for conv, field in zip(self.convs, flatten.images, strict=True)]
        parts += [] if behind is None else [behind]
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1)

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
        sizes = [self.num_numeric + self.num_onehot, *(conv.pixels for conv in self.convs)]
        before, *pixels, behind = x.split([*sizes, x.shape[1] - sum(sizes)], 1)  # type: ignore[arg-type]
        features = [conv(seen) for conv, seen in zip(self.convs, pixels, strict=True)]
        return torch.cat((before, *features, behind), 1)

    def update_norm(self, mean: Tensor, var: Tensor, count: float | Tensor) -> None:
        """Merge the moments of `count` rows' numeric columns, as `obs_moments` gives them, into the running statistics:
        once per iteration."""
        if self.norm is not None:
            self.norm.update(mean, var, count)


class SmallCNN(nn.Module):
    """Three strided 3×3 convolutions and a linear layer, for images (height, width, channels) or with the channels
    first."""

    def __init__(self, shape: tuple[int, ...], channels_last: bool) -> None:
        super().__init__()
        self.shape, self.pixels, self.channels_last = shape, math.prod(shape), channels_last
        channels, height, width = (shape[2], shape[0], shape[1]) if self.channels_last else shape
        for _ in range(3):
            height, width = math.ceil(height / 2), math.ceil(width / 2)
        self.layers = nn.Sequential(
            orthogonal(nn.Conv2d(channels, 16, 3, stride=2, padding=1)), nn.ReLU(),
            orthogonal(nn.Conv2d(16, 32, 3, stride=2, padding=1)), nn.ReLU(),
            orthogonal(nn.Conv2d(32, 32, 3, stride=2, padding=1)), nn.ReLU(),
            nn.Flatten(), orthogonal(nn.Linear(32 * height * width, IMAGE_FEATURES)), nn.ReLU())
        self.pictures, self.made_of = PictureLayers(shape, channels_last), tuple(map(type, self.layers))

    def usable(self, rows: Tensor) -> bool:
        """True if the C kernels can read these rows now, and nobody has put other layers in place of ours."""
        return tuple(map(type, self.layers)) == self.made_of and self.pictures.usable(rows, self.layers)

    def read(self, raw: Tensor, field: ObsField) -> Tensor:
        """Features (n, IMAGE_FEATURES) of raw rows (n, bytes) of uint8, by the C kernels."""
        return self.pictures(raw, self.layers, field.offset, field.low, field.high)

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels (n, pixels) in [0, 1] → features (n, IMAGE_FEATURES)."""
        if pixels.dtype == torch.float32 and pixels.dim() == 2 and self.usable(pixels):
            return self.pictures(pixels, self.layers)
        image = pixels.reshape(-1, *self.shape)
        return self.layers(image.permute(0, 3, 1, 2) if self.channels_last else image)
