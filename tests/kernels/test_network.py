"""An MLP by the C kernels against the plain nn.Sequential in float64: outputs, gradients, second derivatives, edges."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from puffer_il.kernels import _kernels as kernels
from puffer_il.nn.networks import mlp
from tests.support.kernels import (
    ACTIVATIONS,
    EACH_SET,
    INSTRUCTION_SETS,
    MODULES,
    error,
    first_order,
    in_float64,
    make_net,
    random,
    second_order,
)

PARTS = st.tuples(st.integers(1, 40), st.lists(st.integers(1, 130), min_size=1, max_size=5), st.integers(1, 30))
ROWS = st.one_of(st.integers(1, 200), st.sampled_from([1000, 2881]))


def close(ours: list[Tensor], reference: list[Tensor], rows: int) -> bool:
    """Two tensors with an element per row, then sums over the rows. In networks of one or two units all may cancel, and
    a saturated unit's slope has few digits: what is wanted is digits of the terms, not of what is left of them."""
    return error(ours[:2], reference[:2], floor=0.1) < 3e-5 and error(ours[2:], reference[2:], 0.1 * rows**0.5) < 3e-5


def near_a_kink(net: nn.Module, x: torch.Tensor) -> bool:
    """True if rounding may put a ReLU on its other side, where its slope is another."""
    signals = x.double()
    for layer in in_float64(net):
        if isinstance(layer, nn.ReLU) and bool((signals.abs() < 1e-5).any()):
            return True
        signals = layer(signals)
    return False


@settings(max_examples=120, deadline=None, derandomize=True)
@given(parts=PARTS, rows=ROWS, activation=st.sampled_from([*MODULES]), isa=st.sampled_from(INSTRUCTION_SETS),
       threads=st.integers(1, 3), seed=st.integers(0, 1000))
def test_outputs_and_gradients_match_float64(parts: Any, rows: int, activation: str, isa: str, threads: int,
                                                    seed: int) -> None:
    inputs, hidden, outputs = parts
    kernels.use_instruction_set(isa)
    kernels.set_threads(threads)
    net, x, g = make_net(inputs, hidden, outputs, activation, seed), random(rows, inputs), random(rows, outputs, seed=1)
    assume(not near_a_kink(net, x))
    assert close(first_order(net, x, g), first_order(in_float64(net), x.double(), g.double()), rows)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(parts=PARTS, rows=ROWS, activation=st.sampled_from([*MODULES]), isa=st.sampled_from(INSTRUCTION_SETS),
       threads=st.integers(1, 3), seed=st.integers(0, 1000))
def test_second_derivatives_match_float64(parts: Any, rows: int, activation: str, isa: str, threads: int,
                                                 seed: int) -> None:
    inputs, hidden, outputs = parts
    kernels.use_instruction_set(isa)
    kernels.set_threads(threads)
    net = make_net(inputs, hidden, outputs, activation, seed)
    x, g, c = random(rows, inputs), random(rows, outputs, seed=1), random(rows, inputs, seed=2)
    assume(not near_a_kink(net, x))
    ours = second_order(net, x, g, c)
    assert close(ours, second_order(in_float64(net), x.double(), g.double(), c.double()), rows)


@EACH_SET
@ACTIVATIONS
@pytest.mark.parametrize("hidden", [(16,), (64, 64), (256, 256), (512, 512), (16, 512, 64), (33,) * 8, (1100, 40)])
def test_usual_widths_match_float64(hidden: tuple[int, ...], activation: str, isa: str) -> None:
    kernels.use_instruction_set(isa)
    net = make_net(17, hidden, 9, activation)
    reference = in_float64(net)
    for rows in (1, 23, 24, 100):  # few rows of wide layers are read without packing them
        x, g, c = random(rows, 17), random(rows, 9, seed=1), random(rows, 17, seed=2)
        assert error(first_order(net, x, g), first_order(reference, x.double(), g.double())) < 1e-5
        with torch.no_grad():
            assert error([net(x)], [reference(x.double())]) < 1e-6
    assert error(second_order(net, x, g, c), second_order(reference, x.double(), g.double(), c.double())) < 1e-5


