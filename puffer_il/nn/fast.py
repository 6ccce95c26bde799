"""Whole minibatches and whole rollouts as single calls of the C kernels: checks and addresses, no mathematics.

A policy is covered if it is an MLP on the CPU over flat observations of one dtype with unsquashed actions whose spread
does not depend on the observation; every use has its general counterpart in torch (`Policy`, losses.py, `Collector`),
with the same results up to rounding.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

import puffer_il.kernels._kernels as kernels
from puffer_il.core.errors import InputError
from puffer_il.core.spec import Array, EnvSpec
from puffer_il.nn import fused
from puffer_il.nn.fused import FusedMLP, Layers
from puffer_il.nn.networks import OBS_CLIP, Flatten, RunningNorm, moments

if TYPE_CHECKING:
    from puffer_il.learners.common.discriminator import Discriminator, Inputs
    from puffer_il.nn.distributions import Noise
    from puffer_il.nn.optim import FlatAdam
    from puffer_il.nn.policy import Policy
    from puffer_il.rollout.buffer import RolloutBuffer
    from puffer_il.vector.vec import NativeBatch

PPO_STATS = ("policy", "value", "entropy", "approx_kl", "clip_fraction")
DISC_STATS = ("loss", "accuracy_expert", "accuracy_policy", "logit_expert", "logit_policy", "gradient_penalty",
              "grad_norm_input")
ROLLOUT_ARRAYS = ("obs", "actions", "rewards", "env_rewards", "logprobs", "values", "final_values", "terminations",
                  "truncations", "valid", "episode_starts")
MOST_COLUMNS = 65_536
PENALTIES = {"interpolated": 1, "zero_centred": 2}
DISC_LOSSES = {"bce": 0, "least_squares": 1, "wasserstein": 2}


def observations(spec: EnvSpec, flatten: Flatten, norm: RunningNorm | None) -> kernels.Observations:
    """How rows of `spec` become inputs, with the present statistics of `norm`."""
    columns, mean, scale = flatten.dim, None, None
    if norm is not None:
        mean, scale = (np.tile(x.numpy(), kernels.BLOCK_ROWS) for x in (norm.mean, torch.rsqrt(norm.var + norm.EPS)))
    return kernels.Observations(spec.obs_dtype.name, spec.obs_dtype.itemsize, columns, OBS_CLIP, mean, scale)


def flat_observations(spec: EnvSpec, flatten: Flatten) -> bool:
    """True if the kernels can read these observations; a row of them has to fit a thread's stack."""
    return flatten.plain and spec.obs_dtype.name in kernels.DTYPES and flatten.dim <= MOST_COLUMNS


def _on_cpu(module: nn.Module) -> bool:
    """True if the kernels can read these parameters."""
    first = next(module.parameters())
    return first.device.type == "cpu" and first.dtype == torch.float32


