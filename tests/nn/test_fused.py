"""FusedMLP against the plain nn.Sequential in float64, and where it leaves the work to torch."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from puffer_il.kernels import _kernels as kernels
from puffer_il.nn import fused
from puffer_il.nn.fused import FusedMLP
from puffer_il.nn.networks import ACTIVATIONS as OURS
from puffer_il.nn.networks import mlp
from tests.support.kernels import ACTIVATIONS, EACH_SET, INSTRUCTION_SETS, MODULES, error, in_float64, make_net

PARTS = st.tuples(st.integers(1, 40), st.lists(st.integers(1, 130), min_size=1, max_size=3), st.integers(1, 30))
ROWS = st.one_of(st.integers(1, 200), st.sampled_from([1000, 2881]))


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


def close(ours: list[Tensor], reference: list[Tensor], rows: int) -> bool:
    """Two tensors with an element per row, then sums over the rows. In networks of one or two units all may cancel, and
    a saturated unit's slope has few digits: what is wanted is digits of the terms, not of what is left of them."""
    return error(ours[:2], reference[:2], floor=0.1) < 3e-5 and error(ours[2:], reference[2:], 0.1 * rows**0.5) < 3e-5


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def without_kernels(net: FusedMLP) -> FusedMLP:
    """A copy that fails as soon as a kernel is asked for."""
    net = copy.deepcopy(net)
    net.layers.network = None
    return net


class Spy:
    """Stands in for a kernels.Network and notes what is asked of it."""

    def __init__(self, network: Any) -> None:
        self.network, self.calls = network, []

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.network, name)
        if callable(value):
            self.calls.append(name)
        return value


@pytest.fixture
def notices(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[str]]]:
    """As in a process that has said nothing yet."""
    monkeypatch.setattr(fused, "_said", set())
    monkeypatch.setattr(fused, "_notices", [])
    yield fused.take_notices


