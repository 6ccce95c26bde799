"""A learned reward of states and the potential that was learned beside it, which guides whoever learns from it.

    paid: r(s, a, s′) + γ h(s′) − h(s)

A potential changes no optimal policy, whatever the dynamics, as long as γ is the discount of who learns (Ng et al.
1999). It is worth much all the same: h is close to the expert's value, so that each step is paid for the progress made
in it, where r alone pays only on arrival and leaves a learner in the first place that pays a little.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from puffer_il.core.spec import EnvSpec
from puffer_il.learners.common.discriminator import Discriminator
from puffer_il.learners.common.learned_reward import NetworkReward
from puffer_il.rollout.buffer import RolloutBuffer
from puffer_il.rollout.tensors import rollout_on


class ShapedReward(NetworkReward):
    """The reward is the network's alone; h is asked for by `potential` and `shaping`."""

    kind = "shaped"

    def __init__(self, spec: EnvSpec, algo: str, absorbing: float | None = None, *,
                 shaping_hidden: tuple[int, ...] | list[int] = (32, 32), activation: str = "tanh",
                 **network: Any) -> None:
        super().__init__(spec, algo, absorbing, activation=activation, **network)
        self.arguments["shaping_hidden"] = list(shaping_hidden)
        self.potential = Discriminator(spec, tuple(shaping_hidden), activation, False, "state")

    @classmethod
    def of_networks(cls, spec: EnvSpec, algo: str, reward: Discriminator, potential: Discriminator, *,
                    hidden: tuple[int, ...], shaping_hidden: tuple[int, ...], activation: str) -> ShapedReward:
        """A copy of a learner's networks as they are now, made of these units."""
        with torch.random.fork_rng([]):  # a checkpoint must not move the run's generator
            made = cls(spec, algo, shaping_hidden=shaping_hidden, activation=activation, inputs=reward.kind,
                       hidden=hidden).to(reward.absorbing.device)
        with torch.no_grad():
            made.absorbing = float(reward(reward.absorbing_rows(1)))
        made.network.load_state_dict(reward.state_dict())
        made.potential.load_state_dict(potential.state_dict())
        return made

    @torch.no_grad()
    def absorbing_potential(self) -> float:
        """h in the absorbing state."""
        return float(self.potential(self.potential.absorbing_rows(1)))

    @torch.no_grad()
    def shaping(self, buffer: RolloutBuffer, device: torch.device, gamma: float, ends: bool = True) -> Tensor:
        """γ h(s′) − h(s) of every row of a rollout (num_steps·num_envs,), on the device. Terminations lead to the
        absorbing state or, without `ends`, to one whose potential is 0."""
        rollout = rollout_on(buffer, device)
        now = self.potential.logits(rollout["obs"].flatten(0, 1), None)
        later = self.potential.logits(rollout.next_obs(), None)
        ended = rollout["terminations"].flatten()
        return gamma * torch.where(ended, self.absorbing_potential() if ends else 0.0, later) - now
