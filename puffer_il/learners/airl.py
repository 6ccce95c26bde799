"""Adversarial inverse reinforcement learning (Fu et al. 2018): the discriminator is made of a reward that can be kept.

    f(s, a, s′) = g(s, a) + γ h(s′) − h(s),    D = exp f / (exp f + π(a|s)^α),    logit D = f − α log π(a|s)
    L = −½ (E_expert log D + E_policy log(1 − D)) + gradient penalty of f − entropy bonus
    reward = −log(1 − D), the logit, or f

At the optimum f is the expert's advantage, which is α log π_E(a|s) for an expert of maximum entropy at temperature α;
h takes up what depends on the dynamics, and g is the reward that is left. With g(s) alone it is the true one up to a
constant, where the true one is of states and the dynamics let every pair of states be told apart (theorem 5.1); it then
holds in other dynamics too.

The paper's α is 1. There log π of several action dimensions is larger than what an f of bounded slope can answer: the
expert's actions are told by it alone, which teaches f nothing, and the policy is paid for spreading. An action that π
takes less often than chance would counts as one of chance, for the same reason.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from puffer_il.core.config import Config, setting
from puffer_il.core.errors import InputError
from puffer_il.core.spec import EnvSpec, Metrics
from puffer_il.demos.dataset import Demos
from puffer_il.learners.base import About
from puffer_il.learners.bc import BC
from puffer_il.learners.common.adversarial import Adversarial, RewardNetworkConfig, executed_logprobs
from puffer_il.learners.common.demo_rows import on_device, successors_on
from puffer_il.learners.common.discriminator import Discriminator, Logit, Term
from puffer_il.learners.common.inputs import paired_with, passes
from puffer_il.learners.common.network_average import NetworkAverage
from puffer_il.learners.common.rewards import AUTO, FORMS
from puffer_il.learners.common.shaped_reward import ShapedReward
from puffer_il.learners.registry import register
from puffer_il.rollout.buffer import RolloutBuffer


@dataclass(frozen=True)
class AIRLConfig(RewardNetworkConfig):
    absorbing = True  # without an absorbing state h would not know what an end is worth

    inputs: str = setting("state", "what the reward g reads: the state that a step leaves, or that it reaches (which "
                          "alone tells ends apart); or actions too, if the dynamics stay the same",
                          choices=("state", "next_state", "state_action"))
    shaping_hidden: tuple[int, ...] = setting((32, 32), "units of the hidden layers of h; disc_hidden are those of g",
                                              low=1)
    temperature: float = setting(0.1, "α, the weight of log π in D: f is the expert's advantage at this entropy "
                                 "temperature", low=0)
    reward: str = setting(AUTO, "what the policy is paid: softplus = −log(1−D), logsigmoid = log D, logit = "
                          "f − α log π; auto is softplus", choices=(AUTO, *FORMS["bce"]))
    bc_epochs: int = setting(0, "epochs of behaviour cloning before the first rollout; 0 for none", low=0)
    minus_log_policy: bool = setting(True, "false pays f alone, whatever the reward's form")
    gp_coef: float = setting(10.0, "weight of the gradient penalty of f; 0 for none", low=0)
    disc_ent_coef: float = setting(1e-3, "weight of the entropy of D, which draws the logit towards 0")
    replay_size: int = setting(50_000, "policy rows kept from all earlier rollouts alike, so that the reward never "
                               "forgets where the policy has been; 0 for none", low=0)
    replay_share: float = setting(0.5, "share of each policy batch drawn from that replay", low=0, high=1)
    reward_memory: int = setting(50, "iterations of whose networks the reward that is kept is the average; 1 for the "
                                 "last one alone", low=1)
    true_reward_coef: float = setting(0.0, "weight of the true reward, added to the learned one")


class Steps(NamedTuple):
    """What observations are paired with in rows: actions (n, dim), next_obs (n, *obs_shape), ended (n,) bool where the
    successor is the absorbing state, logprobs (n,), α log π of the policy that acted."""

    actions: Tensor
    next_obs: Tensor
    ended: Tensor
    logprobs: Tensor


class Shaped(nn.Module):
    """f − α log π of rows: what g reads, (s′, its absorbing flag), α log π; where g reads s′, (s, flag) in its place
    and what g reads before α log π.

    After a termination h reads the absorbing state as s′, in which there is nothing to choose: log π is 0 there.
    """

    def __init__(self, spec: EnvSpec, config: AIRLConfig, gamma: float) -> None:
        super().__init__()
        self.gamma = gamma
        self.reward = Discriminator(spec, config.disc_hidden, config.disc_activation, False, config.inputs)
        self.shaping = Discriminator(spec, config.shaping_hidden, config.disc_activation, False, "state")
        self.flatten = self.reward.flatten
        width, arrival = self.reward.width, config.inputs == "next_state"
        self.widths = (width, self.shaping.width, width if arrival else 0, 1)
        self.width = sum(self.widths)
        self.first = sum(self.widths[:2]) if arrival else 0  # column of what g reads

    def update_norm(self, mean: Tensor, var: Tensor, count: float | Tensor) -> None:
        """Merge the moments of `count` observations into the running statistics."""
        for network in (self.reward, self.shaping):
            network.update_norm(mean, var, count)

    @torch.no_grad()
    def rows(self, obs: Tensor, steps: Steps, index: Tensor | None = None, out: Tensor | None = None) -> Tensor:
        """Rows (n, width) of those `index`, or of all, in `out` if given."""
        # index_select: x[index] wakes torch's threads, which then keep the kernels' from their cores for a while.
        ended, logprobs = (x if index is None else x.index_select(0, index) for x in (steps.ended, steps.logprobs))
        made = logprobs.new_empty(len(logprobs), self.width) if out is None else out
        own, later, arrived, last = made.split(self.widths, 1)
        if self.first:
            self.shaping.rows(obs, None, index, own)
        self.reward.rows(obs, self._paired(steps), index, arrived if self.first else own)
        later.copy_(torch.where(ended[:, None], self.shaping.absorbing, self.shaping.rows(steps.next_obs, None, index)))
        last.copy_(logprobs[:, None])
        return made

    def absorbing_rows(self, n: int) -> Tensor:
        own, later = self.reward.absorbing_rows(n), self.shaping.absorbing_rows(n)
        return torch.cat((own, later, *([own] if self.first else []), own.new_zeros(n, 1)), 1)

    def logit(self) -> Logit:
        """What `forward` computes, as the kernels take it."""
        own, later, *_ = self.widths
        terms = (Term(self.reward, self.first, self.first + own - 1, 1.0),
                 Term(self.shaping, own, own + later - 1, self.gamma), Term(self.shaping, 0, own - 1, -1.0))
        return Logit(terms, self.width, self.width - 1)

    def forward(self, rows: Tensor) -> Tensor:
        """Logits (n,). A penalty of their gradient is one of f: log π is a number here."""
        own, later, arrived, logprobs = rows.split(self.widths, 1)
        now = torch.cat((own[:, :self.flatten.dim], own[:, -1:]), 1)  # what of it is not an action
        value, next_value = self.shaping(torch.cat((now, later))).chunk(2)
        reward = self.reward(arrived if self.first else own)
        return reward + self.gamma * next_value - value - logprobs.squeeze(1).detach()

    @torch.no_grad()
    def of_rollout(self, obs: Tensor, steps: Steps, num_envs: int, ends: Tensor) -> Tensor:
        """f (n,) of a rollout's raw rows t·num_envs + i, of which those numbered in `ends` (k,) end an episode: but for
        them and the last step, h(s′) is h of the next step's row. Rows by themselves are the one step of n."""
        rewards, values = self.reward.logits(obs, self._paired(steps)), self._values(obs)
        later = torch.cat((values[num_envs:], self._values(steps.next_obs[-num_envs:])))
        if len(ends):
            later[ends] = self._values(steps.next_obs.index_select(0, ends))
        later = torch.where(steps.ended, self.shaping(self.shaping.absorbing_rows(1)), later)
        return rewards + self.gamma * later - values

    def _values(self, obs: Tensor) -> Tensor:
        """h (n,)."""
        return self.shaping.logits(obs, None)

    def _paired(self, steps: Steps) -> Tensor | None:
        return paired_with(self.reward.kind, steps.actions, steps.next_obs)