@ACTIVATIONS
@pytest.mark.parametrize("rows", [1, 47, 49, 1000, 6001])
def test_network_has_the_same_bits_on_any_number_of_threads(rows: int, activation: str) -> None:
    net = make_net(7, (64, 33), 3, activation)
    x, g, c = random(rows, 7), random(rows, 3, seed=1), random(rows, 7, seed=2)
    results = []
    for threads in (1, 2, 3, 8):
        kernels.set_threads(threads)
        results.append(first_order(net, x, g) + second_order(net, x, g, c))
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@EACH_SET
def test_a_rows_result_depends_on_that_row_alone(isa: str) -> None:
    kernels.use_instruction_set(isa)
    net, x = make_net(5, (64, 64), 2, "tanh"), random(300, 5)
    with torch.no_grad():
        assert torch.equal(net(x), torch.cat([net(part) for part in x.split([1, 46, 47, 50, 96, 60])]))


@ACTIVATIONS
def test_gradients_are_the_slopes_of_finite_differences(activation: str) -> None:
    net = make_net(6, (20, 20), 3, activation)
    parameters = list(net.parameters())
    x, g, c = random(30, 6), random(30, 3, seed=1), random(30, 6, seed=2)
    directions = [random(*t.shape, seed=k + 3) / t.numel() ** 0.5 for k, t in enumerate([x, *parameters])]

    def moved(by: float, value: Callable[[Tensor], Tensor]) -> float:
        net_, x_ = copy.deepcopy(net), x + by * directions[0]
        with torch.no_grad():
            for p, d in zip(net_.parameters(), directions[1:], strict=True):
                p += by * d
        return float(value(net_, x_).double())

    def output(net_: nn.Module, x_: Tensor) -> Tensor:
        return (net_(x_) * g).double().sum()

    def slope(net_: nn.Module, x_: Tensor) -> Tensor:
        x_ = x_.requires_grad_()
        return (torch.autograd.grad((net_(x_) * g).sum(), x_)[0] * c).double().sum()

    step = 2e-3
    first, second = first_order(net, x, g)[1:], second_order(net, x, g, c)[1:]
    for value, gradients in ((output, first), (slope, second)):
        if activation == "relu" and value is slope:
            continue  # it has kinks, and differences step over some
        expected = sum(float((d.double() * v.double()).sum()) for d, v in zip(gradients, directions, strict=True))
        found = (moved(step, value) - moved(-step, value)) / (2 * step)
        assert found == pytest.approx(expected, rel=0.01, abs=0.01)


def activated(activation: str, x: Tensor) -> tuple[Tensor, Tensor]:
    """The activation and its slope at x (n,), through a network that does nothing else."""
    net = mlp(1, (1,), 1, activation)
    with torch.no_grad():
        for p in net.parameters():
            p.fill_(float(p.dim() == 2))
    x = x.float().unsqueeze(1).requires_grad_()
    out = net(x)
    return out.detach()[:, 0], torch.autograd.grad(out.sum(), x)[0][:, 0]


@EACH_SET
@pytest.mark.parametrize(("activation", "low", "high"), [("tanh", -6, 6), ("elu", -80, 80), ("silu", -40, 80)])
def test_activations_are_accurate_to_the_last_digits(activation: str, low: float, high: float, isa: str) -> None:
    kernels.use_instruction_set(isa)
    tiny = torch.logspace(-36, -1, 500, dtype=torch.float64)
    x = torch.cat((torch.linspace(low, high, 20_001, dtype=torch.float64), tiny, -tiny, torch.zeros(1)))
    x = x.float().double().requires_grad_()
    expected = MODULES[activation]()(x)
    slope, = torch.autograd.grad(expected.sum(), x)
    ours, ours_slope = activated(activation, x.detach())
    relative = (ours.double() - expected).abs() / expected.abs().clamp_min(1e-37)
    assert float(relative.max()) < 1e-6
    assert float(((ours_slope.double() - slope) / (1 + x.abs())).abs().max()) < 5e-7


