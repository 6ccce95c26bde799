"""Losses: numbers worked by hand, finite differences in float64, limits, and logits that overflow naive forms."""

from __future__ import annotations

import ast
import inspect
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck
from torch.nn import functional as F

from puffer_il.nn import losses
from puffer_il.nn.losses import (
    approx_kl,
    bce_discriminator_loss,
    bernoulli_entropy,
    categorical_loss,
    clip_fraction,
    clipped_value_loss,
    discriminator_loss,
    explained_variance,
    gradient_penalty,
    least_squares_discriminator_loss,
    masked_mean,
    ppo_policy_loss,
    wasserstein_discriminator_loss,
)

EXTREME = torch.tensor([-1e4, -100.0, -20.0, 0.0, 20.0, 100.0, 1e4])


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_masked_mean() -> None:
    x = torch.tensor([1.0, 2.0, 6.0])
    assert masked_mean(x) == 3
    assert masked_mean(x, torch.tensor([1.0, 1.0, 0.0])) == 1.5
    assert masked_mean(x, torch.tensor([3.0, 0.0, 1.0])) == 2.25


def test_a_minibatch_without_valid_rows_changes_nothing() -> None:
    x = torch.ones(3, requires_grad=True)
    mean = masked_mean(x, torch.zeros(3))
    mean.backward()
    assert mean == 0
    assert not x.grad.any()


def test_ppo_policy_loss_by_hand() -> None:
    # ratios 1.5, 0.5, 1.5, 0.5 with clip range 0.2: min(1.5, 1.2), min(0.5, 0.8), min(−1.5, −1.2), min(−0.5, −0.8)
    logprobs = torch.tensor([1.5, 0.5, 1.5, 0.5]).log().requires_grad_()
    advantages = torch.tensor([1.0, 1.0, -1.0, -1.0])
    loss = ppo_policy_loss(logprobs, torch.zeros(4), advantages, 0.2)
    torch.testing.assert_close(loss, torch.tensor(-(1.2 + 0.5 - 1.5 - 0.8) / 4))
    loss.backward()
    # A clipped row teaches nothing; the others ∂L/∂logπ = −r A / n.
    torch.testing.assert_close(logprobs.grad, torch.tensor([0.0, -0.125, 0.375, 0.0]))
    weight = torch.tensor([1.0, 1.0, 0.0, 0.0])
    torch.testing.assert_close(ppo_policy_loss(logprobs, torch.zeros(4), advantages, 0.2, weight), torch.tensor(-0.85))


def test_ppo_gradient_is_the_policy_gradient_before_the_first_step() -> None:
    logprobs, advantages = random(20).requires_grad_(), random(20, seed=1)
    ppo_policy_loss(logprobs, logprobs.detach(), advantages, 0.2).backward()
    torch.testing.assert_close(logprobs.grad, -advantages / 20)


@pytest.mark.parametrize("advantage", [1.0, -1.0])
def test_ppo_survives_a_policy_that_has_run_away(advantage: float) -> None:
    logprobs = torch.tensor([-300.0, 0.0, 300.0], requires_grad=True)
    loss = ppo_policy_loss(logprobs, torch.zeros(3), torch.full((3,), advantage), 0.2)
    loss.backward()
    assert loss.isfinite() and logprobs.grad.isfinite().all()
    assert approx_kl(logprobs, torch.zeros(3)).isfinite()


def test_value_loss_by_hand() -> None:
    values, old_values, returns = torch.tensor([3.0, 1.0]), torch.tensor([1.0, 1.0]), torch.tensor([4.0, 2.0])
    assert clipped_value_loss(values, old_values, returns, 0.0) == 0.5
    # Clipped to 1.5 the first value is 2.5 away, which is worse than 1.
    assert clipped_value_loss(values, old_values, returns, 0.5) == 0.25 * (6.25 + 1)
    assert clipped_value_loss(values, old_values, returns, 0.5, torch.tensor([1.0, 0.0])) == 3.125
    # A value beyond the return is never helped by clipping.
    assert clipped_value_loss(torch.tensor([9.0]), torch.tensor([5.0]), torch.tensor([5.0]), 1.0) == 8


