"""A policy's networks as the C kernels take them, for whole rollouts and whole minibatches in single calls.

A policy is covered if it is an MLP on the CPU over flat observations of one dtype; mixtures, flows and chunks of
actions are covered in rollouts alone. A memory before single actions is covered where the caller knows what to do with
it. What the kernels do for a policy has its general counterpart in torch (`Policy`, losses.py), with the same results
up to rounding.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import puffer_il.kernels._kernels as kernels
from puffer_il.nn import fused
from puffer_il.nn.distributions import fits
from puffer_il.nn.flow import Flow
from puffer_il.nn.fused import FusedMLP, Layers, address
from puffer_il.nn.fused_memory import memory_fits, memory_of
from puffer_il.nn.mixture import Mixture
from puffer_il.nn.policy import Policy


class FusedPolicy:
    """Made by `of`; valid while the policy stays where it is."""

    def __init__(self, policy: Policy, layers: list[Layers]) -> None:
        self.policy, self.layers = policy, layers
        self.distribution = policy.dist.kernel
        self._networks: dict[bool, tuple[Any, ...]] = {}  # looking for addresses takes as long as a small minibatch

    @classmethod
    def of(cls, policy: Policy, recurrent: bool = False) -> FusedPolicy | None:
        """None if the policy is not covered; one with a memory is only if the caller is ready for it (`recurrent`)."""
        if not fused.enabled() or torch.is_autocast_enabled("cpu"):
            return None
        if policy.memory is not None and not (recurrent and policy.plain and memory_fits(policy.memory)):
            return None
        if not policy.flatten.covered or not fused.readable(policy):
            return None
        if policy.dist.kernel is None:
            tell_size(policy)
            return None
        if policy.joint is not None:
            layers = [policy.joint]
        elif isinstance(policy.dist, Flow):
            layers = [policy.dist.end.layers] if isinstance(policy.dist.end, FusedMLP) else []
        elif not policy.plain and isinstance(policy.actor, FusedMLP):
            layers = [policy.actor.layers]
        elif isinstance(policy.actor, FusedMLP) and isinstance(policy.critic, FusedMLP):
            layers = [policy.actor.layers, policy.critic.layers]
        elif policy.memory is not None and (heads := [*_single(policy.actor), *_single(policy.critic)])[1:]:
            layers = [Layers([], heads, "tanh", heads_alone=True)]
        else:
            return None
        return None if not layers or any(part.refusal for part in layers) else cls(policy, layers)

    def observations(self) -> kernels.Observations:
        """How the kernels read raw rows, with the encoder's present statistics."""
        return self.policy.flatten.for_kernels(self.policy.encoder.norm)

    def chunks(self, state: Tensor | None) -> kernels.Chunks | None:
        """How a rollout is to predict and do several steps, by a mixture or a flow; None for single actions of a plain
        distribution. `state` (rows, state_dim) is carried on."""
        if self.policy.plain:
            return None
        chunks, dist = self.policy.chunks, self.policy.dist
        kind = 1 if isinstance(dist, Mixture) else 2 if isinstance(dist, Flow) else 0
        numbers = (getattr(dist, name, None) for name in ("center", "scale", "log_std", "begin"))
        return kernels.Chunks(
            kind, chunks.size, chunks.dim, chunks.execute, chunks.ensemble, chunks.state_dim,
            getattr(dist, "components", 0), getattr(dist, "steps", 0), getattr(dist, "choice", dist.kernel),
        ).at(*map(address, numbers), address(state))

    @property
    def log_std(self) -> Tensor | None:
        return getattr(self.policy.dist, "log_std", None)

    def actor(self) -> Layers:
        """The network that learns from actions: of a shared one only the trunk and the actor."""
        layers = self.layers[0]
        if len(layers.heads) == 1:
            return layers
        return Layers(layers.hidden, layers.heads[:1], layers.activation, heads_alone=not layers.hidden)

    def networks(self, gradients: bool = False) -> tuple[Any, ...]:
        """Of each its shape, its parameters' addresses and, if asked for, those of their gradients."""
        if gradients not in self._networks:
            self._networks[gradients] = tuple((part.network, part.addresses(), part.gradients() if gradients else None)
                                              for part in self.layers)
        return self._networks[gradients]

    def memory(self, gradients: bool = False) -> kernels.Memory | None:
        """The LSTM or GRU, if there is one, and, if asked for, where its gradients go."""
        return None if self.policy.memory is None else memory_of(self.policy.memory, gradients)


def tell_size(policy: Policy) -> None:
    """A notice where the distribution is too large for the kernels."""
    dims, parameters = policy.chunks.size * policy.spec.action.dim, getattr(policy.dist, "num_params", 0)
    if not fits(dims, parameters):
        most = f"{kernels.MAX_ACTION_DIMS} with {kernels.MAX_ACTION_PARAMS:,}"
        fused.fall_back(f"{dims:,} action dimensions with {parameters:,} parameters (the kernels cover up to {most})",
                        fused.TORCH_TIMES)


def _single(network: nn.Module) -> list[nn.Linear]:
    """The only layer of a network, if it is linear."""
    return [layer for layer in network if isinstance(layer, nn.Linear)] if (
        isinstance(network, nn.Sequential) and len(network) == 1) else []
