"""Flattening, normalisation and encoders against what NumPy says."""

import numpy as np
import pytest
import torch

from puffer_il.core.spec import ActionSpec, EnvSpec, ObsField
from puffer_il.nn.networks import Encoder, Tanh, mlp
from puffer_il.nn.observations import Flatten, RunningNorm, moments

ACTION = ActionSpec(nvec=(2,))


def structured_spec() -> EnvSpec:
    """A Dict of a float vector, a category and an image, laid out as an aligned struct of bytes."""
    struct = np.dtype([("a", np.float32, (2,)), ("b", np.int32), ("c", np.uint8, (8, 8, 3))], align=True)
    fields = (ObsField("a", np.dtype(np.float32), (2,), struct.fields["a"][1]),
              ObsField("b", np.dtype(np.int32), (), struct.fields["b"][1], categories=4),
              ObsField("c", np.dtype(np.uint8), (8, 8, 3), struct.fields["c"][1]))
    return EnvSpec("dict", (struct.itemsize,), np.dtype(np.uint8), ACTION, fields)


def test_flatten_cuts_a_struct_into_its_leaves():
    spec = structured_spec()
    struct = np.dtype([("a", np.float32, (2,)), ("b", np.int32), ("c", np.uint8, (8, 8, 3))], align=True)
    rng = np.random.default_rng(0)
    rows = np.zeros(5, struct)
    rows["a"], rows["b"] = rng.normal(size=(5, 2)), [0, 1, 2, 3, 0]
    rows["c"] = rng.integers(0, 256, (5, 8, 8, 3))
    flat = Flatten(spec)(torch.from_numpy(rows.view(np.uint8).reshape(5, -1))).numpy()
    np.testing.assert_allclose(flat[:, :2], rows["a"])
    np.testing.assert_array_equal(flat[:, 2:6], np.eye(4)[rows["b"]])
    np.testing.assert_allclose(flat[:, 6:], rows["c"].reshape(5, -1) / 255, rtol=1e-6)


def test_flatten_of_plain_floats_is_a_view():
    obs = torch.rand(3, 4)
    assert Flatten(EnvSpec("x", (4,), np.dtype(np.float32), ACTION))(obs).data_ptr() == obs.data_ptr()


def test_running_norm_merges_moments_exactly():
    rng = np.random.default_rng(1)
    parts = [rng.normal(3, 2, (n, 3)).astype(np.float32) for n in (10, 200, 37)]
    norm = RunningNorm(3)
    for part in parts:
        norm.update(*moments(torch.from_numpy(part)), len(part))
    whole = np.concatenate(parts)
    np.testing.assert_allclose(norm.mean, whole.mean(0), rtol=1e-5)
    np.testing.assert_allclose(norm.var, whole.var(0), rtol=1e-4)
    x = torch.from_numpy(whole)
    np.testing.assert_allclose(norm(x), np.clip((whole - whole.mean(0)) / whole.std(0), -10, 10), atol=1e-4)


def test_running_norm_is_frozen_between_updates():
    norm, x = RunningNorm(2), torch.rand(4, 2)
    before = norm(x)
    norm(torch.rand(100, 2) * 50)
    assert torch.equal(norm(x), before)


def test_moments_ignore_rows_of_no_weight():
    x = torch.tensor([[1.0], [3.0], [1e6]])
    mean, var = moments(x, torch.tensor([1.0, 1.0, 0.0]))
    assert mean.item() == pytest.approx(2.0) and var.item() == pytest.approx(1.0)


@pytest.mark.parametrize("shape", [(8, 8, 3), (4, 12, 9), (84, 84, 4)])
def test_images_of_both_layouts_are_encoded(shape):
    spec = EnvSpec("image", shape, np.dtype(np.uint8), ACTION)
    flatten = Flatten(spec)
    encoder = Encoder(flatten, normalise=True)
    obs = torch.randint(0, 256, (5, *shape), dtype=torch.uint8)
    features = encoder(flatten(obs))
    assert features.shape == (5, encoder.dim)
    assert not torch.allclose(features[0], features[1])
    features.sum().backward()
    assert all(p.grad is not None for p in encoder.parameters())


def test_normalisation_leaves_categories_and_pixels_alone():
    flatten = Flatten(structured_spec())
    encoder = Encoder(flatten, normalise=True)
    x = torch.rand(6, flatten.dim)
    encoder.update_norm(*moments(x[:, :encoder.num_numeric]), len(x))
    prepared = encoder.prepare(x)
    assert torch.equal(prepared[:, 2:], x[:, 2:])
    np.testing.assert_allclose(prepared[:, :2].mean(0), 0, atol=1e-5)


def test_tanh_is_tanh_and_its_gradients_are_too():
    x = torch.linspace(-30, 30, 100_001)
    torch.testing.assert_close(Tanh()(x), torch.tanh(x), rtol=0, atol=2e-7)
    x = torch.randn(20, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(Tanh(), x) and torch.autograd.gradgradcheck(Tanh(), x)


def test_mlp_is_orthogonal_with_the_gain_asked_for():
    net = mlp(64, (64,), 3, "tanh", gain=0.01)
    first, last = net[0].weight, net[-1].weight
    np.testing.assert_allclose((first @ first.T).detach(), 2 * np.eye(64), atol=1e-4)
    np.testing.assert_allclose((last @ last.T).detach(), 1e-4 * np.eye(3), atol=1e-7)
