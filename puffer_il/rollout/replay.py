"""The replay buffer of off-policy learners: a ring of transitions in memory that is allocated once.

This file allocates and checks; the kernels in _replay.pyx, and `gather` of the rollout's, copy.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch

import puffer_il.rollout._replay as kernels
from puffer_il.core.spec import Array, EnvSpec
from puffer_il.rollout._buffer import gather
from puffer_il.rollout.buffer import RolloutBuffer

MOST_ROWS = 2**31  # what the generator can choose from


@dataclass(slots=True)
class Transitions:
    """Rows (…) of a replay, aligned.

    obs, next_obs  (…, *obs_shape) in the environment's dtype; next_obs is the true successor
    actions        (…, dim) int32 or float32
    rewards        (…) float32, what the learner optimises
    terminations   (…) bool; a truncation is none
    """

    obs: Array
    actions: Array
    rewards: Array
    next_obs: Array
    terminations: Array


FIELDS = tuple(field.name for field in fields(Transitions))


class ReplayBuffer:
    """The last `capacity` transitions. `seed` and `stream` decide which of them are drawn, into arrays that
    `allocate(shape, dtype)` makes, zeroed.

    `rows` holds the arrays (capacity, …) in the order of arrival, a ring; the first `len(self)` rows are filled.
    """

    def __init__(self, spec: EnvSpec, capacity: int, seed: int, stream: int = 0,
                 allocate: Callable[..., Array] = np.zeros) -> None:
        if not 0 < capacity < MOST_ROWS:
            raise ValueError(f"a replay of {capacity} rows: give 1 to {MOST_ROWS - 1}")
        self.spec, self.capacity, self.stored, self._allocate = spec, capacity, 0, allocate
        self.generator = kernels.Generator(seed, stream)
        self.rows = allocated(spec, (capacity,))
        self._bytes = _as_bytes(self.rows)
        self._steps = tuple(array[None] for array in self._bytes)  # for `gather`: rows of a single step
        self._index = np.empty(0, np.int64)
        self._staged: tuple[Transitions, tuple[Array, ...]] | None = None

    def __len__(self) -> int:
        return min(self.stored, self.capacity)

    def append(self, rows: Transitions, valid: Array | None = None) -> int:
        """Put the valid rows (n, …) behind the last, over the oldest once the ring is full; how many those are.

        `valid` (n,) bool, None for all. ValueError names both sides where a dtype or shape differs.
        """
        n = len(rows.obs)
        for name in FIELDS:
            given, held = getattr(rows, name), getattr(self.rows, name)
            if given.dtype != held.dtype or given.shape != (n, *held.shape[1:]):
                raise ValueError(f"{name} is {given.dtype} {given.shape} but the replay holds {held.dtype} "
                                 f"{(n, *held.shape[1:])}")
        if n == 0:
            return 0
        flags = np.ones(n, np.uint8) if valid is None else np.ascontiguousarray(valid, np.bool_).view(np.uint8)
        if flags.shape != (n,):
            raise ValueError(f"valid has shape {flags.shape} but there are {n} rows")
        count = kernels.append(self._bytes, _as_bytes(rows), flags, self.stored % self.capacity)
        self.stored += count
        return count

    def append_rollout(self, buffer: RolloutBuffer) -> int:
        """The valid rows of a rollout, `buffer.rewards` with them; how many those are."""
        flat = buffer.flat()
        rows = Transitions(flat.obs, flat.actions, flat.rewards, buffer.next_obs(), flat.terminations)
        return self.append(rows, flat.valid)

    def sample(self, *lead: int) -> Transitions:
        """Rows (*lead, …) drawn with replacement. They are staged: good until the next call."""
        if not self.stored:
            raise ValueError("the replay is empty; append rows before drawing from it")
        if self._staged is None or self._staged[0].rewards.shape != lead:
            rows = allocated(self.spec, lead, self._allocate)
            self._staged = rows, tuple(array[None] for array in _as_bytes(rows, len(lead)))
            self._index = np.empty(rows.rewards.size, np.int64)
        rows, targets = self._staged
        kernels.draw(self.generator, len(self), self._index)
        gather(targets, self._steps, self._index)
        return rows

    @property
    def terminated(self) -> int:
        """How many of the rows are terminations."""
        return int(np.count_nonzero(self.rows.terminations[:len(self)]))

    def state_dict(self) -> dict[str, Any]:
        """Copies of the filled rows, and where the ring and the generator stand."""
        filled = {name: torch.from_numpy(getattr(self.rows, name)[:len(self)].copy()) for name in FIELDS}
        return {**filled, "stored": self.stored, "generator": list(self.generator.state)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """ValueError if it is of a replay of another size."""
        if len(state["obs"]) != min(state["stored"], self.capacity):
            raise ValueError(f"the saved replay has {len(state['obs'])} rows of {state['stored']} that were stored; "
                             f"this one holds {self.capacity}")
        for name in FIELDS:
            getattr(self.rows, name)[:len(state["obs"])] = state[name].numpy()
        self.stored, self.generator.state = state["stored"], tuple(state["generator"])


def joined(first: Transitions, second: Transitions) -> Transitions:
    """Rows (updates, n, …) and (updates, m, …) side by side, (updates, n + m, …)."""
    return Transitions(*(np.concatenate((getattr(first, name), getattr(second, name)), 1) for name in FIELDS))


def allocated(spec: EnvSpec, lead: tuple[int, ...], allocate: Callable[..., Array] = np.zeros) -> Transitions:
    """Rows (*lead, …) of zeros."""
    return Transitions(allocate((*lead, *spec.obs_shape), spec.obs_dtype),
                       allocate((*lead, spec.action.dim), spec.action.dtype), allocate(lead, np.float32),
                       allocate((*lead, *spec.obs_shape), spec.obs_dtype), allocate(lead, np.bool_))


def _as_bytes(rows: Transitions, axes: int = 1) -> tuple[Array, ...]:
    """The same memory as uint8 (rows, width), `axes` leading axes taken together; copies where it is scattered."""
    arrays = (np.ascontiguousarray(getattr(rows, name)) for name in FIELDS)
    return tuple(a.reshape(int(np.prod(a.shape[:axes])), -1).view(np.uint8) for a in arrays)
