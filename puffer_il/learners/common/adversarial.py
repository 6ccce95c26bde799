"""Adversarial imitation: a discriminator is the reward, PPO the policy optimiser.

    for each rollout:
        repeat disc_updates times:
            expert rows, policy rows → one step of the discriminator on its loss
        rewards ← form(D) / running std, once for the whole rollout
        policy ← PPO on those rewards

What the absorbing state pays follows from how often either side ends, where the loss has a formula for it
(absorbing.SCORES); otherwise rows of it stand among the others.

The learners of this kind (gail and its kin) are a config each and the choice of what the discriminator sees: (s, a),
(s, s′) or s (discriminator.py says how). Those that see no actions never touch `demos.actions`.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from puffer_il.core.config import Config, setting
from puffer_il.core.errors import InputError
from puffer_il.core.spec import EnvSpec, Metrics
from puffer_il.demos.dataset import Demos
from puffer_il.learners.common.absorbing import SCORES, UNSEEN, absorbing_share
from puffer_il.learners.common.cuda_graphs import Graphs, wanted
from puffer_il.learners.common.demo_rows import RowSampler, StoredOnce, moments_of, on_device, successors_on
from puffer_il.learners.common.discriminator import Discriminator, discriminator_gradients
from puffer_il.learners.common.inputs import paired_with, pass_rows, passes
from puffer_il.learners.common.learned_reward import NetworkReward
from puffer_il.learners.common.ppo_on_reward import PPOOnReward, valid_rows
from puffer_il.learners.common.rewards import AUTO, FORMS, REWARDS, SURVIVAL_BIAS, RewardScale, reward_from_logits
from puffer_il.learners.common.row_ring import RowRing, parts_of
from puffer_il.nn import FlatAdam, Policy, bernoulli_entropy, discriminator_loss, gradient_penalty, obs_moments
from puffer_il.nn.fused_pictures import without
from puffer_il.nn.page_locked import page_locked
from puffer_il.rollout.buffer import RolloutBuffer
from puffer_il.rollout.tensors import rollout_on

MOST_ROWS = 4096  # of a discriminator's batch that follows from the rollout


@dataclass(frozen=True)
class RewardNetworkConfig:
    """How a network that is the reward is trained between rollouts, and what is done with what it says."""

    # Fixed, where a learner does not make a setting of it.
    inputs = "state_action"  # what the network reads, of inputs.INPUTS
    loss = "bce"
    reward = "logit"
    spectral_norm = False
    absorbing = True
    label_smoothing = disc_ent_coef = true_reward_coef = 0.0

    disc_updates: int = setting(8, "discriminator updates per iteration, whatever the rollout's size", low=1)
    disc_batch_size: int = setting(0, "expert rows and policy rows of one discriminator update, each; 0: half as many "
                                   f"as the rollout has, {MOST_ROWS} at most", low=0)
    disc_learning_rate: float = setting(1e-3, "Adam's step size of the discriminator", low=0)
    disc_hidden: tuple[int, ...] = setting((64, 64), "units of the discriminator's hidden layers", low=1)
    disc_activation: str = setting("tanh", "its nonlinearity", choices=("tanh", "relu", "silu", "elu"))
    weight_decay: float = setting(1e-4, "decoupled weight decay of the discriminator (AdamW)", low=0)
    gp_coef: float = setting(10.0, "weight of the gradient penalty; 0 for none", low=0)
    gp_kind: str = setting("interpolated", "penalise gradients above norm gp_target between expert and policy rows, or "
                           "all on expert rows", choices=("interpolated", "zero_centred"))
    gp_target: float = setting(1.0, "norm from which the interpolated penalty begins", low=0)
    max_grad_norm: float = setting(1.0, "clip the discriminator's gradient norm; 0 does not clip", low=0)
    replay_size: int = setting(0, "policy rows kept from earlier rollouts; 0 for none", low=0)
    replay_share: float = setting(0.25, "share of each policy batch drawn from that replay", low=0, high=1)
    reward_clip: float = setting(10.0, "bound of the learned reward before scaling; 0 for none", low=0)
    reward_scale: bool = setting(True, "divide the learned reward by its running std (the mean is never subtracted)")
    debug_use_ground_truth: bool = setting(False, "train on the true reward alone: tells a broken learner from a bad "
                                           "discriminator")


@dataclass(frozen=True)
class AdversarialConfig(RewardNetworkConfig):
    """The keys that every learner of this kind has; each has a section of its own, with its own defaults."""

    spectral_norm: bool = setting(False, "bound every discriminator layer's spectral norm by 1")
    disc_ent_coef: float = setting(1e-3, "weight of the entropy of D = σ(score), which draws scores towards 0")
    absorbing: bool = setting(True, "absorbing state after terminations: no reward form pays for dying or living")


@dataclass(frozen=True)
class AnyLossConfig(AdversarialConfig):
    """The same, with the loss and the reward's form left open."""

    loss: str = setting("bce", "discriminator's loss: cross-entropy, squares to ±1, or a Wasserstein critic's",
                        choices=tuple(FORMS))
    label_smoothing: float = setting(0.0, "expert label 1 − x and policy label x; not for wasserstein", low=0, high=0.5)
    reward: str = setting(AUTO, "learned reward: softplus = −log(1−D), logsigmoid = log D, logit = their sum (of every "
                          "loss the score itself), least_squares = max(0, 1 − ¼(D−1)²); auto is softplus of bce, "
                          "else the score", choices=(AUTO, *REWARDS))
    true_reward_coef: float = setting(0.0, "weight of the true reward, added to the learned one")