def test_value_loss_without_a_clip_does_not_read_the_old_values() -> None:
    values, returns = random(5), random(5, seed=1)
    loss = clipped_value_loss(values, torch.full_like(values, math.nan), returns, 0.0)
    torch.testing.assert_close(loss, 0.5 * F.mse_loss(values, returns))


def test_approx_kl_is_the_exact_divergence_in_expectation() -> None:
    old, new = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.2, 0.2, 0.6])
    torch.testing.assert_close(approx_kl(new.log(), old.log(), old), (old * (old / new).log()).sum())
    assert approx_kl(old.log(), old.log()) == 0
    torch.testing.assert_close(approx_kl(torch.tensor([2.0]).log(), torch.zeros(1)), torch.tensor(1 - math.log(2)))
    assert approx_kl(random(50), random(50, seed=1)) >= 0


def test_clip_fraction_by_hand() -> None:
    logprobs = torch.tensor([0.75, 0.85, 1.15, 1.25]).log()
    assert clip_fraction(logprobs, torch.zeros(4), 0.2) == 0.5
    assert clip_fraction(logprobs, torch.zeros(4), 0.2, torch.tensor([1.0, 0.0, 0.0, 0.0])) == 1


def test_explained_variance() -> None:
    returns = torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert explained_variance(returns, returns) == 1
    assert explained_variance(returns + 7, returns) == 1
    assert explained_variance(torch.full((4,), 5.0), returns) == 0
    assert explained_variance(2 * returns, returns) == 0
    assert explained_variance(-returns, returns) == -3
    assert explained_variance(returns, torch.ones(4)) == 0  # nothing to explain, and no NaN
    spoiled = torch.tensor([1.0, 2.0, 3.0, -50.0])
    assert explained_variance(spoiled, returns, torch.tensor([1.0, 1.0, 1.0, 0.0])) == 1


def test_discriminator_loss_at_its_limits() -> None:
    zeros = torch.zeros(4)
    torch.testing.assert_close(bce_discriminator_loss(zeros, zeros), torch.tensor(math.log(2)))
    assert bce_discriminator_loss(torch.full((2,), 1e4), torch.full((3,), -1e4)) == 0
    assert bce_discriminator_loss(torch.full((2,), -1e4), torch.full((3,), 1e4)) == 1e4


def test_discriminator_loss_is_binary_cross_entropy_with_expert_one() -> None:
    expert, policy = random(6), random(6, seed=1)
    for smoothing in (0.0, 0.1, 0.5):
        labels = torch.cat((torch.full_like(expert, 1 - smoothing), torch.full_like(policy, smoothing)))
        expected = F.binary_cross_entropy_with_logits(torch.cat((expert, policy)), labels)
        torch.testing.assert_close(bce_discriminator_loss(expert, policy, smoothing), expected)


def test_both_sides_of_the_discriminator_weigh_the_same() -> None:
    expert, policy = random(3), random(5, seed=1)
    expected = (F.softplus(-expert).mean() + F.softplus(policy).mean()) / 2
    torch.testing.assert_close(bce_discriminator_loss(expert, policy), expected)
    torch.testing.assert_close(bce_discriminator_loss(expert, policy.repeat(4)), expected)


def test_discriminator_loss_weights_rows() -> None:
    expert, policy = random(3), random(3, seed=1)
    weight = torch.tensor([1.0, 0.0, 0.0])
    torch.testing.assert_close(bce_discriminator_loss(expert, policy, 0.0, weight, 2 * weight),
                               bce_discriminator_loss(expert[:1], policy[:1]))


@pytest.mark.parametrize("loss", [lambda x: bce_discriminator_loss(x, x.flip(0), 0.1),
                                  lambda x: bernoulli_entropy(x).mean()])
def test_extreme_logits_stay_finite(loss: Callable[[Tensor], Tensor]) -> None:
    logits = EXTREME.clone().requires_grad_()
    value = loss(logits)
    value.backward()
    assert value.isfinite() and logits.grad.isfinite().all()


