"""Soft Q imitation learning (Reddy et al. 2019): off-policy learning of a reward that is never learned.

    r = 1 for demonstrated transitions, 0 for the policy's own, half of each minibatch from either

An episode that terminates goes on in an absorbing state for ever, which both sides visit with a reward of their own:

    V(absorbing) = share / (1 − γ),    share = d / (d + p)

where d and p are the discounted shares of absorbing steps on either side. Without that, 0 after a termination would be
the least there is, and staying alive a reward by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from puffer_il.core.config import Config, setting
from puffer_il.core.spec import EnvSpec, Metrics
from puffer_il.demos.dataset import Demos
from puffer_il.learners.base import About
from puffer_il.learners.common.absorbing import absorbing_reward, absorbing_share
from puffer_il.learners.registry import register
from puffer_il.learners.sac import SAC
from puffer_il.nn.observations import obs_moments
from puffer_il.rollout.buffer import RolloutBuffer
from puffer_il.rollout.replay import ReplayBuffer, joined


@dataclass(frozen=True)
class SQILConfig:
    demo_share: float = setting(0.5, "share of each minibatch that is demonstrated", low=0.01, high=0.99)
    absorbing: bool = setting(True, "terminations lead to an absorbing state, whose reward is shared like any other; "
                              "else they are worth 0, which rewards staying alive")


@register("sqil", uses=("sac",))
class SQIL:
    """SAC on the constant rewards 1 and 0. Paper: Reddy et al. 2019, arXiv:1905.11108."""

    section = SQILConfig
    needs_rollouts = True
    needs_demos = needs_actions = True
    needs_expert = False
    about = About("Reddy et al. 2019, arXiv:1905.11108", "few demonstrations, dear steps of the environment, and no "
                  "wish to tune an adversary", SAC.about.spaces)
    promised_metrics = (*SAC.promised_metrics, "reward/absorbing")
    done = False
    steps_per_update = 0  # the rollout's steps count

    def __init__(self, spec: EnvSpec, demos: Demos | None, config: Config, device: torch.device, seed: int) -> None:
        assert demos is not None
        self.config: SQILConfig = config.sqil
        self.sac = SAC(spec, None, config, device, seed)
        self.policy, self.notices = self.sac.policy, self.sac.notices
        self.demos = ReplayBuffer(spec, len(demos), seed, stream=1)
        self.demos.append_demos(demos, np.ones(len(demos), np.float32))
        self.gamma = config.sac.gamma
        self.demo_absorbing = self._absorbing_share(int(demos.terminated.sum()), int(demos.whole_lengths.sum()))
        self.policy.update_norm(*obs_moments(self.policy.flatten, torch.tensor(demos.obs, device=device)))

    def relabel(self, buffer: RolloutBuffer) -> Metrics:
        buffer.rewards[:] = 0
        return {}

    def advantages(self, buffer: RolloutBuffer) -> None:
        """Nothing to do: the replay's rows are bootstrapped one by one."""

    def update(self, buffer: RolloutBuffer | None, progress: float) -> Metrics:
        assert buffer is not None
        self.sac.store(buffer)
        replay = self.sac.replay
        own = self._absorbing_share(replay.terminated, len(replay))
        reward = absorbing_reward(self.demo_absorbing, own, self.config.demo_share)
        metrics = self.sac.idle()
        if self.sac.ready:
            updates, size = self.sac.config.updates, self.sac.config.batch_size
            shown = round(self.config.demo_share * size)
            rows = joined(self.demos.sample(updates, shown), replay.sample(updates, size - shown))
            metrics = self.sac.learn(rows, reward / (1 - self.gamma))
        return metrics | {"reward/absorbing": reward}

    def state_dict(self) -> dict[str, Any]:
        return {"sac": self.sac.state_dict(), "demos": list(self.demos.generator.state)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.sac.load_state_dict(state["sac"])
        self.demos.generator.state = tuple(state["demos"])

    def finish(self) -> None:
        """The last weights are the result."""

    def _absorbing_share(self, terminations: int, rows: int) -> float:
        return absorbing_share(terminations, rows, self.gamma) if self.config.absorbing else 0.0
