"""What every room agrees on: what an environment's observations and actions are, and one step of a vector.

Arrays are time-major, `(num_steps, num_envs, …)`. `num_envs` counts rows of a vector step: one per agent, so an
environment with two agents contributes two. Only numpy is imported here, so that every room may import it.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from puffer_il.core.errors import InputError
from puffer_il.core.rows import Array, Layout, ObsField

Metrics = dict[str, float]


@dataclass(frozen=True)
class ActionSpec:
    """Actions of one agent. Discrete and multi-discrete ones have `nvec`; continuous ones have `low` and `high`.

    A batch of actions is always two-dimensional: int32 `(n, len(nvec))`, each from 0, or float32 `(n, prod(shape))`.
    """

    nvec: tuple[int, ...] = ()
    low: Array | None = None  # float32, flat
    high: Array | None = None
    shape: tuple[int, ...] = ()  # what the environment itself expects for one action
    start: tuple[int, ...] = ()  # from where the environment itself counts each choice, if not from 0

    @property
    def discrete(self) -> bool:
        return bool(self.nvec)

    @property
    def kind(self) -> str:
        """One of `About.spaces`."""
        return "continuous" if not self.nvec else "discrete" if len(self.nvec) == 1 else "multi-discrete"

    @property
    def bounded(self) -> bool:
        """False for continuous actions whose range has no end."""
        return self.discrete or bool(np.isfinite(np.array([self.low, self.high], np.float32)).all())

    @property
    def dim(self) -> int:
        """Columns of a stored action row."""
        return len(self.nvec) if self.nvec else int(np.prod(self.shape))

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.int32 if self.nvec else np.float32)

    @property
    def half_range(self) -> Array:
        """(dim,) float32 half the width of a continuous range, 1 where it has no bounds."""
        width = (np.asarray(self.high) - np.asarray(self.low)) / 2
        return np.where(np.isfinite(width), width, 1).astype(np.float32)

    def to_env(self, rows: Array) -> Array:
        """Rows (n, dim) → (n, *shape) in the environment's own form: int64 numbers, or floats clipped to the range."""
        if self.discrete:
            return (rows.astype(np.int64) + (np.array(self.start) if self.start else 0)).reshape(len(rows), *self.shape)
        return np.clip(rows, self.low, self.high).reshape(len(rows), *self.shape)

    def from_env(self, actions: Array) -> Array:
        """The reverse: n actions in the environment's own form → rows (n, dim) in `dtype`."""
        rows = np.asarray(actions).reshape(len(actions), self.dim)
        return (rows - np.array(self.start) if self.start else rows).astype(self.dtype)

    def executed(self, actions: Array) -> Array:
        """(n, dim) what the environment does when it is given n actions: continuous ones are clipped to its range."""
        rows = self.rows(actions)
        return rows if self.discrete else np.clip(rows, self.low, self.high)

    def rows(self, actions: Array) -> Array:
        """n actions of any form as rows (n, dim) in `dtype`."""
        return np.asarray(actions).reshape(-1, self.dim).astype(self.dtype, copy=False)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ActionSpec) or (self.nvec, self.shape, self.start) != (other.nvec, other.shape,
                                                                                        other.start):
            return False
        bounds = ((self.low, other.low), (self.high, other.high))
        return self.discrete or all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in bounds)


@dataclass(frozen=True)
class EnvSpec:
    """What a learner may know of an environment: the shapes of one agent's observation and action."""

    name: str
    obs_shape: tuple[int, ...]
    obs_dtype: np.dtype
    action: ActionSpec
    obs_fields: tuple[ObsField, ...] = ()  # one per leaf of a Dict or Tuple; a single one otherwise
    num_agents: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "obs_dtype", np.dtype(self.obs_dtype))
        if not self.obs_fields:
            object.__setattr__(self, "obs_fields", (ObsField("obs", self.obs_dtype, self.obs_shape),))

    def same_spaces(self, other: EnvSpec) -> bool:
        """True if a policy for the one can act in the other, whatever its name and its number of agents."""
        return replace(self, name="", num_agents=1) == replace(other, name="", num_agents=1)

    @property
    def structured(self) -> bool:
        """True if the row must be cut into fields before a network can read it."""
        only = self.obs_fields[0]
        return len(self.obs_fields) > 1 or only.categories > 0 or only.dtype != self.obs_dtype

    @functools.cached_property
    def layout(self) -> Layout:
        """How rows are made of observations."""
        return Layout(self.obs_fields, self.obs_shape, self.obs_dtype)

    @property
    def mask(self) -> ObsField | None:
        """The part of a row that says which actions may be taken, None where all always may."""
        return self.layout.mask

    def pack(self, obs: Any, masks: Any = None) -> tuple[Array, bool]:
        """Observations in the environment's own form, or rows, as rows: see `Layout.pack`. InputError names the
        environment where they are of another shape."""
        try:
            return self.layout.pack(obs, masks)
        except InputError as error:
            raise InputError(f"{self.name}: {error}") from None

    def unpack(self, rows: Array) -> Any:
        """Rows (n, *obs_shape) → a batch of n in the environment's own form: an array, or a dict or tuple of arrays."""
        return self.layout.unpack(rows)


@dataclass(slots=True)
class Batch:
    """One vector step of the environments in `rows`, after the actions sent for them.

    obs          (n, *obs_shape)  what to act on next: after an end, the first observation of the next episode, or,
                                  where `valid` will be False next, the final one (next-step autoreset)
    rewards      (n,) float32     for the actions sent
    terminations (n,) bool        those actions ended the episode
    truncations  (n,) bool        a time limit cut it (never together with a termination)
    valid        (n,) bool        False where the action was ignored: a resetting environment or an absent agent
    final_obs    (n, *obs_shape)  true successor of the rows that ended; other rows are undefined. May alias `obs`.
    episode_returns, episode_lengths, (k,): true return and length of the episodes that ended in this step
    Views are good until the next `send` for the same rows.
    """

    rows: slice
    obs: Array
    rewards: Array
    terminations: Array
    truncations: Array
    valid: Array
    final_obs: Array
    episode_returns: Array
    episode_lengths: Array


@dataclass(frozen=True)
class Starts:
    """Where some episodes begin: with probability `share` in one of `states` (n, state size), all equally likely."""

    states: Array
    share: float
