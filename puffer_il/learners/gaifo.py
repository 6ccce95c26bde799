"""Generative adversarial imitation from observation (Torabi et al. 2018): D(s, s′) tells expert from policy steps.

    L = −½ (E_expert log D + E_policy log(1 − D)) + gradient penalty − entropy bonus,    reward = form(D(s, s′))

What the expert did is never seen, only what came of it: demonstrations may hold no actions at all.
"""

from dataclasses import dataclass

from puffer_il.learners.base import About
from puffer_il.learners.common.adversarial import Adversarial, AnyLossConfig
from puffer_il.learners.registry import register


@dataclass(frozen=True)
class GAIfOConfig(AnyLossConfig):
    inputs = "state_next_state"


@register("gaifo", uses=("ppo",))
class GAIfO(Adversarial):
    """A discriminator of states and their successors is the reward, PPO the policy optimiser; no action of the expert
    is read."""

    section = GAIfOConfig
    needs_actions = False
    about = About("Torabi et al. 2018, arXiv:1807.06158", "demonstrations without actions, such as motion capture or "
                  "logs of states; costs as much as gail")
