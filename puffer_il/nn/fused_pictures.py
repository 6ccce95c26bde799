"""The CPU's fast path for pictures: a small convolutional network whose passes are C kernels (csrc/kernels/pictures.h).

It reads pixels where they are: in raw rows, of uint8, or in rows of floats that a gradient goes through. The kernels
have the gradients and, for penalties of those by the pixels, the tangents of these; all else goes through torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

import puffer_il.kernels._kernels as kernels
from puffer_il.nn import fused
from puffer_il.nn.fused import address

IMAGE_FEATURES = kernels.FEATURES_OF_PICTURES
MOST_SAVED = 64 << 20  # floats of activations; beyond, a backward pass computes them again, so many at a time
MOST_SPARE = 2  # pieces of memory that wait for the next pass

_spare: list[Tensor] = []
_unwanted: set[str] = set()


class Space:
    """Memory for activations, used again by later passes: fetching new pages takes a third of the time of a pass."""

    def __init__(self, floats: int) -> None:
        fitting = [one for one in _spare if floats <= len(one) <= 2 * floats]
        self.memory = min(fitting, key=len) if fitting else torch.empty(floats)
        if fitting:
            _spare[:] = [one for one in _spare if one is not self.memory]

    def __del__(self) -> None:
        if hasattr(self, "memory"):
            _spare[:] = [self.memory, *_spare][:MOST_SPARE]


@contextmanager
def without(gradients: str) -> Iterator[None]:
    """Gradients by "pixels" or by "parameters" are not computed by backward passes within: torch does not tell a
    function of ours which of them are wanted. Nobody may ask for them there."""
    _unwanted.add(gradients)
    try:
        yield
    finally:
        _unwanted.discard(gradients)


class PictureLayers:
    """The kernels' side of a network of three convolutions and a linear layer, all rectified, for pictures (planes,
    height, width) or, with `channels_last`, (height, width, planes)."""

    def __init__(self, shape: tuple[int, ...], channels_last: bool) -> None:
        self.shape, self.channels_last = shape, channels_last
        self.planes, self.height, self.width = (shape[2], shape[0], shape[1]) if channels_last else shape
        self.networks: dict[tuple[bool, float, float], Any] = {}

    def usable(self, rows: Tensor, layers: nn.Sequential) -> bool:
        """True if the kernels can take this input now."""
        if torch.jit.is_tracing() or torch.compiler.is_compiling() or not fused.enabled():
            return False
        return (all(p.dtype == torch.float32 and p.device.type == "cpu" for p in parameters_of(layers))
                and rows.shape[0] > 0 and self.planes <= kernels.MOST_PICTURE_PLANES
                and rows.device.type == "cpu" and not torch.is_autocast_enabled("cpu"))

    def network(self, raw: bool, low: float, high: float) -> Any:
        """For pixels that count 0 at `low` and 1 at `high`, of uint8 (`raw`) or float32."""
        key = (raw, low, high)
        if key not in self.networks:
            self.networks[key] = kernels.PictureNetwork(self.planes, self.height, self.width, self.channels_last, raw,
                                                        low, 1 / ((high - low) or 1.0))
        return self.networks[key]

    def __call__(self, rows: Tensor, layers: nn.Sequential, offset: int = 0, low: float = 0.0,
                 high: float = 1.0) -> Tensor:
        """Rows (n, …) of uint8 whose pixels begin at byte `offset`, or of pixels (n, pixels) as floats → features
        (n, IMAGE_FEATURES)."""
        network = self.network(rows.dtype == torch.uint8, low, high)
        parameters = [p.contiguous() for p in parameters_of(layers)]
        if rows.stride(1) != 1:
            rows = rows.contiguous()
        if torch.is_grad_enabled() and (rows.requires_grad or any(p.requires_grad for p in parameters)):
            return _Forward.apply(self, network, offset, rows, *parameters)
        out = torch.empty(len(rows), IMAGE_FEATURES)
        forward(network, parameters, rows, offset, out, None)
        return out

    def in_torch(self, rows: Tensor, offset: int, network: Any, parameters: Sequence[Tensor]) -> Tensor:
        """The same with torch's operations, for derivatives that the kernels do not have."""
        *_, low, scale = network.arguments
        size = self.planes * self.height * self.width
        x = ((rows[:, offset:offset + size].to(parameters[0].dtype) - low) * scale).reshape(-1, *self.shape)
        x = x.permute(0, 3, 1, 2) if self.channels_last else x
        for weight, bias in zip(parameters[0:6:2], parameters[1:6:2], strict=True):
            x = torch.relu(nn.functional.conv2d(x, weight, bias, stride=2, padding=1))
        return torch.relu(nn.functional.linear(x.flatten(1), parameters[6], parameters[7]))


def parameters_of(layers: nn.Sequential) -> list[Tensor]:
    """Weights and biases in order. Sequential.parameters takes as long as a picture."""
    return [p for layer in layers._modules.values() if layer is not None for p in layer._parameters.values()
            if p is not None]


def forward(network: Any, parameters: Sequence[Tensor], rows: Tensor, offset: int, out: Tensor,
            saved: Tensor | None) -> None:
    """Features of rows into `out`, and what a backward pass needs into `saved`."""
    network.forward(tuple([p.data_ptr() for p in parameters]), rows.data_ptr() + offset,
                    rows.stride(0) * rows.element_size(), len(rows), out.data_ptr(), address(saved))


