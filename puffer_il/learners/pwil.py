"""Primal Wasserstein imitation (Dadashi et al. 2021): PPO on how far each row is from the demonstrated ones left to it.

    c_t = mean distance of (s_t, a_t) from the demonstrated rows that step t takes, the nearest left (coupling.py)
    reward_t = exp(−β c_t / √width)

Each step takes its share, so that an episode as long as the demonstrated ones takes them all, and the mean of the c_t
bounds the Wasserstein distance to them from above; longer ones are paid nothing for the rest. No network is trained on
the demonstrations. The reward is never negative, but living pays no longer than the expert lived.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch

import puffer_il.kernels._kernels as kernels
from puffer_il.core.config import Config, setting
from puffer_il.core.errors import InputError
from puffer_il.core.spec import EnvSpec, Metrics
from puffer_il.demos import spread
from puffer_il.demos.dataset import Demos
from puffer_il.learners.base import About
from puffer_il.learners.common.coupling import Coupling
from puffer_il.learners.common.demo_rows import moments_of, on_device
from puffer_il.learners.common.inputs import Inputs
from puffer_il.learners.common.ppo_on_reward import PPOOnReward
from puffer_il.learners.registry import register
from puffer_il.rollout.buffer import RolloutBuffer
from puffer_il.rollout.tensors import rollout_on


@dataclass(frozen=True)
class PWILConfig:
    atoms: int = setting(256, "demonstrated rows to couple with, drawn evenly from all of them", low=1, high=4096)
    horizon: int = setting(0, "steps that take all of them; 0 for the mean length of the demonstrations", low=0)
    sharpness: float = setting(5.0, "β: how fast the reward falls with the distance", low=0)
    true_reward_coef: float = setting(0.0, "weight of the true reward, added to the learned one")
    debug_use_ground_truth: bool = setting(False, "train on the true reward alone: tells a broken learner from a bad "
                                           "reward")


@register("pwil", uses=("ppo",))
class PWIL(PPOOnReward):
    """PPO on a fixed reward: how near each step is to the demonstrated ones that its episode has not used yet."""

    section = PWILConfig
    config: PWILConfig
    about = About("Dadashi et al. 2021, arXiv:2006.04678", "a fixed reward with nothing to train, for observations of "
                  "few numbers: distances say little about many numbers, or about pixels")
    promised_metrics = (*PPOOnReward.promised_metrics, "disc/reward_mean", "disc/reward_std", "disc/distance")
    saved = ("coupling.left",)

    def __init__(self, spec: EnvSpec, demos: Demos, config: Config, device: torch.device, seed: int) -> None:
        super().__init__(spec, demos, config, device, seed)
        self.inputs = Inputs(spec).to(device)
        if self.inputs.encoder.convs:
            raise InputError(f"env.name = {spec.name}: distances between images say nothing about what they show; "
                             "choose gail, which learns what to look at")
        obs, actions = (on_device(array, device) for array in (demos.obs, demos.actions))
        self.inputs.update_norm(*moments_of(self.inputs.flatten, demos.obs, obs))
        weights = np.ones(len(obs)) if demos.weights is None else demos.weights
        count = min(self.config.atoms, int(np.count_nonzero(weights)))
        chosen = spread(weights, count, np.random.default_rng(seed).random())
        atoms = self.inputs.rows(obs, actions, torch.from_numpy(chosen).to(device)).cpu().numpy()
        self.coupling = Coupling(atoms, self.config.horizon or float(demos.whole_lengths.mean()))

    def relabel(self, buffer: RolloutBuffer) -> Metrics:
        """Write the reward of every row; what an episode has left is kept for the next rollout."""
        rollout = rollout_on(buffer, self.device)
        rows = self.inputs.rows(rollout["obs"].flatten(0, 1), rollout["actions"].flatten(0, 1)).cpu().numpy()
        distances = self.coupling.distances(rows.reshape(*buffer.rewards.shape, -1), buffer.episode_starts,
                                            buffer.valid, kernels.get_threads())
        rewards = np.exp(-self.config.sharpness / math.sqrt(rows.shape[1] - 1) * distances)
        coupled = np.isfinite(distances)
        counted = rewards[buffer.valid]
        self.pay(buffer, torch.from_numpy(rewards))
        return {"disc/reward_mean": float(counted.mean()), "disc/reward_std": float(counted.std()),
                "disc/distance": float(distances[coupled].mean()) if coupled.any() else 0.0}
