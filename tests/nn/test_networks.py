"""Encoders and MLPs against what NumPy and torch say."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from puffer_il.core.spec import ActionSpec, EnvSpec
from puffer_il.nn import Encoder, Flatten, Tanh, mlp, moments
from tests.support.observations import structured_spec


@pytest.mark.parametrize("shape", [(8, 8, 3), (4, 12, 9), (84, 84, 4)])
def test_images_of_both_layouts_are_encoded(shape):
    spec = EnvSpec("image", shape, np.dtype(np.uint8), ActionSpec(nvec=(2,)))
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
