"""Action distributions against torch.distributions and numerical integrals."""

import numpy as np
import pytest
import torch
from torch import distributions as D

from puffer_il.core.errors import InputError
from puffer_il.core.spec import ActionSpec
from puffer_il.nn.distributions import MAX_LOG_STD, MIN_LOG_STD, Categorical, Gaussian, Noise, make_distribution
from puffer_il.rollout.policy_files.file_policy import Choices

CPU = torch.device("cpu")
NOISE = pytest.mark.parametrize("noise", [None, Noise.on(CPU, 0)], ids=["torch", "kernels"])


def box(low, high) -> ActionSpec:
    low, high = np.atleast_1d(np.float32(low)), np.atleast_1d(np.float32(high))
    return ActionSpec(low=low, high=high, shape=low.shape)


@NOISE
def test_categorical_equals_torch_on_each_dimension(noise):
    dist, params = Categorical(ActionSpec(nvec=(3, 2), shape=(2,))), torch.randn(50, 5)
    actions, sampled = dist.sample(params, noise)
    assert actions.dtype == torch.int32 and actions.shape == (50, 2)
    reference = [D.Categorical(logits=params[:, :3]), D.Categorical(logits=params[:, 3:])]
    expected = sum(r.log_prob(actions[:, k]) for k, r in enumerate(reference))
    logprob, entropy = dist.log_prob_entropy(params, actions)
    torch.testing.assert_close(logprob, expected)
    torch.testing.assert_close(dist.log_prob(params, actions), expected)
    torch.testing.assert_close(sampled, expected)
    torch.testing.assert_close(entropy, sum(r.entropy() for r in reference))


@NOISE
def test_categorical_samples_follow_the_softmax(noise):
    torch.manual_seed(0)
    dist, logits = Categorical(ActionSpec(nvec=(3,))), torch.tensor([0.5, -1.0, 2.0])
    actions, _ = dist.sample(logits.expand(100_000, 3), noise)
    shares = torch.bincount(actions[:, 0].long(), minlength=3) / 100_000
    torch.testing.assert_close(shares, logits.softmax(0), atol=0.006, rtol=0)  # four standard errors


