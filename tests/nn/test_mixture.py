"""Mixtures of Gaussians against torch.distributions."""

import numpy as np
import pytest
import torch
from torch import distributions as D
from torch import nn

from puffer_il.core.spec import ActionSpec
from puffer_il.nn.distributions import MIN_LOG_STD, Noise
from puffer_il.nn.mixture import Mixture

BOX = ActionSpec(low=np.float32([-2, 0]), high=np.float32([2, 10]), shape=(2,))
HALF, CENTER = torch.tensor([2.0, 5.0]), torch.tensor([0.0, 5.0])
CPU = torch.device("cpu")


def make(state_std: bool = False) -> tuple[Mixture, torch.Tensor, D.Distribution]:
    """A mixture, parameters of 40 rows, and the same as torch has it."""
    torch.manual_seed(0)
    dist = Mixture(BOX, 3, -0.5, state_std)
    with torch.no_grad():
        dist.log_std += torch.randn(3, 2) / 4
    params = torch.randn(40, dist.num_params) / 2
    mean = params[:, 3:9].reshape(40, 3, 2)
    log_std = dist.log_std.detach() + (params[:, 9:].reshape(40, 3, 2) if state_std else 0)
    parts = D.Independent(D.Normal(CENTER + HALF * mean, HALF * log_std.exp()), 1)
    return dist, params, D.MixtureSameFamily(D.Categorical(logits=params[:, :3]), parts)


@pytest.mark.parametrize("state_std", [False, True])
def test_density_is_that_of_the_mixture(state_std):
    dist, params, reference = make(state_std)
    actions, sampled = dist.sample(params, Noise.on(CPU, 0))
    expected = reference.log_prob(actions)
    torch.testing.assert_close(dist.log_prob_entropy(params, actions)[0], expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(sampled, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("state_std", [False, True])
def test_samples_have_the_moments_of_the_mixture(state_std):
    dist, params, reference = make(state_std)
    actions, _ = dist.sample(params[:1].expand(100_000, -1), Noise.on(CPU, 0))
    torch.testing.assert_close(actions.mean(0), reference.mean[0], atol=0.06, rtol=0)
    torch.testing.assert_close(actions.std(0), reference.stddev[0], atol=0.06, rtol=0)


def test_a_dimension_that_does_not_count_leaves_the_marginal_of_the_others():
    dist, params, _ = make()
    actions = dist.sample(params)[0]
    mean, std = CENTER[0] + HALF[0] * params[:, 3:9:2], HALF[0] * dist.log_std[:, 0].detach().exp()
    reference = D.MixtureSameFamily(D.Categorical(logits=params[:, :3]), D.Normal(mean, std))
    marginal = dist.log_prob(params, actions, torch.tensor([[True, False]]))
    torch.testing.assert_close(marginal, reference.log_prob(actions[:, 0]), rtol=1e-4, atol=1e-4)


def test_the_mode_is_the_mean_of_the_likeliest_component():
    dist, params, _ = make()
    best = params[:, :3].argmax(1)
    mean = params[:, 3:].reshape(40, 3, 2)[torch.arange(40), best]
    torch.testing.assert_close(dist.mode(params), CENTER + HALF * mean)


def test_the_entropy_is_exact_for_components_far_apart():
    dist = Mixture(BOX, 2, -3.0)
    params = torch.tensor([[0.3, -0.2, -1.0, -1.0, 1.0, 1.0]])
    actions, logprobs = dist.sample(params.expand(50_000, -1))
    assert float(dist.log_prob_entropy(params, actions[:1])[1]) == pytest.approx(-float(logprobs.mean()), abs=0.02)


def test_components_begin_apart_and_alike_in_all_steps_of_a_chunk():
    dist, layer = Mixture(BOX, 4, 0.0), nn.Linear(3, 12)
    dist.spread(layer, steps=2)
    means = layer.bias[4:].reshape(4, 2)
    assert torch.equal(means[:, 0], means[:, 1]) and float(means[:, 0].std()) > 0.2


def test_a_component_never_becomes_a_point():
    dist, params, _ = make()
    with torch.no_grad():
        dist.log_std -= 50
    assert float(dist.moments(params)[2].max()) == MIN_LOG_STD
