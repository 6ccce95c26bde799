"""Proximal policy optimisation (Schulman et al. 2017): trains experts, and is the engine under GAIL.

    for each epoch, for each minibatch of environment columns:
        L = clipped surrogate − ent_coef · entropy + vf_coef · value loss (+ expert rows: mixins.py);  an Adam step
"""

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

import puffer_il.kernels._kernels as kernels
from puffer_il.core.config import Config, setting
from puffer_il.core.errors import InputError
from puffer_il.core.spec import Array, EnvSpec, Metrics
from puffer_il.demos.dataset import Demos
from puffer_il.learners.base import About, Learner
from puffer_il.learners.common.cuda_graphs import Graphs, wanted
from puffer_il.learners.common.mixins import ExpertRows
from puffer_il.learners.common.value_scale import ValueScale
from puffer_il.learners.registry import register
from puffer_il.nn import FlatAdam, FusedPolicy, Policy, address, losses, obs_moments
from puffer_il.nn.page_locked import page_locked
from puffer_il.rollout.buffer import RolloutBuffer
from puffer_il.rollout.tensors import DeviceRollout, Minibatch, rollout_on

Step = Callable[[slice | Array, bool], Tensor]  # part of the rollout, whether it is whole environments → losses


@dataclass(frozen=True)
class PPOConfig:
    learning_rate: float = setting(3e-4, "Adam's step size", low=0)
    anneal_lr: bool = setting(True, "let the learning rate fall linearly to zero over the run")
    gamma: float = setting(0.99, "discount factor", low=0, high=1)
    gae_lambda: float = setting(0.95, "bias-variance trade-off of the advantage estimate (GAE)", low=0, high=1)
    update_epochs: int = setting(10, "passes over each rollout", low=1)
    num_minibatches: int = setting(16, "minibatches per epoch", low=1)
    minibatch: str = setting("auto", "what a minibatch is made of: whole environment columns, or rows drawn at random",
                             choices=("auto", "columns", "rows"))
    clip_coef: float = setting(0.2, "clip range of the probability ratio", low=0)
    vf_clip_coef: float = setting(0.0, "clip range of the value update; 0 does not clip", low=0)
    ent_coef: float = setting(0.0, "weight of the entropy bonus")
    vf_coef: float = setting(0.5, "weight of the value loss", low=0)
    norm_advantages: bool = setting(True, "normalise advantages to zero mean and unit variance over the rollout")
    norm_values: bool = setting(True, "let the critic learn returns normalised by their running mean and deviation")
    max_grad_norm: float = setting(0.5, "clip the gradient's norm; 0 does not clip", low=0)
    target_kl: float = setting(0.02, "end the update after an epoch whose KL divergence exceeds this; 0 never", low=0)


