"""FlatAdam against torch's AdamW and clip_grad_norm_, as a C kernel and as torch's operations."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from puffer_il.kernels import _kernels as kernels
from puffer_il.nn.optim import FlatAdam, flatten
from tests.support.kernels import EACH_SET, error

SHAPES = [(5, 3), (5,), (1, 1), (7, 11), (600, 3)]
ROUTES = pytest.mark.parametrize("kernel", [True, False], ids=["kernel", "torch"])
SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "clipped": {"max_grad_norm": 0.5},
    "decaying": {"weight_decay": 0.1, "max_grad_norm": 1e6},  # a bound that is never met
    "unusual": {"betas": (0.5, 0.9), "eps": 1e-3, "weight_decay": 0.01, "max_grad_norm": 2.0},
}


def make_parameters(seed: int = 0) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(*shape, generator=generator)) for shape in SHAPES]


def optimizer_of(parameters: list[nn.Parameter], kernel: bool = True, **changes: Any) -> FlatAdam:
    optimizer = FlatAdam(parameters, learning_rate=changes.pop("learning_rate", 1e-2), **changes)
    assert optimizer.kernel is not None
    if not kernel:
        optimizer.kernel = None
    return optimizer


def put_gradients(parameters: list[nn.Parameter], step: int) -> None:
    """Gradients whose scale changes from step to step, some of them exactly zero."""
    generator = torch.Generator().manual_seed(step)
    for p in parameters:
        gradient = torch.randn(p.shape, generator=generator) * 10.0 ** (step % 4 - 2)
        gradient[torch.rand(p.shape, generator=generator) < 0.1] = 0
        if p.grad is None:
            p.grad = gradient
        else:
            p.grad.copy_(gradient)


@EACH_SET
@ROUTES
@pytest.mark.parametrize("name", SETTINGS)
def test_fifty_steps_are_adamws(name: str, kernel: bool, isa: str) -> None:
    kernels.use_instruction_set(isa)
    chosen = dict(SETTINGS[name])
    ours, theirs = make_parameters(), make_parameters()
    optimizer = optimizer_of(ours, kernel, **chosen)
    most = chosen.pop("max_grad_norm", 0.0)
    reference = torch.optim.AdamW(theirs, lr=1e-2, **({"weight_decay": 0.0} | chosen))
    for step in range(50):
        for group in reference.param_groups:
            group["lr"] = optimizer.learning_rate = 1e-2 * (1 - step / 60)
        put_gradients(ours, step), put_gradients(theirs, step)
        expected = nn.utils.clip_grad_norm_(theirs, most or math.inf)
        reference.step()
        optimizer.prepare()
        norm = optimizer.step()
        assert norm.dtype == torch.float32 and float(norm) == pytest.approx(float(expected), rel=1e-5)
    assert float(optimizer.steps) == 50
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(size=st.integers(2, 5000), scale=st.sampled_from([1e-12, 1e-6, 1.0, 1e6, 1e15]))
def test_both_routes_are_one(size: int, scale: float) -> None:
    results = []
    for kernel in (True, False):
        parameters = [nn.Parameter(torch.ones(1)), nn.Parameter(torch.linspace(-1, 1, size - 1))]
        optimizer = optimizer_of(parameters, kernel, max_grad_norm=1.0, weight_decay=0.1)
        optimizer.grad.copy_(torch.linspace(-1, 2, size) * scale)
        optimizer.prepare()
        results.append((optimizer.step(), optimizer.flat, optimizer.mean, optimizer.square))
    (*ours, square), (*expected, expected_square) = results
    assert error(ours, expected) < 1e-6
    assert error([square], [expected_square]) < 2e-5  # 1 − 0.999 in float32


@ROUTES
def test_a_state_dict_goes_on_exactly(kernel: bool) -> None:
    def take(optimizer: FlatAdam, parameters: list[nn.Parameter], steps: range) -> None:
        optimizer.prepare()
        for step in steps:
            put_gradients(parameters, step)
            optimizer.step()

    whole, cut = make_parameters(), make_parameters()
    take(optimizer_of(whole, kernel, max_grad_norm=0.5), whole, range(20))
    first = optimizer_of(cut, kernel, max_grad_norm=0.5)
    take(first, cut, range(8))
    saved = {name: t.clone() for name, t in first.state_dict().items()}
    assert saved.keys() == {"mean", "square", "steps"} and float(saved["steps"]) == 8
    rest = [nn.Parameter(p.detach().clone()) for p in cut]
    second = optimizer_of(rest, kernel, max_grad_norm=0.5)
    second.load_state_dict(saved)
    take(second, rest, range(8, 20))
    assert all(torch.equal(a, b) for a, b in zip(rest, whole, strict=True))


@ROUTES
def test_an_infinite_or_missing_gradient_does_not_go_unnoticed(kernel: bool) -> None:
    for bad in (math.nan, math.inf):
        parameters = make_parameters()
        optimizer = optimizer_of(parameters, kernel, max_grad_norm=0.5)
        optimizer.grad[3] = bad
        optimizer.prepare()
        assert not math.isfinite(float(optimizer.step()))
        assert not bool(optimizer.flat.isfinite().all())


@ROUTES
def test_no_gradient_moves_nothing_but_the_decay(kernel: bool) -> None:
    parameters = make_parameters()
    before = [p.detach().clone() for p in parameters]
    optimizer = optimizer_of(parameters, kernel, weight_decay=0.5, max_grad_norm=1.0)
    optimizer.prepare()
    assert float(optimizer.step()) == 0
    for p, old in zip(parameters, before, strict=True):
        torch.testing.assert_close(p.detach(), old * (1 - 1e-2 * 0.5))


def test_parameters_and_gradients_become_views_of_two_pieces() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    before, x = {k: v.clone() for k, v in net.state_dict().items()}, torch.randn(5, 3)
    out = net(x).detach()
    optimizer = FlatAdam(net.parameters(), learning_rate=0.1)
    assert all(torch.equal(net.state_dict()[k], v) for k, v in before.items()) and torch.equal(net(x), out)
    parameters = list(net.parameters())
    assert len(optimizer.flat) == sum(p.numel() for p in parameters) == len(optimizer.grad)
    assert torch.equal(optimizer.flat, torch.cat([p.detach().reshape(-1) for p in parameters]))
    net(x).square().sum().backward()
    assert torch.equal(optimizer.grad, torch.cat([p.grad.reshape(-1) for p in parameters])) and optimizer.grad.any()
    optimizer.flat.zero_(), optimizer.zero_grad()
    assert not net(x).any() and all(not p.grad.any() for p in parameters)
    net.load_state_dict(before)  # in place
    assert torch.equal(optimizer.flat, torch.cat([v.reshape(-1) for v in before.values()]))


def addresses(parameters: list[nn.Parameter]) -> list[tuple[int, int]]:
    return [(p.data_ptr(), p.grad.data_ptr()) for p in parameters if p.grad is not None]


def test_parameters_that_lie_in_one_piece_stay_where_they_are() -> None:
    parameters = make_parameters()
    whole = FlatAdam(parameters, learning_rate=0.1)
    before = addresses(parameters)
    part, grad = flatten(parameters[1:4])  # cloning before PPO: part of a larger buffer
    assert addresses(parameters) == before and len(part) == 5 + 1 + 77
    part.fill_(2.0), grad.fill_(3.0)
    expected = torch.cat([torch.full((p.numel(),), 2.0 if 0 < k < 4 else 0.0) for k, p in enumerate(parameters)])
    assert torch.equal(whole.flat.where(whole.grad == 3, torch.zeros(1)), expected)


@pytest.mark.parametrize("taken", [[0, 2], [1, 0], [3]], ids=["with a gap", "in another order", "alone"])
def test_parameters_that_do_not_lie_in_one_piece_are_moved(taken: list[int]) -> None:
    parameters = make_parameters()
    FlatAdam(parameters, learning_rate=0.1)
    values = [p.detach().clone() for p in parameters]
    chosen = [parameters[k] for k in taken]
    flat, grad = flatten(chosen)
    assert all(torch.equal(p, v) for p, v in zip(parameters, values, strict=True))
    assert torch.equal(flat, torch.cat([p.detach().reshape(-1) for p in chosen])) and not grad.any()
    flat.zero_()
    assert all(bool(p.any()) == (k not in taken) for k, p in enumerate(parameters))


def test_one_parameter_is_enough() -> None:
    parameter = nn.Parameter(torch.ones(3))
    optimizer = optimizer_of([parameter])
    optimizer.grad.fill_(1.0)
    optimizer.prepare()
    optimizer.step()
    torch.testing.assert_close(parameter.detach(), torch.full((3,), 1 - 1e-2))


@ROUTES
def test_the_learning_rate_is_the_one_of_the_last_prepare(kernel: bool) -> None:
    parameter = nn.Parameter(torch.ones(3))
    optimizer = optimizer_of([parameter], kernel, learning_rate=0.25)
    for rate, expected in ((0.25, 0.75), (0.0, 0.75), (0.5, 0.25)):
        optimizer.learning_rate = rate
        optimizer.grad.fill_(1.0)
        optimizer.prepare()
        optimizer.step()
        torch.testing.assert_close(parameter.detach(), torch.full((3,), expected))
