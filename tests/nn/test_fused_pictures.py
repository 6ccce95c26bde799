"""The network of pictures by the C kernels against torch in float64, and where it leaves the work to torch."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from puffer_il.core.config import PolicyConfig
from puffer_il.core.spec import ActionSpec, EnvSpec, ObsField
from puffer_il.kernels import _kernels as kernels
from puffer_il.nn import Encoder, Flatten, Policy, fused, fused_pictures
from puffer_il.nn.networks import SmallCNN
from tests.support.kernels import EACH_SET, error, first_order, random, second_order
from tests.support.observations import structured_spec

# Rows of few columns, of one tile and of two, odd and even; more planes than channels of a vector; a single pixel.
SHAPES = pytest.mark.parametrize("shape", [
    (4, 21, 21), (21, 21, 4), (3, 40, 33), (9, 7, 1), (17, 10, 12), (1, 1, 1), (2, 5, 90)], ids=str)


def make_cnn(shape: tuple[int, ...]) -> SmallCNN:
    """With biases that are not zero."""
    torch.manual_seed(0)
    cnn = SmallCNN(shape, Flatten(image_spec(shape)).images[0].channels_last)
    for layer in cnn.layers:
        if isinstance(layer, nn.Linear | nn.Conv2d):
            nn.init.normal_(layer.bias, std=0.1)
    return cnn


def image_spec(shape: tuple[int, ...], low: float = 0.0, high: float = 255.0) -> EnvSpec:
    field = ObsField("obs", np.dtype(np.uint8), shape, low=low, high=high)
    return EnvSpec("image", shape, np.dtype(np.uint8), ActionSpec(nvec=(3,)), (field,))


def pixels(rows: int, shape: tuple[int, ...]) -> Tensor:
    return torch.randint(0, 256, (rows, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


class Broken:
    """In place of a network of the kernels: fails as soon as it is asked for anything."""


def without_kernels(cnn: SmallCNN) -> SmallCNN:
    cnn = copy.deepcopy(cnn)
    cnn.pictures.network = lambda *shape: Broken()  # type: ignore[method-assign]
    return cnn


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    yield
    fused.enable(True)
    fused_pictures._spare.clear()


@EACH_SET
@SHAPES
@pytest.mark.parametrize("rows", [1, 7, 31])
def test_outputs_and_gradients_are_torchs(shape: tuple[int, ...], rows: int, isa: str) -> None:
    kernels.use_instruction_set(isa)
    cnn, x = make_cnn(shape), pixels(rows, shape).reshape(rows, -1).float() / 255
    g = random(rows, 128)
    ours = first_order(cnn, x, g)
    assert error(ours, first_order(copy.deepcopy(cnn).double(), x.double(), g.double())) < 1e-5
    with torch.no_grad():  # which saves nothing, and reads the linear layer otherwise for few rows
        assert error([cnn(x)], ours[:1]) < 1e-6


@EACH_SET
@SHAPES
def test_second_derivatives_of_penalties_are_torchs(shape: tuple[int, ...], isa: str) -> None:
    kernels.use_instruction_set(isa)
    cnn, x = make_cnn(shape), random(7, int(np.prod(shape)))
    g, c = random(7, 128, seed=1), random(*x.shape, seed=2)
    reference = second_order(copy.deepcopy(cnn).double(), x.double(), g.double(), c.double())
    assert error(second_order(cnn, x, g, c), reference) < 1e-5


def test_second_derivatives_of_parameters_go_through_torch() -> None:
    cnn, x = make_cnn((2, 9, 8)), random(5, 144)

    def twice(cnn: nn.Module, x: Tensor) -> tuple[Tensor, ...]:
        x = x.detach().requires_grad_()
        first = [x, *cnn.parameters()]
        gradients = torch.autograd.grad(cnn(x).sin().sum(), first, create_graph=True)
        return torch.autograd.grad(sum(g.square().sum() for g in gradients), first)

    assert error(twice(cnn, x), twice(copy.deepcopy(cnn).double(), x.double())) < 1e-5


@pytest.mark.parametrize(("low", "high"), [(0.0, 255.0), (-3.0, 200.0), (7.0, 7.0)])
@pytest.mark.parametrize("shape", [(4, 10, 13), (10, 13, 3)], ids=str)
def test_bytes_are_scaled_between_their_bounds(shape: tuple[int, ...], low: float, high: float) -> None:
    spec = image_spec(shape, low, high)
    flatten, obs = Flatten(spec), pixels(9, shape)
    encoder = Encoder(flatten, normalise=True)
    ours = first_order_of(encoder, lambda: encoder.observe(flatten, obs))
    fused.enable(False)
    assert error(ours, first_order_of(encoder, lambda: encoder.observe(flatten, obs))) < 1e-5


def first_order_of(module: nn.Module, compute: Any) -> list[Tensor]:
    out = compute()
    return [out, *torch.autograd.grad(out.square().sum(), list(module.parameters()))]


def test_pictures_among_other_leaves_are_read_where_they_are() -> None:
    """Behind a float vector and a category, at an offset, and with a mask behind the features."""
    spec, rng = structured_spec(), np.random.default_rng(0)
    struct = np.dtype({"names": ["a", "b", "c"], "formats": [(np.float32, (2,)), np.int32, (np.uint8, (8, 8, 3))],
                       "offsets": [field.offset for field in spec.obs_fields], "itemsize": spec.obs_shape[0]})
    rows = np.zeros(11, struct)
    rows["a"], rows["b"] = rng.normal(size=(11, 2)), rng.integers(0, 4, 11)
    rows["c"] = rng.integers(0, 256, rows["c"].shape)
    flatten, obs = Flatten(spec), torch.from_numpy(rows.view(np.uint8).reshape(11, -1))
    encoder = Encoder(flatten, normalise=True)
    encoder.update_norm(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 0.5]), 10)
    ours = encoder.observe(flatten, obs)
    fused.enable(False)
    torch.testing.assert_close(ours, encoder.observe(flatten, obs), rtol=1e-5, atol=1e-6)


def test_kernels_compute_pictures_and_none_are_asked_without_them(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = image_spec((4, 12, 12))
    policy, obs = Policy(spec, PolicyConfig()), pixels(6, (4, 12, 12))
    fused.enable(False)
    expected = policy.action_params(obs)
    monkeypatch.setattr(fused_pictures, "forward", None)
    torch.testing.assert_close(policy.action_params(obs), expected)
    fused.enable(True)
    with pytest.raises(TypeError, match="NoneType"):
        policy.action_params(obs)


def test_gradients_do_not_depend_on_threads_or_on_what_is_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    cnn, x, g = make_cnn((4, 21, 21)), random(101, 4 * 21 * 21), random(101, 128)
    before = kernels.get_threads()
    try:
        kernels.set_threads(1)
        alone = first_order(cnn, x, g)
        kernels.set_threads(3)
        assert all(map(torch.equal, alone, first_order(cnn, x, g)))
    finally:
        kernels.set_threads(before)
    monkeypatch.setattr(fused_pictures, "MOST_SAVED", cnn.pictures.network(False, 0.0, 1.0).saved_size(40))
    assert error(first_order(cnn, x, g), alone) < 1e-6
    c = random(*x.shape, seed=2)
    reference = second_order(copy.deepcopy(cnn).double(), x.double(), g.double(), c.double())
    assert error(second_order(cnn, x, g, c), reference) < 1e-5


def test_memory_of_activations_is_used_again_but_not_while_it_is_needed() -> None:
    cnn, x, g = make_cnn((4, 21, 21)), random(8, 4 * 21 * 21), random(8, 128)
    expected = first_order(cnn, x, g)
    first = cnn(x)  # its activations must outlive those of what follows
    second = cnn(x + 1)
    assert len(fused_pictures._spare) == 0
    gradients = torch.autograd.grad(first, list(cnn.parameters()), g)
    assert all(map(torch.equal, gradients, expected[2:]))
    assert len(fused_pictures._spare) == 1  # though the graph is still there
    again = cnn(x)
    gradients = torch.autograd.grad(again, list(cnn.parameters()), g, retain_graph=True)
    cnn(x + 1)  # may have the memory now
    assert error(torch.autograd.grad(again, list(cnn.parameters()), g), gradients) < 1e-6
    del first, second, again
    assert 1 <= len(fused_pictures._spare) <= fused_pictures.MOST_SPARE
    spare = {one.data_ptr() for one in fused_pictures._spare}
    out = cnn(x)
    assert {one.data_ptr() for one in fused_pictures._spare} < spare
    del out


def test_other_layers_in_place_of_ours_are_used() -> None:
    cnn, x = make_cnn((4, 12, 12)), random(5, 576)
    cnn.layers[1] = nn.Tanh()
    torch.testing.assert_close(without_kernels(cnn)(x), cnn.layers(x.reshape(5, 4, 12, 12)))


def test_what_the_kernels_do_not_cover_goes_through_torch() -> None:
    cnn, x = make_cnn((4, 12, 12)), random(5, 576)
    expected = cnn(x)
    broken = without_kernels(cnn)
    torch.testing.assert_close(broken.double()(x.double()).float(), expected)
    assert without_kernels(cnn)(x[:0]).shape == (0, 128)
    with torch.autocast("cpu"):
        torch.testing.assert_close(without_kernels(cnn)(x).float(), expected, rtol=0.05, atol=0.05)
    traced = torch.jit.trace(without_kernels(cnn), x, check_trace=False)
    torch.testing.assert_close(traced(x), expected)
    torch.testing.assert_close(pickle.loads(pickle.dumps(cnn))(x), expected)
