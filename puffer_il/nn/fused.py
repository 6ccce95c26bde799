"""The CPU's fast path: an MLP whose forward, backward and double-backward passes are C kernels (csrc/kernels).

`FusedMLP` is an `nn.Sequential` with the same parameters, state dict and results. What the kernels do not cover
(another device or dtype, more than MAX_HIDDEN hidden layers or MAX_UNITS units, autocast, tracing) goes through torch,
and `take_notices` says so once.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

import puffer_il.kernels._kernels as kernels
from puffer_il.core.spec import Array

MAX_HIDDEN, MAX_UNITS = 8, 2048
FEW_ROWS, WIDE_UNITS = 4, 256
MOST_SAVED = 4 << 20  # floats of activations; beyond, computing them again is faster than fetching new memory

IN_TORCH = "torch computes this"
TORCH_TIMES = 4  # as long as the kernels training loops take, measured by bench cliffs: less, the wider the layers

_enabled = True
_said: set[str] = set()
_notices: list[str] = []


def enable(on: bool) -> None:
    """Switch all kernels on or off; off, everything goes through torch."""
    global _enabled
    _enabled = on


def enabled() -> bool:
    return _enabled


@contextmanager
def in_floats() -> Iterator[None]:
    """Products of floats for a while, whatever a run learns with (train.bf16)."""
    before = kernels.bf16()
    kernels.use_bf16("")
    try:
        yield
    finally:
        kernels.use_bf16(before)


def readable(module: nn.Module) -> bool:
    """True if the kernels can read these parameters."""
    first = next(module.parameters())
    return first.device.type == "cpu" and first.dtype == torch.float32


def fall_back(reason: str, times: float) -> None:
    """Note, once per reason, that torch does what the kernels do not cover, and how many times as long it takes."""
    if reason not in _said:
        _said.add(reason)
        _notices.append(f"{reason}: {IN_TORCH}, which takes up to {times:g} times as long as the C kernels")


def forget() -> None:
    """Let a new run in this process be told again."""
    _said.clear()


def take_notices() -> list[str]:
    """What has been noted since the last call."""
    taken = list(_notices)
    _notices.clear()
    return taken


class Layers:
    """The linear layers of one MLP as the kernels take them: hidden ones, then one or two heads side by side.

    Calling it maps x (n, inputs) float32 to (n, sum of the heads' outputs), differentiable twice. `refusal` says why
    the kernels cannot do it at all, and is empty if they can. With `heads_alone` there are no hidden layers, which they
    can do on top of a memory.
    """

    def __init__(self, hidden: Sequence[nn.Linear], heads: Sequence[nn.Linear], activation: str,
                 heads_alone: bool = False) -> None:
        self.hidden, self.heads, self.activation, self.heads_alone = list(hidden), list(heads), activation, heads_alone
        self.units = tuple(layer.out_features for layer in hidden)
        self.refusal = self._refusal()
        self.network: Any = None if self.refusal else kernels.Network(
            (*hidden, *heads)[0].in_features, self.units, tuple(layer.out_features for layer in heads), activation)

    def __call__(self, x: Tensor) -> Tensor:
        parameters = self.parameters()
        if torch.is_grad_enabled() and (x.requires_grad or any(p.requires_grad for p in parameters)):
            return _Forward.apply(self, x.contiguous(), *[p.contiguous() for p in parameters])
        return self.compute(x.contiguous(), [p.contiguous() for p in parameters], None)

    def compute(self, x: Tensor, parameters: Sequence[Tensor], saved: Tensor | None) -> Tensor:
        """The forward pass by itself; what a backward pass needs goes into `saved`."""
        out = x.new_empty(len(x), self.network.outputs)
        self.network.forward(tuple([p.data_ptr() for p in parameters]), x.data_ptr(), len(x), out.data_ptr(),
                             address(saved))
        return out

    def parameters(self) -> list[Tensor]:
        """Weight and bias of every layer, the heads last."""
        return [p for layer in (*self.hidden, *self.heads) for p in (layer.weight, layer.bias)]

    def addresses(self) -> tuple[int, ...]:
        return tuple([p.data_ptr() for p in self.parameters()])

    def gradients(self) -> tuple[int, ...]:
        """Addresses of the parameters' `.grad`, which must be there (see optim.FlatAdam)."""
        return tuple([p.grad.data_ptr() for p in self.parameters()])  # type: ignore[union-attr]

    def usable(self, x: Tensor) -> bool:
        """True if the kernels can take this input now."""
        if torch.jit.is_tracing() or torch.compiler.is_compiling():
            return False
        if not _enabled or x.dim() != 2 or x.shape[0] == 0 or x.shape[1] != self.hidden[0].in_features:
            return False
        if self.refusal:
            fall_back(self.refusal, TORCH_TIMES)
            return False
        if len(x) < FEW_ROWS and max(self.units) > WIDE_UNITS and torch.is_grad_enabled():
            return False  # torch's matrix times vector is faster there
        bias = self.heads[-1].bias
        return (x.device.type == bias.device.type == "cpu" and x.dtype == bias.dtype == torch.float32
                and not torch.is_autocast_enabled("cpu"))

    def in_torch(self, x: Tensor, parameters: Sequence[Tensor]) -> Tensor:
        """The same with torch's operations, for derivatives that the kernels do not have."""
        act = {"tanh": torch.tanh, "relu": torch.relu, "silu": nn.functional.silu, "elu": nn.functional.elu}
        pairs = [tuple(parameters[i:i + 2]) for i in range(0, len(parameters), 2)]
        for weight, bias in pairs[:len(self.hidden)]:
            x = act[self.activation](nn.functional.linear(x, weight, bias))
        return torch.cat([nn.functional.linear(x, weight, bias) for weight, bias in pairs[len(self.hidden):]], 1)

    def _refusal(self) -> str:
        if self.heads_alone:
            return ""
        if not 1 <= len(self.hidden) <= MAX_HIDDEN:
            return f"{len(self.hidden)} hidden layers (the kernels cover 1 to {MAX_HIDDEN})"
        if max(self.units) > MAX_UNITS:
            return f"hidden layers of {max(self.units)} units (the kernels cover up to {MAX_UNITS})"
        if any(a.out_features != b.in_features for a, b in pairwise((*self.hidden, self.heads[0]))):
            return "layers whose sizes do not match"
        return ""


class FusedMLP(nn.Sequential):
    """Linear layers with one activation between them, the last of them the output. An `nn.Sequential` otherwise."""

    def __init__(self, *modules: nn.Module, activation: str) -> None:
        super().__init__(*modules)
        self.activation = activation
        self.made_of = tuple(map(type, self))
        self.layers = self._find_layers()

    def forward(self, x: Tensor) -> Tensor:
        # Whoever has put something else between the layers, or behind them, gets what an nn.Sequential gives.
        known = tuple(map(type, self)) == self.made_of and self.layers.usable(x)
        return self.layers(x) if known else super().forward(x)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if isinstance(value, nn.Module) and "layers" in self.__dict__:  # a layer has been replaced
            self.layers = self._find_layers()

    def _find_layers(self) -> Layers:
        linear = [module for module in self if isinstance(module, nn.Linear)]
        return Layers(linear[:-1], linear[-1:], self.activation)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):  # a part of it is no MLP of its own
            return nn.Sequential(*list(self)[index])
        return super().__getitem__(index)


