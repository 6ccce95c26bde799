"""Coherent soft imitation learning (Watson et al. 2023): a clone's own likelihood as the reward that improves it.

    q ← behaviour cloning, kept uniform away from the demonstrations
    r(s, a) = log q(a|s) − log p(a|s),   p uniform: the reward for which q is soft-optimal at temperature 1, with V = 0
    π ← q, then soft policy iteration on r at a temperature below 1 (sac.alpha), from demonstrated and own transitions

Away from the demonstrations r is about 0, on them it is positive where the expert's action is taken: so π comes back
to where q knows what to do. The paper's stationary networks are replaced by rows of noise with uniform actions (noise
contrastive priors, Hafner et al. 2018, arXiv:1807.09289), and its refinement of r, which raises r on demonstrated rows
and lowers it on the policy's, by the same means: with `refine` the clone goes on learning, demonstrated actions where
they were taken and uniform ones in the policy's states, so that r falls where the policy is and the expert seldom was.

Critics that have seen little would soon spoil a clone that is nearly good enough: with continuous actions π stays
within `trust` nats of it on average (see common/anchor.py).
"""

import copy
import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from puffer_il.core.config import Config, PolicyConfig, setting
from puffer_il.core.spec import Array, EnvSpec, Metrics
from puffer_il.demos.dataset import Demos
from puffer_il.learners.base import About
from puffer_il.learners.bc import BC
from puffer_il.learners.common.anchor import Anchor
from puffer_il.learners.common.demo_rows import DemoRows, on_device
from puffer_il.learners.common.learned_reward import LearnedReward
from puffer_il.learners.common.off_policy import SoftActorCritic, SoftQ
from puffer_il.learners.common.sac_on_demos import SACOnDemos
from puffer_il.learners.registry import register
from puffer_il.learners.sac import SAC
from puffer_il.nn import FlatAdam, Gaussian, Policy
from puffer_il.rollout.buffer import RolloutBuffer

EDGE = 0.99  # of the action range: at its very end a squashed density has no bound


@dataclass(frozen=True)
class CSILConfig:
    bc_epochs: int = setting(200, "epochs of behaviour cloning at most; bc.patience may end it", low=1)
    prior_share: float = setting(0.5, "rows of noise with uniform actions for each demonstrated row, which keep the "
                                 "clone uniform elsewhere (numeric observations only)", low=0)
    prior_spread: float = setting(3.0, "standard deviation of that noise, in those of the demonstrations", low=0)
    reward_clip: float = setting(5.0, "bound of the reward, in nats", low=0)
    critic_updates: int = setting(1_000, "updates of the critics before the policy moves", low=0)
    demo_share: float = setting(0.5, "share of each minibatch that is demonstrated", low=0.01, high=0.99)
    refine: int = setting(0, "updates of the clone after each rollout, towards uniform actions in the policy's states; "
                          "0 keeps the reward as it is", low=0)
    trust: float = setting(0.05, "nats per action dimension that the policy may be away from the clone on average; 0 "
                                "lets it go anywhere (continuous actions)", low=0)
    absorbing: bool = setting(True, "terminations that occur in the demonstrations are worth as much as the "
                              "demonstrations elsewhere; false makes them worth 0, which rewards staying alive")


class CloneReward(LearnedReward):
    """log q(a|s) − log p(a|s) of a cloned policy q and uniform p, in nats, bounded by `clip`."""

    kind = "clone"
    reads = ("obs", "actions")

    def __init__(self, spec: EnvSpec, algo: str, absorbing: float | None = None, *, policy: dict[str, Any],
                 clip: float) -> None:
        super().__init__(spec, algo, absorbing, policy=policy, clip=clip)
        self.clone = Policy(spec, PolicyConfig(**{**policy, "hidden": tuple(policy["hidden"])}))
        self.clip = clip

    def forward(self, obs: Tensor, actions: Tensor | None = None, next_obs: Tensor | None = None) -> Tensor:
        assert actions is not None
        dist = self.clone.dist
        logprobs = dist.log_prob(self.clone.action_params(obs), self.within(actions))
        chance = -(2 * dist.scale).log().sum() if isinstance(dist, Gaussian) else -math.log(dist.nvec[0])
        return (logprobs - chance).clamp(-self.clip, self.clip)

    def within(self, actions: Tensor) -> Tensor:
        """Continuous actions a little inside their range; discrete ones as they are."""
        dist = self.clone.dist
        if not isinstance(dist, Gaussian):
            return actions
        return dist.center + dist.scale * ((actions - dist.center) / dist.scale).clamp(-EDGE, EDGE)