@register("ppo")
class PPO(Learner):
    """Proximal policy optimisation on `buffer.rewards`."""

    section = PPOConfig
    config: PPOConfig
    needs_demos = needs_actions = False
    about = About("Schulman et al. 2017, arXiv:1707.06347", "a reward and no demonstrations: it trains experts")
    promised_metrics = ("losses/policy", "losses/value", "losses/entropy", "losses/approx_kl", "losses/clip_fraction",
                        "losses/explained_variance", "losses/learning_rate", "losses/grad_norm")
    saved = ("policy", "optimizer", "rng", "value_scale")

    def __init__(self, spec: EnvSpec, demos: Demos | None, config: Config, device: torch.device, seed: int) -> None:
        super().__init__(spec, demos, config, device, seed)
        if config.policy.memory and self.config.minibatch == "rows":
            raise InputError(f"ppo.minibatch = 'rows': a policy with a memory ({config.policy.memory_setting}) learns "
                             "from consecutive steps; set it to 'columns'")
        self.policy = Policy(spec, config.policy).to(device)
        self.optimizer = FlatAdam(self.policy.parameters(), learning_rate=self.config.learning_rate, eps=1e-5,
                                  max_grad_norm=self.config.max_grad_norm)
        self.value_scale = ValueScale(self.policy.value_head) if self.config.norm_values else None
        mix = config.mix
        mixed = mix.expert_rows or mix.bc_coef or mix.expert_envs or mix.expert_envs_final
        self.expert = ExpertRows(mix, demos, self.policy, self.optimizer, device) if mixed else None
        self.compiled = config.train.compile
        self._loss_function = torch.compile(self._losses, dynamic=False) if self.compiled else self._losses
        if self.expert and config.train.cuda_graphs:
            raise InputError("train.cuda_graphs = true: a CUDA graph cannot hold demonstrated rows; set it to false, "
                             "or mix.expert_rows, mix.bc_coef and mix.expert_envs to 0")
        graphed = wanted(config, device) and self.policy.memory is None
        self.graphs = Graphs("PPO's minibatches", device, self.optimizer.changing, self.notices) if graphed else None
        self.rng = np.random.default_rng(seed)
        self.rollout_moments: tuple[Tensor, Tensor, float | Tensor] | None = None  # of this rollout, if known

    def advantages(self, buffer: RolloutBuffer) -> None:
        compute = self.value_scale.advantages if self.value_scale else RolloutBuffer.compute_advantages
        compute(buffer, self.config.gamma, self.config.gae_lambda)

    def update(self, buffer: RolloutBuffer, progress: float) -> Metrics:
        cfg = self.config
        if not buffer.valid.any():  # a single step that an environment spent on its reset
            return {}
        self.optimizer.learning_rate = cfg.learning_rate * ((1 - progress) if cfg.anneal_lr else 1.0)
        self.optimizer.prepare()
        if self.expert:
            self.expert.start(progress, buffer)
        step = self._fused_step(buffer) or self._torch_step(buffer)
        log: list[Tensor] = []
        for _ in range(cfg.update_epochs):
            epoch = [step(part, columns) for part, columns in self._minibatches(buffer)]
            log += epoch
            if cfg.target_kl and float(torch.stack(epoch)[:, 3].mean()) > cfg.target_kl:
                break
        flat, rollout = buffer.flat(), rollout_on(buffer, self.device)
        valid = None if flat.valid.all() else torch.from_numpy(flat.valid).to(self.device, non_blocking=True)
        weight = None if valid is None else valid.float()
        moments = self.rollout_moments or obs_moments(self.policy.flatten, rollout["obs"].flatten(0, 1), valid)
        self.policy.encoder.update_norm(*moments)
        self.rollout_moments = None
        names = ("policy", "value", "entropy", "approx_kl", "clip_fraction", *(("expert_nll",) if self.expert else ()),
                 "grad_norm")
        means = torch.stack(log).mean(0).tolist()  # the update's only read from the device
        explained = float(losses.explained_variance(rollout["values"].flatten(), rollout["returns"].flatten(),
                                                    weight))
        return {**{f"losses/{k}": v for k, v in zip(names, means, strict=True)},
                "losses/learning_rate": self.optimizer.learning_rate, "losses/explained_variance": explained}

    def _fused_step(self, buffer: RolloutBuffer) -> Step | None:
        """An Adam step on part of the rollout, a single call of the C kernels; None if they do not cover the policy."""
        fast = FusedPolicy.of(self.policy, recurrent=True)
        if fast is None or self.compiled:
            return None
        cfg, seen, all_valid = self.config, fast.observations(), bool(buffer.valid.all())
        mean, std = self._advantage_moments(buffer)
        coefficients = (cfg.clip_coef, cfg.vf_clip_coef, cfg.ent_coef, cfg.vf_coef, mean, 1 / (std + 1e-8))

        def step(part: slice | Array, columns: bool) -> Tensor:
            wanted = self.expert.gradients(self.rng) if self.expert else None
            stats = ppo_gradients(fast, buffer, seen, part, columns, coefficients, all_valid)
            return torch.cat((stats, *self._step_with(wanted)))

        return step

    def _torch_step(self, buffer: RolloutBuffer) -> Step:
        """The same in torch, for every policy and device; the losses' values stay on the device."""
        rollout = rollout_on(buffer, self.device)
        moments = torch.tensor(self._advantage_moments(buffer), dtype=torch.float32).to(self.device, non_blocking=True)
        if self.graphs is None:
            return lambda part, columns: self._torch_minibatch(rollout.select(part, columns), moments)
        return self._graphed_step(self.graphs, rollout, moments, not bool(buffer.valid.all()))

    def _graphed_step(self, graphs: Graphs, rollout: DeviceRollout, moments: Tensor, weighted: bool) -> Step:
        """The same as a CUDA graph, which gathers the rows itself."""
        @functools.cache
        def sources(columns: bool) -> list[Tensor]:
            return rollout.sources(columns, weighted)

        def step(part: slice | Array, columns: bool) -> Tensor:
            def minibatch(index: Tensor, moments: Tensor) -> Tensor:
                return self._torch_minibatch(rollout.gather(index, columns, weighted), moments)

            index = page_locked(rollout.index(part, columns), self.device)
            return graphs(minibatch, (index, moments), sources(columns), (columns, weighted))

        return step

    def _losses(self, rows: Minibatch, moments: Tensor) -> tuple[Tensor, Tensor]:
        """The loss, and its parts for the report."""
        cfg, weight = self.config, rows.weight
        old_logprobs, old_values, advantages, returns = (
            x.reshape(-1) for x in (rows.logprobs, rows.values, rows.advantages, rows.returns))
        advantages = (advantages - moments[0]) / (moments[1] + 1e-8)
        state = rows.initial_state if self.policy.memory is not None else None
        logprobs, entropy, values = self.policy.evaluate(rows.obs, rows.actions, state, rows.episode_starts)
        policy_loss = losses.ppo_policy_loss(logprobs, old_logprobs, advantages, cfg.clip_coef, weight)
        value_loss = losses.clipped_value_loss(values, old_values, returns, cfg.vf_clip_coef, weight)
        mean_entropy = losses.masked_mean(entropy, weight)
        loss = policy_loss - cfg.ent_coef * mean_entropy + cfg.vf_coef * value_loss
        with torch.no_grad():
            return loss, torch.stack((policy_loss, value_loss, mean_entropy,
                                      losses.approx_kl(logprobs, old_logprobs, weight),
                                      losses.clip_fraction(logprobs, old_logprobs, cfg.clip_coef, weight)))

    def _torch_minibatch(self, rows: Minibatch, moments: Tensor) -> Tensor:
        loss, parts = self._loss_function(rows, moments)
        wanted = self.expert.gradients(self.rng) if self.expert else None
        self.optimizer.zero_grad()
        loss.backward()
        return torch.cat((parts.detach(), *self._step_with(wanted)))

    def _step_with(self, wanted: tuple[Tensor, Tensor] | None) -> tuple[Tensor, ...]:
        """A step by the gradient and by what demonstrated rows add to it; their loss, if there is one, and the norm."""
        if wanted is None:
            return (self.optimizer.step()[None],)
        assert self.expert is not None
        self.expert.gradient.add_(wanted[0])
        return wanted[1][None], self.optimizer.step()[None]

    def _minibatches(self, buffer: RolloutBuffer) -> Iterator[tuple[slice | Array, bool]]:
        """Columns of environments where there are enough of them to be a fair sample, else rows drawn at random."""
        count, kind = self.config.num_minibatches, self.config.minibatch
        if kind == "auto":
            kind = "columns" if self.policy.memory is not None or buffer.num_envs >= 32 * count else "rows"
        if kind == "columns":
            for columns in buffer.columns(count, self.rng):
                yield columns, True
        else:
            order = self.rng.permutation(buffer.num_steps * buffer.num_envs)
            for index in np.array_split(order, count):
                yield index, False

    def _advantage_moments(self, buffer: RolloutBuffer) -> tuple[float, float]:
        """What to subtract from advantages and to divide them by: by more where expert rows share the loss."""
        own = self.expert.own if self.expert else 1.0
        if not self.config.norm_advantages:
            return 0.0, 1 / own if own else math.inf
        advantages, valid = buffer.advantages, buffer.valid
        chosen = advantages if valid.all() else advantages[valid]
        return float(chosen.mean()), float(chosen.std()) / own if own else math.inf