class _Forward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, layers: Layers, x: Tensor, *parameters: Tensor) -> Tensor:
        size = layers.network.saved_size(len(x))
        ctx.layers, ctx.saved = layers, x.new_empty(size) if size <= MOST_SAVED else None
        ctx.save_for_backward(x, *parameters)
        return layers.compute(x, parameters, ctx.saved)

    @staticmethod
    def backward(ctx: Any, *out_gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, *parameters = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient is to be differentiated in its turn
            return (None, *_Backward.apply(ctx.layers, out_gradients[0], x, *parameters))
        by_x, by_parameters = ctx.needs_input_grad[1], any(ctx.needs_input_grad[2:])
        return (None, *_backward(ctx.layers, out_gradients[0], x, parameters, ctx.saved, by_x, by_parameters))


class _Backward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, layers: Layers, out_gradient: Tensor, x: Tensor, *parameters: Tensor) -> tuple[Tensor, ...]:
        ctx.layers = layers
        ctx.save_for_backward(out_gradient, x, *parameters)
        ctx.set_materialize_grads(False)
        return _backward(layers, out_gradient, x, parameters, None, True, True)  # type: ignore[return-value]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *tangents: Tensor | None) -> tuple[Tensor | None, ...]:
        """The kernels know the tangent of dx, the one that gradient penalties need; torch the rest."""
        layers: Layers = ctx.layers
        out_gradient, x, *parameters = ctx.saved_tensors
        tangent, *others = tangents
        if any(other is not None for other in others):
            return (None, *_differentiate_in_torch(layers, out_gradient, x, parameters, tangents))
        if tangent is None:
            return (None,) * (3 + len(parameters))
        out_gradient, tangent = out_gradient.contiguous(), tangent.contiguous()
        gradients = [torch.empty_like(p) for p in parameters]
        dx, dout = torch.empty_like(x), torch.empty_like(out_gradient)
        layers.network.double_backward(tuple(p.data_ptr() for p in parameters), x.data_ptr(), out_gradient.data_ptr(),
                                       tangent.data_ptr(), len(x), tuple(g.data_ptr() for g in gradients),
                                       dx.data_ptr(), dout.data_ptr())
        return (None, dout, dx, *gradients)


def _backward(layers: Layers, out_gradient: Tensor, x: Tensor, parameters: Sequence[Tensor], saved: Tensor | None,
              by_x: bool, by_parameters: bool) -> tuple[Tensor | None, ...]:
    """Gradients by x and by the parameters, None where they are not wanted."""
    out_gradient = out_gradient.contiguous()
    dx = torch.empty_like(x) if by_x else None
    gradients = [torch.empty_like(p) for p in parameters] if by_parameters else None
    layers.network.backward(tuple(p.data_ptr() for p in parameters), x.data_ptr(), address(saved),
                            out_gradient.data_ptr(), len(x),
                            None if gradients is None else tuple(g.data_ptr() for g in gradients), address(dx))
    return (dx, *(gradients if gradients is not None else [None] * len(parameters)))


def _differentiate_in_torch(layers: Layers, out_gradient: Tensor, x: Tensor, parameters: Sequence[Tensor],
                            tangents: Sequence[Tensor | None]) -> tuple[Tensor | None, ...]:
    with torch.enable_grad():
        inputs = [t.detach().requires_grad_() for t in (out_gradient, x, *parameters)]
        first = torch.autograd.grad(layers.in_torch(inputs[1], inputs[2:]), inputs[1:], inputs[0], create_graph=True)
        chosen = [(f, t) for f, t in zip(first, tangents, strict=True) if t is not None]
        return torch.autograd.grad([f for f, _ in chosen], inputs, [t for _, t in chosen], allow_unused=True)


def address(memory: Tensor | Array | None) -> int:
    """Of the first byte of a tensor or of a contiguous array; 0 for None."""
    if isinstance(memory, Tensor):
        return memory.data_ptr()
    assert memory is None or memory.flags.c_contiguous
    return 0 if memory is None else memory.__array_interface__["data"][0]
