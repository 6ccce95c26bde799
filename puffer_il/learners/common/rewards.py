"""Learned rewards: discriminator scores → what the policy is paid. A high score means expert; where the loss is
cross-entropy, the score is the logit of D, and expert is 1.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from puffer_il.core.checkpoint import Stateful

# With D = σ(logit), each in the form that does not overflow.
REWARDS: dict[str, Callable[[Tensor], Tensor]] = {
    "softplus": F.softplus,  # −log(1 − D)
    "logsigmoid": F.logsigmoid,  # log D
    "logit": lambda scores: scores,  # log D − log(1 − D); of a critic its value, which its loss is linear in
    "least_squares": lambda scores: (1 - (scores - 1).square() / 4).clamp_min(0),  # Peng et al. 2021
}
# What a form takes for granted: σ(score) is a probability, or the targets are 1 and −1. The score itself fits all.
FORMS = {"bce": ("softplus", "logsigmoid", "logit"), "least_squares": ("logit", "least_squares"),
         "wasserstein": ("logit",)}
AUTO = "auto"  # the first of the loss's forms

# What the sign of a form teaches by itself where episodes terminate; the end of a sentence.
SURVIVAL_BIAS = {
    "softplus": "is never negative and so pays for staying alive, whatever the policy does",
    "logsigmoid": "is never positive and so pays for ending the episode, whatever the policy does",
    "logit": "takes both signs and so pays now for staying alive, now for ending the episode",
    "least_squares": "is never negative and so pays for staying alive, whatever the policy does",
}

MEMORY = 100  # rollouts: the learned reward drifts as the discriminator learns, so its early scale is to be forgotten
LEAST_STD = 0.1  # of the root mean square: rewards that hardly differ must not be blown up


def reward_from_logits(logits: Tensor, form: str, clip: float = 0.0) -> Tensor:
    """Rewards of the named form, clipped to ±clip unless that is 0. Same shape as `logits`."""
    rewards = REWARDS[form](logits)
    return rewards.clamp(-clip, clip) if clip else rewards


class RewardScale(Stateful):
    """Divides rewards by their running standard deviation. The mean is never subtracted: that would turn signs, and
    with them what a terminating environment pays for.

    Each `update` is one rollout and counts as much as any of the last MEMORY ones (moments merged as by Chan et al.
    1979); older ones fade exponentially. Before the first, rewards pass as they are. The divisor is at least LEAST_STD
    of the rewards' root mean square.
    """

    saved = ("mean", "var", "updates")

    def __init__(self) -> None:
        self.mean, self.var, self.updates = torch.zeros(()), torch.zeros(()), 0

    @torch.no_grad()
    def update(self, rewards: Tensor) -> None:
        """Merge the moments of one rollout's rewards, of any shape."""
        self.updates += 1
        share = 1 / min(self.updates, MEMORY)
        mean, var = self.mean.to(rewards.device), self.var.to(rewards.device)
        delta = rewards.mean() - mean
        self.var = var + share * (rewards.var(unbiased=False) - var + (1 - share) * delta.square())
        self.mean = mean + share * delta

    def __call__(self, rewards: Tensor) -> Tensor:
        if self.updates == 0:
            return rewards
        mean_square = self.mean.square() + self.var
        scale = torch.maximum(self.var, LEAST_STD**2 * mean_square).sqrt().clamp_min(torch.finfo(torch.float32).eps)
        return rewards / scale