class _Forward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, layers: PictureLayers, network: Any, offset: int, rows: Tensor,
                *parameters: Tensor) -> Tensor:
        size = network.saved_size(len(rows))
        ctx.space = Space(size) if size <= MOST_SAVED else None
        out = torch.empty(len(rows), IMAGE_FEATURES)
        forward(network, parameters, rows, offset, out, None if ctx.space is None else ctx.space.memory)
        ctx.given = layers, network, offset
        ctx.save_for_backward(rows, out, *parameters)
        return out

    @staticmethod
    def backward(ctx: Any, *out_gradients: Tensor) -> tuple[Tensor | None, ...]:
        rows, out, *parameters = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient is to be differentiated in its turn
            found = _Backward.apply(ctx.given, ctx.space, out.detach(), out_gradients[0], rows, *parameters)
        else:
            wanted = ctx.needs_input_grad[3] and "pixels" not in _unwanted, any(ctx.needs_input_grad[4:])
            found = backward(ctx.given, ctx.space, out, out_gradients[0], rows, parameters, *wanted)
            ctx.space = None  # another pass computes them again, and whoever holds the graph does not hold them
        return (None, None, None, *found)


class _Backward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, given: tuple[Any, ...], space: Space | None, out: Tensor, out_gradient: Tensor, rows: Tensor,
                *parameters: Tensor) -> tuple[Tensor | None, ...]:
        ctx.given, ctx.space = given, space
        ctx.save_for_backward(out, out_gradient, rows, *parameters)
        ctx.set_materialize_grads(False)
        wanted = rows.requires_grad, "parameters" not in _unwanted
        return backward(given, space, out, out_gradient, rows, parameters, *wanted)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *tangents: Tensor | None) -> tuple[Tensor | None, ...]:
        """The kernels know the tangent of the gradient by pixels, which gradient penalties need; torch the rest."""
        out, out_gradient, rows, *parameters = ctx.saved_tensors
        tangent, *others = tangents
        if any(other is not None for other in others):
            return (None, None, None, *_differentiate_in_torch(ctx.given, out_gradient, rows, parameters, tangents))
        if tangent is None:
            return (None,) * (5 + len(parameters))
        dout = torch.empty_like(out)
        gradients = _in_pieces(ctx.given, ctx.space, out, out_gradient, rows, parameters, True, None, tangent, dout)
        ctx.space = None
        return (None, None, None, dout, None, *gradients)


def backward(given: tuple[Any, ...], space: Space | None, out: Tensor, out_gradient: Tensor, rows: Tensor,
             parameters: Sequence[Tensor], by_rows: bool, by_parameters: bool) -> tuple[Tensor | None, ...]:
    """Gradients by the rows and by the parameters, None where they are not wanted."""
    dx = torch.empty(rows.shape) if by_rows else None
    return (dx, *_in_pieces(given, space, out, out_gradient, rows, parameters, by_parameters, dx, None, None))


def _in_pieces(given: tuple[Any, ...], space: Space | None, out: Tensor, out_gradient: Tensor, rows: Tensor,
               parameters: Sequence[Tensor], by_parameters: bool, dx: Tensor | None, tangent: Tensor | None,
               dout: Tensor | None) -> list[Tensor | None]:
    """The gradients of the parameters, if they are wanted; activations that were not saved are computed again."""
    _, network, offset = given
    addresses = tuple([p.data_ptr() for p in parameters])
    out_gradient, tangent = out_gradient.contiguous(), None if tangent is None else tangent.contiguous()
    count = len(rows) if space is not None else max(1, MOST_SAVED // network.saved_size(1))
    total: list[Tensor] | None = None
    for first in range(0, len(rows), count):
        part = slice(first, first + count)
        here, shown = rows[part], out[part]
        if space is not None:
            saved = space
        else:
            saved = Space(network.saved_size(len(here)))
            forward(network, parameters, here, offset, shown.clone(), saved.memory)
        gradients = [torch.empty_like(p) for p in parameters] if by_parameters else None
        to = None if gradients is None else tuple([g.data_ptr() for g in gradients])
        fixed = address(saved.memory), address(shown), address(out_gradient[part])
        if tangent is None:
            network.backward(addresses, here.data_ptr() + offset, here.stride(0) * here.element_size(), len(here),
                             *fixed, to, 0 if dx is None else address(dx[part]))
        else:
            network.double_backward(addresses, len(here), *fixed, address(tangent[part]), to,
                                    0 if dout is None else address(dout[part]))
        if total is not None and gradients is not None:
            total = [a.add_(b) for a, b in zip(total, gradients, strict=True)]
        else:
            total = gradients
    return [None] * len(parameters) if total is None else list(total)


def _differentiate_in_torch(given: tuple[Any, ...], out_gradient: Tensor, rows: Tensor, parameters: Sequence[Tensor],
                            tangents: Sequence[Tensor | None]) -> tuple[Tensor | None, ...]:
    layers, network, offset = given
    with torch.enable_grad():
        float_rows = rows.is_floating_point()
        x = rows.detach().requires_grad_(float_rows)
        inputs = [t.detach().requires_grad_() for t in (out_gradient, *parameters)]
        by = [x, *inputs[1:]] if float_rows else inputs[1:]
        first = torch.autograd.grad(layers.in_torch(x, offset, network, inputs[1:]), by, inputs[0], create_graph=True)
        given_tangents = list(tangents if float_rows else tangents[1:])
        chosen = [(f, t) for f, t in zip(first, given_tangents, strict=True) if t is not None]
        found = torch.autograd.grad([f for f, _ in chosen], [inputs[0], *by], [t for _, t in chosen], allow_unused=True)
    return found if float_rows else (found[0], None, *found[1:])
