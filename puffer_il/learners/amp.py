"""Adversarial motion priors (Peng et al. 2021): a style learned from transitions, beside the environment's own task.

    L = ½ (E_expert (D − 1)² + E_policy (D + 1)²) + ½ w E_expert ‖∂D/∂(s, s′)‖²
    reward = (1 − c) max(0, 1 − ¼ (D(s, s′) − 1)²) + c · true reward

`c` is task_reward_coef: 0 imitates alone, ½ is what the paper's tasks use. `gp_coef` is half the paper's w because L is
half the paper's.
"""

from dataclasses import dataclass

import torch

from puffer_il.core.config import Config, setting
from puffer_il.core.spec import EnvSpec
from puffer_il.demos.dataset import Demos
from puffer_il.learners.base import About
from puffer_il.learners.common.adversarial import Adversarial, AdversarialConfig
from puffer_il.learners.registry import register


@dataclass(frozen=True)
class AMPConfig(AdversarialConfig):
    inputs = "state_next_state"
    loss = "least_squares"
    label_smoothing: float = setting(0.0, "targets 1 − 2x and 2x − 1 instead of 1 and −1", low=0, high=0.5)
    gp_kind: str = setting("zero_centred", "penalise gradients above norm gp_target between expert and policy rows, or "
                           "all on expert rows", choices=("interpolated", "zero_centred"))
    gp_coef: float = setting(2.5, "weight of the gradient penalty; 0 for none", low=0)
    replay_size: int = setting(200_000, "policy rows kept from earlier rollouts; 0 for none", low=0)
    reward: str = setting("least_squares", "learned reward: max(0, 1 − ¼(D−1)²), or the score itself as 'logit'",
                          choices=("least_squares", "logit"))
    task_reward_coef: float = setting(0.0, "share of the true (task) reward; the rest is the learned (style) reward",
                                      low=0, high=1)


@register("amp", uses=("ppo",))
class AMP(Adversarial):
    """A least-squares discriminator of states and their successors is a style's reward, mixed with the task's; PPO is
    the policy optimiser."""

    section = AMPConfig
    needs_actions = False
    about = About("Peng et al. 2021, arXiv:2104.02180", "motions without actions that show how to move, while the "
                  "environment's reward says where to; costs as much as gail")

    def __init__(self, spec: EnvSpec, demos: Demos, config: Config, device: torch.device, seed: int) -> None:
        super().__init__(spec, demos, config, device, seed)
        self.true_reward_coef = config.amp.task_reward_coef
        self.learned_reward_coef = 1 - config.amp.task_reward_coef
