"""Generative adversarial imitation learning (Ho and Ermon 2016): D(s, a) tells expert from policy rows.

    L = −½ (E_expert log D + E_policy log(1 − D)) + gradient penalty − entropy bonus,    reward = form(D(s, a))

`gail.loss` puts least squares (Mao et al. 2017) or a Wasserstein critic (Arjovsky et al. 2017) in the place of L's
first term.
"""

from dataclasses import dataclass

import torch

from puffer_il.core.config import Config, setting
from puffer_il.core.spec import EnvSpec
from puffer_il.demos.dataset import Demos
from puffer_il.learners.base import About
from puffer_il.learners.bc import BC
from puffer_il.learners.common.adversarial import Adversarial, AnyLossConfig
from puffer_il.learners.registry import register


@dataclass(frozen=True)
class GAILConfig(AnyLossConfig):
    bc_epochs: int = setting(0, "epochs of behaviour cloning before the first rollout; 0 for none", low=0)


@register("gail", uses=("ppo", "bc"))
class GAIL(Adversarial):
    """A discriminator of states and actions is the reward, PPO the policy optimiser."""

    section = GAILConfig
    about = About("Ho & Ermon 2016, arXiv:1606.03476", "few demonstrations and an environment to practise in: try it "
                  "first")

    def __init__(self, spec: EnvSpec, demos: Demos, config: Config, device: torch.device, seed: int) -> None:
        super().__init__(spec, demos, config, device, seed)
        if epochs := config.gail.bc_epochs:
            BC(spec, demos, config, device, seed, policy=self.policy).fit(epochs)
