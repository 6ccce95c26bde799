"""A rollout where the learner is: rows of the buffer as tensors, without a copy on the CPU, resident on other devices.

The buffer's memory is page-locked there (process.allocator), so that copies need not wait. Each array is copied
to the device once per rollout, unless the collector has put it there already (observations, actions, …).
"""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from puffer_il.core.spec import Array
from puffer_il.rollout.buffer import RolloutBuffer


@dataclass(slots=True)
class Minibatch:
    """Rows of a rollout as tensors; shapes as in `buffer.Rows`. `weight` (rows,) float32 is 1 where a row counts, None
    where all do; `initial_state` is None for rows by themselves."""

    obs: Tensor
    actions: Tensor
    logprobs: Tensor
    values: Tensor
    advantages: Tensor
    returns: Tensor
    episode_starts: Tensor
    weight: Tensor | None
    initial_state: Tensor | None


ROWS = tuple(field.name for field in fields(Minibatch) if field.name not in ("weight", "initial_state"))


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
        return Minibatch(**{name: torch.from_numpy(getattr(rows, name)) for name in ROWS}, weight=weight,
                         initial_state=torch.from_numpy(rows.initial_state) if columns else None)


class DeviceRollout:
    """Copies of the buffer's arrays on a device, allocated once and filled once per rollout."""

    def __init__(self, buffer: RolloutBuffer, device: torch.device) -> None:
        self.buffer, self.device = buffer, device
        self.tensors: dict[str, Tensor] = {}
        self.resident: set[str] = set()

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
        """As HostRollout's; of the observations only the last ones and those that ended episodes travel."""
        later = torch.cat((self["obs"][1:], self["last_obs"].unsqueeze(0))).flatten(0, 1)
        index = torch.from_numpy(self.buffer.final_index).to(self.device)
        return later.index_copy_(0, index, torch.from_numpy(self.buffer.final_obs).to(self.device))

    def select(self, part: slice | Array, columns: bool) -> Minibatch:
        """As HostRollout's; the indices travel, the rows do not."""
        limit = self.buffer.num_envs if columns else self.buffer.num_steps * self.buffer.num_envs
        index = torch.from_numpy(np.arange(limit)[part] if isinstance(part, slice) else part)
        index = index.to(self.device, non_blocking=True)

        def rows(name: str) -> Tensor:
            tensor = self[name]
            return tensor.index_select(1, index) if columns else tensor.flatten(0, 1).index_select(0, index)

        weight = None if self.buffer.valid.all() else rows("valid").reshape(-1).float()
        state = self["initial_state"].index_select(0, index) if columns else None
        return Minibatch(**{name: rows(name) for name in ROWS}, weight=weight, initial_state=state)


def rollout_on(buffer: RolloutBuffer, device: torch.device) -> Any:
    """The rollout in the buffer on `device`, made once."""
    if buffer.rollout is None:
        buffer.rollout = HostRollout(buffer) if device.type == "cpu" else DeviceRollout(buffer, device)
    return buffer.rollout
