"""The rollout buffer: one rollout of every environment, time-major, in memory that is allocated once.

This file allocates and checks; the kernels in _buffer.pyx copy and compute.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

import puffer_il.rollout._buffer as kernels
from puffer_il.core.errors import InputError
from puffer_il.core.spec import Array, EnvSpec


@dataclass(slots=True)
class Rows:
    """Rows of a rollout, aligned: (num_steps, m, …) for the columns of m environments, (n, …) for rows by themselves.

    obs            (…, *obs_shape) in the environment's dtype
    actions        (…, dim) int32 or float32
    rewards, logprobs, values, advantages, returns             (…) float32
    terminations, truncations, valid, episode_starts           (…) bool
    initial_state  (m, state_dim) float32, the recurrent state before step 0; (0, state_dim) for rows drawn at random
    """

    obs: Array
    actions: Array
    rewards: Array
    logprobs: Array
    values: Array
    advantages: Array
    returns: Array
    terminations: Array
    truncations: Array
    valid: Array
    episode_starts: Array
    initial_state: Array


ROW_FIELDS = tuple(field.name for field in fields(Rows) if field.name != "initial_state")
ACTION_FIELDS = ("obs", "actions", "logprobs", "values")
OUTCOME_FIELDS = ("rewards", "env_rewards", "terminations", "truncations", "valid")


class RolloutBuffer:
    """`num_steps` steps of `num_envs` environments. `allocate(shape, dtype)` makes the arrays, zeroed.

    obs                   (num_steps, num_envs, *obs_shape) in the environment's dtype
    actions               (num_steps, num_envs, dim) int32 or float32
    rewards, env_rewards  (num_steps, num_envs) float32: what the learner optimises, and the truth
    logprobs, values, advantages, returns  (num_steps, num_envs) float32
    final_values          (num_steps, num_envs) float32: value of the final observation where an episode ended. Zero
                          unless it is written after `write_outcome`: a truncation's critic value, or what a learner
                          says that a termination is worth
    terminations, truncations, valid       (num_steps, num_envs) bool
    episode_starts        (num_steps, num_envs) bool: the recurrent state is zeroed before this step
    initial_state         (num_envs, state_dim) float32: the recurrent state before step 0
    expert_actions        (num_steps, num_envs, dim): what an expert would have done, None without `expert`
    shown                 (num_steps, num_envs) bool: rows that an expert has driven, none of them `valid` (slices.py);
                          None without `shown`
    last_obs, last_values (num_envs, *obs_shape), (num_envs,) float32: what follows the last step, and its value

    Write into the arrays, never put others in their place.
    """

    def __init__(self, spec: EnvSpec, num_steps: int, num_envs: int, *, state_dim: int = 0,
                 allocate: Callable[..., Array] = np.zeros, expert: bool = False, shown: bool = False) -> None:
        if num_steps < 1 or num_envs < 1:
            raise ValueError(f"a rollout of {num_steps} steps and {num_envs} environments is empty")
        self.num_steps, self.num_envs, self.action = num_steps, num_envs, spec.action
        size = (num_steps, num_envs)
        self.obs = allocate((*size, *spec.obs_shape), spec.obs_dtype)
        self.actions = allocate((*size, spec.action.dim), spec.action.dtype)
        (self.rewards, self.env_rewards, self.logprobs, self.values, self.advantages, self.returns,
         self.final_values) = (allocate(size, np.float32) for _ in range(7))
        self.terminations, self.truncations, self.valid, self.episode_starts = (allocate(size, np.bool_)
                                                                                for _ in range(4))
        self.expert_actions = allocate(self.actions.shape, self.actions.dtype) if expert else None
        self.shown = allocate(size, np.bool_) if shown else None
        self.initial_state = allocate((num_envs, state_dim), np.float32)
        self.last_obs = allocate((num_envs, *spec.obs_shape), spec.obs_dtype)
        self.last_values = allocate((num_envs,), np.float32)

        self.rollout: Any = None  # the rollout on the learner's device, if that is another one (tensors.py)
        self._num_final = 0
        self._final_index = np.empty(num_envs, np.int64)
        self._final_obs = np.empty_like(self.last_obs)
        self._next_obs: Array | None = None
        self._staging: list[Array] = []
        self._staged: dict[tuple[int, ...], tuple[Rows, tuple[Array, ...]]] = {}
        by_column = {name: _as_bytes(getattr(self, name), size) for name in {*ROW_FIELDS, *OUTCOME_FIELDS}}
        self._action_arrays = tuple(getattr(self, name) for name in ACTION_FIELDS)
        self._outcome_arrays = tuple(getattr(self, name) for name in OUTCOME_FIELDS)
        self._flag_bytes = tuple(flags.view(np.uint8) for flags in (self.terminations, self.truncations, self.valid))
        self._ended = np.empty(num_envs, np.int64)
        self._column_bytes = tuple(by_column[name] for name in ROW_FIELDS)
        self._row_bytes = tuple(array.reshape(1, num_steps * num_envs, -1) for array in self._column_bytes)

    def __setattr__(self, name: str, value: Any) -> None:
        # The kernels hold these arrays: another one in their place would never be read.
        if isinstance(self.__dict__.get(name), np.ndarray) and not name.startswith("_"):
            raise AttributeError(f"buffer.{name} cannot be replaced; write into it: buffer.{name}[:] = …")
        super().__setattr__(name, value)

    def start(self) -> None:
        """Begin a rollout: forget the final observations of the last one, and what is on another device."""
        self._num_final = 0
        if self.rollout is not None:
            self.rollout.start()

    def write_actions(self, t: int, rows: slice, obs: Array, actions: Array, logprobs: Array, values: Array) -> None:
        """Step t of the environments `rows`, before it: what they showed, what was done, how likely, its value.

        Shapes are those of the buffer's arrays with the n environments of `rows` in front; strides are free.
        ValueError names both sides where a dtype or shape differs.
        """
        n, first = self._place(t, rows)
        self._write(ACTION_FIELDS, self._action_arrays, (obs, actions, logprobs, values), t, first, n)

    def write_outcome(self, t: int, rows: slice, rewards: Array, terminations: Array, truncations: Array, valid: Array,
                      final_obs: Array) -> None:
        """Step t of the environments `rows`, after it. `rewards` are the true ones and become the learner's as well.

        `final_obs` (n, *obs_shape) is kept for the valid rows that ended; other rows of it are not read.
        """
        n, first = self._place(t, rows)
        if final_obs.dtype != self.last_obs.dtype or final_obs.shape != (n, *self.last_obs.shape[1:]):
            raise self._misfit("final_obs", final_obs, self.last_obs.dtype, (n, *self.last_obs.shape[1:]))
        outcome = (rewards, rewards, terminations, truncations, valid)
        self._write(OUTCOME_FIELDS, self._outcome_arrays, outcome, t, first, n)
        part = slice(first, first + n)
        count = kernels.ends(*(flags[t, part] for flags in self._flag_bytes), self.final_values[t, part], self._ended)
        if count:
            ended = self._ended[:count]
            self.keep_ends(t * self.num_envs + first + ended, final_obs[ended])

    def compute_advantages(self, gamma: float, gae_lambda: float) -> None:
        """Fill `advantages` and `returns` by generalised advantage estimation (Schulman et al. 2016, arXiv:1506.02438,
        eq. 16).

            delta_t  = r_t + gamma V(s_{t+1}) − V(s_t)
            A_t      = delta_t + gamma lambda A_{t+1}          R_t = A_t + V(s_t)

        Where an episode ends at t, V(s_{t+1}) is `final_values[t]` and the sum stops; at the last step it is
        `last_values` and the sum stops. A row that is not valid has advantage 0, and with that nothing of it reaches
        other rows but the value of its observation, should the row before it go on.
        """
        kernels.advantages(self.rewards, self.values, self.last_values, self.final_values,
                           self.terminations.view(np.uint8), self.truncations.view(np.uint8), self.valid.view(np.uint8),
                           gamma, gae_lambda, self.advantages, self.returns)

    def keep_ends(self, index: Array, final_obs: Array) -> None:
        """Note the rows t·num_envs + i that ended, (k,) int64, and their true successors (k, *obs_shape), where whoever
        writes the arrays does so without `write_outcome`."""
        old, self._num_final = self._num_final, self._num_final + len(index)
        while self._num_final > len(self._final_index):
            self._final_index = np.concatenate((self._final_index, np.empty_like(self._final_index)))
            self._final_obs = np.concatenate((self._final_obs, np.empty_like(self._final_obs)))
        self._final_index[old:self._num_final] = index
        self._final_obs[old:self._num_final] = final_obs

    def drop(self, rows: Array, unseen: Array, last: Array) -> None:
        """Leave `rows` (num_steps, num_envs) bool out, as if their actions had been ignored: what follows them begins
        an episode, and what is not finite in them becomes 0. So do the observations `unseen` (num_steps, num_envs), and
        `last` (num_envs,) of those that follow the last step."""
        for flags in (self.valid, self.terminations, self.truncations, *([] if self.shown is None else [self.shown])):
            flags[rows] = False
        self.episode_starts[rows] = True
        self.episode_starts[1:][rows[:-1]] = True
        self.obs[unseen], self.last_obs[last], self.last_values[last | rows[-1]] = 0, 0, 0
        for array in (self.actions, self.rewards, self.env_rewards, self.logprobs, self.values, self.final_values):
            array[rows] = np.nan_to_num(array[rows], nan=0, posinf=0, neginf=0)
        kept = ~rows.reshape(-1)[self.final_index]
        index, final = self.final_index[kept], self.final_obs[kept]
        self._num_final = 0
        self.keep_ends(index, final)
        if self.rollout is not None:
            self.rollout.start()

    @property
    def final_index(self) -> Array:
        """(k,) int64: flat row numbers t·num_envs + i of the valid rows that ended, in the order they were written."""
        return self._final_index[:self._num_final]

    @property
    def final_obs(self) -> Array:
        """(k, *obs_shape): the true successors of the rows `final_index`."""
        return self._final_obs[:self._num_final]

    def next_obs(self) -> Array:
        """(num_steps·num_envs, *obs_shape): the true successor of every valid row, good until the next call."""
        if self._next_obs is None:
            self._next_obs = np.empty_like(self.obs)
        self._next_obs[:-1] = self.obs[1:]
        self._next_obs[-1] = self.last_obs
        flat = self._next_obs.reshape(-1, *self.obs.shape[2:])
        flat[self.final_index] = self.final_obs
        return flat

    def flat(self) -> Rows:
        """The whole rollout as rows (num_steps·num_envs, …): views, nothing is copied."""
        arrays = {name: getattr(self, name) for name in ROW_FIELDS}
        return Rows(**{name: array.reshape(-1, *array.shape[2:]) for name, array in arrays.items()},
                    initial_state=self.initial_state)

    def columns(self, num_minibatches: int, rng: np.random.Generator | None = None) -> Iterator[slice | Array]:
        """Share the environments out to `num_minibatches` minibatches, at random with `rng`, in order without."""
        if num_minibatches > self.num_envs:
            raise InputError(f"num_minibatches = {num_minibatches}: there are only {self.num_envs} environments to "
                             "share out; lower it or raise env.num_envs")
        if rng is None or num_minibatches == 1:
            parts = np.array_split(np.arange(self.num_envs), num_minibatches)
            return (slice(int(part[0]), int(part[-1]) + 1) for part in parts)
        # The order within a minibatch does not matter, and rising addresses are faster to read.
        return map(np.sort, np.array_split(rng.permutation(self.num_envs), num_minibatches))

    def minibatch(self, columns: slice | Array) -> Rows:
        """All steps of some environments, (num_steps, m, …): views for a slice, staged copies for numbers (m,).

        Staged copies are contiguous and good until the next call of `minibatch` or `minibatch_rows`. Calls of equal
        size return the same `Rows` in the same memory, unless a larger minibatch than ever came in between.
        """
        if isinstance(columns, slice):
            return Rows(**{name: getattr(self, name)[:, columns] for name in ROW_FIELDS},
                        initial_state=self.initial_state[columns])
        index = _checked_index(columns, self.num_envs, "environments")
        rows, targets = self._stage((self.num_steps, len(index)))
        kernels.gather(targets, self._column_bytes, index)
        rows.initial_state[:] = self.initial_state[index]
        return rows

    def minibatch_rows(self, index: Array) -> Rows:
        """The rows t·num_envs + i given by `index` (n,), staged as `minibatch` does; without a recurrent state."""
        index = _checked_index(index, self.num_steps * self.num_envs, "rows")
        rows, targets = self._stage((len(index),))
        kernels.gather(targets, self._row_bytes, index)
        return rows

    def _place(self, t: int, rows: slice) -> tuple[int, int]:
        """Number of environments in `rows`, and the first."""
        first, stop, stride = rows.indices(self.num_envs)
        if not 0 <= t < self.num_steps or stride != 1 or stop <= first:
            raise IndexError(f"step {t} of environments {rows} is not within {self.num_steps} steps of {self.num_envs}")
        return stop - first, first

    def _write(self, names: tuple[str, ...], targets: tuple[Array, ...], sources: tuple[Array, ...], t: int, first: int,
               n: int) -> None:
        wrong = kernels.write(targets, sources, t, first, n)
        if wrong >= 0:
            raise self._misfit(names[wrong], sources[wrong], targets[wrong].dtype, (n, *targets[wrong].shape[2:]))

    @staticmethod
    def _misfit(name: str, array: Array, dtype: np.dtype, shape: tuple[int, ...]) -> ValueError:
        return ValueError(f"{name} is {array.dtype} {array.shape} but the buffer holds {dtype} {shape}")

    def _stage(self, lead: tuple[int, ...]) -> tuple[Rows, tuple[Array, ...]]:
        """Memory for a minibatch with the leading axes `lead`, and the same as bytes (steps, rows, width).

        It is never page-locked: an asynchronous copy from page-locked memory may still be under way when the next
        minibatch is gathered over it, whereas the driver is done with ordinary memory when the copy's call returns.
        """
        if lead not in self._staged:
            size = math.prod(lead)
            if not self._staging or size > len(self._staging[0]):
                arrays = (getattr(self, name) for name in ROW_FIELDS)
                self._staging = [np.empty((size, *array.shape[2:]), array.dtype) for array in arrays]
                self._staged.clear()
            views = [array[:size].reshape(*lead, *array.shape[1:]) for array in self._staging]
            columns = lead[1] if len(lead) == 2 else 0
            rows = Rows(**dict(zip(ROW_FIELDS, views, strict=True)),
                        initial_state=np.empty((columns, self.initial_state.shape[1]), np.float32))
            # Loose rows are columns of a single step.
            self._staged[lead] = rows, tuple(_as_bytes(view, (size // lead[-1], lead[-1])) for view in views)
        return self._staged[lead]


def _as_bytes(array: Array, lead: tuple[int, ...]) -> Array:
    """The same memory as uint8 (*lead, bytes of a row)."""
    return array.reshape(*lead, -1).view(np.uint8)


def _checked_index(index: Array, stop: int, what: str) -> Array:
    """`index` as contiguous int64, once it is known to lie in [0, stop): the kernel does not look."""
    if index.ndim != 1 or index.dtype.kind not in "iu":
        raise ValueError(f"the minibatch is {index.dtype} {index.shape} but must be whole numbers (n,)")
    if len(index) == 0:
        raise InputError(f"a minibatch is empty: there are fewer than num_minibatches {what}; lower num_minibatches")
    if index.min() < 0 or index.max() >= stop:
        raise IndexError(f"the minibatch asks for {index.min()} to {index.max()} of {stop} {what}")
    return np.ascontiguousarray(index, np.int64)
