"""Maximum entropy inverse reinforcement learning with a neural reward (Wulfmeier et al. 2015), in sampled occupancies.

    L = ½ (E_policy r − E_expert r) + ½ prox_coef E (r − r_before)² + ½ decay_coef E r² + gradient penalty
    reward = r − temperature · log π

The first term's gradient is that of −log p(demonstrations), but for the ½: the policy's visits less the expert's,
through the network (Wulfmeier et al. 2015, eq. 11; Ziebart et al. 2008). Without a model the visits are those of a
policy that learns alongside (Finn et al. 2016, arXiv:1603.00448; one step of each in turn: Zeng et al. 2022,
arXiv:2210.01808): PPO, paid r and its own entropy, as the soft-optimal policy of r is.

By itself that term has no bound as long as the two can be told apart; weight decay and the gradient penalty bound r.
Two more terms do it in units of r: r stays near what it was before this iteration (a proximal step, after PIRO,
arXiv:2509.23135) and, if asked for, near 0. Over equally many rows of both sides, of densities ρ_E and ρ, the best r
is then

    r = (prox_coef · r_before + (ρ_E − ρ) / (ρ_E + ρ)) / (prox_coef + decay_coef),

which moves by at most 1/prox_coef in an iteration, is a leaky sum of how the visits differed, and never leaves
±1/decay_coef.

The likelihood says nothing of r's mean: a constant added to r, that of the absorbing state included, changes neither
the loss nor what is best. Left alone it drifts, and in a long run leaves the range that reward_clip lets through, so
that every state is paid alike. Unless decay_coef fixes it, it is therefore set after each iteration so that r is 0
halfway between the means of the two sides.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from puffer_il.core.config import Config, setting
from puffer_il.core.errors import InputError
from puffer_il.core.spec import EnvSpec, Metrics
from puffer_il.demos.dataset import Demos
from puffer_il.learners.base import About
from puffer_il.learners.common.adversarial import Adversarial, RewardNetworkConfig, executed_logprobs
from puffer_il.learners.common.learned_reward import NetworkReward
from puffer_il.learners.common.network_average import NetworkAverage
from puffer_il.learners.common.rewards import AUTO
from puffer_il.learners.registry import register
from puffer_il.rollout.buffer import RolloutBuffer


@dataclass(frozen=True)
class DeepMaxEntIRLConfig(RewardNetworkConfig):
    loss = "wasserstein"  # r itself is what the policy is paid, and its mean on either side is all of the loss

    inputs: str = setting(AUTO, "what the reward reads: the state that a step leaves, or that it reaches (which alone "
                          "tells ends apart), so that demonstrations need no actions; or actions too, which auto does "
                          "where they are stored (else state)", choices=(AUTO, "state", "next_state", "state_action"))
    temperature: float = setting(0.1, "weight of −log π in what the policy is paid", low=0)
    prox_coef: float = setting(2.0, "weight of the squared change of r within an iteration, which keeps it within "
                               "1/prox_coef; 0 for none", low=0)
    decay_coef: float = setting(0.0, "weight of r², which keeps r within ±1/decay_coef; 0 for none", low=0)
    weight_decay: float = setting(1e-3, "decoupled weight decay of the reward (AdamW)", low=0)
    reward_memory: int = setting(50, "iterations of whose networks the reward that is kept is the average; 1 for the "
                                 "last one alone", low=1)
    absorbing: bool = setting(True, "absorbing state after terminations: r pays neither for dying nor for living")
    true_reward_coef: float = setting(0.0, "weight of the true reward, added to the learned one")


@register("deep_maxent_irl", uses=("ppo",))
class DeepMaxEntIRL(Adversarial):
    """A neural reward under which the demonstrations are likely, with the visits of a policy that learns alongside."""

    section = DeepMaxEntIRLConfig
    config: DeepMaxEntIRLConfig
    needs_actions = False
    saved = ("average",)
    about = About("Wulfmeier et al. 2015, arXiv:1507.04888", "you want a reward to keep, from demonstrations with or "
                  "without actions; maxent_irl is exact where the environment is a small table")

    def __init__(self, spec: EnvSpec, demos: Demos, config: Config, device: torch.device, seed: int) -> None:
        own = config.deep_maxent_irl
        if own.inputs == AUTO:
            inputs = "state" if demos.actions is None else "state_action"
            config = replace(config, sections=config.sections | {self.name: replace(own, inputs=inputs)})
        elif own.inputs == "state_action" and demos.actions is None:
            raise InputError(f"demos {demos.source}: no actions are stored and deep_maxent_irl.inputs = 'state_action' "
                             "reads them; record them, or set it to 'state'")
        super().__init__(spec, demos, config, device, seed)
        self.average = NetworkAverage(self.discriminator, self.config.reward_memory)
        self.logprobs = torch.empty(0)  # of the present rollout
        with torch.random.fork_rng([]):  # its weights are never its own
            self.before = self._make_discriminator(spec).to(device).requires_grad_(False)

    def relabel(self, buffer: RolloutBuffer) -> Metrics:
        """As Adversarial's, with r as it is now to stay near to."""
        self.before.load_state_dict(self.discriminator.state_dict())
        metrics = super().relabel(buffer)
        # Without an absorbing state a constant decides whether to end an episode; with a decay there is none left.
        if self.config.absorbing and not self.config.decay_coef:
            self._shift(-(metrics["disc/logit_expert"] + metrics["disc/logit_policy"]) / 2)
        self.average.add()
        return metrics

    def learned_reward(self) -> NetworkReward:
        """r on the average of the last iterations."""
        with self.average.in_place():
            return super().learned_reward()

    @torch.no_grad()
    def _shift(self, amount: float) -> None:
        """Add a number to r everywhere, the absorbing state included."""
        self.discriminator.net[-1].bias.add_(amount)

    def _add_gradients(self, expert: Tensor, policy: Tensor) -> None:
        """Those of the change of r and of its size, over the rows of both sides."""
        prox, decay = self.config.prox_coef, self.config.decay_coef
        if not prox and not decay:
            return
        rows = torch.cat((expert, policy))
        rewards = self.discriminator(rows)
        loss = decay * rewards.square().mean()
        if prox:
            loss = loss + prox * (rewards - self.before(rows)).square().mean()
        (loss / 2).backward()

    def _paired(self, rollout: Any) -> Tensor | None:
        self.logprobs = executed_logprobs(self.policy, rollout)
        return super()._paired(rollout)

    def _scores(self, obs: Tensor, paired: Tensor | None) -> Tensor:
        return super()._scores(obs, paired) - self.config.temperature * self.logprobs
