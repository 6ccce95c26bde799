"""Demonstrated transitions on the learner's device: rows by themselves, or sequences for an LSTM."""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import Tensor

from puffer_il.core.spec import Array
from puffer_il.nn.policy import Policy


def load_rows(obs: Array, actions: Array, weights: Array | None, episodes: Array, length: int,
              device: torch.device) -> DemoRows:
    """Single rows or, with a `length`, chunks of that many steps; `weights` are brought to mean 1.

    obs (n, *obs_shape), actions (n, dim), weights (n,) or None, episodes (n,): what belongs together, in order
    """
    if weights is not None and len(weights) and weights.max() > 0:
        weights = (weights / weights.mean()).astype(np.float32)
    if not length:
        return DemoRows(obs, actions, device, weights)
    return DemoSequences(obs, actions, episodes, length, device, weights)


class DemoRows:
    """Demonstrated transitions, each an example of its own; `weights` (n,) float32 have mean 1, or are None."""

    def __init__(self, obs: Array, actions: Array, device: torch.device, weights: Array | None = None) -> None:
        self.obs, self.actions = torch.tensor(obs, device=device), torch.tensor(actions, device=device)
        self.weights = None if weights is None else torch.tensor(weights, device=device)

    def __len__(self) -> int:
        return len(self.obs)

    @functools.cached_property
    def variance(self) -> float:
        """Of continuous actions, summed over their dimensions."""
        return float(self.chosen_actions().var(0, unbiased=False).sum())

    def explained(self, square: float) -> float:
        """The share of that variance which a mean squared distance leaves over; all or nothing where nothing varies."""
        return 1 - square / self.variance if self.variance > 0 else float(square == 0)

    def refresh(self, policy: Policy) -> None:
        """Rows have no recurrent state to bring up to date."""

    def chosen_actions(self) -> Tensor:
        """(rows, dim), in the order of `evaluate` for all of them."""
        return self.actions

    def evaluate(self, policy: Policy, index: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Of the rows `index`: parameters of the action distribution (n, num_params), actions (n, dim) and weights."""
        weights = None if self.weights is None else self.weights[index]
        return policy.action_params(self.obs[index]), self.actions[index], weights


class DemoSequences(DemoRows):
    """Episodes cut into chunks of `length` steps for an LSTM, the last of each padded.

    `refresh` recomputes the recurrent state at every chunk's start with the present weights (stored-state training,
    Kapturowski et al. 2019), so that chunks can be shuffled and yet begin where a running policy would be.
    """

    def __init__(self, obs: Array, actions: Array, episodes: Array, length: int, device: torch.device,
                 weights: Array | None = None) -> None:
        index: list[Array] = []
        self.waves: list[list[int]] = []  # waves[k]: the k-th chunk of every episode that is long enough
        for episode in np.unique(episodes):
            rows = np.flatnonzero(episodes == episode)
            for k, start in enumerate(range(0, len(rows), length)):
                chunk = rows[start:start + length]
                if k == len(self.waves):
                    self.waves.append([])
                self.waves[k].append(len(index))
                index.append(np.pad(chunk, (0, length - len(chunk)), constant_values=-1))
        chunks = np.array(index, dtype=np.int64).reshape(-1, length)
        super().__init__(obs[chunks], actions[chunks], device, None if weights is None else weights[chunks])
        self.valid = torch.tensor(chunks >= 0, device=device)
        self.states = torch.empty(0)

    def chosen_actions(self) -> Tensor:
        return self.actions.transpose(0, 1)[self.valid.T]

    @torch.no_grad()
    def refresh(self, policy: Policy) -> None:
        self.states = torch.zeros(len(self), policy.state_dim, device=self.obs.device)
        for wave, following in zip(self.waves[:-1], self.waves[1:], strict=True):
            _, after = policy.unroll(self.obs[wave].transpose(0, 1), self.states[wave])
            # Only a full chunk has a successor, and both waves list the episodes in the same order.
            position = {chunk: i for i, chunk in enumerate(wave)}
            self.states[following] = after[[position[chunk - 1] for chunk in following]]

    def evaluate(self, policy: Policy, index: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        valid = self.valid[index].T.reshape(-1)
        features, _ = policy.unroll(self.obs[index].transpose(0, 1), self.states[index])
        actions = self.actions[index].transpose(0, 1).reshape(len(valid), -1)[valid]
        weights = None if self.weights is None else self.weights[index].T.reshape(-1)[valid]
        return policy.params(features)[valid], actions, weights


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
