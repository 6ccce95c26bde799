"""Single steps of an LSTM or a GRU and whole sequences with their gradients, in C against torch's own."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from puffer_il.kernels import _kernels as kernels
from puffer_il.nn import fused
from puffer_il.nn.fused_memory import MOST_MEMORY, Cell, remember, unroll
from tests.support.kernels import EACH_SET, error, random

EACH_CELL = pytest.mark.parametrize("kind", [nn.LSTMCell, nn.GRUCell], ids=["lstm", "gru"])


def exact(cell: Cell) -> Cell:
    copy = type(cell)(cell.input_size, cell.hidden_size, dtype=torch.float64)
    copy.load_state_dict(cell.state_dict())
    return copy


def step(cell: Cell, x: Tensor, state: Tensor) -> Tensor:
    """The state after one step, by torch's own module."""
    if isinstance(cell, nn.GRUCell):
        return cell(x, state)
    return torch.cat(cell(x, tuple(state.chunk(2, dim=1))), 1)


def state_of(cell: Cell, rows: int) -> Tensor:
    return 2 * random(rows, cell.hidden_size * (1 if isinstance(cell, nn.GRUCell) else 2), seed=1)


def sequences(cell: Cell, x: Tensor, state: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
    outputs = []
    for seen, start in zip(x, starts, strict=True):
        state = step(cell, seen, state * (1 - start.double()[:, None]))
        outputs.append(state[:, :cell.hidden_size])
    return torch.cat(outputs), state


@EACH_SET
@EACH_CELL
@pytest.mark.parametrize("units", [1, 7, 16, 40, 129])
@torch.no_grad()
def test_a_step_of_any_size_is_torchs(units: int, kind: type[Cell], isa: str) -> None:
    kernels.use_instruction_set(isa)
    torch.manual_seed(0)
    for inputs, rows in ((1, 1), (5, 7), (33, 130)):
        cell = kind(inputs, units)
        x, state = 3 * random(rows, inputs), state_of(cell, rows)
        before = state.clone()
        after = remember(cell, x, state)
        assert after is not None and torch.equal(state, before)
        assert error([after], [step(exact(cell), x.double(), state.double())]) < 1e-6


@torch.no_grad()
def test_a_row_remembers_the_same_beside_whichever_others() -> None:
    lstm, x, state = nn.LSTMCell(9, 20), random(100, 9), random(100, 40, seed=1)
    together = remember(lstm, x, state)
    assert together is not None
    assert all(torch.equal(remember(lstm, x[i:i + 3], state[i:i + 3]), together[i:i + 3]) for i in range(0, 97, 7))


def test_torch_steps_where_gradients_are_wanted_and_what_the_kernels_do_not_cover() -> None:
    lstm, x, state = nn.LSTMCell(2, 3), random(4, 2), random(4, 6)
    assert remember(lstm, x, state) is None
    with torch.no_grad():
        assert remember(lstm, x[:0], state[:0]) is None and remember(lstm.double(), x.double(), state.double()) is None
        fused.take_notices()
        wide = nn.LSTMCell(1, MOST_MEMORY + 1)
        assert remember(wide, random(2, 1), random(2, 2 * MOST_MEMORY + 2)) is None
        assert any(f"an LSTM of {MOST_MEMORY + 1} units" in notice for notice in fused.take_notices())
        fused.enable(False)
        assert remember(nn.LSTMCell(2, 3), x, state) is None


@EACH_SET
@EACH_CELL
@pytest.mark.parametrize(("inputs", "units"), [(3, 8), (17, 33), (40, 128)])
def test_gradients_through_sequences_are_torchs(inputs: int, units: int, kind: type[Cell], isa: str) -> None:
    kernels.use_instruction_set(isa)
    torch.manual_seed(0)
    for steps, columns in ((1, 1), (5, 7), (20, 60)):
        cell = kind(inputs, units)
        state = state_of(cell, columns)
        x, g = random(steps, columns, inputs).requires_grad_(), random(steps * columns, units, seed=2)
        starts = random(steps, columns, seed=3) > 0.8
        found = unroll(cell, x, state, starts)
        assert found is not None and not found[1].requires_grad
        ours = [*found, *torch.autograd.grad(found[0], [x, *cell.parameters()], g)]
        reference, y = exact(cell), x.detach().double().requires_grad_()
        hidden, after = sequences(reference, y, state.double(), starts)
        expected = [hidden, after, *torch.autograd.grad(hidden, [y, *reference.parameters()], g.double())]
        assert error(ours, expected) < 5e-6


def test_the_kernels_leave_a_state_that_is_to_be_differentiated_to_torch() -> None:
    lstm, state = nn.LSTMCell(2, 3), random(4, 6).requires_grad_()
    assert unroll(lstm, random(5, 4, 2), state, None) is None
    found = unroll(lstm, random(5, 4, 2), state.detach(), None)
    assert found is not None and found[0].requires_grad
