"""PPO on a learner's own reward: what all learners share that relabel rollouts and leave the rest to PPO."""

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from puffer_il.core.config import Config
from puffer_il.core.errors import InputError
from puffer_il.core.spec import EnvSpec, Metrics
from puffer_il.demos.dataset import Demos
from puffer_il.learners.base import Learner
from puffer_il.learners.ppo import PPO
from puffer_il.rollout.buffer import RolloutBuffer


class PPOOnReward(Learner):
    """A PPO is held, and optimises what the subclass's `relabel` writes, best by `pay`.

    ppo, policy       the one that is held, and its policy
    gamma             its discount

    Of its section these keys are read here, if they are there:

    absorbing               terminations lead to an absorbing state
    true_reward_coef        weight of the true reward beside the learner's own; 0 without the key
    debug_use_ground_truth  the true reward stays as it is
    """

    saved: ClassVar[tuple[str, ...]] = ("ppo", "warned")
    promised_metrics: ClassVar[tuple[str, ...]] = PPO.promised_metrics

    def __init__(self, spec: EnvSpec, demos: Demos | None, config: Config, device: torch.device, seed: int) -> None:
        super().__init__(spec, demos, config, device, seed)
        self.ppo = PPO(spec, demos, config, device, seed)
        self.policy, self.notices, self.gamma = self.ppo.policy, self.ppo.notices, config.ppo.gamma
        self.true_reward_coef: float = getattr(self.config, "true_reward_coef", 0.0)
        self.warned = False
        if self.lasting and self.gamma == 1:
            raise InputError("ppo.gamma = 1.0: absorbing states last for ever and need gamma < 1; lower ppo.gamma"
                             + f" or set {self.name}.absorbing to false" * ("absorbing" in vars(self.config)))

    @property
    def lasting(self) -> bool:
        """Whether terminations lead to an absorbing state."""
        return getattr(self.config, "absorbing", False)

    def advantages(self, buffer: RolloutBuffer) -> None:
        self.ppo.advantages(buffer)

    def update(self, buffer: RolloutBuffer, progress: float) -> Metrics:
        return self.ppo.update(buffer, progress)

    def pay(self, buffer: RolloutBuffer, rewards: Tensor, absorbing: float = 0.0, bias: str = "") -> None:
        """Write the rewards of a rollout (num_steps·num_envs,) and the true ones beside them, and what terminations are
        worth where each step in the absorbing state pays `absorbing`.

        Without an absorbing state the user is told once what the rewards' sign teaches by itself, if `bias` says so
        (the end of a sentence).
        """
        if getattr(self.config, "debug_use_ground_truth", False):
            return
        own = rewards.cpu().numpy().reshape(buffer.rewards.shape)
        np.add(own, self.true_reward_coef * buffer.env_rewards, out=buffer.rewards)
        ended = buffer.terminations & buffer.valid
        if self.lasting:
            buffer.final_values[ended] = absorbing / (1 - self.gamma)
        elif bias and not self.warned and ended.any():
            self.warned, key = True, f"{self.name}.absorbing"
            self.notices.append(f"{key} is off, episodes terminate and {bias}; set {key} "
                                "to true unless that is what you want")


def valid_rows(buffer: RolloutBuffer, device: torch.device) -> Tensor | None:
    """Numbers (n,) int64 of a rollout's valid rows, on the device; None if all are."""
    valid = buffer.valid.reshape(-1)
    return None if valid.all() else torch.from_numpy(np.flatnonzero(valid)).to(device, non_blocking=True)
