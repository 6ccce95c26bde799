"""A policy from a learned reward: PPO on what another run has learned, also where the environment has changed since.

    rewards ← (r(s, a, s′) + γ h(s′) − h(s) − c) / running std,    a termination is worth (r_absorbing − c) / (1 − γ)

h is the potential that AIRL learns beside its reward, where there is one: it changes no optimal policy, in no dynamics
(Ng et al. 1999), but pays each step for its progress. c is the mean of the first rollout. Taken from every step, of the
absorbing state too, it is the same sum on every endless trajectory and so changes no policy; a critic would have to
learn it first.

The reward is never trained here. One that reads states alone can be told apart from the dynamics it was learned in, and
one that reads actions cannot (Fu et al. 2018, arXiv:1710.11248, section 5).
"""

from dataclasses import dataclass

import torch

from puffer_il.core.config import Config, setting
from puffer_il.core.errors import InputError
from puffer_il.core.spec import EnvSpec, Metrics
from puffer_il.demos.dataset import Demos
from puffer_il.learners.base import About
from puffer_il.learners.common.learned_reward import LearnedReward, check_spaces, load_reward
from puffer_il.learners.common.ppo_on_reward import PPOOnReward
from puffer_il.learners.common.rewards import RewardScale
from puffer_il.learners.common.shaped_reward import ShapedReward
from puffer_il.learners.registry import register
from puffer_il.rollout.buffer import RolloutBuffer


@dataclass(frozen=True)
class TransferConfig:
    reward: str = setting("", "the learned reward: a run directory, or its reward.pt")
    absorbing: bool = setting(True, "terminations are worth the absorbing state's reward for ever, where there is one")
    shaping: bool = setting(True, "pay γ·h(s′) − h(s) too, where the reward comes with a potential h (airl's does): "
                            "what is best stays the same in any dynamics and is found sooner")
    center: bool = setting(True, "subtract the first rollout's mean from every reward, the absorbing state's included "
                           "(not where terminations are worth nothing, because that would turn signs)")
    reward_scale: bool = setting(True, "divide the reward by its running std")
    true_reward_coef: float = setting(0.0, "weight of the true reward, added to the learned one")


@register("transfer", uses=("ppo",))
class Transfer(PPOOnReward):
    """PPO on a reward that another run has learned and saved."""

    section = TransferConfig
    config: TransferConfig
    needs_demos = needs_actions = False
    about = About("Fu et al. 2018, arXiv:1710.11248, section 7", "a reward that was learned before, for an environment "
                  "that has changed since or for a new policy")
    promised_metrics = (*PPOOnReward.promised_metrics, "transfer/reward_mean", "transfer/reward_std")
    saved = ("scale", "offset", "reward")  # its file may be another one when the run is resumed

    def __init__(self, spec: EnvSpec, demos: Demos | None, config: Config, device: torch.device, seed: int) -> None:
        source = config.transfer.reward
        if not source:
            raise InputError("transfer.reward is empty; give the run that learned a reward: --transfer.reward RUN")
        self.reward = load_reward(source, device)
        check_spaces(self.reward, spec, f"transfer.reward = {source!r}")
        super().__init__(spec, demos, config, device, seed)
        self.offset: float | None = None
        self.scale = RewardScale()

    @property
    def lasting(self) -> bool:
        return self.config.absorbing and self.reward.absorbing is not None

    def learned_reward(self) -> LearnedReward:
        """The reward that it was given, so that the run is complete without the other one."""
        return self.reward

    @torch.no_grad()
    def relabel(self, buffer: RolloutBuffer) -> Metrics:
        """Write the learned reward of every row, and of the absorbing state after terminations."""
        rewards, valid = self.reward.of_rollout(buffer, self.device).cpu(), torch.from_numpy(buffer.valid.reshape(-1))
        resting = 0.0  # what the potential adds to a step in the absorbing state
        if self.config.shaping and isinstance(self.reward, ShapedReward):
            rewards += self.reward.shaping(buffer, self.device, self.gamma, self.lasting).cpu()
            resting = (self.gamma - 1) * self.reward.absorbing_potential() if self.lasting else 0.0
        if self.offset is None:
            self.offset = float(rewards[valid].mean()) if self.config.center and self.lasting else 0.0
        rewards -= self.offset
        end = torch.tensor((self.reward.absorbing or 0.0) + resting - self.offset)
        if self.config.reward_scale:
            self.scale.update(rewards[valid])
            rewards, end = self.scale(rewards), self.scale(end)
        self.pay(buffer, rewards, float(end))
        counted = rewards[valid]
        return {"transfer/reward_mean": float(counted.mean()), "transfer/reward_std": float(counted.std())}
