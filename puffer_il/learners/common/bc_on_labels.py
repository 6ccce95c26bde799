"""Every state that an expert has been asked about, and what it said: DAgger's data set (Ross et al. 2011)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from puffer_il.core.spec import Array
from puffer_il.demos.dataset import Demos

# obs (n, *obs_shape), labels (n, dim), episodes (n,), held_out (n,) bool, weights (n,) or None
Labelled = tuple[Array, Array, Array, Array, Array | None]


class LabelledRollouts:
    """Labelled rollouts, one after the other. Environments go on from one rollout to the next, so that each of them is
    one stream of rows and an LSTM finds its episodes whole.

    demos     transitions to begin with, which are always kept; or None
    held_out  share of the episodes to validate on, chosen by their number alone: none ever changes sides
    capacity  labelled rows to keep, by forgetting the oldest rollouts (never the last); 0 keeps all
    """

    def __init__(self, demos: Demos | None, held_out: float, capacity: int = 0) -> None:
        self.demos, self.share, self.capacity = demos, held_out, capacity
        self.rollouts: list[tuple[Array, Array, Array]] = []  # obs, labels, episode of the row or −1, (num_steps, …)
        self.begun = np.zeros(0, np.int32)  # (num_envs,) episodes

    def __len__(self) -> int:
        return sum(int((episodes >= 0).sum()) for _, _, episodes in self.rollouts) + len(self.demos or ())

    def add(self, obs: Array, labels: Array, valid: Array, starts: Array) -> None:
        """A rollout: obs (num_steps, num_envs, *obs_shape), labels (num_steps, num_envs, dim), valid and starts
        (num_steps, num_envs) bool. Rows that are not valid are left out. Arrays are copied."""
        if not len(self.begun):
            self.begun = np.zeros(valid.shape[1], np.int32)
        number = self.begun + np.cumsum(starts & valid, axis=0, dtype=np.int32)
        self.begun = number[-1]
        # A first rollout may begin in the middle of an episode; to be counted from 0, it counts as one.
        self.rollouts.append((obs.copy(), labels.copy(), np.where(valid, np.maximum(number - 1, 0), -1)))
        while self.capacity and len(self.rollouts) > 1 and len(self) - len(self.demos or ()) > self.capacity:
            self.rollouts.pop(0)

    def rows(self) -> Labelled:
        """All there is: the demonstrations, then each environment's rows in the order of time."""
        parts: list[tuple[Array, Array, Array, Array]] = []
        weights: list[Array] = []
        if self.demos is not None:
            assert self.demos.actions is not None
            number = np.repeat(np.arange(self.demos.num_episodes), self.demos.lengths)
            parts.append((self.demos.obs, self.demos.actions, -1 - number, self._held_out(number)))
            if self.demos.weights is not None:  # among themselves; every row of a rollout has weight 1
                weights.append(self.demos.weights / self.demos.weights.mean())
        if self.rollouts:
            obs, labels, number = (np.concatenate(arrays).swapaxes(0, 1) for arrays in zip(*self.rollouts, strict=True))
            column = np.arange(len(number))[:, None]
            kept = number >= 0
            episodes = number.astype(np.int64) * len(number) + column
            parts.append((obs[kept], labels[kept], episodes[kept], self._held_out(number + column)[kept]))
        obs, labels, episodes, held_out = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        if weights:
            weights.append(np.ones(len(obs) - len(weights[0])))
        return obs, labels, episodes, held_out, np.concatenate(weights).astype(np.float32) if weights else None

    def _held_out(self, number: Array) -> Array:
        """Evenly spread over the numbers: with a share of 0.1, number 9, 19, …"""
        return np.floor((number + 1) * self.share) > np.floor(number * self.share)

    def state_dict(self) -> dict[str, Any]:
        """The demonstrations are not in it."""
        return {"rollouts": [[torch.from_numpy(array) for array in rollout] for rollout in self.rollouts],
                "begun": torch.from_numpy(self.begun)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rollouts = [tuple(tensor.numpy() for tensor in rollout) for rollout in state["rollouts"]]
        self.begun = state["begun"].numpy()