def ppo_gradients(fast: FusedPolicy, buffer: RolloutBuffer, seen: kernels.Observations, part: slice | Array,
                  columns: bool, coefficients: tuple[float, ...], all_valid: bool) -> Tensor:
    """Put the gradients of PPO's loss on part of the rollout into the parameters' `.grad`; means of policy and value
    loss, entropy, approximate KL divergence and clipped share as a tensor.

    `part` are environments (all their steps) or, without `columns`, rows t·num_envs + i; `coefficients` are clip_coef,
    vf_clip_coef, ent_coef, vf_coef, and mean and 1/std of the advantages.
    """
    limit = buffer.num_envs if columns else buffer.num_steps * buffer.num_envs
    index = np.ascontiguousarray(np.arange(limit)[part] if isinstance(part, slice) else part, np.int64)
    if len(index) == 0:
        raise InputError("a minibatch is empty: there are fewer than num_minibatches rows; lower num_minibatches")
    stride, steps = (buffer.num_envs, buffer.num_steps) if columns else (0, 1)
    arrays = tuple(address(getattr(buffer, name)) for name in
                   ("obs", "actions", "logprobs", "values", "advantages", "returns"))
    arrays = (*arrays, 0 if all_valid else address(buffer.valid))
    log_std, stats = fast.log_std, np.zeros(5)
    log_std_gradient = np.zeros(kernels.MAX_ACTION_DIMS, np.float32)
    memory = fast.memory(True)
    if memory is None:
        kernels.ppo_step(fast.networks(True), seen, fast.distribution, address(log_std), arrays, address(index),
                         len(index), stride, steps * len(index), coefficients, stats, log_std_gradient)
    else:
        sequences = kernels.Sequences(index, steps, stride, None, address(buffer.episode_starts),
                                      address(buffer.initial_state))
        kernels.ppo_sequences(memory, fast.networks(True), sequences, seen, fast.distribution, address(log_std), arrays,
                              coefficients, stats, log_std_gradient)
    if log_std is not None and log_std.grad is not None:
        log_std.grad.copy_(torch.from_numpy(log_std_gradient[:len(log_std)]))
    return torch.tensor(stats, dtype=torch.float32)
