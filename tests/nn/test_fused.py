"""FusedMLP as an nn.Sequential: which derivatives are the kernels' work, and where it leaves the work to torch."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from puffer_il.nn import ACTIVATIONS as OURS
from puffer_il.nn import FusedMLP, fused
from tests.support.kernels import ACTIVATIONS, error, first_order, in_float64, make_net, random, second_order


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


@ACTIVATIONS
def test_fused_mlp_has_the_layers_and_state_of_an_nn_sequential(activation: str) -> None:
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


def test_part_of_a_fused_mlp_is_a_plain_sequential() -> None:
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


def test_other_dtypes_and_devices_go_through_torch() -> None:
    net, x = without_kernels(make_net(4, (8,), 3, "tanh")), random(9, 4)
    assert net(x.unsqueeze(0).expand(2, 9, 4)).shape == (2, 9, 3)  # as are inputs that are not rows
    double = copy.deepcopy(net).double()
    assert torch.equal(double(x.double()), nn.Sequential(*double)(x.double()))
    assert double(x.double()).dtype == torch.float64
    assert net.bfloat16()(x.bfloat16()).dtype == torch.bfloat16
    assert net.to("meta")(x.to("meta")).device.type == "meta"


def test_autocast_goes_through_torch() -> None:
    net, x = without_kernels(make_net(4, (8,), 3, "relu")), random(9, 4)
    with torch.autocast("cpu", torch.bfloat16):
        assert net(x).dtype == torch.bfloat16


def test_tracing_sees_torchs_operations() -> None:
    net, x = make_net(4, (8,), 3, "relu"), random(9, 4)
    traced = torch.jit.trace(without_kernels(net), x, check_trace=False)
    torch.testing.assert_close(traced(random(20, 4, seed=1)), net(random(20, 4, seed=1)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("hidden", "reason"), [((8,) * 9, "9 hidden layers"), ((8, 2049), "2049 units")])
def test_what_the_kernels_do_not_cover_goes_through_torch_and_is_said_once(hidden: tuple[int, ...], reason: str,
                                                               notices: Callable[[], list[str]]) -> None:
    nets = [make_net(4, hidden, 2, "tanh", seed) for seed in (0, 1)]
    for net in nets * 2:
        assert net.layers.network is None and torch.equal(net(random(5, 4)), nn.Sequential(*net)(random(5, 4)))
    notice, = notices()
    assert reason in notice and "torch computes this" in notice and "\n" not in notice
    nets[0](random(5, 4))
    assert notices() == []


def test_networks_that_the_kernels_cover_give_no_notice(notices: Callable[[], list[str]]) -> None:
    make_net(40, (2048, *(8,) * 7), 30, "tanh")(random(3, 40))
    fused.enable(False)
    make_net(4, (8,) * 9, 2, "tanh")(random(5, 4))  # everything is torch's now, by the user's own choice
    assert notices() == []