def obs_moments(flatten: Flatten, obs: Tensor, valid: Tensor | None = None) -> tuple[Tensor, Tensor, float | Tensor]:
    """Mean and variance (num_numeric,) of the numeric columns of raw rows (n, *obs_shape), and how many rows count.

    `valid` (n,) bool leaves rows out.
    """
    spec = flatten.spec
    covered = fused.enabled() and flat_observations(spec, flatten) and obs.device.type == "cpu"
    if covered and obs.is_contiguous() and obs.numel():
        plain = kernels.Observations(spec.obs_dtype.name, spec.obs_dtype.itemsize, flatten.dim, 0.0, None, None)
        mean, variance = torch.empty(flatten.dim), torch.empty(flatten.dim)
        count = kernels.moments(plain, obs.data_ptr(), _pointer(valid), obs.numel() // flatten.dim, mean.numpy(),
                                variance.numpy())
        return mean, variance, count
    weight = None if valid is None else valid.float()
    if flatten.num_numeric == 0:  # images and categories: floats of all their pixels would fill the memory for nothing
        numeric = torch.zeros((obs.numel() // math.prod(spec.obs_shape), 0), device=obs.device)
    else:
        numeric = flatten(obs)[:, :flatten.num_numeric]
    return *moments(numeric, weight), len(numeric) if weight is None else weight.sum().double()


class Term(NamedTuple):
    """weight · network(columns of a row), which reads those from `first` on and as its last input column `last`."""

    network: Discriminator
    first: int
    last: int
    weight: float


class Logit(NamedTuple):
    """A discriminator's logit of a row (width,): the sum of `terms`, less the number in column `offset` (-1: none)."""

    terms: tuple[Term, ...]
    width: int
    offset: int = -1


class FastPolicy:
    """A policy's networks as the kernels take them. Made by `of`; valid while the policy stays where it is."""

    def __init__(self, policy: Policy, layers: list[Layers]) -> None:
        self.policy, self.layers = policy, layers
        self.stats = np.zeros(len(PPO_STATS))
        self.log_std_gradient = np.zeros(kernels.MAX_ACTION_DIMS, np.float32)

    @classmethod
    def of(cls, policy: Policy) -> FastPolicy | None:
        """None if the policy is not covered."""
        if not fused.enabled() or torch.is_autocast_enabled("cpu"):
            return None
        if policy.lstm is not None or policy.dist.kernel is None:
            return None
        if not flat_observations(policy.spec, policy.flatten) or not _on_cpu(policy):
            return None
        if policy.joint is not None:
            layers = [policy.joint]
        elif isinstance(policy.actor, FusedMLP) and isinstance(policy.critic, FusedMLP):
            layers = [policy.actor.layers, policy.critic.layers]
        else:
            return None
        return None if any(part.refusal for part in layers) else cls(policy, layers)

    def observations(self) -> kernels.Observations:
        return observations(self.policy.spec, self.policy.flatten, self.policy.encoder.norm)

    @property
    def log_std(self) -> Tensor | None:
        return getattr(self.policy.dist, "log_std", None)

    def networks(self, gradients: bool = False) -> tuple[Any, ...]:
        return tuple((part.network, part.addresses(), part.gradients() if gradients else None) for part in self.layers)

    def ppo_gradients(self, buffer: RolloutBuffer, seen: kernels.Observations, part: slice | Array, columns: bool,
                      coefficients: tuple[float, ...], all_valid: bool) -> Tensor:
        """Put the gradients of PPO's loss on part of the rollout into the parameters' `.grad`; PPO_STATS as a tensor.

        `part` are environments (all their steps) or, without `columns`, rows t·num_envs + i; `coefficients` are
        clip_coef, vf_clip_coef, ent_coef, vf_coef, and mean and 1/std of the advantages.
        """
        limit = buffer.num_envs if columns else buffer.num_steps * buffer.num_envs
        index = np.ascontiguousarray(np.arange(limit)[part] if isinstance(part, slice) else part, np.int64)
        if len(index) == 0:
            raise InputError("a minibatch is empty: there are fewer than num_minibatches rows; lower num_minibatches")
        count, stride = (len(index), buffer.num_envs) if columns else (len(index), 0)
        rows = len(index) * (buffer.num_steps if columns else 1)
        arrays = tuple(address(getattr(buffer, name)) for name in
                       ("obs", "actions", "logprobs", "values", "advantages", "returns"))
        log_std = self.log_std
        kernels.ppo_step(self.networks(True), seen, self.policy.dist.kernel, _pointer(log_std),
                         (*arrays, 0 if all_valid else address(buffer.valid)), address(index), count, stride, rows,
                         coefficients, self.stats, self.log_std_gradient)
        if log_std is not None and log_std.grad is not None:
            log_std.grad.copy_(torch.from_numpy(self.log_std_gradient[:len(log_std)]))
        return torch.tensor(self.stats, dtype=torch.float32)


    def rollout(self, batch: NativeBatch, buffer: RolloutBuffer, starts: Array, noise: Noise,
                greedy: bool = False) -> tuple[Array, Array]:
        """Fill the buffer with a rollout of the batch; returns and lengths of the episodes that ended in it, in the
        order of `buffer.final_index`.

        `greedy` takes the likeliest actions instead of samples. `starts` (num_envs,) bool tells which rows begin an
        episode, before and after.
        """
        arrays = tuple(address(getattr(buffer, name)) for name in ROLLOUT_ARRAYS)
        index, returns, lengths, final_obs = kernels.rollout(
            self.networks(), self.observations(), self.policy.dist.kernel, _pointer(self.log_std), batch.vec,
            batch.step, arrays, buffer.num_steps, buffer.num_envs, batch.agents, address(starts),
            address(batch.returns), address(batch.lengths), noise.seed, noise.step, greedy)
        spec = self.policy.spec
        buffer.keep_ends(index, final_obs.view(spec.obs_dtype).reshape(len(index), *spec.obs_shape))
        return returns, lengths


def _actor(fast: FastPolicy, policy: Policy) -> Layers:
    """The network that learns from actions: of a shared one only the trunk and the actor."""
    layers = fast.layers[0]
    return layers if policy.joint is None else Layers(layers.hidden, layers.heads[:1], layers.activation)


def clone_score(policy: Policy, obs: Tensor, actions: Tensor) -> Array | None:
    """How well the policy explains demonstrations: means of negative log-likelihood, of entropy, and of the rows whose
    likeliest action is the demonstrated one (continuous: of the squared distance to it). None if not covered."""
    fast = FastPolicy.of(policy)
    if fast is None:
        return None
    layers, means = _actor(fast, policy), np.zeros(3)
    log_std = fast.log_std
    kernels.score(layers.network, layers.addresses(), fast.observations(), policy.dist.kernel,
                  _pointer(log_std), obs.data_ptr(), actions.data_ptr(), len(obs), means)
    return means


def clone_epoch(policy: Policy, obs: Tensor, actions: Tensor, order: Array, batch_size: int, ent_coef: float,
                optimizer: FlatAdam) -> Array | None:
    """An epoch of behaviour cloning in the given order: mean loss, entropy and gradient norm. None if not covered.

    obs (n, *obs_shape) in the environment's dtype, actions (n, dim).
    """
    fast = FastPolicy.of(policy)
    if fast is None or optimizer.kernel is None:
        return None
    layers = _actor(fast, policy)
    optimizer.prepare()
    means = np.zeros(3)
    log_std = fast.log_std
    kernels.clone(layers.network, layers.addresses(), layers.gradients(), fast.observations(), policy.dist.kernel,
                  _pointer(log_std), 0 if log_std is None else _pointer(log_std.grad), obs.data_ptr(),
                  actions.data_ptr(), np.ascontiguousarray(order, np.int64), batch_size, ent_coef, optimizer.kernel,
                  means)
    optimizer.steps += -(-len(order) // batch_size)
    return means


def clone_gradients(policy: Policy, obs: Tensor, actions: Tensor, index: Array) -> float | None:
    """Put the gradients of the mean negative log-likelihood of the rows `index` into the `.grad` of all parameters but
    the critic's, and return it. None if not covered."""
    fast = FastPolicy.of(policy)
    if fast is None:
        return None
    layers, means, log_std = _actor(fast, policy), np.zeros(3), fast.log_std
    kernels.clone(layers.network, layers.addresses(), layers.gradients(), fast.observations(), policy.dist.kernel,
                  _pointer(log_std), 0 if log_std is None else _pointer(log_std.grad), obs.data_ptr(),
                  actions.data_ptr(), np.ascontiguousarray(index, np.int64), len(index), 0.0, None, means)
    return float(means[0])


def soft_q_updates(q: Policy, target: Policy, optimizer: FlatAdam, followers: Tensor, batch: Any,
                   settings: tuple[float, float, float, float]) -> Array | None:
    """Updates of soft Q-learning on minibatches (updates, n, …) of prepared rows (TransitionBatch): means of loss,
    value and Q of the actions taken, negentropy, gradient norm. None if not covered.

    `followers` are the target's parameters in one piece; `settings` are alpha, gamma, tau, end_value.
    """
    fast, obs = FastPolicy.of(q), batch.obs
    if fast is None or optimizer.kernel is None or q.joint is not None or obs.dtype != torch.float32:
        return None
    layers, following = fast.layers[0], FastPolicy.of(target)
    assert following is not None
    stats = np.zeros(5)
    rows = tuple(tensor.contiguous() for tensor in (obs, batch.next_obs, batch.rewards, batch.actions.int(),
                                                  batch.ends))
    kernels.soft_q(layers.network, layers.addresses(), following.layers[0].addresses(), layers.gradients(),
                   optimizer.kernel, followers.data_ptr(), tuple(t.data_ptr() for t in rows), settings, len(obs),
                   obs.shape[1], stats)
    optimizer.steps += len(obs)
    return stats


def pair_rows(inputs: Inputs, obs: Tensor, beside: Tensor | None, index: Tensor | None = None,
              out: Tensor | None = None) -> Tensor | None:
    """`Inputs.rows` of the rows `index` (n,), or of all, in `out` if given; None if not covered."""
    return _pairs(inputs, obs, beside, index, out, None)


def pair_logits(discriminator: Discriminator, obs: Tensor, beside: Tensor | None) -> Tensor | None:
    """Logits (n,) of all rows; None if not covered."""
    layers = _plain_layers(discriminator)
    return None if layers is None else _pairs(discriminator, obs, beside, None, None, layers)


def _pairs(inputs: Inputs, obs: Tensor, beside: Tensor | None, index: Tensor | None, out: Tensor | None,
           layers: Layers | None) -> Tensor | None:
    spec = inputs.flatten.spec
    if not fused.enabled() or obs.device.type != "cpu" or not flat_observations(spec, inputs.flatten):
        return None
    if inputs.kind == "state_action" and inputs.actions.kernel is None:
        return None
    obs, actions, following = obs.contiguous(), None, 0
    seen = observations(spec, inputs.flatten, inputs.encoder.norm)
    if beside is not None and inputs.kind == "state_action":
        dist = inputs.actions
        beside = beside.to(torch.int32 if spec.action.discrete else torch.float32).contiguous()
        bounds = (0, 0) if spec.action.discrete else (dist.low.data_ptr(), dist.high.data_ptr())
        actions = (dist.kernel, beside.data_ptr(), *bounds)
    elif beside is not None:
        beside = beside.contiguous()
        following = beside.data_ptr()
    index = None if index is None else index.contiguous()
    n = len(obs) if index is None else len(index)
    if out is None:
        out = torch.empty((n, inputs.width) if layers is None else (n,))
    network = () if layers is None else (layers.network, layers.addresses())
    kernels.pairs(seen, obs.data_ptr(), actions, following, _pointer(index), n, inputs.width, out.data_ptr(),
                  out.stride(0), *network)
    return out


def _plain_layers(discriminator: Discriminator) -> Layers | None:
    """The discriminator's layers if it is nothing but a fused network whose weights are its parameters."""
    net = discriminator.net
    if not isinstance(net, FusedMLP) or discriminator.encoder.convs or discriminator.spectral_norm:
        return None
    usable = fused.enabled() and not net.layers.refusal and not torch.is_autocast_enabled("cpu")
    return net.layers if usable and _on_cpu(net) else None


def discriminator_gradients(logit: Logit, expert: Tensor, policy: Tensor, *, loss: str, label_smoothing: float,
                            ent_coef: float, gp_coef: float, gp_kind: str, gp_target: float,
                            mix: Tensor | None) -> Tensor | None:
    """Put the gradients of the discriminator's loss into the parameters' `.grad`; DISC_STATS. None if not covered.

    expert, policy (n, width) as the discriminator's `rows` makes them; `mix` (n,) are the expert's shares in the points
    of an interpolated penalty.
    """
    networks = list(dict.fromkeys(term.network for term in logit.terms))
    layers = [_plain_layers(network) for network in networks]
    known = [part for part in layers if part is not None]
    if len(known) < len(layers):
        return None
    stats = np.zeros(len(DISC_STATS))
    expert, policy = expert.contiguous(), policy.contiguous()
    kernels.discriminator_step(tuple([(part.network, part.addresses(), part.gradients()) for part in known]),
                               tuple([(networks.index(network), *rest) for network, *rest in logit.terms]),
                               logit.width, logit.offset, expert.data_ptr(), policy.data_ptr(), _pointer(mix),
                               len(expert), label_smoothing, ent_coef, gp_coef, gp_target,
                               PENALTIES[gp_kind] if gp_coef else 0, DISC_LOSSES[loss], stats)
    return torch.tensor(stats, dtype=torch.float32)


def _pointer(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


def address(array: Array) -> int:
    """Of a contiguous array's first byte."""
    assert array.flags.c_contiguous
    return array.__array_interface__["data"][0]
