"""Value normalisation: the critic learns returns in units of their own running mean and standard deviation.

    critic(s) = (V(s) − μ) / σ,    μ, σ: those of the returns, over the last MEMORY rollouts or so

When μ and σ move, the critic's last layer moves with them, so that V stays what it was (PopArt: van Hasselt et al.
2016, arXiv:1602.07714). With normalised advantages the policy's update then does not depend on the reward's scale, nor
does the critic's.
"""

import numpy as np
import torch
from torch import nn

from puffer_il.core.checkpoint import Stateful
from puffer_il.core.spec import Array
from puffer_il.rollout.buffer import RolloutBuffer

MEMORY = 20  # rollouts: returns change as the policy and a learned reward do
LEAST_STD = 1e-4  # of the returns, in units of the reward: where they hardly differ the critic need not resolve it


class ValueScale(Stateful):
    """The running mean and standard deviation of returns, and the critic's last layer `head`, which predicts them
    normalised."""

    saved = ("mean", "var", "updates")

    def __init__(self, head: nn.Linear) -> None:
        self.head = head
        self.mean, self.var, self.updates = 0.0, 1.0, 0

    @property
    def std(self) -> float:
        return max(self.var ** 0.5, LEAST_STD)

    def advantages(self, buffer: RolloutBuffer, gamma: float, gae_lambda: float) -> None:
        """`buffer.compute_advantages` on a rollout whose values the critic gave: advantages come in the reward's units,
        returns and values in those of the critic as it is afterwards."""
        ended = buffer.truncations & ~buffer.terminations  # with the critic's value of what came next
        ends = self.mean + self.std * buffer.final_values[ended]
        buffer.final_values[ended] = ends
        for values in (buffer.values, buffer.last_values):
            np.multiply(values, self.std, out=values)
            np.add(values, self.mean, out=values)
        buffer.compute_advantages(gamma, gae_lambda)
        returns = buffer.returns if buffer.valid.all() else buffer.returns[buffer.valid]
        if returns.size:
            self._follow(returns)
        for values in (buffer.values, buffer.last_values, buffer.returns):
            np.subtract(values, self.mean, out=values)
            np.divide(values, self.std, out=values)
        buffer.final_values[ended] = (ends - self.mean) / self.std
        if buffer.rollout is not None:
            buffer.rollout.changed("values")  # the collector may have put them on the device

    @torch.no_grad()
    def _follow(self, returns: Array) -> None:
        """Merge the moments of one rollout's returns, and keep what the critic says in the reward's units."""
        old_mean, old_std = self.mean, self.std
        self.updates += 1
        share = 1 / min(self.updates, MEMORY)
        delta = float(returns.mean(dtype=np.float64)) - self.mean
        var = float(returns.var(dtype=np.float64))
        self.var = var if share == 1 else self.var + share * (var - self.var + (1 - share) * delta * delta)
        self.mean += share * delta
        if self.updates > 1:
            self.head.weight.mul_(old_std / self.std)
            self.head.bias.mul_(old_std).add_(old_mean - self.mean).div_(self.std)
