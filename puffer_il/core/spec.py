"""What every layer agrees on: specs of an environment, demonstrations, one vector step, the learner protocol.

Arrays are time-major, `(num_steps, num_envs, …)`. `num_envs` counts rows of a vector step: one per agent, so an
environment with two agents contributes two. Only numpy is imported here, so that every layer may import it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    pass

Array = np.ndarray
Metrics = dict[str, float]


@dataclass(frozen=True)
class ActionSpec:
    """Actions of one agent. Discrete and multi-discrete ones have `nvec`; continuous ones have `low` and `high`.

    A batch of actions is always two-dimensional: int32 `(n, len(nvec))` or float32 `(n, prod(shape))`.
    """

    nvec: tuple[int, ...] = ()
    low: Array | None = None  # float32, flat
    high: Array | None = None
    shape: tuple[int, ...] = ()  # what the environment itself expects for one action

    @property
    def discrete(self) -> bool:
        return bool(self.nvec)

    @property
    def kind(self) -> str:
        """One of `About.spaces`."""
        return "continuous" if not self.nvec else "discrete" if len(self.nvec) == 1 else "multi-discrete"

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

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ActionSpec) or (self.nvec, self.shape) != (other.nvec, other.shape):
            return False
        bounds = ((self.low, other.low), (self.high, other.high))
        return self.discrete or all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in bounds)


@dataclass(frozen=True)
class ObsField:
    """One leaf of an observation inside its flat row, as PufferLib's emulation lays it out (byte offset, dtype, shape).

    `categories` is nonzero for a leaf that holds a category number: the policy sees it one-hot.
    """

    name: str
    dtype: np.dtype
    shape: tuple[int, ...]
    offset: int = 0
    categories: int = 0

    @property
    def image(self) -> bool:
        """uint8 with three axes: the policy sends it through its convolutional encoder."""
        return self.dtype == np.uint8 and len(self.shape) == 3


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

    @property
    def structured(self) -> bool:
        """True if the row must be cut into fields before a network can read it."""
        only = self.obs_fields[0]
        return len(self.obs_fields) > 1 or only.categories > 0 or only.dtype != self.obs_dtype


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
