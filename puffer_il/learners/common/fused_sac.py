"""Soft actor-critic's networks as the C kernels take them: all updates of a rollout in one call (csrc/kernels/sac.h).

Covered are MLPs on the CPU, normalised critics too, over observations without pictures. off_policy.py has the same in
torch, and its equations; given the same noise both learn the same up to rounding.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import puffer_il.kernels._kernels as kernels
from puffer_il.learners.common.anchor import LEAST, MOST, RATE, Anchor
from puffer_il.nn import FusedMLP, Gaussian, Policy, fused, tell_size
from puffer_il.nn.fused import Layers, address
from puffer_il.rollout.replay import Transitions


class FusedCritic:
    """One of the critics, or of those that follow: an MLP with or without layer normalisation."""

    def __init__(self, net: nn.Sequential, activation: str) -> None:
        linear = [layer for layer in net if isinstance(layer, nn.Linear)]
        self.norms = [layer for layer in net if isinstance(layer, nn.LayerNorm)]
        self.layers = Layers(linear[:-1], linear[-1:], activation)

    def arguments(self, learns: bool) -> tuple[Any, ...]:
        """The network, addresses of its parameters and of their gradients (None without), then the same of scale and
        shift of every layer's normalisation."""
        affine = [p for norm in self.norms for p in (norm.weight, norm.bias)]
        return (self.layers.network, self.layers.addresses(), self.layers.gradients() if learns else None,
                tuple(map(address, affine)), tuple(address(p.grad) for p in affine) if learns else ())


class FusedSAC:
    """Made of a policy and its critics, `critics` and `targets`, two each."""

    def __init__(self, policy: Policy, critics: nn.ModuleList, targets: nn.ModuleList, activation: str) -> None:
        self.policy = policy
        self.critics, self.targets = ([FusedCritic(net, activation) for net in nets]  # type: ignore[arg-type]
                                      for nets in (critics, targets))

    def usable(self) -> bool:
        """True if the kernels cover these networks and are on."""
        if not fused.enabled() or torch.is_autocast_enabled("cpu") or not fused.readable(self.policy):
            return False
        actor = actor_layers(self.policy)
        if self.policy.encoder.convs:
            return False
        if actor is None or not self.critics[0].layers.hidden:
            fused.fall_back("an actor or critics without hidden layers", fused.TORCH_TIMES)
            return False
        if self.policy.dist.kernel is None:
            tell_size(self.policy)
            return False
        for layers in (actor, self.critics[0].layers):
            if layers.refusal:
                fused.fall_back(layers.refusal, fused.TORCH_TIMES)
                return False
        return True

    def observations(self, rows: Transitions) -> tuple[Any, Any, Any]:
        """How the kernels read observations, and the rows' (updates, n, …) as they are to be read: raw, or flat and
        normalised in torch where they are of several kinds."""
        flatten, encoder = self.policy.flatten, self.policy.encoder
        if flatten.covered:
            return (flatten.for_kernels(encoder.norm), *map(np.ascontiguousarray, (rows.obs, rows.next_obs)))
        obs, next_obs = (encoder.prepare(flatten(torch.from_numpy(raw).flatten(0, 1))).contiguous()
                         for raw in (rows.obs, rows.next_obs))
        return kernels.Observations("float32", 4, encoder.dim, 0.0, None, None), obs, next_obs

    def actor(self) -> tuple[Any, ...]:
        layers = actor_layers(self.policy)
        assert layers is not None
        return layers.network, layers.addresses(), layers.gradients()

    def dist(self) -> tuple[Any, ...]:
        dist = self.policy.dist
        assert isinstance(dist, Gaussian)
        return dist.kernel, address(dist.log_std), address(dist.log_std.grad)


def actor_layers(policy: Policy) -> Layers | None:
    """The network that gives the actions' parameters, None if it is no MLP of the kernels' kind."""
    if policy.joint is not None:
        return Layers(policy.joint.hidden, policy.joint.heads[:1], policy.joint.activation)
    return policy.actor.layers if isinstance(policy.actor, FusedMLP) else None


def anchor_arguments(anchor: Anchor | None) -> tuple[Any, ...]:
    """A policy near which the actor is kept, () without one."""
    if anchor is None:
        return ()
    layers = actor_layers(anchor.origin)
    assert layers is not None
    dist = anchor.origin.dist
    numbers: tuple[Tensor, ...] = (dist.log_std, anchor.log_price, anchor.distance)
    return (layers.network, layers.addresses(), dist.kernel, *map(address, numbers), anchor.bound, RATE, LEAST, MOST)
