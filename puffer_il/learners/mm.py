"""Moment matching (Swamy et al. 2021): a Lipschitz critic finds the moment in which the policy differs most.

    L = ½ (E_policy f − E_expert f) + penalty on ‖∂f/∂(s, a)‖ above a target,    reward = f(s, a)

If the true reward is of the critic's class, the policy lacks at most what f can tell apart ("reward moments", Swamy et
al. 2021, section 3). There is no verdict and no probability. f is known up to a constant, which the absorbing state
shares, so that it pays neither for living nor for dying.
"""

from dataclasses import dataclass

from puffer_il.core.config import setting
from puffer_il.learners.base import About
from puffer_il.learners.common.adversarial import Adversarial, AdversarialConfig
from puffer_il.learners.registry import register


@dataclass(frozen=True)
class MMConfig(AdversarialConfig):
    loss = "wasserstein"
    gp_target: float = setting(0.4, "norm from which the interpolated penalty begins", low=0)
    true_reward_coef: float = setting(0.0, "weight of the true reward, added to the learned one")


@register("mm", uses=("ppo",))
class MM(Adversarial):
    """A Lipschitz critic of states and actions, whose mean is to be the same for expert and policy, is the reward, PPO
    the policy optimiser."""

    section = MMConfig
    about = About("Swamy et al. 2021, arXiv:2103.03236", "where a classifier soon becomes certain and its reward flat: "
                  "a critic keeps its slope; costs as much as gail")
