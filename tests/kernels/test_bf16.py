"""Products of operands rounded to bf16: the processor's instruction and its emulation, errors, what stays float32."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from puffer_il.kernels import _kernels as kernels
from puffer_il.nn.fused import in_floats
from puffer_il.nn.fused_memory import remember, unroll
from tests.support.kernels import ACTIVATIONS, EACH_SET, MODULES, error, first_order, make_net, random, second_order

HARDWARE = pytest.mark.skipif(not kernels.has_bf16(), reason="this processor has no instruction for bf16")
WIDTHS = pytest.mark.parametrize("hidden", [(64, 64), (256, 256), (130, 33, 47), (32, 512)], ids=str)
EACH_CELL = pytest.mark.parametrize("kind", [nn.LSTMCell, nn.GRUCell])
ROWS = (1, 7, 23, 24, 49, 500)


def everything(inputs: int, hidden: Sequence[int], activation: str, rows: int) -> list[Tensor]:
    """Of an MLP: outputs, outputs without a tape, first and second derivatives."""
    net = make_net(inputs, hidden, 9, activation)
    x, g, c = random(rows, inputs), random(rows, 9, seed=1), random(rows, inputs, seed=2)
    with torch.no_grad():
        alone = net(x)
    return [alone, *first_order(net, x, g), *second_order(net, x, g, c)]


def through_time(kind: Any, inputs: int, units: int, steps: int = 5, columns: int = 37) -> list[Tensor]:
    """Of a memory: hidden states, the states after, and gradients by what it read and by its parameters."""
    torch.manual_seed(0)
    cell = kind(inputs, units)
    x, state = random(steps, columns, inputs).requires_grad_(), random(columns, units * (kind == nn.LSTMCell) + units)
    starts = random(steps, columns, seed=3) > 1
    found = unroll(cell, x, state, starts)
    assert found is not None
    hidden, after = found
    return [hidden, after, *torch.autograd.grad(hidden, [x, *cell.parameters()], random(*hidden.shape, seed=4))]


def rounded(x: Tensor) -> Tensor:
    return x.to(torch.bfloat16).double()


@HARDWARE
@WIDTHS
@ACTIVATIONS
def test_the_emulation_has_the_bits_of_the_instruction(activation: str, hidden: tuple[int, ...]) -> None:
    for inputs, rows in zip((4, 33, 64, 101, 17, 200), ROWS, strict=True):
        found = []
        for how in ("hardware", "emulated"):
            kernels.use_bf16(how)
            found.append(everything(inputs, hidden, activation, rows))
        assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@HARDWARE
@EACH_CELL
@pytest.mark.parametrize(("inputs", "units"), [(4, 128), (33, 40), (130, 65)])
def test_the_emulation_has_the_bits_of_the_instruction_through_time(inputs: int, units: int, kind: Any) -> None:
    found = []
    for how in ("hardware", "emulated"):
        kernels.use_bf16(how)
        found.append(through_time(kind, inputs, units))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@EACH_SET
def test_a_layer_is_the_exact_product_of_rounded_operands(isa: str) -> None:
    kernels.use_instruction_set(isa)
    kernels.use_bf16("emulated")
    net = make_net(70, (64, 48), 3, "tanh")
    x, g = random(500, 70).requires_grad_(), random(500, 3, seed=1)
    first, second, head = (layer for layer in net if isinstance(layer, nn.Linear))
    ours = first_order(net, x, g)
    with torch.no_grad():
        h1 = torch.tanh(rounded(x) @ rounded(first.weight).T + first.bias)
        h2 = torch.tanh(rounded(h1.float()) @ rounded(second.weight).T + second.bias)
        out = h2 @ head.weight.double().T + head.bias  # heads keep floats
        d2 = g.double() @ head.weight.double() * (1 - h2**2)
        d1 = rounded(d2.float()) @ rounded(second.weight) * (1 - h1**2)
        by_x = rounded(d1.float()) @ rounded(first.weight)
        by_first, by_second = rounded(d1.float()).T @ rounded(x), rounded(d2.float()).T @ rounded(h1.float())
    expected = [out, by_x, by_first, d1.sum(0), by_second, d2.sum(0), g.double().T @ h2, g.double().sum(0)]
    # A number at the middle between two of bf16 goes either way by float32's rounding; 4e-3 is bf16's.
    assert error(ours, expected) < 2e-4
    with in_floats():
        assert error(first_order(net, x, g), expected) > 5e-4


@EACH_SET
@WIDTHS
@ACTIVATIONS
def test_networks_are_close_to_float32(activation: str, hidden: tuple[int, ...], isa: str) -> None:
    kernels.use_instruction_set(isa)
    for rows in ROWS:
        floats = everything(40, hidden, activation, rows)
        kernels.use_bf16("emulated")
        near = everything(40, hidden, activation, rows)
        kernels.use_bf16("")
        firsts = 3 + 2 * len(hidden) + 2  # outputs twice, the gradients by x and by the parameters, then second ones
        assert 1e-5 < error(near[:2], floats[:2]) < 0.02
        if activation != "relu" or rows == ROWS[-1]:  # a kink's other side is another slope, and few rows are no mean
            assert error(near[2:firsts], floats[2:firsts]) < (0.1 if activation == "relu" else 0.02)
        if activation in ("tanh", "silu"):  # the others' slopes have kinks
            assert error(near[firsts:], floats[firsts:]) < 0.03


@EACH_SET
@EACH_CELL
def test_memories_are_close_to_float32(kind: Any, isa: str) -> None:
    kernels.use_instruction_set(isa)
    floats = through_time(kind, 9, 64)
    kernels.use_bf16("emulated")
    assert 1e-5 < error(through_time(kind, 9, 64), floats) < 0.02


@EACH_SET
@torch.no_grad()
def test_few_rows_are_rounded_as_many_are(isa: str) -> None:
    """Few rows of a wide layer are multiplied without packing its weights."""
    kernels.use_instruction_set(isa)
    kernels.use_bf16("emulated")
    net, x = make_net(5, (256, 256), 3, "tanh"), random(300, 5)
    many = net(x)
    assert error([torch.cat([net(part) for part in x.split(10)])], [many]) < 2e-4
    with in_floats():
        assert error([net(x)], [many]) > 1e-3
    cell = nn.LSTMCell(9, 64)
    state = random(300, 128)
    single = [remember(cell, a, b) for a, b in zip(random(300, 9).split(7), state.split(7), strict=True)]
    together = remember(cell, random(300, 9), state)
    assert together is not None and torch.equal(torch.cat([s for s in single if s is not None]), together)


@pytest.mark.parametrize("inputs", [3, 31])
def test_narrow_layers_and_heads_keep_floats(inputs: int) -> None:
    for hidden in ((64,), (16, 16), (16, 300)):  # widths count as padded to 16
        floats = everything(inputs, hidden, "tanh", 50)
        kernels.use_bf16("emulated")
        assert all(torch.equal(a, b) for a, b in zip(everything(inputs, hidden, "tanh", 50), floats, strict=True))
        kernels.use_bf16("")


def test_floats_have_the_same_bits_before_and_after() -> None:
    before = everything(17, (64, 64), "tanh", 100) + through_time(nn.LSTMCell, 9, 64)
    kernels.use_bf16("emulated")
    between = everything(17, (64, 64), "tanh", 100) + through_time(nn.LSTMCell, 9, 64)
    kernels.use_bf16("")
    after = everything(17, (64, 64), "tanh", 100) + through_time(nn.LSTMCell, 9, 64)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(before[:3], between[:3], strict=True))


@pytest.mark.parametrize("activation", MODULES)
def test_the_bits_do_not_depend_on_the_number_of_threads(activation: str) -> None:
    kernels.use_bf16("emulated")
    found = []
    for threads in (1, 3):
        kernels.set_threads(threads)
        found.append(everything(40, (64, 100), activation, 2000))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("how", ["emulated", pytest.param("hardware", marks=HARDWARE)])
def test_what_is_not_a_number_stays_none_and_what_is_large_becomes_infinite(how: str) -> None:
    kernels.use_bf16(how)
    net = make_net(40, (40, 40), 3, "relu")
    for number, told in ((float("nan"), torch.isnan), (float("inf"), lambda y: ~y.isfinite())):
        x = random(10, 40)
        x[4, 7] = number
        with torch.no_grad():
            bad = told(net(x)).any(1)
        assert bad[4] and not bad[:4].any() and not bad[5:].any()


def test_only_a_processor_that_has_bf16_is_told_to_use_it() -> None:
    kernels.use_instruction_set("portable" if kernels.instruction_set() != "neon" else "neon")
    assert not kernels.has_bf16()
    with pytest.raises(ValueError, match="do not multiply"):
        kernels.use_bf16("hardware")
    with pytest.raises(KeyError):
        kernels.use_bf16("half")
    assert kernels.bf16() == ""