DISC_METRICS = ("disc/loss", "disc/accuracy_expert", "disc/accuracy_policy", "disc/logit_expert", "disc/logit_policy",
                "disc/gradient_penalty", "disc/grad_norm_input")
ACCURACIES = DISC_METRICS[1:3]


class Draw(NamedTuple):
    """The rows of one update of the discriminator: numbers (n,) int64 of demonstrated rows and of the rollout's, (k,)
    of those of the replay that take the place of some of the latter, None for none; `mix` (n,) the expert's shares in
    the points of an interpolated penalty, None without one; and how many rows of either side give way to absorbing
    ones, two numbers or a tensor (2,) int64."""

    expert: Tensor
    policy: Tensor
    old: Tensor | None
    mix: Tensor | None
    absorbing: Any


def _form(name: str, cfg: RewardNetworkConfig) -> str:
    """Of the learned reward. InputError where the loss has no use for what was asked for."""
    if cfg.reward not in (AUTO, *FORMS[cfg.loss]):
        raise InputError(f"{name}.reward = {cfg.reward!r}: the scores of {name}.loss = {cfg.loss!r} do not have this "
                         f"form; choose {' or '.join(FORMS[cfg.loss])}")
    if cfg.loss == "wasserstein" and cfg.label_smoothing:
        raise InputError(f"{name}.label_smoothing = {cfg.label_smoothing}: a Wasserstein critic has no labels to "
                         "smooth; set it to 0 or choose another loss")
    return FORMS[cfg.loss][0] if cfg.reward == AUTO else cfg.reward


@torch.no_grad()
def executed_logprobs(policy: Policy, rollout: Any) -> Tensor:
    """log π (num_steps·num_envs,) of a rollout's actions as the environment executed them: the stored ones, but for
    those that it clipped."""
    actions, logprobs = rollout["actions"].flatten(0, 1), rollout["logprobs"].flatten()
    index = policy.dist.clipped(actions).nonzero()[:, 0]
    if policy.memory is not None or len(index) == 0:
        return logprobs
    obs, logprobs = rollout["obs"].flatten(0, 1), logprobs.clone()  # PPO needs the stored ones
    for part in index.split(pass_rows(policy.spec)):
        logprobs[part] = policy.dist.log_prob_executed(policy.action_params(obs[part]), actions[part])
    return logprobs


def _like(paired: Any, parts: list[Any]) -> Any:
    """What observations are paired with, made of other parts: as row_ring.parts_of takes it apart."""
    return type(paired)(*parts) if isinstance(paired, tuple) else parts[0] if parts else None