@register("airl", uses=("ppo", "bc"))
class AIRL(Adversarial):
    """A discriminator made of a reward, a shaping and the policy's own probabilities; the reward is kept."""

    section = AIRLConfig
    config: AIRLConfig
    end_in_rows = True  # h, and the reward that is kept, are asked about it
    replay_keep, replay_even = 0.05, True
    saved = ("average",)
    needs_actions = True  # D asks how probable the expert's actions are, also where g reads states alone
    about = About("Fu et al. 2018, arXiv:1710.11248", "you want the reward itself, to look at or to train on where the "
                  "environment has changed; as an imitator it is slower than gail")

    def __init__(self, spec: EnvSpec, demos: Demos, config: Config, device: torch.device, seed: int) -> None:
        if config.policy.memory:
            raise InputError(f"{config.policy.memory_setting}: airl needs the probability of single expert "
                             "actions, which a policy with memory does not give; set it to 0")
        super().__init__(spec, demos, config, device, seed)
        if not self.config.minus_log_policy:
            self.form = "logit"  # f as it is
        if epochs := self.config.bc_epochs:
            BC(spec, demos, config, device, seed, policy=self.policy).fit(epochs)
        self.average = NetworkAverage(self.discriminator, self.config.reward_memory)
        self.layout = (0, torch.zeros(0))  # of the present rollout
        self.asks_all = len(demos) <= self.config.disc_updates * self.batch_size  # or only those drawn

    def learned_reward(self) -> ShapedReward:
        """g, and h as its potential, on the average of the last iterations."""
        own, cfg = self.discriminator, self.config
        with self.average.in_place():
            return ShapedReward.of_networks(self.policy.spec, self.name, own.reward, own.shaping,
                                            hidden=cfg.disc_hidden, shaping_hidden=cfg.shaping_hidden,
                                            activation=cfg.disc_activation)

    def _make_discriminator(self, spec: EnvSpec) -> Any:
        return Shaped(spec, self.config, self.gamma)

    def _demo_paired(self, demos: Demos) -> Steps:
        actions, ended, logprobs = (on_device(x, self.device) for x in (
            demos.actions, demos.terminations, np.zeros(len(demos), np.float32)))
        return Steps(actions, successors_on(demos.next_obs, self.device), ended, logprobs)

    def _paired(self, rollout: Any) -> Any:
        actions, ended = (rollout[name].flatten(0, 1) for name in ("actions", "terminations"))
        self.layout = rollout.buffer.num_envs, torch.tensor(rollout.buffer.final_index, device=self.device)
        return Steps(actions, rollout.next_obs(), ended, self._weighed(executed_logprobs(self.policy, rollout)))

    def relabel(self, buffer: RolloutBuffer) -> Metrics:
        """As Adversarial's, with log π computed once for all batches: the policy does not change meanwhile."""
        if self.asks_all:
            for part in passes(len(self.demo_obs), self.policy.spec):
                self._ask_policy(part)
        metrics = super().relabel(buffer)
        self.average.add()
        return metrics

    def _drawn_demos(self) -> Tensor:
        index = super()._drawn_demos()
        if not self.asks_all:
            self._ask_policy(index)
        return index

    @torch.no_grad()
    def _ask_policy(self, index: Tensor | slice) -> None:
        """Put α log π of these demonstrated rows under the present policy among their steps."""
        params = self.policy.action_params(self.demo_obs[index])
        logprobs = self.policy.dist.log_prob_executed(params, self.demo_paired.actions[index])
        self.demo_paired.logprobs[index] = self._weighed(logprobs)

    def _weighed(self, logprobs: Tensor) -> Tensor:
        """α log π, where π is at least chance."""
        return self.config.temperature * logprobs.clamp_min(self.policy.dist.log_chance)

    def _scores(self, obs: Tensor, paired: Any) -> Tensor:
        values = self.discriminator.of_rollout(obs, paired, *self.layout)
        return values - paired.logprobs if self.config.minus_log_policy else values
