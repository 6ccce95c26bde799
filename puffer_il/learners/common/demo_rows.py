"""Demonstrated transitions on the learner's device: rows by themselves, or sequences for an LSTM."""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import Tensor

from puffer_il.core.spec import Array
from puffer_il.nn import Policy, RandomShift, targets
from puffer_il.nn.masks import mask_logits

# Of each row: parameters of the distribution (n, num_params), actions (n, dim), weights (n,) or None, and which
# dimensions count (n, dim), None if all do.
Examples = tuple[Tensor, Tensor, Tensor | None, Tensor | None]


def load_rows(obs: Array, actions: Array, weights: Array | None, episodes: Array, length: int, device: torch.device,
              chunk: int = 1, allowed: Array | None = None) -> DemoRows:
    """Single rows or, with a `length`, sequences of that many steps; `weights` are brought to mean 1. With `chunk`, the
    actions of a row are that many, its own and those after it, as far as the episode goes; `allowed` are then the
    choices of each, which the policy itself knows of the first one only.

    obs (n, *obs_shape), actions (n, dim), weights (n,) or None, episodes (n,): what belongs together, in order;
    allowed (n, choices) bool, or None
    """
    if weights is not None and len(weights) and weights.max() > 0:
        weights = (weights / weights.mean()).astype(np.float32)
    counts = None
    if chunk > 1:
        dim = actions.shape[1]
        actions, inside = targets(actions, episodes, chunk)
        counts = np.repeat(inside, dim, 1)
        allowed = None if allowed is None else targets(allowed, episodes, chunk)[0]
    if not length:
        return DemoRows(obs, actions, device, weights, counts, allowed)
    return DemoSequences(obs, actions, episodes, length, device, weights, counts, allowed)


class DemoRows:
    """Demonstrated transitions, each an example of its own; `weights` (n,) float32 have mean 1, or are None; `counts`
    (n, dim) bool tells which numbers of the actions do, None if all do; `allowed` (n, choices of a chunk) bool, None
    where the policy itself knows or all may be taken."""

    def __init__(self, obs: Array, actions: Array, device: torch.device, weights: Array | None = None,
                 counts: Array | None = None, allowed: Array | None = None) -> None:
        self.obs, self.actions = torch.tensor(obs, device=device), torch.tensor(actions, device=device)
        self.weights = None if weights is None else torch.tensor(weights, device=device)
        self.counts = None if counts is None else torch.tensor(counts, device=device)
        self.allowed = None if allowed is None else torch.tensor(allowed, device=device)

    def __len__(self) -> int:
        return len(self.obs)

    @functools.cached_property
    def variance(self) -> float:
        """Of continuous actions, summed over their dimensions: those that count, per row."""
        actions, counts = self.chosen_actions(), self.chosen_counts()
        if counts is None:
            return float(actions.var(0, unbiased=False).sum())
        mean = (actions * counts).sum(0) / counts.sum(0).clamp_min(1)
        return float(((actions - mean).square() * counts).sum(1).mean())

    def explained(self, square: float) -> float:
        """The share of that variance which a mean squared distance leaves over; all or nothing where nothing varies."""
        return 1 - square / self.variance if self.variance > 0 else float(square == 0)

    def refresh(self, policy: Policy) -> None:
        """Rows have no recurrent state to bring up to date."""

    def chosen_actions(self) -> Tensor:
        """(rows, dim), in the order of `evaluate` for all of them."""
        return self.actions

    def chosen_counts(self) -> Tensor | None:
        """Which of these count."""
        return self.counts

    def chosen_obs(self) -> Tensor:
        """(rows, *obs_shape), in the same order."""
        return self.obs

    def evaluate(self, policy: Policy, index: Tensor, shift: RandomShift | None = None) -> Examples:
        """The rows `index`, as the policy sees them, their pictures moved by `shift`."""
        obs = self.obs[index] if shift is None else shift(self.obs[index])
        weights, counts, allowed = (None if x is None else x[index] for x in (self.weights, self.counts, self.allowed))
        return _masked(policy.action_params(obs), allowed, policy), self.actions[index], weights, counts


