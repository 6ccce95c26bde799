"""What the tests of the C kernels share: this processor's instruction sets, float64 references, relative errors."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import pytest
import torch
from torch import Tensor, nn

from puffer_il.kernels import _kernels as kernels
from puffer_il.nn import FusedMLP, mlp

MODULES = {"tanh": nn.Tanh, "relu": nn.ReLU, "silu": nn.SiLU, "elu": nn.ELU}
ACTIVATIONS = pytest.mark.parametrize("activation", MODULES)


def _instruction_sets() -> list[str]:
    found, best = [], kernels.instruction_set()
    for name in ("avx512", "avx2", "neon", "portable"):
        with suppress(ValueError):
            kernels.use_instruction_set(name)
            found.append(name)
    kernels.use_instruction_set(best)
    return found


INSTRUCTION_SETS = _instruction_sets()  # of this processor, the best first
EACH_SET = pytest.mark.parametrize("isa", INSTRUCTION_SETS)  # a test switches; conftest.py switches back


def make_net(inputs: int, hidden: Sequence[int], outputs: int, activation: str, seed: int = 0) -> FusedMLP:
    """An MLP with biases that are not zero."""
    torch.manual_seed(seed)
    net = mlp(inputs, tuple(hidden), outputs, activation)
    assert isinstance(net, FusedMLP)
    for layer in net:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.bias, std=0.3)
    return net


def in_float64(net: FusedMLP) -> nn.Sequential:
    """The same network of torch's own modules, in float64."""
    layers: list[nn.Module] = []
    for module in net:
        if isinstance(module, nn.Linear):
            copy = nn.Linear(module.in_features, module.out_features, dtype=torch.float64)
            copy.load_state_dict(module.state_dict())
            layers += [copy, MODULES[net.layers.activation]()]
    return nn.Sequential(*layers[:-1])


def error(ours: Sequence[Tensor], reference: Sequence[Tensor], floor: float = 0.0) -> float:
    """Largest relative error among pairs of tensors, in the norm of each; shapes must agree.

    `floor` is what an element counts for at least: where terms of about 1 cancel, float32 has no better answer.
    """
    worst = 0.0
    for a, b in zip(ours, reference, strict=True):
        assert a.shape == b.shape
        a, b = a.detach().double(), b.detach().double()
        assert bool(b.isfinite().all())
        difference, size = float((a - b).norm()), float(b.norm()) + floor * b.numel() ** 0.5
        worst = max(worst, difference / size if size else difference)
        assert worst == worst, "NaN"
    return worst


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def first_order(net: nn.Module, x: Tensor, g: Tensor) -> list[Tensor]:
    """Outputs, and the gradients of g · outputs by x and by every parameter."""
    x = x.detach().requires_grad_()
    out = net(x)
    return [out, *torch.autograd.grad(out, [x, *net.parameters()], g)]


def second_order(net: nn.Module, x: Tensor, g: Tensor, c: Tensor) -> list[Tensor]:
    """What a gradient penalty differentiates: the gradients of c · ∂(g · y)/∂x by g, by x and by every parameter."""
    x, g = x.detach().requires_grad_(), g.detach().requires_grad_()
    dx, = torch.autograd.grad(net(x), x, g, create_graph=True)
    by = [g, x, *net.parameters()]
    found = torch.autograd.grad(dx, by, c, allow_unused=True)
    return [torch.zeros_like(p) if d is None else d for p, d in zip(by, found, strict=True)]
