"""Generative adversarial imitation learning (Ho and Ermon 2016): D(s, a) tells expert from policy rows.

    L = −½ (E_expert log D + E_policy log(1 − D)) + gradient penalty − entropy bonus,    reward = form(D(s, a))
"""

from __future__ import annotations

from dataclasses import dataclass

from puffer_il.adversarial import Adversarial, AdversarialConfig
from puffer_il.registry import register
from puffer_il.types import About


@dataclass(frozen=True)
class GAILConfig(AdversarialConfig):
    pass


@register("gail", uses=("ppo", "bc"))
class GAIL(Adversarial):
    """A discriminator of states and actions is the reward, PPO the policy optimiser. Paper: Ho & Ermon 2016,
    arXiv:1606.03476."""

    section = GAILConfig
    needs_actions = True
    about = About("Ho & Ermon 2016, arXiv:1606.03476", "few demonstrations and an environment to practise in: try it "
                  "first")
