"""Behaviour cloning in single calls of the C kernels: each is None where they do not cover the policy, and torch's form
of it is in bc.py (epochs, scores, spreads) and mixins.py (gradients).

Everywhere obs (n, *obs_shape) are in the environment's dtype, in one place or two (`TwoPlaces`), actions (n, dim).
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

import puffer_il.kernels._kernels as kernels
from puffer_il.core.spec import Array
from puffer_il.demos.rows import Joined
from puffer_il.nn import FlatAdam, FusedPolicy, Policy, address


class TwoPlaces:
    """Rows on the CPU in two places, those of `first` before those of `second`, as if they were a tensor of all."""

    device = torch.device("cpu")

    def __init__(self, first: Tensor, second: Tensor) -> None:
        self.first, self.second = first, second
        self.shape = torch.Size((len(first) + len(second), *first.shape[1:]))

    def __len__(self) -> int:
        return self.shape[0]

    def numpy(self) -> Joined:
        return Joined(self.first.numpy(), self.second.numpy())


class CloningLoss(NamedTuple):
    """What is minimised: the negative log-likelihood, or with `squares` a squared distance (losses.categorical_loss;
    continuous: of the mean, in units of half the range), less ent_coef times the entropy.

    class_weights  (Σ nvec,) float32, one dimension's behind the other's, or None
    """

    ent_coef: float = 0.0
    label_smoothing: float = 0.0
    squares: bool = False
    class_weights: Tensor | None = None

    def for_kernels(self) -> tuple[float, float, bool, int]:
        return self.ent_coef, self.label_smoothing, self.squares, address(self.class_weights)


LIKELIHOOD = CloningLoss()


def clone_score(policy: Policy, obs: Tensor | TwoPlaces, actions: Tensor, index: Array | None = None,
                weights: Tensor | None = None, loss: CloningLoss = LIKELIHOOD, mapped: int = 0) -> Array | None:
    """How well the policy explains demonstrations, or those that `index` (m,) int64 lists: means of the loss without
    its entropy, which `weights` (n,) float32 weigh, of the negative log-likelihood, of the entropy, and of the rows
    whose likeliest action is the demonstrated one (continuous: of the squared distance to it). The first `mapped` bytes
    of `obs` lie in a mapped file, of which nothing stays resident; so below."""
    fast = FusedPolicy.of(policy)
    if fast is None:
        return None
    layers, means = fast.actor(), np.zeros(4)
    kernels.score(layers.network, layers.addresses(), fast.observations(), fast.distribution, address(fast.log_std),
                  _rows(obs, actions, index, weights, mapped), _count(obs, index), loss.for_kernels(), means)
    return means


def clone_spread(policy: Policy, obs: Tensor | TwoPlaces, actions: Tensor, index: Array | None = None,
                 weights: Tensor | None = None, mapped: int = 0) -> Tensor | None:
    """The weighted mean squares (dim,) of what continuous actions are off the policy's means, in units of half the
    range."""
    fast = FusedPolicy.of(policy)
    if fast is None:
        return None
    layers, squares = fast.actor(), np.zeros(actions.shape[1] + 1)
    kernels.spread(layers.network, layers.addresses(), fast.observations(), fast.distribution,
                   _rows(obs, actions, index, weights, mapped), _count(obs, index), squares)
    return torch.tensor(squares[:-1], dtype=torch.float32)


def clone_epoch(policy: Policy, obs: Tensor | TwoPlaces, actions: Tensor, order: Array, batch_size: int,
                loss: CloningLoss, optimizer: FlatAdam) -> Array | None:
    """An epoch in the given order: means of negative log-likelihood, entropy and gradient norm."""
    fast = FusedPolicy.of(policy)
    if fast is None or optimizer.kernel is None:
        return None
    optimizer.prepare()
    means = _clone(fast, obs, actions, order, batch_size, loss, optimizer.kernel)
    optimizer.steps += -(-len(order) // batch_size)
    return means


def clone_gradients(policy: Policy, obs: Tensor | TwoPlaces, actions: Tensor, index: Array) -> float | None:
    """Put the gradients of the mean negative log-likelihood of the rows `index` into the `.grad` of all parameters but
    the critic's, and return it."""
    fast = FusedPolicy.of(policy)
    return None if fast is None else float(_clone(fast, obs, actions, index, len(index), LIKELIHOOD, None)[0])


