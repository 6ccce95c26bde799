"""A policy from a learned reward: PPO on what another run has learned, also where the environment has changed since.

    rewards ← (r(s, a, s′) − c) / running std,    a termination is worth (r_absorbing − c) / (1 − γ)

c is the mean of the first rollout. Taken from every step, of the absorbing state too, it is the same sum on every
endless trajectory and so changes no policy; a critic would have to learn it first.

The reward is never trained here. One that reads states alone can be told apart from the dynamics it was learned in, and
one that reads actions cannot (Fu et al. 2018, arXiv:1710.11248, section 5).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from puffer_il.core.config import Config, setting
from puffer_il.core.errors import InputError
from puffer_il.core.spec import EnvSpec, Metrics
from puffer_il.demos.dataset import Demos
from puffer_il.learners.base import About
from puffer_il.learners.common.learned_reward import LearnedReward, check_spaces, load_reward
from puffer_il.learners.common.rewards import RewardScale
from puffer_il.learners.ppo import PPO
from puffer_il.learners.registry import register
from puffer_il.rollout.buffer import RolloutBuffer
from puffer_il.rollout.tensors import mirror_of


@dataclass(frozen=True)
class TransferConfig:
    reward: str = setting("", "the learned reward: a run directory, or its reward.pt")
    absorbing: bool = setting(True, "terminations are worth the absorbing state's reward for ever, where "
                              "there is one")
    center: bool = setting(True, "subtract the first rollout's mean from every step's reward and the absorbing state's "
                           "alike (not where terminations are worth nothing: it would turn signs)")
    reward_scale: bool = setting(True, "divide the reward by its running std")
    true_reward_coef: float = setting(0.0, "weight of the true reward, added to the learned one")


@register("transfer", uses=("ppo",))
class Transfer:
    """Proximal policy optimisation on a reward that another run has learned and saved. Paper: Fu et al. 2018,
    arXiv:1710.11248, section 7."""

    section = TransferConfig
    needs_rollouts = True
    needs_demos = needs_actions = needs_expert = False
    about = About("Fu et al. 2018, arXiv:1710.11248", "a reward learned before, and an environment that has changed "
                  "since or a policy to be trained anew")
    promised_metrics = (*PPO.promised_metrics, "transfer/reward_mean", "transfer/reward_std")
    done = False
    steps_per_update = 0  # the rollout's steps count

    def __init__(self, spec: EnvSpec, demos: Demos | None, config: Config, device: torch.device, seed: int) -> None:
        self.config: TransferConfig = config.transfer
        if not self.config.reward:
            raise InputError("transfer.reward is empty; give the run that learned a reward: --transfer.reward RUN")
        self.reward = load_reward(self.config.reward, device)
        check_spaces(self.reward, spec, f"transfer.reward = {self.config.reward!r}")
        self.gamma, self.device = config.ppo.gamma, device
        self.lasting = self.config.absorbing and self.reward.absorbing is not None
        self.offset: float | None = None
        if self.lasting and self.gamma == 1:
            raise InputError("ppo.gamma = 1.0: absorbing states last for ever and need gamma < 1; lower ppo.gamma or "
                             "set transfer.absorbing to false")
        self.ppo = PPO(spec, demos, config, device, seed)
        self.policy = self.ppo.policy
        self.scale = RewardScale()
        self.notices: list[str] = []

    def learned_reward(self) -> LearnedReward:
        """The same that it was given: the run stands by itself."""
        return self.reward

    @torch.no_grad()
    def relabel(self, buffer: RolloutBuffer) -> Metrics:
        """Write the learned reward of every row, and of the absorbing state after terminations."""
        mirror, valid = mirror_of(buffer, self.device), torch.from_numpy(buffer.valid.reshape(-1))
        successors = None
        if "next_obs" in self.reward.reads:
            successors = torch.from_numpy(buffer.next_obs()).to(self.device)
        rewards = self.reward.of_rows(mirror["obs"].flatten(0, 1), mirror["actions"].flatten(0, 1), successors).cpu()
        if self.offset is None:
            self.offset = float(rewards[valid].mean()) if self.config.center and self.lasting else 0.0
        rewards -= self.offset
        end = torch.tensor((self.reward.absorbing or 0.0) - self.offset)
        if self.config.reward_scale:
            self.scale.update(rewards[valid])
            rewards, end = self.scale(rewards), self.scale(end)
        np.add(rewards.numpy().reshape(buffer.rewards.shape), self.config.true_reward_coef * buffer.env_rewards,
               out=buffer.rewards)
        if self.lasting:
            buffer.final_values[buffer.terminations & buffer.valid] = float(end) / (1 - self.gamma)
        counted = rewards[valid]
        return {"transfer/reward_mean": float(counted.mean()), "transfer/reward_std": float(counted.std())}

    def advantages(self, buffer: RolloutBuffer) -> None:
        self.ppo.advantages(buffer)

    def update(self, buffer: RolloutBuffer | None, progress: float) -> Metrics:
        return self.ppo.update(buffer, progress)

    def state_dict(self) -> dict[str, Any]:
        # The reward's file may be another one by the time the run is resumed.
        return {"ppo": self.ppo.state_dict(), "scale": self.scale.state_dict(), "offset": self.offset,
                "reward": self.reward.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.ppo.load_state_dict(state["ppo"])
        self.scale.load_state_dict(state["scale"])
        self.offset = state["offset"]
        self.reward.load_state_dict(state["reward"])

    def finish(self) -> None:
        """The last weights are the result."""
