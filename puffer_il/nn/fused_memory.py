"""An LSTM or a GRU as the C kernels take it: its parameters, single steps where no gradient is wanted, and whole
sequences with their gradients, whatever reads or feeds it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import puffer_il.kernels._kernels as kernels
from puffer_il.nn import fused
from puffer_il.nn.fused import address

Cell = nn.LSTMCell | nn.GRUCell
MOST_MEMORY = 1024  # units
TORCH_TIMES = 3  # as long as the kernels a training loop with a memory takes


def memory_of(cell: Cell, gradients: bool = False) -> kernels.Memory:
    """Where its parameters are and, if asked for, the `.grad` that they must have."""
    parameters = _parameters(cell)
    return kernels.Memory(_kind(cell), cell.input_size, cell.hidden_size, tuple(map(address, parameters)),
                          tuple(address(p.grad) for p in parameters) if gradients else None)


def memory_fits(cell: Cell) -> bool:
    """True if the kernels cover it; if they do not, that is noted."""
    if cell.hidden_size > MOST_MEMORY:
        name = "an LSTM" if isinstance(cell, nn.LSTMCell) else "a GRU"
        fused.fall_back(f"{name} of {cell.hidden_size} units (the kernels cover up to {MOST_MEMORY})", TORCH_TIMES)
    return cell.hidden_size <= MOST_MEMORY


def remember(cell: Cell, x: Tensor, state: Tensor) -> Tensor | None:
    """The state (n, state) after x (n, inputs) float32 has been seen in `state`: the hidden state and, of an LSTM, the
    cell behind it; None where torch has to say it."""
    if torch.is_grad_enabled() or not _usable(cell, x):
        return None
    x, after = x.contiguous(), state.to(torch.float32, copy=True).contiguous()
    kernels.remember(memory_of(cell), address(x), len(x), address(after))
    return after


def unroll(cell: Cell, x: Tensor, state: Tensor, starts: Tensor | None) -> tuple[Tensor, Tensor] | None:
    """Hidden states (num_steps·m, units) of x (num_steps, m, inputs), differentiable by x and the parameters, and the
    state (m, state) after, which is not; `state` is that before, and is zeroed where `starts` (num_steps, m) is set.
    None where torch has to say it."""
    if not _usable(cell, x) or (torch.is_grad_enabled() and state.requires_grad):
        return None
    flags = None if starts is None else starts.to(torch.uint8).contiguous()
    return _Unroll.apply(cell, flags, state.float().contiguous(), x.contiguous(), *_parameters(cell))


class _Unroll(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, cell: Cell, starts: Tensor | None, state: Tensor, x: Tensor,
                *parameters: Tensor) -> tuple[Tensor, Tensor]:
        ctx.cell, ctx.starts = cell, starts
        ctx.save_for_backward(state, x, *parameters)
        hidden, after = x.new_empty(x.shape[0] * x.shape[1], cell.hidden_size), torch.empty_like(state)
        kernels.unroll(memory_of(cell), _columns(x, state, starts), address(x), address(hidden), address(after))
        ctx.mark_non_differentiable(after)
        return hidden, after

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *by_outputs: Tensor) -> tuple[Tensor | None, ...]:
        state, x, *parameters = ctx.saved_tensors
        by_hidden = by_outputs[0].contiguous()
        by_x = torch.empty_like(x) if ctx.needs_input_grad[3] else None
        gradients = [torch.empty_like(p) for p in parameters]
        memory = kernels.Memory(_kind(ctx.cell), x.shape[2], ctx.cell.hidden_size, tuple(map(address, parameters)),
                                tuple(map(address, gradients)))
        kernels.unroll_back(memory, _columns(x, state, ctx.starts), address(x), address(by_hidden), address(by_x))
        return (None, None, None, by_x, *gradients)


def _columns(x: Tensor, state: Tensor, starts: Tensor | None) -> kernels.Sequences:
    steps, columns = x.shape[:2]
    return kernels.Sequences(np.arange(columns), steps, columns, None, address(starts), address(state))


def _usable(cell: Cell, x: Tensor) -> bool:
    """True if the kernels can take this input now."""
    if not fused.enabled() or torch.jit.is_tracing() or torch.compiler.is_compiling():
        return False
    if not fused.readable(cell) or x.dtype != torch.float32 or torch.is_autocast_enabled("cpu") or not x.numel():
        return False
    return memory_fits(cell)


def _kind(cell: Cell) -> str:
    return "lstm" if isinstance(cell, nn.LSTMCell) else "gru"


def _parameters(cell: Cell) -> tuple[Tensor, ...]:
    return cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh
