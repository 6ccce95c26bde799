"""A policy that learns, kept near the one that it began as: KL(π ‖ q) is held below a bound on average.

The price of the divergence is a Lagrange multiplier, which rises while the policy is further away and falls while it is
nearer, as those of maximum a posteriori policy optimisation do (Abdolmaleki et al. 2018, arXiv:1806.06920, section
4.2). So the bound, in nats, means the same whatever the scale of the rewards.
"""

import copy
import math

import torch
from torch import Tensor

from puffer_il.core.checkpoint import Stateful
from puffer_il.nn import Gaussian, Policy

RATE = 0.01  # of log price at most, in each update
LEAST, FIRST, MOST = math.log(1e-3), math.log(10.0), math.log(1e4)  # of log price


class Anchor(Stateful):
    """`origin`, a policy with Gaussian actions, as it is now; `bound` in nats for each row."""

    saved = ("origin", "log_price", "distance")

    def __init__(self, origin: Policy, bound: float) -> None:
        self.origin, self.bound = copy.deepcopy(origin).requires_grad_(False), bound
        device = next(origin.parameters()).device
        self.log_price = torch.full((), FIRST, device=device)
        self.distance = torch.zeros((), device=device)  # of the last update, in nats

    def cost(self, policy: Policy, params: Tensor, obs: Tensor) -> Tensor:
        """What a loss of the policy has to pay, (), where its parameters at `obs`, flat and normalised (n,
        Flatten.dim), are `params`; the price is brought up to date."""
        assert isinstance(policy.dist, Gaussian) and isinstance(self.origin.dist, Gaussian)
        with torch.no_grad():
            wanted = self.origin.params(self.origin.encoder.encode(obs))
        distance = policy.dist.divergence(params, self.origin.dist, wanted).mean()
        cost = self.log_price.exp() * distance
        self.distance.copy_(distance.detach())
        self.log_price.add_(RATE * (self.distance / self.bound - 1).clamp(-1, 1)).clamp_(LEAST, MOST)
        return cost
