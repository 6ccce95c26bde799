"""What every room agrees on: what an environment's observations and actions are, and one step of a vector.

Arrays are time-major, `(num_steps, num_envs, …)`. `num_envs` counts rows of a vector step: one per agent, so an
environment with two agents contributes two. Only numpy is imported here, so that every room may import it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from puffer_il.core.errors import InputError

Array = np.ndarray
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

    def of(self, rows: Array) -> Array:
        """(n, *shape) this leaf of n observation rows."""
        raw = np.ascontiguousarray(rows).reshape(len(rows), -1).view(np.uint8)
        size = int(np.prod(self.shape)) * self.dtype.itemsize
        return np.ascontiguousarray(raw[:, self.offset:self.offset + size]).view(self.dtype).reshape(-1, *self.shape)


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

    def pack(self, obs: Any) -> tuple[Array, bool]:
        """One observation or a batch, in the environment's own form or as rows → rows (n, *obs_shape), and whether it
        was a batch. Dict and Tuple observations are dicts and tuples of either. InputError for other shapes."""
        shape, field = self.obs_shape, self.obs_fields[0]
        if not isinstance(obs, dict | tuple):
            array = np.asarray(obs)
            if field.shape == () and array.ndim < 2:  # a bare Discrete observation, or a batch of them
                return np.ascontiguousarray(array.reshape(-1, 1), dtype=self.obs_dtype), array.ndim == 1
            if array.shape[array.ndim - len(shape):] != shape or array.ndim > len(shape) + 1:
                raise InputError(f"observations of shape {array.shape}: {self.name} has {shape}; give one, or a batch "
                                 f"(n, {', '.join(map(str, shape))})")
            return np.ascontiguousarray(array.reshape(-1, *shape), dtype=self.obs_dtype), array.ndim > len(shape)
        batched = np.ndim(_leaf(obs, field.name)) > len(field.shape)
        count = len(_leaf(obs, field.name)) if batched else 1
        raw = np.zeros((count, int(np.prod(shape)) * self.obs_dtype.itemsize), np.uint8)
        for f in self.obs_fields:
            leaf = np.ascontiguousarray(np.asarray(_leaf(obs, f.name), dtype=f.dtype).reshape(count, -1))
            raw[:, f.offset:f.offset + leaf.shape[1] * leaf.itemsize] = leaf.view(np.uint8).reshape(count, -1)
        return raw.view(self.obs_dtype).reshape(count, *shape), batched

    def unpack(self, rows: Array) -> Any:
        """Rows (n, *obs_shape) → a batch of n in the environment's own form: an array, or a dict or tuple of arrays."""
        if not self.structured:
            return rows
        leaves = {field.name: field.of(rows) for field in self.obs_fields}
        return leaves["obs"] if leaves.keys() == {"obs"} else _nested(leaves)


def _leaf(obs: Any, path: str) -> Any:
    """obs["a"]["b"] for the field "a.b", and obs[0] for the field "f0" of a tuple."""
    head, _, rest = path.partition(".")
    inner = obs[int(head[1:])] if isinstance(obs, tuple) else obs[head]
    return _leaf(inner, rest) if rest else inner


def _nested(leaves: dict[str, Any]) -> Any:
    """The dicts and tuples whose leaves have these paths."""
    groups: dict[str, dict[str, Any]] = {}
    for path, leaf in leaves.items():
        head, _, rest = path.partition(".")
        groups.setdefault(head, {})[rest] = leaf
    made = {head: group[""] if "" in group else _nested(group) for head, group in groups.items()}
    return tuple(made.values()) if list(made) == [f"f{i}" for i in range(len(made))] else made


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
