"""Learned rewards: what each form is, what its sign teaches, and scaling that never changes a sign."""

from __future__ import annotations

import io
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from puffer_il.learners.common.rewards import (
    FORMS,
    LEAST_STD,
    MEMORY,
    REWARDS,
    SURVIVAL_BIAS,
    RewardScale,
    reward_from_logits,
)


@pytest.mark.parametrize(("form", "at_half"), [("softplus", math.log(2)), ("logsigmoid", -math.log(2)), ("logit", 0.0),
                                               ("least_squares", 0.75)])
def test_reward_where_the_discriminator_cannot_tell(form: str, at_half: float) -> None:
    torch.testing.assert_close(reward_from_logits(torch.zeros(2, 3), form), torch.full((2, 3), at_half))


@pytest.mark.parametrize(("form", "expected"), [
    ("softplus", lambda d: -torch.log(1 - d)), ("logsigmoid", torch.log),
    ("logit", lambda d: torch.log(d) - torch.log(1 - d))])
def test_reward_is_its_formula(form: str, expected: Callable[[Tensor], Tensor]) -> None:
    logits = torch.linspace(-10, 10, 41, dtype=torch.float64)
    torch.testing.assert_close(reward_from_logits(logits, form), expected(torch.sigmoid(logits)))


def test_the_least_squares_reward_is_one_at_the_experts_target_and_nothing_at_the_policys() -> None:
    scores = torch.tensor([-9.0, -3.0, -1.0, 0.0, 0.5, 1.0, 2.0, 3.0, 9.0])
    assert reward_from_logits(scores, "least_squares").tolist() == [0, 0, 0, 0.75, 0.9375, 1, 0.75, 0, 0]


def test_every_loss_has_forms_of_its_own_and_the_score_itself() -> None:
    assert all("logit" in forms and set(forms) <= set(REWARDS) for forms in FORMS.values())
    assert set().union(*FORMS.values()) == set(REWARDS)


@pytest.mark.parametrize("form", ["softplus", "logsigmoid", "logit"])
def test_reward_rises_with_the_logit_and_stays_finite(form: str) -> None:
    rewards = reward_from_logits(torch.tensor([-1e4, -100.0, -1.0, 0.0, 1.0, 100.0, 1e4]), form)
    assert rewards.isfinite().all()
    assert (rewards.diff() >= 0).all()
    assert rewards[0] < rewards[3] < rewards[-1] or form != "logit"


def test_reward_is_clipped_on_both_sides() -> None:
    logits = torch.tensor([-50.0, -3.0, 50.0])
    assert reward_from_logits(logits, "logit", 10).tolist() == [-10, -3, 10]
    assert reward_from_logits(logits, "logit").tolist() == [-50, -3, 50]


def test_survival_bias_says_what_the_signs_are() -> None:
    logits = torch.linspace(-20, 20, 9)
    rewards = {form: reward(logits) for form, reward in REWARDS.items()}
    signs = {form: (bool((r > 0).any()), bool((r < 0).any())) for form, r in rewards.items()}
    assert signs == {"softplus": (True, False), "logsigmoid": (False, True), "logit": (True, True),
                     "least_squares": (True, False)}
    for form, (pays_life, pays_death) in signs.items():
        assert ("staying alive" in SURVIVAL_BIAS[form]) == pays_life
        assert ("ending the episode" in SURVIVAL_BIAS[form]) == pays_death


def test_scale_divides_by_the_standard_deviation_and_keeps_the_mean() -> None:
    scale, rewards = RewardScale(), torch.tensor([1.0, 3.0, 5.0, 7.0])
    scale.update(rewards)
    torch.testing.assert_close(scale(rewards), rewards / math.sqrt(5))


def test_rewards_pass_as_they_are_before_the_first_update() -> None:
    assert RewardScale()(torch.tensor([3.0, -4.0])).tolist() == [3, -4]


def test_scale_is_that_of_all_rollouts_so_far() -> None:
    scale, rollouts = RewardScale(), 2 + 3 * torch.randn(10, 64, generator=torch.Generator().manual_seed(0))
    for k, rollout in enumerate(rollouts, 1):
        scale.update(rollout)
        torch.testing.assert_close(scale(torch.ones(1)), 1 / rollouts[:k].std(unbiased=False)[None])


def test_scale_forgets() -> None:
    scale, generator = RewardScale(), torch.Generator().manual_seed(0)
    for size in (1.0, 100.0):
        for _ in range(8 * MEMORY):
            scale.update(size * torch.randn(64, generator=generator))
        torch.testing.assert_close(scale(torch.ones(1)), torch.tensor([1 / size]), rtol=0.1, atol=0)


def test_scale_never_changes_a_sign() -> None:
    rewards = torch.randn(256, generator=torch.Generator().manual_seed(0)) + 2
    scale = RewardScale()
    scale.update(rewards)
    assert torch.equal(scale(rewards).sign(), rewards.sign())


@pytest.mark.parametrize("value", [-10.0, 0.0, 1e-30, 10.0])
def test_rewards_that_do_not_differ_are_not_blown_up(value: float) -> None:
    scale, rewards = RewardScale(), torch.full((8,), value)
    scale.update(rewards)
    assert scale(rewards).abs().max() <= 1.001 / LEAST_STD
    assert scale(rewards).isfinite().all()


def test_scale_goes_on_exactly_from_a_checkpoint() -> None:
    first, second, file = RewardScale(), RewardScale(), io.BytesIO()
    rewards = torch.randn(3, 64, generator=torch.Generator().manual_seed(0))
    first.update(rewards[0])
    torch.save(first.state_dict(), file)
    file.seek(0)
    second.load_state_dict(torch.load(file, weights_only=True))
    for scale in (first, second):
        scale.update(rewards[1])
    assert torch.equal(first(rewards[2]), second(rewards[2]))
