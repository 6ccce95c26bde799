"""Adversarial imitation: a discriminator is the reward, PPO the policy optimiser.

    for each rollout:
        repeat disc_updates times:
            expert rows, policy rows → one step of the discriminator on its loss
        rewards ← form(D) / running std, once for the whole rollout
        policy ← PPO on those rewards

The learners of this kind (gail and its kin) are a config each and the choice of what the discriminator sees.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from puffer_il.buffer import RolloutBuffer
from puffer_il.config import Config, setting
from puffer_il.discriminator import Discriminator, Replay
from puffer_il.fast import discriminator_gradients, obs_moments, pair_logits
from puffer_il.learners.bc import BC
from puffer_il.learners.ppo import PPO
from puffer_il.losses import bce_discriminator_loss, bernoulli_entropy, gradient_penalty
from puffer_il.mirror import mirror_of
from puffer_il.optim import FlatAdam
from puffer_il.rewards import RewardScale, reward_from_logits, survival_bias
from puffer_il.types import Demos, EnvSpec, InputError, Metrics

RELABEL_ROWS = 65_536  # rows of one forward pass: enough to fill the cores, small enough to stay in memory


@dataclass(frozen=True)
class AdversarialConfig:
    """What every learner of this kind can be told; each has a section of its own, with its own defaults."""

    disc_updates: int = setting(8, "discriminator updates per iteration, whatever the rollout's size", low=1)
    disc_batch_size: int = setting(4096, "expert rows and policy rows of one discriminator update, each", low=2)
    disc_learning_rate: float = setting(1e-3, "Adam's step size of the discriminator", low=0)
    disc_hidden: tuple[int, ...] = setting((64, 64), "units of the discriminator's hidden layers", low=1)
    disc_activation: str = setting("tanh", "its nonlinearity", choices=("tanh", "relu", "silu", "elu"))
    weight_decay: float = setting(1e-4, "decoupled weight decay of the discriminator (AdamW)", low=0)
    gp_coef: float = setting(10.0, "weight of the gradient penalty; 0 for none", low=0)
    gp_kind: str = setting("interpolated", "penalise gradients above norm 1 between expert and policy rows, or all on "
                           "expert rows", choices=("interpolated", "zero_centred"))
    spectral_norm: bool = setting(False, "bound every discriminator layer's spectral norm by 1")
    disc_ent_coef: float = setting(1e-3, "weight of the entropy bonus of the discriminator's output")
    label_smoothing: float = setting(0.0, "expert label 1 − x and policy label x", low=0, high=0.5)
    max_grad_norm: float = setting(1.0, "clip the discriminator's gradient norm; 0 does not clip", low=0)
    replay_size: int = setting(0, "policy rows kept from earlier rollouts; 0 for none", low=0)
    replay_share: float = setting(0.25, "share of each policy batch drawn from that replay", low=0, high=1)
    reward: str = setting("logit", "learned reward: softplus = −log(1−D), logsigmoid = log D, logit = their sum",
                          choices=("softplus", "logsigmoid", "logit"))
    reward_clip: float = setting(10.0, "bound of the learned reward before scaling; 0 for none", low=0)
    reward_scale: bool = setting(True, "divide the learned reward by its running std (the mean is never subtracted)")
    absorbing: bool = setting(True, "absorbing state after terminations: no reward form pays for dying or living")
    true_reward_coef: float = setting(0.0, "weight of the true reward, added to the learned one")
    debug_use_ground_truth: bool = setting(False, "train on the true reward alone: tells a broken learner from a bad "
                                           "discriminator")
    bc_epochs: int = setting(0, "epochs of behaviour cloning before the first rollout; 0 for none", low=0)


DISC_METRICS = ("disc/loss", "disc/accuracy_expert", "disc/accuracy_policy", "disc/logit_expert", "disc/logit_policy",
                "disc/gradient_penalty", "disc/grad_norm_input")


class Adversarial:
    """The learner, but for its name: PPO on the reward of a discriminator that is trained on every rollout."""

    name: ClassVar[str]
    needs_rollouts = True
    needs_demos = True
    needs_expert = False
    promised_metrics = (*PPO.promised_metrics, *DISC_METRICS, "disc/reward_mean", "disc/reward_std",
                        "disc/absorbing_reward")
    done = False
    steps_per_update = 0  # the rollout's steps count

    def __init__(self, spec: EnvSpec, demos: Demos | None, config: Config, device: torch.device, seed: int) -> None:
        assert demos is not None
        self.config: AdversarialConfig = getattr(config, self.name)
        self.device = device
        self.ppo = PPO(spec, None, config, device, seed)
        self.policy = self.ppo.policy
        self.discriminator = Discriminator(spec, self.config.disc_hidden, self.config.disc_activation,
                                           self.config.spectral_norm).to(device)
        self.optimizer = FlatAdam((p for p in self.discriminator.parameters() if p.requires_grad),
                                  learning_rate=self.config.disc_learning_rate,
                                  weight_decay=self.config.weight_decay, max_grad_norm=self.config.max_grad_norm)
        self.scale = RewardScale()
        self.generator = torch.Generator(device).manual_seed(seed)
        self.replay = Replay(self.config.replay_size, spec, device)
        self.gamma = config.ppo.gamma
        if self.config.absorbing and self.gamma == 1:
            raise InputError("ppo.gamma = 1.0: absorbing states last for ever and need gamma < 1; lower ppo.gamma or "
                             f"set {self.name}.absorbing to false")
        # The demonstrations live on the device; their moments and their share of absorbing rows never change.
        self.demo_obs = torch.tensor(demos.obs, device=device)
        self.demo_actions = torch.tensor(demos.actions, device=device)
        self.demo_moments = obs_moments(self.discriminator.flatten, self.demo_obs)
        self.demo_absorbing = self._absorbing_share(int(demos.terminated.sum()), int(demos.whole_lengths.sum()))
        self.notices: list[str] = []
        self.warned = False
        if self.config.bc_epochs:
            self._clone(spec, demos, config, seed)

    def relabel(self, buffer: RolloutBuffer) -> Metrics:
        """Update the discriminator on this rollout, then write its reward for every row and for the absorbing state."""
        flat = buffer.flat()
        mirror = mirror_of(buffer, self.device)
        obs, actions = mirror["obs"].flatten(0, 1), mirror["actions"].flatten(0, 1)
        valid = None if flat.valid.all() else self._tensor(np.flatnonzero(flat.valid))
        num_valid = len(obs) if valid is None else len(valid)
        terminations = int((flat.terminations & flat.valid).sum())
        self._warn(terminations)
        self._update_norm(obs, None if valid is None else self._tensor(flat.valid))
        absorbing = self._absorbing_share(terminations, num_valid)
        self.optimizer.prepare()
        log = [self._update_discriminator(obs, actions, valid, absorbing) for _ in range(self.config.disc_updates)]
        self.replay.add(obs, actions, valid, self.generator)
        metrics = dict(zip(DISC_METRICS, torch.stack(log).mean(0).tolist(), strict=True))
        return metrics | self._write_rewards(buffer, obs, actions, valid)

    def advantages(self, buffer: RolloutBuffer) -> None:
        self.ppo.advantages(buffer)

    def update(self, buffer: RolloutBuffer | None, progress: float) -> Metrics:
        return self.ppo.update(buffer, progress)

    def state_dict(self) -> dict[str, Any]:
        return {"ppo": self.ppo.state_dict(), "discriminator": self.discriminator.state_dict(),
                "optimizer": self.optimizer.state_dict(), "scale": self.scale.state_dict(),
                "generator": self.generator.get_state(), "replay": self.replay.state_dict(), "warned": self.warned}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.ppo.load_state_dict(state["ppo"])
        self.discriminator.load_state_dict(state["discriminator"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scale.load_state_dict(state["scale"])
        self.generator.set_state(state["generator"].cpu())
        self.replay.load_state_dict(state["replay"])
        self.warned = state["warned"]

    def finish(self) -> None:
        """The last weights are the result."""

    def _update_discriminator(self, obs: Tensor, actions: Tensor, valid: Tensor | None, absorbing: float) -> Tensor:
        """One AdamW step on equally many expert and policy rows; what DISC_METRICS names, still on the device."""
        cfg = self.config
        expert, policy = self._expert_rows(), self._policy_rows(obs, actions, valid, absorbing)
        mix = None
        if cfg.gp_coef and cfg.gp_kind == "interpolated":
            mix = torch.rand(len(expert), generator=self.generator, device=self.device)
        stats = discriminator_gradients(self.discriminator, expert, policy, label_smoothing=cfg.label_smoothing,
                                        ent_coef=cfg.disc_ent_coef, gp_coef=cfg.gp_coef, gp_kind=cfg.gp_kind, mix=mix)
        if stats is None:
            stats = self._gradients_in_torch(expert, policy, mix)
        self.optimizer.step()
        return stats

    def _gradients_in_torch(self, expert: Tensor, policy: Tensor, mix: Tensor | None) -> Tensor:
        """What `discriminator_gradients` does, for every discriminator and device."""
        cfg = self.config
        logits = self.discriminator(torch.cat((expert, policy)))
        expert_logits, policy_logits = logits.chunk(2)
        bce = bce_discriminator_loss(expert_logits, policy_logits, cfg.label_smoothing)
        loss = bce - cfg.disc_ent_coef * bernoulli_entropy(logits).mean()
        penalty = norm = torch.zeros((), device=self.device)
        if cfg.gp_coef:
            penalty, norm = gradient_penalty(self.discriminator, expert, policy, cfg.gp_kind, mix=mix)
            loss = loss + cfg.gp_coef * penalty
        self.optimizer.zero_grad()
        loss.backward()
        with torch.no_grad():
            return torch.stack((bce, (expert_logits > 0).float().mean(), (policy_logits < 0).float().mean(),
                                expert_logits.mean(), policy_logits.mean(), penalty, norm)).detach()

    def _expert_rows(self) -> Tensor:
        index = self._draw(len(self.demo_obs), self.config.disc_batch_size)
        rows = self.discriminator.rows(self.demo_obs, self.demo_actions, index)
        return self._with_absorbing(rows, self.demo_absorbing)

    def _policy_rows(self, obs: Tensor, actions: Tensor, valid: Tensor | None, absorbing: float) -> Tensor:
        index = self._draw(len(obs) if valid is None else len(valid), self.config.disc_batch_size)
        index = index if valid is None else valid[index]
        old = round(self.config.replay_share * len(index)) if len(self.replay) else 0
        rows = self.discriminator.rows(obs, actions, index[old:])
        if old:
            chosen = self._draw(len(self.replay), old)
            rows = torch.cat((rows, self.discriminator.rows(self.replay.obs, self.replay.actions, chosen)))
        # Which rows give way to absorbing ones must not depend on their age.
        return self._with_absorbing(rows.roll(old // 2, 0) if old else rows, absorbing)

    def _with_absorbing(self, rows: Tensor, share: float) -> Tensor:
        """The first rows become absorbing ones, as many as their share of an endless trajectory."""
        count = round(share * len(rows))
        rows[:count] = self.discriminator.absorbing_rows(1)
        return rows

    def _absorbing_share(self, terminations: int, rows: int) -> float:
        """Discounted weight of the absorbing state: each termination is followed by 1/(1−γ) absorbing steps."""
        weight = terminations / (1 - self.gamma) if self.config.absorbing else 0.0
        return weight / (weight + rows)

    @torch.no_grad()
    def _write_rewards(self, buffer: RolloutBuffer, obs: Tensor, actions: Tensor, valid: Tensor | None) -> Metrics:
        cfg = self.config
        logits = pair_logits(self.discriminator, obs, actions)
        if logits is None:
            logits = torch.cat([self.discriminator(self.discriminator.rows(o, a))
                                for o, a in zip(obs.split(RELABEL_ROWS), actions.split(RELABEL_ROWS), strict=True)])
        rewards = reward_from_logits(logits, cfg.reward, cfg.reward_clip or None)
        absorbing = reward_from_logits(self.discriminator(self.discriminator.absorbing_rows(1)), cfg.reward,
                                       cfg.reward_clip or None)
        if cfg.reward_scale:
            self.scale.update(rewards if valid is None else rewards[valid])
            rewards, absorbing = self.scale(rewards), self.scale(absorbing)
        counted = rewards if valid is None else rewards[valid]
        mean, std, end = torch.cat((counted.mean()[None], counted.std()[None], absorbing)).tolist()
        if not cfg.debug_use_ground_truth:
            learned = rewards.cpu().numpy().reshape(buffer.rewards.shape)
            np.add(learned, cfg.true_reward_coef * buffer.env_rewards, out=buffer.rewards)
            if cfg.absorbing:
                buffer.final_values[buffer.terminations & buffer.valid] = end / (1 - self.gamma)
        return {"disc/reward_mean": mean, "disc/reward_std": std, "disc/absorbing_reward": end}

    def _update_norm(self, obs: Tensor, valid: Tensor | None) -> None:
        """Merge an equal mix of expert and policy rows into the statistics; frozen until the next rollout."""
        self.ppo.rollout_moments = obs_moments(self.discriminator.flatten, obs, valid)
        (demo_mean, demo_var, _), (policy_mean, policy_var, count) = self.demo_moments, self.ppo.rollout_moments
        mean = (demo_mean + policy_mean) / 2
        var = (demo_var + policy_var) / 2 + (policy_mean - mean).square()
        self.discriminator.update_norm(mean, var, count)

    def _warn(self, terminations: int) -> None:
        """Say once that the reward's sign alone teaches something, where nothing prevents it."""
        bias = survival_bias(self.config.reward)
        if terminations and not self.config.absorbing and not self.warned:
            self.warned = True
            self.notices.append(f"{self.name}.absorbing is off, episodes terminate and reward form "
                                f"{self.config.reward!r} {bias}; set {self.name}.absorbing to true unless that is what you want")

    def _clone(self, spec: EnvSpec, demos: Demos, config: Config, seed: int) -> None:
        clone = BC(spec, demos, config, self.device, seed, policy=self.policy)
        for _ in range(self.config.bc_epochs):
            if not clone.done:
                clone.update(None, 0.0)
        clone.finish()

    def _draw(self, n: int, count: int) -> Tensor:
        return torch.randint(n, (count,), generator=self.generator, device=self.device)

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self.device, non_blocking=True)
