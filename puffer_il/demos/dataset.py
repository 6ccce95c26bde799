"""`Demos`: demonstrations in memory, checked on construction."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    pass
from puffer_il.core.errors import InputError
from puffer_il.core.spec import Array


@dataclass(frozen=True)
class Demos:
    """Demonstrations: flat transitions plus episode offsets, checked on construction and read-only afterwards.

    obs, next_obs   (n, *obs_shape); next_obs is the true successor, never the next episode's first observation
    actions         (n, dim): int32 for discrete and multi-discrete ones, float32 otherwise; None where only the
                    observations were recorded
    terminations, truncations  (n,) bool, set on at most the last row of an episode, never both
    episode_starts  (episodes,) int64, increasing, the first 0
    rewards         (n,) float32 or None, the true reward
    episode_returns, episode_lengths, episode_terminations, episode_truncations  (episodes,) float64, int64, bool, bool
                    of the whole episodes; given where the rows are only a part of each (subsampled), None otherwise
    weights         (n,) float32, at least 0: how much each row counts against the others; None where all count alike
    states          (n, state size) float64 or None: the environment's whole state at each obs, to put it back there
    """

    obs: Array
    actions: Array | None
    next_obs: Array
    terminations: Array
    truncations: Array
    episode_starts: Array
    rewards: Array | None = None
    episode_returns: Array | None = None
    episode_lengths: Array | None = None
    episode_terminations: Array | None = None
    episode_truncations: Array | None = None
    weights: Array | None = None
    states: Array | None = None
    source: str = "memory"
    notes: tuple[str, ...] = field(default=(), compare=False)  # what the reader skipped or assumed

    def __post_init__(self) -> None:
        n = len(self.obs)
        if n == 0:
            raise InputError(f"demos {self.source}: no transitions; collect at least one episode")
        for name in ("actions", "next_obs", "terminations", "truncations", "rewards", "weights", "states"):
            array = getattr(self, name)
            if array is not None and len(array) != n:
                raise InputError(f"demos {self.source}: {name} has {len(array)} rows but obs has {n}; "
                                 "every array must hold one row per transition")
        if self.next_obs.shape != self.obs.shape:
            raise InputError(f"demos {self.source}: next_obs has shape {self.next_obs.shape} but obs {self.obs.shape}; "
                             "they must agree")
        if self.actions is not None and self.actions.ndim != 2:
            raise InputError(f"demos {self.source}: actions has {self.actions.ndim} axes instead of 2 (row, dimension)")
        starts = self.episode_starts
        if len(starts) == 0 or starts[0] != 0 or starts[-1] >= n or np.any(np.diff(starts) <= 0):
            raise InputError(f"demos {self.source}: episode_starts must rise from 0 and stay below {n} transitions, "
                             f"got {starts[:5].tolist()}…")
        for name in ("episode_returns", "episode_lengths", "episode_terminations", "episode_truncations"):
            array = getattr(self, name)
            if array is not None and array.shape != starts.shape:
                raise InputError(f"demos {self.source}: {name} has shape {array.shape} but there are {len(starts)} "
                                 "episodes; give one number per episode")
        for name in ("obs", "next_obs", "actions", "rewards", "episode_returns", "weights", "states"):
            array = getattr(self, name)
            if array is not None and array.dtype.kind == "f" and not np.isfinite(array).all():
                bad = int(np.argwhere(~np.isfinite(array))[0][0])
                raise InputError(f"demos {self.source}: {name} is NaN or infinite in row {bad}; "
                                 "remove that episode or repair the recording")
        ends = self.terminations | self.truncations
        inner = np.setdiff1d(np.flatnonzero(ends), self.episode_ends - 1)
        if len(inner):
            raise InputError(f"demos {self.source}: row {inner[0]} ends an episode but episode_starts has no start at "
                             f"row {inner[0] + 1}; split the episodes there")
        both = np.flatnonzero(self.terminations & self.truncations)
        if len(both):
            raise InputError(f"demos {self.source}: row {both[0]} is both a termination and a truncation; keep one "
                             "(a time limit is a truncation)")
        if self.weights is not None and (self.weights.ndim != 1 or self.weights.min() < 0 or self.weights.max() <= 0):
            raise InputError(f"demos {self.source}: weights have shape {self.weights.shape} and lie in "
                             f"[{self.weights.min():.4g}, {self.weights.max():.4g}]; give one number per transition, "
                             "none negative and not all zero")
        if self.states is not None and self.states.ndim != 2:
            raise InputError(f"demos {self.source}: states has {self.states.ndim} axes instead of 2 (row, number)")
        for name in ("obs", "actions", "next_obs", "terminations", "truncations", "episode_starts", "rewards",
                     "episode_returns", "episode_lengths", "episode_terminations", "episode_truncations", "weights",
                     "states"):
            array = getattr(self, name)
            if array is not None:
                array.setflags(write=False)

    def __len__(self) -> int:
        return len(self.obs)

    @property
    def num_episodes(self) -> int:
        return len(self.episode_starts)

    @property
    def episode_ends(self) -> Array:
        """(episodes,) one past the last row of each episode."""
        return np.append(self.episode_starts[1:], len(self.obs))

    @property
    def lengths(self) -> Array:
        """(episodes,) rows stored of each episode."""
        return self.episode_ends - self.episode_starts

    @property
    def whole_lengths(self) -> Array:
        """(episodes,) steps of each whole episode: more than its rows where they are subsampled."""
        return self.lengths if self.episode_lengths is None else self.episode_lengths

    @property
    def terminated(self) -> Array:
        """(episodes,) bool, True where the whole episode ended in a termination."""
        if self.episode_terminations is not None:
            return self.episode_terminations
        return self.terminations[self.episode_ends - 1]

    @property
    def truncated(self) -> Array:
        """(episodes,) bool, True where a time limit cut the whole episode."""
        if self.episode_truncations is not None:
            return self.episode_truncations
        return self.truncations[self.episode_ends - 1]

    @property
    def returns(self) -> Array | None:
        """(episodes,) undiscounted true returns of the whole episodes, None without rewards."""
        if self.episode_returns is not None or self.rewards is None:
            return self.episode_returns
        return np.add.reduceat(self.rewards, self.episode_starts, dtype=np.float64)

    @property
    def episode_weights(self) -> Array:
        """(episodes,) float64 mean weight of each episode's rows, 1 without weights."""
        if self.weights is None:
            return np.ones(self.num_episodes)
        return np.add.reduceat(self.weights, self.episode_starts, dtype=np.float64) / self.lengths

    @property
    def return_mean(self) -> float | None:
        """Mean of `returns`, each episode counting as its `episode_weights` say."""
        return None if self.returns is None else float(np.average(self.returns, weights=self.episode_weights))
