"""Maximum entropy inverse reinforcement learning with a neural reward (Wulfmeier et al. 2015), in sampled occupancies.

    L = ½ (E_policy r − E_expert r) + weight decay + gradient penalty,    reward = r − temperature · log π

The first term's gradient is that of −log p(demonstrations), but for the ½: the policy's visits less the expert's,
through the network (Wulfmeier et al. 2015, eq. 11; Ziebart et al. 2008). Without a model the visits are those of a
policy that learns alongside (Finn et al. 2016, arXiv:1603.00448): PPO, paid r and its own entropy, as the soft-optimal
policy of r is. Nothing in L bounds r itself while the two can be told apart; weight decay and penalty do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from puffer_il.adversarial import Adversarial, executed_logprobs
from puffer_il.config import Config, setting
from puffer_il.registry import register
from puffer_il.types import About, Demos, EnvSpec, InputError


@dataclass(frozen=True)
class DeepMaxEntIRLConfig:
    # Fixed here: r itself is what the policy is paid, and its mean on either side is all of the loss.
    loss = "wasserstein"
    reward = "logit"
    spectral_norm = False
    label_smoothing = disc_ent_coef = 0.0

    inputs: str = setting("state", "what the reward reads: states alone, so that demonstrations need no actions, or "
                          "actions too", choices=("state", "state_action"))
    temperature: float = setting(0.1, "weight of −log π in what the policy is paid", low=0)
    disc_updates: int = setting(8, "updates of the reward per iteration, whatever the rollout's size", low=1)
    disc_batch_size: int = setting(4096, "expert rows and policy rows of one update, each", low=2)
    disc_learning_rate: float = setting(1e-3, "Adam's step size of the reward", low=0)
    disc_hidden: tuple[int, ...] = setting((64, 64), "units of the reward's hidden layers", low=1)
    disc_activation: str = setting("tanh", "its nonlinearity", choices=("tanh", "relu", "silu", "elu"))
    weight_decay: float = setting(1e-3, "decoupled weight decay of the reward (AdamW)", low=0)
    gp_coef: float = setting(10.0, "weight of the gradient penalty; 0 for none", low=0)
    gp_kind: str = setting("interpolated", "penalise gradients above norm gp_target between expert and policy rows, or "
                           "all on expert rows", choices=("interpolated", "zero_centred"))
    gp_target: float = setting(1.0, "norm from which the interpolated penalty begins", low=0)
    max_grad_norm: float = setting(1.0, "clip the reward's gradient norm; 0 does not clip", low=0)
    replay_size: int = setting(0, "policy rows kept from earlier rollouts; 0 for none", low=0)
    replay_share: float = setting(0.25, "share of each policy batch drawn from that replay", low=0, high=1)
    reward_clip: float = setting(10.0, "bound of the learned reward before scaling; 0 for none", low=0)
    reward_scale: bool = setting(True, "divide the learned reward by its running std (the mean is never subtracted)")
    absorbing: bool = setting(True, "absorbing state after terminations: r pays neither for dying nor for living")
    true_reward_coef: float = setting(0.0, "weight of the true reward, added to the learned one")
    debug_use_ground_truth: bool = setting(False, "train on the true reward alone: tells a broken learner from a bad "
                                           "reward")


@register("deep_maxent_irl", uses=("ppo",))
class DeepMaxEntIRL(Adversarial):
    """A neural reward under which the demonstrations are likely, with the visits of a policy that learns alongside.
    Paper: Wulfmeier et al. 2015, arXiv:1507.04888."""

    section = DeepMaxEntIRLConfig
    needs_actions = False
    about = About("Wulfmeier et al. 2015, arXiv:1507.04888", "you want a reward of states to keep, from demonstrations "
                  "with or without actions; maxent_irl is exact where the environment is a small table")

    def __init__(self, spec: EnvSpec, demos: Demos | None, config: Config, device: torch.device, seed: int) -> None:
        assert demos is not None
        own: DeepMaxEntIRLConfig = config.deep_maxent_irl
        self.inputs, self.temperature = own.inputs, own.temperature  # type: ignore[misc]
        if own.inputs == "state_action" and demos.actions is None:
            raise InputError(f"demos {demos.source}: no actions are stored and deep_maxent_irl.inputs = 'state_action' "
                             "reads them; record them, or set it to 'state'")
        super().__init__(spec, demos, config, device, seed)
        self.logprobs = torch.empty(0)

    def _beside(self, mirror: Any) -> Tensor | None:
        self.logprobs = executed_logprobs(self.policy, mirror)
        return super()._beside(mirror)

    def _scores(self, obs: Tensor, shown: Tensor | None) -> Tensor:
        return super()._scores(obs, shown) - self.temperature * self.logprobs