def test_small_losses_keep_their_precision() -> None:
    expected = math.log1p(math.exp(-15))
    torch.testing.assert_close(bce_discriminator_loss(torch.tensor([15.0]), torch.tensor([-15.0])),
                               torch.tensor(expected), rtol=1e-5, atol=0)


def test_entropy_of_the_verdict() -> None:
    torch.testing.assert_close(bernoulli_entropy(torch.zeros(1)), torch.tensor([math.log(2)]))
    assert (bernoulli_entropy(torch.tensor([1e4, -1e4])) == 0).all()
    logits = random(20)
    torch.testing.assert_close(bernoulli_entropy(logits), torch.distributions.Bernoulli(logits=logits).entropy())


def test_least_squares_by_hand() -> None:
    expert, policy = torch.tensor([1.0, 3.0]), torch.tensor([-1.0, 0.0])
    # ½ (mean(0, 4) + mean(0, 1)); with labels smoothed by ¼ the targets are ½ and −½: ½ (mean(¼, 6¼) + mean(¼, ¼))
    assert least_squares_discriminator_loss(expert, policy) == 1.25
    assert least_squares_discriminator_loss(expert, policy, 0.25) == 1.75
    weight = torch.tensor([1.0, 0.0])
    assert least_squares_discriminator_loss(expert, policy, 0.0, weight, weight) == 0
    zeros = torch.zeros(3)
    assert least_squares_discriminator_loss(zeros, zeros) == 1
    assert least_squares_discriminator_loss(zeros + 1, zeros - 1) == 0


def test_a_wasserstein_loss_by_hand() -> None:
    expert, policy = torch.tensor([1.0, 3.0]), torch.tensor([-1.0, 0.0])
    assert wasserstein_discriminator_loss(expert, policy) == -1.25  # ½ (−½ − 2)
    assert wasserstein_discriminator_loss(policy, expert) == 1.25
    assert wasserstein_discriminator_loss(expert + 7, policy + 7) == -1.25  # known up to a constant
    assert wasserstein_discriminator_loss(expert, expert.repeat(4)) == 0
    weight = torch.tensor([0.0, 2.0])
    assert wasserstein_discriminator_loss(expert, policy, weight, weight) == -1.5


P, Q = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64), torch.tensor([0.1, 0.3, 0.6], dtype=torch.float64)


@pytest.mark.parametrize(("loss", "best"), [
    (bce_discriminator_loss, (P / Q).log()),  # D = p / (p + q)
    (least_squares_discriminator_loss, (P - Q) / (P + Q)),
])
def test_the_best_discriminator_of_two_known_densities(loss: Callable[..., Tensor], best: Tensor) -> None:
    scores = best.clone().requires_grad_()
    loss(scores, scores, 0.0, P, Q).backward()  # the same three states, as often as each side visits them
    torch.testing.assert_close(scores.grad, torch.zeros(3, dtype=torch.float64))


def test_discriminator_losses_by_name() -> None:
    expert, policy = random(5), random(7, seed=1)
    assert discriminator_loss("bce", expert, policy, 0.1) == bce_discriminator_loss(expert, policy, 0.1)
    assert discriminator_loss("least_squares", expert, policy, 0.1) == least_squares_discriminator_loss(expert, policy,
                                                                                                        0.1)
    assert discriminator_loss("wasserstein", expert, policy) == wasserstein_discriminator_loss(expert, policy)
    with pytest.raises(ValueError, match="hinge"):
        discriminator_loss("hinge", expert, policy)


X = random(8)


@pytest.mark.parametrize("loss", [
    lambda x: ppo_policy_loss(x, X + 0.15 * random(8, seed=1), random(8, seed=2), 0.2),
    lambda x: clipped_value_loss(x, X + 0.2 * random(8, seed=1), random(8, seed=3), 0.1, random(8, seed=4).abs()),
    lambda x: approx_kl(x, random(8, seed=5)),
    lambda x: bce_discriminator_loss(x, random(8, seed=6), 0.1),
    lambda x: bce_discriminator_loss(random(8, seed=6), x),
    lambda x: least_squares_discriminator_loss(x, random(8, seed=6), 0.1),
    lambda x: least_squares_discriminator_loss(random(8, seed=6), x),
    lambda x: wasserstein_discriminator_loss(x, x.roll(3).square()),
    lambda x: bernoulli_entropy(x).sum(),
])
def test_gradients_agree_with_finite_differences(loss: Callable[[Tensor], Tensor]) -> None:
    assert gradcheck(loss, (X.clone().requires_grad_(),))


