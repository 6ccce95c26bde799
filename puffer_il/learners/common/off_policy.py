"""Off-policy learning from a replay: soft Q-learning for discrete actions, soft actor-critic for continuous ones.

    discrete    V(s) = α log mean_a exp(Q(s, a) / α)                    π(·|s) = softmax(Q(s, ·) / α)
    continuous  V(s) = E_π [min(Q₁, Q₂)(s, a) − α log(π(a|s) |A|)]      π ← argmax V
    both        L(Q) = ½ mean (Q(s, a) − r − γ V̄(s'))²                  V̄ of a copy of Q that follows it by τ

(Haarnoja et al. 2017, arXiv:1702.08165, eq. 3 to 6, and 2018, arXiv:1812.05905, eq. 5 to 9 and 17.) Entropy is counted
against that of uniform actions, which is the maximum: so it is never positive and does not pay for staying alive.
Without terminations that is the papers' objective but for a constant.
"""

import copy
import math
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

import puffer_il.kernels._kernels as kernels
from puffer_il.core.checkpoint import Stateful
from puffer_il.core.config import setting
from puffer_il.core.errors import InputError
from puffer_il.learners.common.anchor import Anchor
from puffer_il.learners.common.fused_sac import FusedSAC, anchor_arguments
from puffer_il.learners.common.transition_batches import GraphedUpdates, TransitionBatch, load, minibatches
from puffer_il.nn import (
    Encoder,
    FlatAdam,
    Flatten,
    FusedPolicy,
    Gaussian,
    Policy,
    address,
    flatten,
    make_shift,
    mlp,
)
from puffer_il.rollout.replay import Transitions

STEPS_PER_UPDATE = 4  # of sac.updates = 0: every transition is drawn batch_size / 4 times in the long run
STATS = ("critic", "actor", "q_mean", "negentropy", "alpha", "grad_norm")


@dataclass(frozen=True)
class SACConfig:
    implies: ClassVar[dict[str, dict[str, Any]]] = {  # squash is of continuous actions
        "policy": {"squash": True, "hidden": (256, 256), "activation": "relu"}, "train": {"num_steps": 32}}

    gamma: float = setting(0.99, "discount factor", low=0, high=0.9999)
    learning_rate: float = setting(3e-4, "Adam's step size of all networks and of alpha", low=0)
    batch_size: int = setting(128, "transitions of one gradient update", low=1)
    updates: int = setting(32, "gradient updates after each rollout; 0 makes one for every four steps that it gathered",
                           low=0)
    replay_size: int = setting(100_000, "transitions that the replay keeps", low=1)
    warmup: int = setting(0, "transitions to gather before the first update", low=0)
    tau: float = setting(0.005, "share of the way that the target network moves in each update", low=0, high=1)
    alpha: float = setting(0.1, "temperature: what a nat of entropy is worth in rewards", low=1e-6)
    target_negentropy: float = setting(0.0, "learn alpha so that the policy's entropy is this many nats per action "
                                       "dimension below that of uniform actions; 0 keeps alpha", low=0)
    critic_hidden: tuple[int, ...] = setting((128, 128), "units of the two critics' hidden layers (continuous actions; "
                                             "with discrete ones the policy's network is the critic)", low=1)
    critic_norm: bool = setting(True, "layer normalisation in the critics, without which their values may grow without "
                                "bound where no transition has been (continuous actions)")
    max_grad_norm: float = setting(10.0, "clip the gradient's norm; 0 does not clip", low=0)
    random_shift: int = setting(0, "pixels by which pictures are shifted at random each time they are learned from, "
                                   "edges repeated (DrQ: 4); 0 does not", low=0)


def soft_value(q: Tensor, alpha: float | Tensor) -> Tensor:
    """V (n,) of Q (n, actions): α log mean_a exp(Q / α), between mean and maximum of Q."""
    return alpha * (torch.logsumexp(q / alpha, -1) - math.log(q.shape[-1]))


