"""What every room agrees on: what an environment's observations and actions are, and one step of a vector.

Arrays are time-major, `(num_steps, num_envs, …)`. `num_envs` counts rows of a vector step: one per agent, so an
environment with two agents contributes two. Only numpy is imported here, so that every room may import it.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from puffer_il.core.actions import ActionSpec
from puffer_il.core.errors import InputError
from puffer_il.core.frames import Frames, Pictures, arranged
from puffer_il.core.rows import Array, Layout, ObsField

Metrics = dict[str, float]


@dataclass(frozen=True)
class EnvSpec:
    """What a learner may know of an environment: the shapes of one agent's observation and action."""

    name: str
    obs_shape: tuple[int, ...]
    obs_dtype: np.dtype
    action: ActionSpec
    obs_fields: tuple[ObsField, ...] = ()  # one per leaf of a Dict or Tuple; a single one otherwise
    num_agents: int = 1
    frames: Frames | None = None  # what made the pictures in the rows of the environment's own; None where they are

    def __post_init__(self) -> None:
        object.__setattr__(self, "obs_dtype", np.dtype(self.obs_dtype))
        if not self.obs_fields:
            object.__setattr__(self, "obs_fields", (ObsField("obs", self.obs_dtype, self.obs_shape),))

    def same_spaces(self, other: EnvSpec) -> bool:
        """True if a policy for the one can act in the other, whatever its name and its number of agents."""
        return replace(self, name="", num_agents=1) == replace(other, name="", num_agents=1)

    def prepared(self, options: Pictures) -> EnvSpec:
        """The same with pictures that are prepared; InputError where there are none."""
        layout, frames = arranged(self.name, self.layout, options)
        return replace(self, obs_shape=layout.shape, obs_dtype=layout.dtype, obs_fields=layout.fields, frames=frames)

    @property
    def raw(self) -> EnvSpec:
        """The same before its pictures are prepared."""
        if self.frames is None:
            return self
        own = self.frames.raw
        return replace(self, obs_shape=own.shape, obs_dtype=own.dtype, obs_fields=own.fields, frames=None)

    @property
    def pictures(self) -> Pictures:
        """How its pictures are prepared, with which an environment is opened that has the same observations."""
        options = Pictures() if self.frames is None else self.frames.options
        orders = {field.channels for field in self.raw.obs_fields if field.image and field.channels}
        return replace(options, channels=orders.pop()) if len(orders) == 1 else options

    @property
    def structured(self) -> bool:
        """True if the row must be cut into fields before a network can read it. The leaves of a Dict or Tuple that are
        numbers of one dtype, side by side, are such a row already."""
        end = 0
        for field in self.obs_fields:
            alone = field.mask or (field.image and len(self.obs_fields) > 1)
            if alone or field.categories or field.dtype != self.obs_dtype or field.offset != end:
                return True
            end = field.end
        return end != math.prod(self.obs_shape) * self.obs_dtype.itemsize

    @functools.cached_property
    def layout(self) -> Layout:
        """How rows are made of observations."""
        return Layout(self.obs_fields, self.obs_shape, self.obs_dtype)

    @property
    def mask(self) -> ObsField | None:
        """The part of a row that says which actions may be taken, None where all always may."""
        return self.layout.mask

    def allowed(self, rows: Array) -> list[Array] | None:
        """Which choices may be taken in each of n rows, an array (n, choices) bool for each part of the action; None
        where all always may. Where nothing is allowed, as after an episode's end, everything is."""
        if self.mask is None:
            return None
        given = self.mask.of(rows).reshape(len(rows), -1) != 0
        parts = np.split(given, np.cumsum(self.action.nvec)[:-1], axis=1)
        return [part | ~part.any(1, keepdims=True) for part in parts]

    def forbidden(self, rows: Array, actions: Array) -> Array:
        """(n,) bool, where an action (n, dim) is one that its observation says may not be taken."""
        wrong = np.zeros(len(rows), bool)
        for k, part in enumerate(self.allowed(rows) or ()):
            wrong |= ~part[np.arange(len(rows)), actions[:, k].astype(np.int64)]
        return wrong

    def blank(self, count: int) -> Array:
        """Observation rows (count, *obs_shape) of zeros, categories being the first ones."""
        rows = np.zeros((count, *self.obs_shape), self.obs_dtype)
        for field, target in self.layout.targets(rows):
            if field.categories:
                target[...] = field.first
        return rows

    def pack(self, obs: Any, masks: Any = None) -> tuple[Array, bool]:
        """Observations in the environment's own form, or rows, as rows: see `Layout.pack`. Pictures may be as the
        environment gives them, or prepared. InputError names the environment where they are of another shape, or where
        pictures are to be stacked whose predecessors only `pack_next` knows."""
        rows, batched, raw = self._packed(obs, masks)
        if raw and self.frames is not None:
            if self.frames.options.stack > 1:
                raise InputError(f"{self.name}: a single picture is given where {self.frames.options.stack} are one "
                                 "observation; give them side by side as channels, as rows of the environment are")
            rows = self.frames.begin(rows)
        return rows, batched

    def pack_next(self, obs: Any, before: Array | None, starts: Any = None, masks: Any = None
                  ) -> tuple[Array, bool, bool]:
        """`pack` of pictures that follow one another: `before` are the rows that the last call gave, None in the first;
        `starts` (n,) bool is True where an episode begins. The last value is whether the rows are needed again."""
        rows, batched, raw = self._packed(obs, masks)
        if not raw or self.frames is None:
            return rows, batched, False
        stack, count = self.frames.options.stack, len(rows)
        if stack == 1:
            return self.frames.begin(rows), batched, False
        if before is None and starts is None:
            raise InputError(f"{self.name}: this policy sees {stack} pictures at once: hand the state that predict "
                             "returned to its next call, with episode_start True where an episode begins; or open the "
                             "environment with puffer_il.make(…, pictures=policy), which stacks them")
        begins = np.zeros(count, bool) if starts is None else np.atleast_1d(np.asarray(starts, bool))
        if begins.shape != (count,):
            raise InputError(f"{self.name}: episode_start has shape {begins.shape}, but {count} observations are "
                             "given; give one for each")
        if before is None:
            return self.frames.begin(rows), batched, True
        if np.shape(before) != (count, *self.obs_shape):
            raise InputError(f"{self.name}: the state is of {len(before)} observations, but {count} are given; begin "
                             "with state=None and episode_start=True")
        made = np.array(before)
        self.frames.write(made, rows, begins)
        return made, batched, True

    def _packed(self, obs: Any, masks: Any) -> tuple[Array, bool, bool]:
        """Rows, whether they were a batch, and whether these are raw ones."""
        try:
            raw = self.frames is not None and self.frames.is_raw(obs)
            rows, batched = (self.raw if raw else self).layout.pack(obs, masks)
            return rows, batched, raw
        except InputError as error:
            shape = self.frames is not None and str(error).startswith("observations of shape")
            own = f", or pictures that are not prepared, {self.raw.obs_shape}" if shape else ""
            raise InputError(f"{self.name}: {error}{own}") from None

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
