"""Behaviour cloning in single calls of the C kernels: each is None where they do not cover the policy, and torch's form
of it is in bc.py (epochs, scores) and mixins.py (gradients).

Everywhere obs (n, *obs_shape) are in the environment's dtype, actions (n, dim).
"""

import numpy as np
from torch import Tensor

import puffer_il.kernels._kernels as kernels
from puffer_il.core.spec import Array
from puffer_il.nn import FlatAdam, FusedPolicy, Policy, address


def clone_score(policy: Policy, obs: Tensor, actions: Tensor, index: Array | None = None) -> Array | None:
    """How well the policy explains demonstrations, or those that `index` (m,) int64 lists: means of negative
    log-likelihood, of entropy, and of the rows whose likeliest action is the demonstrated one (continuous: of the
    squared distance to it)."""
    fast = FusedPolicy.of(policy)
    if fast is None:
        return None
    layers, means = fast.actor(), np.zeros(3)
    kernels.score(layers.network, layers.addresses(), fast.observations(), fast.distribution, address(fast.log_std),
                  address(obs), address(actions), address(index), len(obs) if index is None else len(index), means)
    return means


def clone_epoch(policy: Policy, obs: Tensor, actions: Tensor, order: Array, batch_size: int, ent_coef: float,
                optimizer: FlatAdam) -> Array | None:
    """An epoch in the given order: means of loss, entropy and gradient norm."""
    fast = FusedPolicy.of(policy)
    if fast is None or optimizer.kernel is None:
        return None
    optimizer.prepare()
    means = _clone(fast, obs, actions, order, batch_size, ent_coef, optimizer.kernel)
    optimizer.steps += -(-len(order) // batch_size)
    return means


def clone_gradients(policy: Policy, obs: Tensor, actions: Tensor, index: Array) -> float | None:
    """Put the gradients of the mean negative log-likelihood of the rows `index` into the `.grad` of all parameters but
    the critic's, and return it."""
    fast = FusedPolicy.of(policy)
    return None if fast is None else float(_clone(fast, obs, actions, index, len(index), 0.0, None)[0])


def _clone(fast: FusedPolicy, obs: Tensor, actions: Tensor, order: Array, batch_size: int, ent_coef: float,
           adam: kernels.Adam | None) -> Array:
    layers, log_std, means = fast.actor(), fast.log_std, np.zeros(3)
    kernels.clone(layers.network, layers.addresses(), layers.gradients(), fast.observations(), fast.distribution,
                  address(log_std), 0 if log_std is None else address(log_std.grad), address(obs), address(actions),
                  np.ascontiguousarray(order, np.int64), batch_size, ent_coef, adam, means)
    return means