def backup(rewards: Tensor, next_values: Tensor, ends: Tensor, gamma: float, end_value: float | Tensor) -> Tensor:
    """r + γ V(s'), where V of what follows a termination is `end_value`."""
    return rewards + gamma * torch.where(ends, end_value, next_values)


class Temperature(Stateful):
    """α, fixed or learned: log α rises while the policy's entropy is too small (Haarnoja et al. 2018, eq. 17)."""

    saved = ("log", "optimizer")

    def __init__(self, cfg: SACConfig, dims: int, device: torch.device) -> None:
        self.target = cfg.target_negentropy * dims
        self.log = nn.Parameter(torch.tensor([math.log(cfg.alpha)], device=device))
        self.optimizer = FlatAdam([self.log], learning_rate=cfg.learning_rate)

    @property
    def value(self) -> Tensor:
        return self.log.detach().exp()

    def update(self, negentropy: Tensor) -> None:
        """`negentropy` () is the policy's, on a minibatch of states."""
        if self.target:
            self.optimizer.grad.copy_(self.target - negentropy)
            self.optimizer.step()


@torch.no_grad()
def _copy_scaled(source: Policy, target: Policy, factor: Tensor) -> None:
    """The target's actor becomes the source's, and its outputs those times `factor`."""
    for mine, given in zip(target.actor_parameters(), source.actor_parameters(), strict=True):
        mine.copy_(given)
    head = [layer for layer in target.actor.modules() if isinstance(layer, nn.Linear)][-1]
    for parameter in head.parameters():
        parameter.mul_(factor)


class SoftQ(Stateful):
    """Discrete actions: a network of the policy's own shape gives Q, and the policy's logits become Q / α."""

    saved = ("optimizer.flat", "followers", "optimizer", "temperature")

    def __init__(self, policy: Policy, cfg: SACConfig, device: torch.device, seed: int = 0) -> None:
        self.policy, self.cfg, self.device = policy, cfg, device
        self.shift = make_shift("sac.random_shift", cfg.random_shift, policy.spec, seed)
        self.q, self.target = copy.deepcopy(policy), copy.deepcopy(policy).requires_grad_(False)
        self.optimizer = FlatAdam(self.q.actor_parameters(), learning_rate=cfg.learning_rate,
                                  max_grad_norm=cfg.max_grad_norm)
        self.followers = flatten(self.target.actor_parameters())[0]
        self.temperature = Temperature(cfg, 1, device)
        self.graphed: GraphedUpdates | None = None

    def learn(self, rows: Transitions, end_value: float, move: bool = True) -> Tensor:
        """A step on Q for each minibatch of rows (updates, n, …), and then the policy that follows if it is to `move`;
        the means of STATS, on the device."""
        self.optimizer.prepare()
        self.temperature.optimizer.prepare()
        if self.shift is not None:
            self.shift.begin(int(self.optimizer.steps))
        stats = self._learn(rows, end_value)
        if move:
            self.publish()
        return stats

    def _learn(self, rows: Transitions, end_value: float) -> Tensor:
        if self.graphed is not None:
            return self.graphed(self.update, rows, end_value)
        batch = load(self.policy, rows, self.device)
        stats = self._in_kernels(batch, end_value)
        if stats is not None:
            return stats
        parts = minibatches(self.policy, batch, self.shift)
        return torch.stack([self.update(part, end_value) for part in parts]).mean(0)

    def changing(self) -> list[Tensor]:
        """All that an update changes."""
        return [*self.optimizer.changing(), *self.temperature.optimizer.changing(), self.followers]

    def _in_kernels(self, batch: TransitionBatch, end_value: float) -> Tensor | None:
        """All updates in one call of the C kernels; None where they do not cover it."""
        cfg, obs, adam = self.cfg, batch.obs, self.optimizer.kernel
        fast, following = FusedPolicy.of(self.q), FusedPolicy.of(self.target)
        if fast is None or following is None or adam is None or self.temperature.target:
            return None
        if self.q.joint is not None or obs.dtype != torch.float32:
            return None
        layers, stats = fast.layers[0], np.zeros(5)
        rows = [tensor.contiguous() for tensor in (obs, batch.next_obs, batch.rewards, batch.actions.int(),
                                                   batch.ends)]
        kernels.soft_q(layers.network, layers.addresses(), following.layers[0].addresses(), layers.gradients(), adam,
                       address(self.followers), tuple(address(tensor) for tensor in rows),
                       (cfg.alpha, cfg.gamma, cfg.tau, end_value), len(obs), obs.shape[1], stats)
        self.optimizer.steps += len(obs)
        loss, value, q, negentropy, norm = stats.tolist()
        return torch.tensor((loss, -value, q, negentropy, cfg.alpha, norm))

    def update(self, batch: TransitionBatch, end_value: float | Tensor) -> Tensor:
        """One step on Q in torch; STATS as a tensor on the device."""
        alpha = self.temperature.value
        with torch.no_grad():
            following = soft_value(self.target.params(self.target.encoder.encode(batch.next_obs)), alpha)
            wanted = backup(batch.rewards, following, batch.ends, self.cfg.gamma, end_value)
        q = self.q.params(self.q.encoder.encode(batch.obs))
        chosen = q.gather(1, batch.actions.long()).squeeze(1)
        loss = 0.5 * (chosen - wanted).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        norm = self.optimizer.step()
        self.followers.lerp_(self.optimizer.flat, self.cfg.tau)
        with torch.no_grad():
            logp = (q / alpha).log_softmax(-1)
            negentropy = (logp.exp() * logp).sum(-1).mean() + math.log(q.shape[1])
            self.temperature.update(negentropy)
            return torch.stack((loss, -soft_value(q, alpha).mean(), chosen.mean(), negentropy, alpha[0], norm)).detach()

    def publish(self) -> None:
        """Let the policy act by the present Q: its logits are Q / α."""
        _copy_scaled(self.q, self.policy, 1 / self.temperature.value)

    def start_from_policy(self) -> None:
        """Q ← α · the policy's logits, so that the policy that acts is the one that was there."""
        for network in (self.q, self.target):
            _copy_scaled(self.policy, network, self.temperature.value)