def _masked(params: Tensor, allowed: Tensor | None, policy: Policy) -> Tensor:
    return params if allowed is None else mask_logits(params, allowed, policy.dist.nvec)


class DemoSequences(DemoRows):
    """Episodes cut into sequences of `length` steps for an LSTM, the last of each padded.

    `refresh` recomputes the recurrent state at every sequence's start with the present weights (stored-state training,
    Kapturowski et al. 2019), so that they can be shuffled and yet begin where a running policy would be.
    """

    def __init__(self, obs: Array, actions: Array, episodes: Array, length: int, device: torch.device,
                 weights: Array | None = None, counts: Array | None = None, allowed: Array | None = None) -> None:
        index: list[Array] = []
        self.waves: list[list[int]] = []  # waves[k]: the k-th sequence of every episode that is long enough
        for episode in np.unique(episodes):
            rows = np.flatnonzero(episodes == episode)
            for k, start in enumerate(range(0, len(rows), length)):
                part = rows[start:start + length]
                if k == len(self.waves):
                    self.waves.append([])
                self.waves[k].append(len(index))
                index.append(np.pad(part, (0, length - len(part)), constant_values=-1))
        table = np.array(index, dtype=np.int64).reshape(-1, length)
        super().__init__(obs[table], actions[table], device,
                         *(None if x is None else x[table] for x in (weights, counts, allowed)))
        self.valid = torch.tensor(table >= 0, device=device)
        self.states = torch.empty(0)

    def chosen_actions(self) -> Tensor:
        return self.actions.transpose(0, 1)[self.valid.T]

    def chosen_counts(self) -> Tensor | None:
        return None if self.counts is None else self.counts.transpose(0, 1)[self.valid.T]

    def chosen_obs(self) -> Tensor:
        return self.obs.transpose(0, 1)[self.valid.T]

    @torch.no_grad()
    def refresh(self, policy: Policy) -> None:
        self.states = torch.zeros(len(self), policy.memory_dim, device=self.obs.device)
        for wave, following in zip(self.waves[:-1], self.waves[1:], strict=True):
            _, after = policy.unroll(self.obs[wave].transpose(0, 1), self.states[wave])
            # Only a full sequence has a successor, and both waves list the episodes in the same order.
            position = {number: i for i, number in enumerate(wave)}
            self.states[following] = after[[position[number - 1] for number in following]]

    def evaluate(self, policy: Policy, index: Tensor, shift: RandomShift | None = None) -> Examples:
        valid, obs = self.valid[index].T.reshape(-1), self.obs[index]
        if shift is not None:  # a sequence as a whole
            obs = shift(obs.flatten(0, 1), each=obs.shape[1]).reshape(obs.shape)
        features, _ = policy.unroll(obs.transpose(0, 1), self.states[index])
        actions, weights, counts, allowed = (
            None if x is None else x[index].transpose(0, 1).flatten(0, 1)[valid]
            for x in (self.actions, self.weights, self.counts, self.allowed))
        assert actions is not None
        return _masked(policy.params(features)[valid], allowed, policy), actions, weights, counts


class RowSampler:
    """Draws rows with replacement, in proportion to `weights` (n,) if they are given, otherwise uniformly."""

    def __init__(self, n: int, weights: Array | None, generator: torch.Generator) -> None:
        self.n, self.generator, self.limits = n, generator, None
        if weights is not None:
            total = np.cumsum(weights, dtype=np.float64)
            self.limits = torch.tensor(total / total[-1], device=generator.device)

    def __call__(self, count: int) -> Tensor:
        """(count,) int64 on the generator's device."""
        device = self.generator.device
        if self.limits is None:
            return torch.randint(self.n, (count,), generator=self.generator, device=device)
        points = torch.rand(count, dtype=torch.float64, generator=self.generator, device=device)
        return torch.searchsorted(self.limits, points, right=True)  # a row of weight 0 has no points