@NOISE
def test_gaussian_density_is_that_of_the_scaled_normal(noise):
    dist, params = Gaussian(box([-2, 0], [2, 10]), squash=False, init_log_std=-0.5), torch.randn(40, 2)
    half, center, std = torch.tensor([2.0, 5.0]), torch.tensor([0.0, 5.0]), float(np.exp(-0.5))
    reference = D.Independent(D.Normal(center + half * params, half * std), 1)
    actions, sampled = dist.sample(params, noise)
    logprob, entropy = dist.log_prob_entropy(params, actions)
    torch.testing.assert_close(logprob, reference.log_prob(actions), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(sampled, reference.log_prob(actions), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(entropy, reference.entropy())


def test_squashed_density_integrates_to_one_and_gives_the_entropy():
    dist = Gaussian(box(-1, 3), squash=True, init_log_std=-0.3)
    actions = torch.linspace(-1, 3, 400_001)[1:-1].unsqueeze(1)
    params = torch.full((1, 1), 0.4)
    with torch.no_grad():
        logprob, entropy = dist.log_prob_entropy(params.expand(len(actions), 1), actions)
    density = logprob.double().exp()
    width = 4 / 400_000
    assert float(density.sum() * width) == pytest.approx(1.0, abs=1e-3)
    assert float(entropy[0]) == pytest.approx(float(-(density * logprob).sum() * width), abs=5e-3)


def test_squashed_samples_stay_inside_and_their_density_is_finite():
    dist = Gaussian(box([-1, -3], [1, 5]), squash=True, init_log_std=2.0)
    params = torch.randn(10_000, 2) * 20
    actions, logprobs = dist.sample(params, Noise.on(CPU, 1))
    assert (actions >= torch.tensor([-1.0, -3.0])).all() and (actions <= torch.tensor([1.0, 5.0])).all()
    assert torch.isfinite(logprobs).all()
    assert torch.isfinite(dist.log_prob(params, actions)).all()


def test_squashed_entropy_has_the_gradient_of_the_integral():
    dist = Gaussian(box(-1, 1), squash=True, init_log_std=0.0)
    params = torch.full((1, 1), 0.7, requires_grad=True)
    dist.log_prob_entropy(params, torch.zeros(1, 1))[1].sum().backward()

    def entropy(mean: float) -> float:
        u = torch.linspace(mean - 10, mean + 10, 200_001, dtype=torch.float64)
        density = D.Normal(mean, 1.0).log_prob(u).exp()
        slope = torch.log1p(-torch.tanh(u) ** 2 + 1e-300)
        return float((density * slope).sum() * (20 / 200_000))

    expected = (entropy(0.701) - entropy(0.699)) / 0.002
    assert float(params.grad) == pytest.approx(expected, abs=0.02)


def test_features_are_what_the_environment_executes():
    dist = make_distribution(box([-2.0], [2.0]))
    torch.testing.assert_close(dist.features(torch.tensor([[5.0], [-1.0]])), torch.tensor([[1.0], [-0.5]]))
    one_hot = make_distribution(ActionSpec(nvec=(2, 3), shape=(2,))).features(torch.tensor([[1, 2]], dtype=torch.int32))
    assert one_hot.tolist() == [[0, 1, 0, 0, 1]]


def test_unbounded_range_cannot_be_squashed():
    with pytest.raises(InputError, match=r"policy\.squash = True.*unbounded"):
        Gaussian(box([-np.inf], [np.inf]), squash=True, init_log_std=0.0)


def test_a_spread_of_the_observations_own_is_a_gaussian_of_that_spread():
    dist = Gaussian(box([-2, 0], [2, 10]), squash=False, init_log_std=-0.5, state_std=True)
    assert dist.num_params == 4
    params = torch.randn(40, 4)
    half, center, std = torch.tensor([2.0, 5.0]), torch.tensor([0.0, 5.0]), (params[:, 2:] - 0.5).exp()
    reference = D.Independent(D.Normal(center + half * params[:, :2], half * std), 1)
    actions, sampled = dist.sample(params, Noise.on(CPU, 0))
    logprob, entropy = dist.log_prob_entropy(params, actions)
    torch.testing.assert_close(logprob, reference.log_prob(actions), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(sampled, logprob)
    torch.testing.assert_close(entropy, reference.entropy())
    torch.testing.assert_close(dist.mode(params), center + half * params[:, :2])


def test_what_a_network_says_about_the_spread_is_bounded():
    dist = Gaussian(box(-1, 1), squash=False, init_log_std=0.0, state_std=True)
    _, log_std = dist.moments(torch.tensor([[0.0, -100.0], [0.0, 100.0], [0.0, 1.0]]))
    assert log_std[:, 0].tolist() == [MIN_LOG_STD, MAX_LOG_STD, 1.0]


@pytest.mark.parametrize("state_std", [False, True])
@pytest.mark.parametrize("squash", [False, True])
def test_reparametrised_samples_have_the_density_of_the_actions_they_are(squash, state_std):
    dist = Gaussian(box([-2, 0], [2, 10]), squash=squash, init_log_std=-0.7, state_std=state_std)
    params, normal = 0.4 * torch.randn(60, dist.num_params), torch.randn(60, 2)
    unit, logprobs = dist.sample_unit(params, normal)
    expected = dist.log_prob(params, dist.center + dist.scale * unit) + dist.scale.log().sum()
    torch.testing.assert_close(logprobs, expected, rtol=1e-3, atol=1e-3)


def test_reparametrised_samples_have_gradients_by_mean_and_spread():
    dist = Gaussian(box([-2, 0], [2, 10]), squash=True, init_log_std=-0.7, state_std=True).double()
    params, normal = torch.randn(5, 4, dtype=torch.float64, requires_grad=True), torch.randn(5, 2, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda p: dist.sample_unit(p, normal), (params,))


def test_of_equal_logits_the_first_is_the_likeliest():
    """As NumPy and everybody else has it, so that a policy acts alike wherever it is loaded."""
    tied = torch.tensor([[0.0, 0, 0, 1, 1, 1, 1], [1, 2, 2, 0, 3, 0, 3], [2, 1, 2, 5, 4, 5, 5]])
    first = [[0, 0], [1, 1], [0, 0]]
    assert Categorical(ActionSpec(nvec=(3, 4), shape=(2,))).mode(tied).tolist() == first
    assert Choices((3, 4)).actions(tied.numpy(), None).tolist() == first