class Critics(nn.Module):
    """Two Q functions of flat normalised observations (n, Flatten.dim) and actions (n, dim) in units of the range.

    With `norm` every hidden layer is normalised before its activation, so that |Q| is bounded by the last layer's
    weights wherever it is asked (Ball et al. 2023, arXiv:2302.02948, section 4.2).
    """

    def __init__(self, policy: Policy, hidden: tuple[int, ...], activation: str, norm: bool) -> None:
        super().__init__()
        self.encoder = Encoder(Flatten(policy.spec), normalise=False)
        inputs = self.encoder.dim + policy.spec.action.dim
        self.nets = nn.ModuleList(mlp(inputs, hidden, 1, activation, norm=norm) for _ in range(2))

    def forward(self, obs: Tensor, actions: Tensor) -> Tensor:
        """(2, n)."""
        rows = torch.cat((self.encoder.encode(obs), actions), 1)
        return torch.stack([net(rows).squeeze(-1).float() for net in self.nets])


class SoftActorCritic(Stateful):
    """Continuous actions: a squashed Gaussian policy, improved by the gradient of the lesser of two critics."""

    saved = ("critic_optimizer.flat", "followers", "critic_optimizer", "actor_optimizer", "temperature", "generator",
             "anchor")

    def __init__(self, policy: Policy, cfg: SACConfig, activation: str, device: torch.device, seed: int) -> None:
        assert isinstance(policy.dist, Gaussian)
        self.policy, self.cfg, self.device, self.dist = policy, cfg, device, policy.dist
        self.shift = make_shift("sac.random_shift", cfg.random_shift, policy.spec, seed)
        self.critics = Critics(policy, cfg.critic_hidden, activation, cfg.critic_norm).to(device)
        self.target = copy.deepcopy(self.critics).requires_grad_(False)
        self.critic_optimizer = FlatAdam(self.critics.parameters(), learning_rate=cfg.learning_rate,
                                         max_grad_norm=cfg.max_grad_norm)
        self.followers = flatten(list(self.target.parameters()))[0]
        self.actor_optimizer = FlatAdam(policy.actor_parameters(), learning_rate=cfg.learning_rate,
                                        max_grad_norm=cfg.max_grad_norm)
        self.temperature = Temperature(cfg, policy.spec.action.dim, device)
        self.generator = torch.Generator(device).manual_seed(seed)
        self.most = math.inf  # that a value can be; whoever knows the rewards' bound sets it
        self.anchor: Anchor | None = None
        self.log_volume = policy.spec.action.dim * math.log(2)  # of the range, in its own units
        self.fused = FusedSAC(policy, self.critics.nets, self.target.nets, activation)
        self.graphed: GraphedUpdates | None = None

    def learn(self, rows: Transitions, end_value: float, move: bool = True) -> Tensor:
        """A step on the critics for each minibatch of rows (updates, n, …), and on the policy if it is to `move`; the
        means of STATS, on the device."""
        for optimizer in (self.critic_optimizer, self.actor_optimizer, self.temperature.optimizer):
            optimizer.prepare()
        noise = self._noise(*rows.actions.shape)
        stats = self._in_kernels(rows, noise, end_value, move)
        if stats is not None:
            return stats
        if self.shift is not None:
            self.shift.begin(int(self.critic_optimizer.steps))
        if self.graphed is not None:
            return self.graphed(partial(self.update, move=move), rows, end_value, noise,
                                options=(move, self.most, self.anchor is None))
        batch = load(self.policy, rows, self.device)
        parts = zip(minibatches(self.policy, batch, self.shift), noise, strict=True)
        return torch.stack([self.update(part, end_value, normal, move) for part, normal in parts]).mean(0)

    def changing(self) -> list[Tensor]:
        """All that an update changes."""
        optimizers = (self.critic_optimizer, self.actor_optimizer, self.temperature.optimizer)
        anchor = [] if self.anchor is None else [self.anchor.log_price, self.anchor.distance]
        return [*(t for optimizer in optimizers for t in optimizer.changing()), self.followers, *anchor]

    def _noise(self, updates: int, rows: int, dims: int) -> Tensor:
        """Standard normal numbers (updates, 2, rows, dims): those of the successors' actions, then the policy's."""
        noise = torch.empty((updates, 2, rows, dims), device=self.device)
        for part in noise:
            part.normal_(generator=self.generator)
        return noise

    def _in_kernels(self, rows: Transitions, noise: Tensor, end_value: float, move: bool) -> Tensor | None:
        """All updates in one call of the C kernels; None where they do not cover it."""
        adams = tuple(optimizer.kernel for optimizer in (self.critic_optimizer, self.actor_optimizer,
                                                         self.temperature.optimizer))
        if None in adams or not self.fused.usable():
            return None
        seen, obs, next_obs = self.fused.observations(rows)
        actions = self.dist.features(torch.from_numpy(rows.actions)).contiguous()
        stats = np.zeros(len(STATS))
        critics = tuple(net.arguments(learns=True) for net in self.fused.critics)
        targets = tuple(net.arguments(learns=False) for net in self.fused.targets)
        kernels.sac(critics, targets, address(self.followers), self.fused.actor(), self.fused.dist(),
                    anchor_arguments(self.anchor), adams, seen,
                    tuple(map(address, (obs, next_obs, actions, rows.rewards, noise, rows.terminations))),
                    (self.cfg.gamma, self.cfg.tau, end_value, self.most, self.temperature.target), move,
                    *rows.rewards.shape, stats)
        for optimizer, moved in ((self.critic_optimizer, True), (self.actor_optimizer, move),
                                 (self.temperature.optimizer, move and bool(self.temperature.target))):
            optimizer.steps += len(noise) * moved
        return torch.from_numpy(stats).float()

    def update(self, batch: TransitionBatch, end_value: float | Tensor, noise: Tensor, move: bool = True) -> Tensor:
        """One step on the critics, then one on the policy if it is to `move`; STATS as a tensor on the device. `noise`
        (2, n, dims) is that of the successors' actions and of the policy's."""
        alpha = self.temperature.value
        actions = self.dist.features(batch.actions)
        with torch.no_grad():
            next_actions, negentropy = self._act(batch.next_obs, noise[0])
            following = self.target(batch.next_obs, next_actions).amin(0) - alpha * negentropy
            wanted = backup(batch.rewards, following, batch.ends, self.cfg.gamma, end_value).clamp_max(self.most)
        q = self.critics(batch.obs, actions)
        critic_loss = 0.5 * (q - wanted).square().sum(0).mean()
        self.critic_optimizer.zero_grad()
        critic_loss.backward()
        norm = self.critic_optimizer.step()
        self.followers.lerp_(self.critic_optimizer.flat, self.cfg.tau)

        actor_loss, mean_negentropy = wanted.new_zeros(()), negentropy.mean()
        if move:
            actor_loss, mean_negentropy = self._improve(batch.obs, noise[1], alpha)
        return torch.stack((critic_loss.detach(), actor_loss, q.detach().mean(), mean_negentropy, alpha[0], norm))

    def _improve(self, obs: Tensor, normal: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
        """One step of the policy, and of α; the loss and the mean negentropy."""
        self.critics.requires_grad_(False)  # only the actions' gradient is wanted
        params = self.policy.params(self.policy.encoder.encode(obs))
        actions, negentropy = self._drawn(params, normal)
        loss = (alpha * negentropy - self.critics(obs, actions).amin(0)).mean()
        if self.anchor is not None:
            loss = loss + self.anchor.cost(self.policy, params, obs)
        self.actor_optimizer.zero_grad()
        loss.backward()
        self.actor_optimizer.step()
        self.critics.requires_grad_(True)
        mean = negentropy.detach().mean()
        self.temperature.update(mean)
        return loss.detach(), mean

    def start_from_policy(self) -> None:
        """The same: it starts from what it is."""

    def _act(self, obs: Tensor, normal: Tensor) -> tuple[Tensor, Tensor]:
        """Actions (n, dim) in units of the range, and log(π |A|) (n,), a sample of the negentropy."""
        return self._drawn(self.policy.params(self.policy.encoder.encode(obs)), normal)

    def _drawn(self, params: Tensor, normal: Tensor) -> tuple[Tensor, Tensor]:
        actions, logprobs = self.dist.sample_unit(params, normal)
        return actions, logprobs + self.log_volume


def make_engine(policy: Policy, cfg: SACConfig, activation: str, device: torch.device,
                seed: int) -> SoftQ | SoftActorCritic:
    """The engine that fits the policy's actions. InputError, a line, where none does."""
    action = policy.spec.action
    if policy.memory is not None:
        key = "lstm" if policy.gru is None else "gru"
        raise InputError(f"policy.{key} = {policy.memory.hidden_size}: a replay holds single transitions, not "
                         "sequences; set it to 0")
    if len(action.nvec) > 1:
        raise InputError(f"{policy.spec.name}: actions of {len(action.nvec)} discrete parts {action.nvec} have no "
                         "soft Q in closed form; use an on-policy algorithm (puffer-il algos lists them)")
    if not isinstance(policy.dist, Gaussian):
        return SoftQ(policy, cfg, device, seed)
    if not policy.dist.squash:
        raise InputError("policy.squash = False: off-policy learning of continuous actions needs them bounded; leave "
                         "it out, or set it to true")
    return SoftActorCritic(policy, cfg, activation, device, seed)