@EACH_SET
def test_tanh_stays_within_one(isa: str) -> None:
    kernels.use_instruction_set(isa)
    x = torch.cat((torch.linspace(-12, 12, 200_001), torch.tensor([1e4, -1e4, 3e38])))
    ours, slope = activated("tanh", x)
    assert float(ours.abs().max()) <= 1 and float(slope.min()) >= 0
    assert float((ours.double() - x.double().tanh()).abs().max()) < 6e-7
    assert torch.equal(ours.sign(), x.sign())


@EACH_SET
@ACTIVATIONS
def test_extreme_inputs_stay_finite(activation: str, isa: str) -> None:
    kernels.use_instruction_set(isa)
    net = make_net(3, (20, 20), 2, activation)
    x = torch.tensor([[1e4, -1e4, 1e4], [-1e4, -1e4, -1e4], [1e4, 1e-30, 0.0], [0.0, 3e3, 1e4]])
    reference = first_order(in_float64(net), x.double(), torch.ones(4, 2))
    out, dx, *others = first_order(net, x, torch.ones(4, 2))
    assert all(bool(t.isfinite().all()) for t in (out, dx, *others))
    assert error([out], reference[:1]) < 1e-5
    # A saturated tanh has no gradient at all; SiLU's slope ends at 1, and z (1 − σ(z)) loses digits on its way there.
    torch.testing.assert_close(dx.double(), reference[1], rtol=1e-3, atol=1e-3)


@EACH_SET
@ACTIVATIONS
def test_a_nan_in_a_row_is_seen_in_that_row_and_in_no_other(activation: str, isa: str) -> None:
    kernels.use_instruction_set(isa)
    net, x = make_net(5, (20, 70), 3, activation), random(60, 5)
    x[[7, 59], 2] = float("nan")
    out, dx, *by_parameters = first_order(net, x, torch.ones(60, 3))
    bad = torch.zeros(60, dtype=torch.bool)
    bad[[7, 59]] = True
    for rows in (out, dx[:, :1]) if activation != "relu" else (out,):  # relu's slope at a NaN is 0, as torch's is
        assert bool(rows[bad].isnan().all()) and bool(rows[~bad].isfinite().all())
    assert bool(by_parameters[0][:, 2].isnan().any())


@EACH_SET
@ACTIVATIONS
def test_a_nan_in_a_parameter_is_seen_in_every_output(activation: str, isa: str) -> None:
    kernels.use_instruction_set(isa)
    for index in range(6):
        net, x = make_net(5, (20, 70), 3, activation), random(60, 5)
        with torch.no_grad():
            list(net.parameters())[index].view(-1)[-1] = float("nan")
        out = net(x)
        # The output layer's own parameters reach one output, all others every one.
        assert bool(out[:, -1].isnan().all()) and (index > 3 or bool(out.isnan().all()))
        gradients = first_order(net, x, torch.ones(60, 3))[1:]
        assert index == 5 or any(bool(t.isnan().any()) for t in gradients)


def test_an_unknown_instruction_set_is_named() -> None:
    with pytest.raises(ValueError, match="'mmx'"):
        kernels.use_instruction_set("mmx")
    assert kernels.instruction_set() == INSTRUCTION_SETS[0]
    kernels.use_instruction_set(INSTRUCTION_SETS[-1])
    assert kernels.instruction_set() == INSTRUCTION_SETS[-1]
    kernels.use_instruction_set("")
    assert kernels.instruction_set() == INSTRUCTION_SETS[0]