def _clone(fast: FusedPolicy, obs: Tensor | TwoPlaces, actions: Tensor, order: Array, batch_size: int,
           loss: CloningLoss, adam: kernels.Adam | None) -> Array:
    layers, log_std, means = fast.actor(), fast.log_std, np.zeros(3)
    order = np.ascontiguousarray(order, np.int64)
    kernels.clone(layers.network, layers.addresses(), layers.gradients(), fast.observations(), fast.distribution,
                  address(log_std), 0 if log_std is None else address(log_std.grad), _rows(obs, actions, order, None),
                  len(order), batch_size, loss.for_kernels(), adam, means)
    return means


def _rows(obs: Tensor | TwoPlaces, actions: Tensor, index: Array | None, weights: Tensor | None, mapped: int = 0
          ) -> tuple[int, ...]:
    first, more, split = (obs.first, obs.second, len(obs.first)) if isinstance(obs, TwoPlaces) else (obs, None, 0)
    return (*map(address, (first, actions, index, weights, more)), split, mapped)


def _count(obs: Tensor | TwoPlaces, index: Array | None) -> int:
    return len(obs) if index is None else len(index)


class ShownSequences(NamedTuple):
    """Demonstrations as a memory learns from them: a table (sequences, length) int64 of rows, -1 for what pads them,
    the states (sequences, state_dim) before them, weights (n,) of the rows, or None, and how many bytes of the
    observations lie in a mapped file."""

    obs: Tensor
    actions: Tensor
    weights: Tensor | None
    table: Array
    states: Tensor
    mapped: int = 0

    def chosen(self, index: Array) -> kernels.Sequences:
        """Those of these numbers, in this order."""
        return kernels.Sequences(np.ascontiguousarray(index, np.int64), self.table.shape[1], 0, self.table, 0,
                                 address(self.states))

    def rows(self, mapped: int = 0) -> tuple[int, ...]:
        return _rows(self.obs, self.actions, None, self.weights, mapped)


def clone_sequences(policy: Policy, shown: ShownSequences, order: Array, batch_size: int, loss: CloningLoss,
                    optimizer: FlatAdam) -> Array | None:
    """As `clone_epoch`, an epoch of the sequences `order`."""
    fast = FusedPolicy.of(policy, recurrent=True)
    if fast is None or optimizer.kernel is None:
        return None
    optimizer.prepare()
    means = _clone_sequences(fast, shown, order, batch_size, loss, optimizer.kernel)
    optimizer.steps += -(-len(order) // batch_size)
    return means


def sequence_gradients(policy: Policy, shown: ShownSequences, index: Array) -> float | None:
    """As `clone_gradients`, of the sequences `index`, whatever their weights."""
    fast = FusedPolicy.of(policy, recurrent=True)
    if fast is None:
        return None
    return float(_clone_sequences(fast, shown._replace(weights=None), index, len(index), LIKELIHOOD, None)[0])


def score_sequences(policy: Policy, shown: ShownSequences, loss: CloningLoss) -> Array | None:
    """As `clone_score`, of all sequences."""
    fast = FusedPolicy.of(policy, recurrent=True)
    if fast is None:
        return None
    layers, means = fast.actor(), np.zeros(4)
    network = (layers.network, layers.addresses(), None)
    kernels.score_sequences(fast.memory(), (network,), shown.chosen(np.arange(len(shown.table))), fast.observations(),
                            fast.distribution, address(fast.log_std), shown.rows(shown.mapped), loss.for_kernels(),
                            means)
    return means


def follow_sequences(policy: Policy, shown: ShownSequences, waves: list[list[int]]) -> bool:
    """Write the states before all sequences but the first of each episode, which are the k-th ones of wave k; those of
    an episode follow one another in the table. False if the kernels do not cover the policy."""
    fast = FusedPolicy.of(policy, recurrent=True)
    if fast is None:
        return False
    memory, seen = fast.memory(), fast.observations()
    for following in waves[1:]:
        kernels.sequence_states(memory, shown.chosen(np.asarray(following) - 1), seen, address(shown.obs),
                                address(shown.states), shown.mapped)
    return True


def _clone_sequences(fast: FusedPolicy, shown: ShownSequences, order: Array, batch_size: int, loss: CloningLoss,
                     adam: kernels.Adam | None) -> Array:
    layers, log_std, means = fast.actor(), fast.log_std, np.zeros(3)
    network = (layers.network, layers.addresses(), layers.gradients())
    kernels.clone_sequences(fast.memory(True), (network,), shown.chosen(order), fast.observations(), fast.distribution,
                            address(log_std), 0 if log_std is None else address(log_std.grad), shown.rows(), batch_size,
                            loss.for_kernels(), adam, means)
    return means
