"""Soft Q imitation learning (Reddy et al. 2019): off-policy learning of a reward that is never learned.

    r = 1 for demonstrated transitions, 0 for the policy's own, half of each minibatch from either

An episode that terminates goes on in an absorbing state for ever, which both sides visit with a reward of their own:

    V(absorbing) = share / (1 − γ),    share = d / (d + p)

where d and p are the discounted shares of absorbing steps on either side. Without that, 0 after a termination would be
the least there is, and staying alive a reward by itself.
"""

from dataclasses import dataclass

import numpy as np
import torch

from puffer_il.core.config import Config, setting
from puffer_il.core.spec import EnvSpec, Metrics
from puffer_il.demos.dataset import Demos
from puffer_il.learners.base import About
from puffer_il.learners.common.demo_rows import moments_of, on_device
from puffer_il.learners.common.off_policy import SoftActorCritic
from puffer_il.learners.common.sac_on_demos import SACOnDemos
from puffer_il.learners.registry import register
from puffer_il.learners.sac import SAC
from puffer_il.rollout.buffer import RolloutBuffer


@dataclass(frozen=True)
class SQILConfig:
    demo_share: float = setting(0.5, "share of each minibatch that is demonstrated", low=0.01, high=0.99)
    absorbing: bool = setting(True, "terminations lead to an absorbing state, whose reward is shared like any other; "
                              "false makes them worth 0, which rewards staying alive")


@register("sqil", uses=("sac",))
class SQIL(SACOnDemos):
    """SAC on the constant rewards 1 and 0."""

    section = SQILConfig
    config: SQILConfig
    about = About("Reddy et al. 2019, arXiv:1905.11108", "few demonstrations, expensive environment steps, and no wish "
                  "to tune an adversary", SAC.about.spaces, bounded=True)
    saved = ("demos.generator.state",)

    def __init__(self, spec: EnvSpec, demos: Demos, config: Config, device: torch.device, seed: int) -> None:
        super().__init__(spec, demos, config, device, seed)
        self.demos.set_rewards(np.ones(len(demos), np.float32))
        seen = on_device(demos.obs, device)
        self.policy.encoder.update_norm(*moments_of(self.policy.flatten, demos.obs, seen))
        if isinstance(self.sac.engine, SoftActorCritic):
            self.sac.engine.most = 1 / (1 - self.gamma)

    def relabel(self, buffer: RolloutBuffer) -> Metrics:
        buffer.rewards[:] = 0
        return {}

    def update(self, buffer: RolloutBuffer, progress: float) -> Metrics:
        self.sac.store(buffer)
        reward = self.absorbing_reward()
        metrics = self.sac.learn(self.draw(), reward / (1 - self.gamma)) if self.sac.ready else self.sac.idle()
        return metrics | {"reward/absorbing": reward}