class Adversarial(PPOOnReward):
    """The learner, but for its name: PPO on the reward of a discriminator that is trained on every rollout."""

    config: RewardNetworkConfig
    plays_game = True
    end_in_rows: ClassVar[bool] = False  # True: the discriminator learns the absorbing state from rows of it. False:
    # only where no formula tells what it would learn (absorbing.SCORES), which is paid where there is one
    replay_keep: ClassVar[float] = 0.01  # of a rollout enters the replay: old policies stay for a hundred iterations
    replay_even: ClassVar[bool] = False  # whether they stay for ever, all alike
    promised_metrics = (*PPOOnReward.promised_metrics, "disc/loss", *DISC_METRICS[3:], "disc/reward_mean",
                        "disc/reward_std", "disc/absorbing_reward")
    saved: ClassVar[tuple[str, ...]] = ("discriminator", "optimizer", "scale", "generator", "replay",
                                        "policy_absorbing")

    def __init__(self, spec: EnvSpec, demos: Demos, config: Config, device: torch.device, seed: int) -> None:
        super().__init__(spec, demos, config, device, seed)
        self.form = _form(self.name, self.config)
        self.discriminator = self._make_discriminator(spec).to(device)
        self.optimizer = FlatAdam((p for p in self.discriminator.parameters() if p.requires_grad),
                                  learning_rate=self.config.disc_learning_rate,
                                  weight_decay=self.config.weight_decay, max_grad_norm=self.config.max_grad_norm)
        self.learned_reward_coef = 1.0
        self.batch_size = self.config.disc_batch_size or MOST_ROWS  # until there is a rollout
        self.scale = RewardScale()
        self.generator = torch.Generator(device).manual_seed(seed)
        # The demonstrations live on the device; their moments and their share of absorbing rows never change.
        self.draw_expert = RowSampler(len(demos), demos.weights, self.generator)
        self.demo_obs = on_device(demos.obs, device)
        self.demo_paired = self._demo_paired(demos)
        self.stored_once = any(isinstance(one, StoredOnce) for one in parts_of(self.demo_paired))
        like = self.demos_at(torch.zeros(1, dtype=torch.int64, device=device))
        self.replay = RowRing(self.config.replay_size, self.replay_keep, *like, self.replay_even)
        self.demo_moments = moments_of(self.discriminator.flatten, demos.obs, self.demo_obs)
        self.learns_end = self.end_in_rows or self.config.loss not in SCORES
        self.graphs = Graphs("the discriminator's updates", device, self._changing, self.notices) if wanted(
            config, device) else None
        counts = demos.episode_weights / demos.episode_weights.mean()  # UNSEEN is one of many episodes
        # Not by BLAS, whose sums of many episodes depend on its threads.
        self.demo_absorbing = self._absorbing_share((counts * demos.terminated).sum(),
                                                    (counts * demos.whole_lengths).sum())
        self.policy_absorbing = self.demo_absorbing  # of the last rollout

    def relabel(self, buffer: RolloutBuffer) -> Metrics:
        """Update the discriminator on this rollout, then write its reward for every row and for the absorbing state."""
        flat = buffer.flat()
        rollout = rollout_on(buffer, self.device)
        obs, paired = rollout["obs"].flatten(0, 1), self._paired(rollout)
        if self.graphs is not None:
            paired = _like(paired, self.graphs.hold(parts_of(paired)))
        valid = valid_rows(buffer, self.device)
        num_valid = len(obs) if valid is None else len(valid)
        counted = None if valid is None else torch.from_numpy(flat.valid).to(self.device, non_blocking=True)
        self._update_norm(obs, counted)
        self.policy_absorbing = self._absorbing_share(int((flat.terminations & flat.valid).sum()), num_valid)
        self.batch_size = self.config.disc_batch_size or min(MOST_ROWS, max(2, len(obs) // 2))
        self.optimizer.prepare()
        log = [self._update_discriminator(obs, paired, valid) for _ in range(self.config.disc_updates)]
        self.replay.add(obs, paired, valid, self.generator)
        metrics = dict(zip(DISC_METRICS, torch.stack(log).mean(0).tolist(), strict=True))
        if self.config.loss == "wasserstein":  # its critic is known up to a constant: no side of 0 is the expert's
            metrics = {name: value for name, value in metrics.items() if name not in ACCURACIES}
        return metrics | self._write_rewards(buffer, obs, paired, valid)

    def learned_reward(self) -> NetworkReward:
        """What the policy is paid for imitation, but for the scale."""
        cfg, end = self.config, float(self._absorbing_reward())
        return NetworkReward.of(self.policy.spec, self.name, self.discriminator, end if cfg.absorbing else None,
                                hidden=cfg.disc_hidden, activation=cfg.disc_activation, form=self.form,
                                clip=cfg.reward_clip)

    def _make_discriminator(self, spec: EnvSpec) -> Any:
        cfg = self.config
        return Discriminator(spec, cfg.disc_hidden, cfg.disc_activation, cfg.spectral_norm, cfg.inputs)

    def _demo_paired(self, demos: Demos) -> Any:
        """What the demonstrated observations are paired with, as `_paired` says it of a rollout's."""
        paired = paired_with(self.config.inputs, demos.actions, demos.next_obs)
        return None if paired is None else successors_on(paired, self.device)

    def _paired(self, rollout: Any) -> Any:
        """What the rollout's observations are paired with: (num_steps·num_envs, …), or None."""
        if self.config.inputs in ("state_next_state", "next_state"):
            return rollout.next_obs()
        return rollout["actions"].flatten(0, 1) if self.config.inputs == "state_action" else None

    def _update_discriminator(self, obs: Tensor, paired: Tensor | None, valid: Tensor | None) -> Tensor:
        """One AdamW step on equally many expert and policy rows; what DISC_METRICS names, still on the device."""
        draw = self._draw_rows(len(obs), valid)
        if self.graphs is None:
            return self._step(obs, paired, draw)
        counts = page_locked(np.array(draw.absorbing), self.device) if self.learns_end else None
        sources = (self.demo_obs, *parts_of(self.demo_paired), obs, *parts_of(paired), *self.replay.tensors)
        return self.graphs(lambda *own: self._step(obs, paired, Draw(*own)), (*draw[:-1], counts), sources)

    def _draw_rows(self, rows: int, valid: Tensor | None) -> Draw:
        """Of an update, from a rollout of so many rows."""
        cfg, expert = self.config, self._drawn_demos()
        policy = self._draw(rows if valid is None else len(valid), self.batch_size)
        policy = policy if valid is None else valid[policy]
        count = round(cfg.replay_share * len(policy)) if len(self.replay) else 0
        old = self._draw(len(self.replay), count) if count else None
        mix = None
        if cfg.gp_coef and cfg.gp_kind == "interpolated":
            mix = torch.rand(len(expert), generator=self.generator, device=self.device)
        shares = (self.demo_absorbing, self.policy_absorbing)
        return Draw(expert, policy, old, mix, [round(share * self.batch_size) for share in shares])

    def _step(self, obs: Tensor, paired: Any, draw: Draw) -> Tensor:
        """The update on these rows."""
        cfg = self.config
        expert, policy = self._expert_rows(draw), self._policy_rows(obs, paired, draw)
        stats = discriminator_gradients(self.discriminator.logit(), expert, policy, loss=cfg.loss,
                                        label_smoothing=cfg.label_smoothing, ent_coef=cfg.disc_ent_coef,
                                        gp_coef=cfg.gp_coef, gp_kind=cfg.gp_kind, gp_target=cfg.gp_target, mix=draw.mix)
        if stats is None:
            stats = self._gradients_in_torch(expert, policy, draw.mix)
        self._add_gradients(expert, policy)
        self.optimizer.step()
        return stats

    def _changing(self) -> list[Tensor]:
        """All that an update changes."""
        return [*self.optimizer.changing(), *self.discriminator.buffers()]  # a spectral norm keeps its vectors there

    def _add_gradients(self, expert: Tensor, policy: Tensor) -> None:
        """What a learner of this kind adds to the gradients of an update, which stand in the parameters' `.grad`."""

    def _gradients_in_torch(self, expert: Tensor, policy: Tensor, mix: Tensor | None) -> Tensor:
        """What `discriminator_gradients` does, for every discriminator and device. Pictures come a part at a time, so
        that what is made of them is small."""
        self.optimizer.zero_grad()
        means = torch.zeros(len(DISC_METRICS), device=self.device)
        for part in passes(len(expert), self.policy.spec):
            here = expert[part]
            loss, stats = self._loss_in_torch(here, policy[part], None if mix is None else mix[part])
            share = len(here) / len(expert)
            with without("pixels"):
                (share * loss).backward()
            means += share * stats
        return means

    def _loss_in_torch(self, expert: Tensor, policy: Tensor, mix: Tensor | None) -> tuple[Tensor, Tensor]:
        """The discriminator's loss, and what DISC_METRICS names."""
        cfg = self.config
        logits = self.discriminator(torch.cat((expert, policy)))
        expert_logits, policy_logits = logits.chunk(2)
        verdict = discriminator_loss(cfg.loss, expert_logits, policy_logits, cfg.label_smoothing)
        loss = verdict - cfg.disc_ent_coef * bernoulli_entropy(logits).mean()
        penalty = norm = torch.zeros((), device=self.device)
        if cfg.gp_coef:
            penalty, norm = gradient_penalty(self.discriminator, expert, policy, cfg.gp_kind, cfg.gp_target, mix=mix)
            loss = loss + cfg.gp_coef * penalty
        with torch.no_grad():
            return loss, torch.stack((verdict, (expert_logits > 0).float().mean(), (policy_logits < 0).float().mean(),
                                expert_logits.mean(), policy_logits.mean(), penalty, norm)).detach()

    def _drawn_demos(self) -> Tensor:
        """Numbers of the demonstrated rows of an update."""
        return self.draw_expert(self.batch_size)

    def demos_at(self, index: Tensor) -> tuple[Tensor, Any]:
        """The demonstrated rows `index` (k,), and what they are paired with."""
        obs = self.demo_obs.index_select(0, index)
        return obs, _like(self.demo_paired, [one.index_select(0, index) for one in parts_of(self.demo_paired)])

    def _expert_rows(self, draw: Draw) -> Tensor:
        given = (self.demos_at(draw.expert) if self.stored_once else
                 (self.demo_obs, self.demo_paired, draw.expert))
        return self._with_absorbing(self.discriminator.rows(*given), draw.absorbing, 0)

    def _policy_rows(self, obs: Tensor, paired: Any, draw: Draw) -> Tensor:
        index = draw.policy
        if draw.old is None:
            return self._with_absorbing(self.discriminator.rows(obs, paired, index), draw.absorbing, 1)
        # Old rows before and behind: which give way to absorbing ones must not depend on their age.
        old = len(draw.old)
        after, before = draw.old.split((old - old // 2, old // 2))
        rows = torch.empty(len(index), self.discriminator.width, device=self.device)
        parts = rows.split((len(before), len(index) - old, len(after)))
        self.discriminator.rows(obs, paired, index[old:], parts[1])
        for part, chosen in ((parts[0], before), (parts[2], after)):
            self.discriminator.rows(self.replay.obs, self.replay.paired, chosen, part)
        return self._with_absorbing(rows, draw.absorbing, 1)

    def _with_absorbing(self, rows: Tensor, counts: Any, side: int) -> Tensor:
        """The first rows become absorbing ones, as many as their share of an endless trajectory, if D learns it so."""
        if not self.learns_end:
            return rows
        if isinstance(counts, Tensor):  # which other rollouts change in a graph
            first = torch.arange(len(rows), device=rows.device) < counts[side]
            return torch.where(first.unsqueeze(1), self.discriminator.absorbing_rows(1), rows)
        rows[:counts[side]] = self.discriminator.absorbing_rows(1)
        return rows

    def _absorbing_share(self, terminations: float, rows: float) -> float:
        counted = terminations + (UNSEEN if self.config.loss in SCORES else 0)
        return absorbing_share(counted, rows, self.gamma) if self.lasting else 0.0

    def _scores(self, obs: Tensor, paired: Tensor | None) -> Tensor:
        """The discriminator's output for every row (n,)."""
        return self.discriminator.logits(obs, paired)

    @torch.no_grad()
    def _absorbing_reward(self) -> Tensor:
        """(1,) what a step in the absorbing state pays, before the scale."""
        if not self.lasting:
            return torch.zeros(1, device=self.device)
        if self.config.loss in SCORES:
            score = SCORES[self.config.loss](self.demo_absorbing, self.policy_absorbing)
            logits = torch.tensor([score], device=self.device)
        else:
            logits = self.discriminator(self.discriminator.absorbing_rows(1))
        return reward_from_logits(logits, self.form, self.config.reward_clip)

    @torch.no_grad()
    def _write_rewards(self, buffer: RolloutBuffer, obs: Tensor, paired: Tensor | None,
                       valid: Tensor | None) -> Metrics:
        cfg = self.config
        rewards = reward_from_logits(self._scores(obs, paired), self.form, cfg.reward_clip)
        absorbing = self._absorbing_reward()
        if cfg.reward_scale:
            self.scale.update(rewards if valid is None else rewards[valid])
            rewards, absorbing = self.scale(rewards), self.scale(absorbing)
        counted = rewards if valid is None else rewards[valid]
        mean, std, end = torch.cat((counted.mean()[None], counted.std()[None], absorbing)).tolist()
        self.pay(buffer, self.learned_reward_coef * rewards, self.learned_reward_coef * end,
                 f"reward form {self.form!r} {SURVIVAL_BIAS[self.form]}")
        return {"disc/reward_mean": mean, "disc/reward_std": std, "disc/absorbing_reward": end}

    def _update_norm(self, obs: Tensor, valid: Tensor | None) -> None:
        """Merge an equal mix of expert and policy rows into the statistics; frozen until the next rollout."""
        self.ppo.rollout_moments = obs_moments(self.discriminator.flatten, obs, valid)
        (demo_mean, demo_var, _), (policy_mean, policy_var, count) = self.demo_moments, self.ppo.rollout_moments
        mean = (demo_mean + policy_mean) / 2
        var = (demo_var + policy_var) / 2 + (policy_mean - mean).square()
        self.discriminator.update_norm(mean, var, count)

    def _draw(self, n: int, count: int) -> Tensor:
        return torch.randint(n, (count,), generator=self.generator, device=self.device)