def linear(weight: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda x: x.flatten(1) @ weight


@pytest.mark.parametrize(("weight", "kind", "one_sided", "penalty"), [
    ([3.0, 4.0], "interpolated", True, 16.0),
    ([3.0, 4.0], "interpolated", False, 16.0),
    ([0.3, 0.4], "interpolated", True, 0.0),
    ([0.3, 0.4], "interpolated", False, 0.25),
    ([3.0, 4.0], "zero_centred", True, 25.0),
])
def test_gradient_penalty_of_a_linear_discriminator(weight: list[float], kind: str, one_sided: bool,
                                                    penalty: float) -> None:
    got, norm = gradient_penalty(linear(torch.tensor(weight)), torch.randn(5, 2), torch.randn(5, 2), kind,
                                 one_sided=one_sided)
    torch.testing.assert_close(got, torch.tensor(penalty))
    torch.testing.assert_close(norm, torch.tensor(weight).norm())


def test_gradient_penalty_takes_its_target() -> None:
    got, _ = gradient_penalty(linear(torch.tensor([3.0, 4.0])), torch.ones(5, 2), torch.ones(5, 2), target=2.0)
    torch.testing.assert_close(got, torch.tensor(9.0))


def half_square(x: Tensor) -> Tensor:
    return x.flatten(1).square().sum(1) / 2  # its gradient is x itself


def test_zero_centred_penalty_is_taken_at_the_expert() -> None:
    expert, policy = random(6, 3), random(6, 3, seed=1)
    penalty, norm = gradient_penalty(half_square, expert, policy, "zero_centred")
    torch.testing.assert_close(penalty, expert.square().sum(1).mean())
    torch.testing.assert_close(norm, expert.norm(dim=1).mean())


def test_interpolated_penalty_is_taken_between_expert_and_policy() -> None:
    ones = torch.ones(2000, 1, dtype=torch.float64)
    torch.manual_seed(0)
    penalty, norm = gradient_penalty(half_square, 3 * ones, ones)
    assert abs(norm - 2) < 0.05  # uniform on [1, 3]
    assert abs(penalty - 4 / 3) < 0.1  # mean of (x − 1)²
    mix = torch.linspace(0, 1, 2000, dtype=torch.float64)  # the expert's share
    penalty, norm = gradient_penalty(half_square, 3 * ones, ones, mix=mix)
    torch.testing.assert_close(norm, (1 + 2 * mix).mean())
    torch.testing.assert_close(penalty, (2 * mix).square().mean())
    same = torch.tensor([[0.6, 0.8], [3.0, 4.0]], dtype=torch.float64)
    assert gradient_penalty(half_square, same, same)[1] == 3
    assert gradient_penalty(half_square, same, same)[0] == 8


def test_gradient_penalty_repeats_for_the_same_shares() -> None:
    rows = random(8, 3), random(8, 3, seed=1)
    first, again, other = (gradient_penalty(half_square, *rows, mix=random(8, seed=seed).sigmoid())[0]
                           for seed in (1, 1, 2))
    assert first == again != other
    drawn = [gradient_penalty(half_square, *rows)[0] for seed in (1, 1, 2) if torch.manual_seed(seed)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_gradient_penalty_takes_images() -> None:
    penalty, _ = gradient_penalty(half_square, torch.full((3, 2, 4, 4), 0.5), torch.full((3, 2, 4, 4), 0.5))
    torch.testing.assert_close(penalty, torch.tensor((math.sqrt(32 * 0.25) - 1) ** 2))


@pytest.mark.parametrize("kind", ["interpolated", "zero_centred"])
def test_gradient_penalty_teaches_the_weights(kind: str) -> None:
    expert, policy = random(5, 3), random(5, 3, seed=1)

    def penalty(first: Tensor, second: Tensor) -> tuple[Tensor, ...]:
        return gradient_penalty(lambda x: torch.tanh(x @ first) @ second, expert, policy, kind, target=0.1,
                                mix=random(5, seed=4).sigmoid())

    weights = random(3, 4, seed=2).requires_grad_(), random(4, seed=3).requires_grad_()
    assert gradcheck(penalty, weights)


@pytest.mark.parametrize("kind", ["interpolated", "zero_centred"])
def test_gradient_penalty_of_a_flat_discriminator(kind: str) -> None:
    weight = torch.zeros(3, requires_grad=True)
    penalty, norm = gradient_penalty(linear(weight), torch.randn(4, 3), torch.randn(4, 3), kind, one_sided=False)
    penalty.backward()
    assert norm == 0
    assert penalty == (1 if kind == "interpolated" else 0)
    assert weight.grad.isfinite().all()


def test_gradient_penalty_leaves_the_rows_alone() -> None:
    expert, policy = random(4, 2).requires_grad_(), random(4, 2, seed=1)
    gradient_penalty(half_square, expert, policy, "zero_centred")[0].backward()
    assert expert.grad is None
    assert not policy.requires_grad


def test_unknown_gradient_penalty() -> None:
    with pytest.raises(ValueError, match="'two'"):
        gradient_penalty(half_square, random(2, 2), random(2, 2), "two")


def test_nothing_is_read_from_the_device() -> None:
    called = {node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
              for node in ast.walk(ast.parse(inspect.getsource(losses))) if isinstance(node, ast.Call)}
    assert not called & {"item", "tolist", "cpu", "numpy", "nonzero", "float", "int", "bool"}


def test_categorical_loss_by_hand() -> None:
    # p = (0.25, 0.75) and (0.5, 0.5, 0): the second softmax with a logit that underflows
    logits = torch.tensor([[0.0, math.log(3), 0.0, 0.0, -200.0]])
    actions = torch.tensor([[1, 2]])
    nll = categorical_loss(logits, torch.tensor([[1, 0]]), (2, 3))
    torch.testing.assert_close(nll, torch.tensor([-math.log(0.75) - math.log(0.5)]))
    brier = categorical_loss(logits, actions, (2, 3), "mse")
    torch.testing.assert_close(brier, torch.tensor([2 * 0.25**2 + 0.5**2 + 0.5**2 + 1]))
    smooth = categorical_loss(logits[:, :2], actions[:, :1], (2,), "nll", 0.2)  # q = (0.1, 0.9)
    torch.testing.assert_close(smooth, torch.tensor([-0.1 * math.log(0.25) - 0.9 * math.log(0.75)]))
    weights = [torch.tensor([5.0, 2.0]), torch.tensor([3.0, 1.0, 1.0])]
    weighted = categorical_loss(logits, torch.tensor([[1, 0]]), (2, 3), class_weights=weights)
    torch.testing.assert_close(weighted, torch.tensor([-2 * math.log(0.75) - 3 * math.log(0.5)]))
    assert torch.isfinite(categorical_loss(logits, actions, (2, 3))).all()


@pytest.mark.parametrize("kind", ["nll", "mse"])
def test_categorical_loss_by_finite_differences(kind: str) -> None:
    logits, actions = random(6, 5).requires_grad_(), torch.tensor([[0, 0], [1, 1], [0, 2], [1, 0], [0, 1], [1, 2]])
    weights = [random(2, seed=1).abs(), random(3, seed=2).abs()]
    assert gradcheck(lambda x: categorical_loss(x, actions, (2, 3), kind, 0.1, weights), (logits,))
    assert gradcheck(lambda x: categorical_loss(x, actions, (2, 3), kind), (logits,))


def test_a_smoothed_loss_is_least_at_the_smoothed_labels() -> None:
    target = torch.full((1, 3), 0.15 / 3, dtype=torch.float64) + 0.85 * torch.eye(3, dtype=torch.float64)[1:2]
    for kind in ("nll", "mse"):
        logits = target.log().requires_grad_()
        gradient, = torch.autograd.grad(categorical_loss(logits, torch.tensor([[1]]), (3,), kind, 0.15).sum(), logits)
        assert float(gradient.abs().max()) < 1e-12
