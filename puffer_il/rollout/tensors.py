"""A rollout where the learner is: rows of the buffer as tensors, without a copy on the CPU, resident on other devices.

The buffer's memory is page-locked there (`allocator`), so that copies need not wait. Each array is copied to the device
once per rollout, unless the collector has put it there already (observations, actions, …). Of a minibatch only the row
numbers travel, from page-locked memory too.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from puffer_il.core.spec import Array
from puffer_il.nn.page_locked import sent
from puffer_il.rollout.buffer import RolloutBuffer


@dataclass(slots=True)
class Minibatch:
    """Rows of a rollout as tensors; shapes as in `buffer.Rows`. `weight` (rows,) float32 is 1 where a row counts, None
    where all do. `initial_state` and `episode_starts` are None for rows by themselves, and the latter is always on the
    CPU, which cuts sequences by it (nn/sequences.py)."""

    obs: Tensor
    actions: Tensor
    logprobs: Tensor
    values: Tensor
    advantages: Tensor
    returns: Tensor
    episode_starts: Tensor | None
    weight: Tensor | None
    initial_state: Tensor | None


ROWS = tuple(field.name for field in fields(Minibatch) if field.name not in ("episode_starts", "weight",
                                                                            "initial_state"))


def allocator(device: torch.device) -> Callable[..., Array]:
    """Zeroed arrays; page-locked where the learner is on a GPU, so that copies need not wait."""
    if device.type == "cpu":
        return np.zeros

    def pinned(shape: tuple[int, ...], dtype: Any) -> Array:
        return torch.zeros(shape, dtype=torch.from_numpy(np.zeros(0, dtype)).dtype, pin_memory=True).numpy()

    return pinned


class HostRollout:
    """The buffer's own memory as tensors."""

    def __init__(self, buffer: RolloutBuffer) -> None:
        self.buffer = buffer

    def start(self) -> None:
        """A new rollout begins: the memory is the same."""

    def changed(self, name: str) -> None:
        """The buffer's array was written again: the memory is the same."""

    def __getitem__(self, name: str) -> Tensor:
        return torch.from_numpy(getattr(self.buffer, name))

    def next_obs(self) -> Tensor:
        """(num_steps·num_envs, *obs_shape): the true successor of every valid row."""
        return torch.from_numpy(self.buffer.next_obs())

    def select(self, part: slice | Array, columns: bool) -> Minibatch:
        """Part of the rollout: all steps of some environments, or rows t·num_envs + i."""
        rows = self.buffer.minibatch(part) if columns else self.buffer.minibatch_rows(part)  # type: ignore[arg-type]
        weight = None if rows.valid.all() else torch.from_numpy(rows.valid).reshape(-1).float()
        starts, state = (torch.from_numpy(x) if columns else None for x in (rows.episode_starts, rows.initial_state))
        return Minibatch(**{name: torch.from_numpy(getattr(rows, name)) for name in ROWS}, episode_starts=starts,
                         weight=weight, initial_state=state)


class DeviceRollout:
    """Copies of the buffer's arrays on a device, allocated once and filled once per rollout."""

    def __init__(self, buffer: RolloutBuffer, device: torch.device) -> None:
        self.buffer, self.device = buffer, device
        self.tensors: dict[str, Tensor] = {}
        self.resident: set[str] = set()
        self._next_obs: Tensor | None = None

    def start(self) -> None:
        """A new rollout begins: nothing on the device is of it."""
        self.resident.clear()

    def changed(self, name: str) -> None:
        """The buffer's array was written again after the rollout: the copy on the device no longer is of it."""
        self.resident.discard(name)

    def place(self, name: str) -> Tensor:
        """The device's memory for an array, for a caller who fills it and then adds the name to `resident`."""
        if name not in self.tensors:
            host = torch.from_numpy(getattr(self.buffer, name))
            self.tensors[name] = torch.empty(host.shape, dtype=host.dtype, device=self.device)
        return self.tensors[name]

    def __getitem__(self, name: str) -> Tensor:
        """The array on the device; the copy that this may take does not wait."""
        tensor = self.place(name)
        if name not in self.resident:
            tensor.copy_(torch.from_numpy(getattr(self.buffer, name)), non_blocking=True)
            self.resident.add(name)
        return tensor

    def next_obs(self) -> Tensor:
        """As HostRollout's, always in the same memory; of the observations only the last ones and those that ended
        episodes travel."""
        obs = self["obs"]
        if self._next_obs is None:
            self._next_obs = torch.empty_like(obs)
        self._next_obs[:-1], self._next_obs[-1] = obs[1:], self["last_obs"]
        index = torch.from_numpy(self.buffer.final_index).to(self.device)
        return self._next_obs.flatten(0, 1).index_copy_(0, index,
                                                        torch.from_numpy(self.buffer.final_obs).to(self.device))

    def index(self, part: slice | Array, columns: bool) -> Array:
        """(n,) int64: the numbers of the environments or rows of `select`."""
        limit = self.buffer.num_envs if columns else self.buffer.num_steps * self.buffer.num_envs
        return np.arange(limit)[part] if isinstance(part, slice) else part

    def sources(self, columns: bool, weighted: bool) -> list[Tensor]:
        """All that `gather` reads, on the device from now on."""
        return [self[name] for name in (*ROWS, *(["valid"] if weighted else []), *(["initial_state"] if columns else
                                                                                 []))]

    def select(self, part: slice | Array, columns: bool) -> Minibatch:
        """As HostRollout's; the indices travel, the rows do not."""
        index = self.index(part, columns)
        rows = self.gather(sent(index, self.device), columns, not self.buffer.valid.all())
        if columns:
            rows.episode_starts = torch.from_numpy(self.buffer.episode_starts[:, index])
        return rows

    def gather(self, index: Tensor, columns: bool, weighted: bool) -> Minibatch:
        """The same by numbers that are on the device, without `episode_starts`; `weighted` if not all rows are
        valid."""
        def rows(name: str) -> Tensor:
            tensor = self[name]
            return tensor.index_select(1, index) if columns else tensor.flatten(0, 1).index_select(0, index)

        state = self["initial_state"].index_select(0, index) if columns else None
        return Minibatch(**{name: rows(name) for name in ROWS}, episode_starts=None, initial_state=state,
                         weight=rows("valid").reshape(-1).float() if weighted else None)


def rollout_on(buffer: RolloutBuffer, device: torch.device) -> Any:
    """The rollout in the buffer on `device`, made once."""
    if buffer.rollout is None:
        buffer.rollout = HostRollout(buffer) if device.type == "cpu" else DeviceRollout(buffer, device)
    return buffer.rollout