# ---- the same numbers ----


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
def test_outputs_and_gradients_are_those_of_float64(parts: Any, rows: int, activation: str, isa: str, threads: int,
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
def test_second_derivatives_are_those_of_float64(parts: Any, rows: int, activation: str, isa: str, threads: int,
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
@pytest.mark.parametrize("hidden", [(16,), (64, 64), (256, 256), (512, 512), (16, 512, 64)])
def test_the_usual_widths(hidden: tuple[int, ...], activation: str, isa: str) -> None:
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
def test_any_number_of_threads_gives_the_same_bits(rows: int, activation: str) -> None:
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


@ACTIVATIONS
@pytest.mark.parametrize("wanted", ["parameters", "inputs and parameters"])
def test_second_derivatives_of_parameters_go_through_torch(wanted: str, activation: str) -> None:
    """The gradient of a parameter's gradient, which no kernel has."""
    net, x = make_net(5, (12, 12), 2, activation), random(40, 5)

    def twice(net: nn.Module, x: Tensor) -> tuple[Tensor, ...]:
        x = x.detach().requires_grad_()
        first = [x, *net.parameters()][0 if wanted.startswith("inputs") else 1:]
        gradients = torch.autograd.grad(net(x).sin().sum(), first, create_graph=True)
        return torch.autograd.grad(sum(g.square().sum() for g in gradients), [x, *net.parameters()])

    assert error(twice(net, x), twice(in_float64(net), x.double())) < 1e-5


@ACTIVATIONS
def test_a_gradient_penalty_is_the_kernels_work(activation: str) -> None:
    net, x = make_net(5, (12,), 1, activation), random(40, 5).requires_grad_()
    net.layers.network = spy = Spy(net.layers.network)
    gradient, = torch.autograd.grad(net(x).sum(), x, create_graph=True)
    gradient.square().sum().backward()
    assert spy.calls == ["saved_size", "forward", "backward", "double_backward"]


def test_third_derivatives_are_refused_rather_than_wrong() -> None:
    net, x = make_net(3, (8,), 1, "tanh"), random(5, 3).requires_grad_()
    first, = torch.autograd.grad(net(x).sum(), x, create_graph=True)
    second, = torch.autograd.grad(first.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match=r"once_differentiable|differentiate twice"):
        second.sum().backward()


def test_gradients_are_computed_where_they_are_wanted() -> None:
    net, x = make_net(4, (8,), 2, "tanh"), random(6, 4)
    out = net(x)
    assert out.requires_grad
    out.sum().backward()
    assert x.grad is None and all(p.grad is not None for p in net.parameters())
    for p in net.parameters():
        p.requires_grad_(False)
    x.requires_grad_()
    net(x).sum().backward()
    assert error([x.grad], [torch.autograd.grad(in_float64(net)(x.double()).sum(), x)[0]]) < 1e-5


@ACTIVATIONS
def test_what_is_too_much_to_save_is_computed_again(activation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net, x, g = make_net(7, (40, 33), 3, activation), random(500, 7), random(500, 3, seed=1)
    saved = first_order(net, x, g)
    monkeypatch.setattr(fused, "MOST_SAVED", 0)
    assert all(torch.equal(a, b) for a, b in zip(first_order(net, x, g), saved, strict=True))


def test_a_graph_can_be_walked_twice() -> None:
    net, x = make_net(4, (8,), 2, "silu"), random(6, 4)
    out, first = net(x), next(net.parameters())
    once, = torch.autograd.grad(out.sum(), first, retain_graph=True)
    assert torch.equal(torch.autograd.grad(out.sum(), first)[0], once)


# ---- accuracy at the edges ----


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


# ---- an nn.Sequential otherwise ----


@ACTIVATIONS
def test_it_is_the_sequential_that_it_replaces(activation: str) -> None:
    net = make_net(4, (8, 6), 3, activation)
    plain = nn.Sequential(nn.Linear(4, 8), OURS[activation](), nn.Linear(8, 6), OURS[activation](), nn.Linear(6, 3))
    assert isinstance(net, nn.Sequential) and len(net) == 5
    assert [*net.state_dict()] == [*plain.state_dict()] and [type(m) for m in net] == [type(m) for m in plain]
    plain.load_state_dict(net.state_dict(), strict=True)
    with torch.no_grad():
        torch.testing.assert_close(net(random(9, 4)), plain(random(9, 4)), rtol=1e-5, atol=1e-6)
        for p in plain.parameters():
            p += 1
        net.load_state_dict(plain.state_dict(), strict=True)
        torch.testing.assert_close(net(random(9, 4)), plain(random(9, 4)), rtol=1e-5, atol=1e-5)
    with pytest.raises(RuntimeError, match="Missing key"):
        net.load_state_dict({}, strict=True)


def test_parts_of_it_are_plain() -> None:
    net, x = make_net(4, (8, 6), 3, "tanh"), random(9, 4)
    body = net[:-1]
    assert type(body) is nn.Sequential and net[-1] is list(net)[-1]
    with torch.no_grad():
        torch.testing.assert_close(net[-1](body(x)), net(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))],
                         ids=["deepcopy", "pickle"])
def test_copies_have_weights_of_their_own(copied: Callable[[FusedMLP], FusedMLP]) -> None:
    net, x = make_net(4, (8,), 3, "elu"), random(9, 4)
    other, before = copied(net), net(x).detach()
    assert torch.equal(other(x), before) and type(other) is FusedMLP
    with torch.no_grad():
        for p in other.parameters():
            p.zero_()
    assert torch.equal(net(x), before) and not other(x).any()
    other(x).sum().backward()
    assert all(p.grad is None for p in net.parameters()) and all(p.grad is not None for p in other.parameters())


LAYOUTS = pytest.mark.parametrize(
    "x", [random(8, 8)[::2], random(8, 5).t(), random(1, 8).expand(6, 8), random(5, 16)[:, 8:]],
    ids=["strided", "transposed", "expanded", "columns"])


@LAYOUTS
def test_inputs_need_not_be_contiguous(x: Tensor) -> None:
    net, g = make_net(8, (20,), 2, "tanh"), random(len(x), 2, seed=1)
    assert not x.is_contiguous()
    assert error(first_order(net, x, g), first_order(in_float64(net), x.double(), g.double())) < 1e-5
    with torch.no_grad():
        assert torch.equal(net(x), net(x.contiguous()))


@LAYOUTS
def test_second_derivatives_by_inputs_that_are_not_contiguous(x: Tensor) -> None:
    net, g, c = make_net(8, (20,), 2, "tanh"), random(len(x), 2, seed=1), random(*x.shape, seed=2)
    assert error(second_order(net, x, g, c), second_order(in_float64(net), x.double(), g.double(), c.double())) < 1e-5


def test_gradients_of_outputs_need_not_be_contiguous() -> None:
    net, x, g = make_net(5, (8,), 3, "tanh"), random(6, 5), random(3, 6).t()
    assert error(first_order(net, x, g), first_order(net, x, g.contiguous())) == 0
    assert error(first_order(net, x, torch.ones(1, 1).expand(6, 3)), first_order(net, x, torch.ones(6, 3))) == 0


@pytest.mark.parametrize("columns", [3, 9])
def test_inputs_of_another_width_are_refused(columns: int) -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        make_net(4, (8,), 2, "tanh")(random(6, columns))


def test_a_layer_that_is_replaced_is_the_one_that_counts() -> None:
    net, x = make_net(4, (8,), 2, "tanh"), random(6, 4)
    net[2] = nn.Linear(8, 2)
    with torch.no_grad():
        torch.testing.assert_close(net(x), nn.Sequential(*net)(x), rtol=1e-5, atol=1e-6)


def test_modules_that_are_put_in_by_hand_count() -> None:
    x = random(6, 4)
    for change in (lambda net: net.append(nn.Tanh()), lambda net: net.__setitem__(4, nn.Identity()),
                   lambda net: net.__setitem__(1, nn.ReLU())):
        net = make_net(4, (8, 8), 2, "tanh")
        change(net)
        with torch.no_grad():
            assert torch.equal(net(x), nn.Sequential(*net)(x))


def test_no_rows_give_no_outputs() -> None:
    net = make_net(5, (8,), 3, "tanh")
    out = net(torch.empty(0, 5))
    assert out.shape == (0, 3)
    out.sum().backward()
    assert all(not p.grad.any() for p in net.parameters())


# ---- where torch does it ----


def test_switched_off_it_is_torch_bit_for_bit() -> None:
    net, x = make_net(4, (30, 30), 3, "silu"), random(50, 4)
    fused.enable(False)
    assert not fused.enabled() and torch.equal(without_kernels(net)(x), nn.Sequential(*net)(x))
    fused.enable(True)
    with pytest.raises(AttributeError):  # so that the tests of fallbacks mean something
        without_kernels(net)(x)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients_the_numbers_are_the_same(mode: Callable[[], Any]) -> None:
    net, x = make_net(4, (30, 30), 3, "silu"), random(50, 4)
    with mode():
        out = net(x)
    assert not out.requires_grad and torch.equal(out, net(x).detach())


def test_other_dtypes_and_devices_are_torchs() -> None:
    net, x = without_kernels(make_net(4, (8,), 3, "tanh")), random(9, 4)
    assert net(x.unsqueeze(0).expand(2, 9, 4)).shape == (2, 9, 3)  # as are inputs that are not rows
    double = copy.deepcopy(net).double()
    assert torch.equal(double(x.double()), nn.Sequential(*double)(x.double()))
    assert double(x.double()).dtype == torch.float64
    assert net.bfloat16()(x.bfloat16()).dtype == torch.bfloat16
    assert net.to("meta")(x.to("meta")).device.type == "meta"


def test_autocast_is_torchs() -> None:
    net, x = without_kernels(make_net(4, (8,), 3, "relu")), random(9, 4)
    with torch.autocast("cpu", torch.bfloat16):
        assert net(x).dtype == torch.bfloat16


def test_tracing_sees_torchs_operations() -> None:
    net, x = make_net(4, (8,), 3, "relu"), random(9, 4)
    traced = torch.jit.trace(without_kernels(net), x, check_trace=False)
    torch.testing.assert_close(traced(random(20, 4, seed=1)), net(random(20, 4, seed=1)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("hidden", "reason"), [((8,) * 4, "4 hidden layers"), ((8, 1024), "1024 units")])
def test_what_the_kernels_do_not_cover_is_torchs_and_said_once(hidden: tuple[int, ...], reason: str,
                                                               notices: Callable[[], list[str]]) -> None:
    nets = [make_net(4, hidden, 2, "tanh", seed) for seed in (0, 1)]
    for net in nets * 2:
        assert net.layers.network is None and torch.equal(net(random(5, 4)), nn.Sequential(*net)(random(5, 4)))
    notice, = notices()
    assert reason in notice and "torch does this" in notice and "\n" not in notice
    nets[0](random(5, 4))
    assert notices() == []


def test_what_they_cover_is_not_remarked_on(notices: Callable[[], list[str]]) -> None:
    make_net(40, (512, 512, 512), 30, "tanh")(random(3, 40))
    fused.enable(False)
    make_net(4, (8,) * 4, 2, "tanh")(random(5, 4))  # everything is torch's now, by the user's own choice
    assert notices() == []


def test_an_unknown_instruction_set_is_named() -> None:
    with pytest.raises(ValueError, match="'mmx'"):
        kernels.use_instruction_set("mmx")
    assert kernels.instruction_set() == INSTRUCTION_SETS[0]
    kernels.use_instruction_set(INSTRUCTION_SETS[-1])
    assert kernels.instruction_set() == INSTRUCTION_SETS[-1]
    kernels.use_instruction_set("")
    assert kernels.instruction_set() == INSTRUCTION_SETS[0]