@register("csil", uses=("sac", "bc"))
class CSIL(SACOnDemos):
    """SAC on the log-likelihood ratio of a behaviour-cloned policy."""

    section = CSILConfig
    config: CSILConfig
    about = About("Watson et al. 2023, arXiv:2305.16498", "behaviour cloning is nearly good enough, and a few "
                  "expensive environment steps should make it robust", SAC.about.spaces, bounded=True)
    promised_metrics = (*SACOnDemos.promised_metrics, "reward/mean", "reward/demos")
    saved = ("reward", "optimizer", "generator", "demos", "demo_reward", "updates")  # and the anchor, with its engine

    def __init__(self, spec: EnvSpec, demos: Demos, config: Config, device: torch.device, seed: int) -> None:
        super().__init__(spec, demos, config, device, seed)
        given = dataclasses.asdict(config.policy)
        self.reward = CloneReward(spec, "csil", policy=given | {"hidden": list(given["hidden"])},
                                  clip=self.config.reward_clip).to(device)
        self.clone = self.reward.clone
        self.optimizer = self._fit(spec, demos, config, seed)
        self.generator = torch.Generator(device).manual_seed(seed)
        self.policy.load_state_dict(self.clone.state_dict())
        self.sac.engine.start_from_policy()
        self.anchor = self._hold(self.sac.engine)
        obs, actions = on_device(demos.obs, device), on_device(demos.actions, device)
        self.demos.set_rewards(self.reward.of_rows(obs, actions, None).cpu().numpy())
        self.demo_reward = float(self.demos.rewards.mean())
        self.updates = 0

    def relabel(self, buffer: RolloutBuffer) -> Metrics:
        """Write the clone's log-likelihood ratio into `buffer.rewards`."""
        rewards = self.reward.of_rollout(buffer, self.device)
        buffer.rewards[:] = rewards.cpu().numpy().reshape(buffer.rewards.shape)
        mean = float(buffer.rewards[buffer.valid].mean()) if buffer.valid.any() else 0.0
        return {"reward/mean": mean, "reward/demos": self.demo_reward}

    def update(self, buffer: RolloutBuffer, progress: float) -> Metrics:
        self.sac.store(buffer, normalise=False)  # the policy sees what the clone sees
        if self.config.refine:
            self._refine()
        reward = self.demo_reward * self.absorbing_reward()
        self.reward.absorbing = reward if self.config.absorbing else None
        metrics = self.sac.idle()
        if self.sac.ready:
            rows = self.draw()
            if self.config.refine:
                obs, actions = (self._tensor(x.reshape(-1, *x.shape[2:])) for x in (rows.obs, rows.actions))
                rows.rewards[:] = self.reward.of_rows(obs, actions, None).cpu().numpy().reshape(rows.rewards.shape)
                self.demo_reward = float(rows.rewards[:, :self.shown].mean())
            moves = self.updates >= self.config.critic_updates
            metrics = self.sac.learn(rows, reward / (1 - self.gamma), moves)
            self.updates += self.sac.updates
        if self.anchor is not None:
            metrics["losses/distance"] = float(self.anchor.distance)
        return metrics | {"reward/absorbing": reward}

    def learned_reward(self) -> CloneReward:
        """The clone's, as it is now."""
        return copy.deepcopy(self.reward)

    def _hold(self, engine: SoftQ | SoftActorCritic) -> Anchor | None:
        """Bound the values of continuous actions, and the way of the policy from the clone."""
        if not isinstance(engine, SoftActorCritic):
            return None
        engine.most = self.config.reward_clip / (1 - self.gamma)
        if self.config.trust:
            engine.anchor = Anchor(self.clone, self.config.trust * self.clone.spec.action.dim)
        return engine.anchor

    def _fit(self, spec: EnvSpec, demos: Demos, config: Config, seed: int) -> FlatAdam:
        """Behaviour cloning, with new rows of noise in every epoch; the optimiser, with which `refine` continues."""
        assert demos.actions is not None
        actions = self.reward.within(on_device(demos.actions, self.device)).cpu().numpy()
        bc = BC(spec, dataclasses.replace(demos, actions=actions), config, self.device, seed, policy=self.clone)
        rng, rows = np.random.default_rng([seed, 1]), bc.train
        noise = round(self.config.prior_share * len(rows)) if self.clone.flatten.plain else 0
        for _ in range(self.config.bc_epochs):
            if noise:
                bc.train = self._with_noise(rows, noise, rng)
            bc.update(None, 0.0)
            if bc.done:
                break
        bc.finish()
        return bc.optimizer

    def _refine(self) -> None:
        """The clone learns demonstrated actions where the expert was, and uniform ones where the policy was."""
        updates, size, dist = self.config.refine, self.sac.config.batch_size, self.clone.dist
        shown, own = self.demos.sample(updates, size), self.sac.replay.sample(updates, size)
        obs = torch.cat((self._tensor(shown.obs), self._tensor(own.obs)), 1)
        chance = torch.rand((updates, size, self.clone.spec.action.dim), generator=self.generator, device=self.device)
        if isinstance(dist, Gaussian):
            chance = dist.center + EDGE * dist.scale * (2 * chance - 1)
        else:
            chance = self._any_action(obs[:, size:], chance)
        actions = torch.cat((self.reward.within(self._tensor(shown.actions)), chance), 1)
        self.optimizer.prepare()
        for seen, taken in zip(obs, actions, strict=True):
            self.optimizer.zero_grad()
            (-dist.log_prob(self.clone.action_params(seen), taken).mean()).backward()
            self.optimizer.step()

    def _any_action(self, obs: Tensor, chance: Tensor) -> Tensor:
        """Discrete actions (updates, n, 1), each as likely as any other that may be taken; `chance` is uniform."""
        if self.clone.flatten.num_masked == 0:
            return (chance * self.clone.dist.nvec[0]).int()
        free = self.clone.flatten(obs.flatten(0, 1))[:, -self.clone.flatten.num_masked:].cumsum(1)
        total = free[:, -1:].clamp_min(1)
        return torch.searchsorted(free, (chance.reshape(-1, 1) * total).ceil().clamp_min(1)).int().clamp_max(
            free.shape[1] - 1).reshape(chance.shape)

    def _tensor(self, array: Array) -> Tensor:
        return torch.from_numpy(array).to(self.device)

    def _with_noise(self, rows: DemoRows, count: int, rng: np.random.Generator) -> DemoRows:
        obs, action, spec = rows.chosen_obs().cpu().numpy(), self.clone.spec.action, self.clone.spec
        spread = self.config.prior_spread * obs.std(0)
        noise = (obs.mean(0) + spread * rng.standard_normal((count, *spec.obs_shape))).astype(spec.obs_dtype)
        if action.discrete:
            actions: Array = rng.integers(0, action.nvec, (count, action.dim)).astype(np.int32)
        else:
            assert action.low is not None and action.high is not None
            actions = rng.uniform(action.low, action.high, (count, action.dim)).astype(np.float32)
        given = rows.example_weights()
        weights = None if given is None else np.append(given.cpu().numpy(), np.ones(count, np.float32))
        return DemoRows(np.concatenate((obs, noise)), np.concatenate((rows.chosen_actions().cpu().numpy(), actions)),
                        self.device, weights)
