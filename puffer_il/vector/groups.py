"""Groups of environments that step in this process, one group at a time, while a GPU works for another."""

from typing import Any

import numpy as np

from puffer_il.core.spec import Array
from puffer_il.vector.make import Creator, EnvFacts
from puffer_il.vector.serial import Serial, allocate
from puffer_il.vector.snapshot import Unreadable


class Groups:
    """`num_groups` Serials of as many environments each, beside each other in the same buffers. What rows hold does not
    depend on the number of groups."""

    def __init__(self, creator: Creator, facts: EnvFacts, count: int, rows: int, num_groups: int, seed: int) -> None:
        buffers, size = allocate(facts, rows), rows // num_groups
        self.observations, self.actions = buffers["observations"], buffers["actions"]
        self.final_observations, self.logs = buffers.get("final_observations"), buffers.get("logs")
        self.parts = [Serial(creator, facts, count // num_groups,
                             {name: array[first:first + size] for name, array in buffers.items()}, seed,
                             first // facts.num_agents) for first in range(0, rows, size)]
        self.restarted: list[slice] = []  # as of Workers
        self._at = self.parts[0]

    @property
    def envs(self) -> list[Any]:
        return [env for part in self.parts for env in part.envs]

    def async_reset(self, seed: int) -> None:
        """New episodes of every environment; `recv` once for each group."""
        for part in self.parts:
            self._at = part
            part.async_reset(seed)

    def send(self, actions: Array | None, group: int = 0) -> None:
        """Step a group, to its end."""
        self._at = self.parts[group]
        self._at.send(actions)

    def recv(self, group: int = 0) -> tuple:
        """What PufferLib's recv returns, for the rows of a group."""
        return self.parts[group].recv()

    def who(self, doing: str, seed: int) -> str:
        """Which environment is being stepped, as Serial says it."""
        return self._at.who(doing, seed)

    def get_state(self) -> Array:
        """uint8 (1, bytes): how long the state of each group is, and these."""
        states = [part.get_state()[0] for part in self.parts]
        return np.concatenate([np.array([len(state) for state in states]).view(np.uint8), *states])[None]

    def set_state(self, state: Array) -> None:
        """Unreadable if it cannot be put back; the environments must then be reset."""
        header = 8 * len(self.parts)
        lengths = state[0, :header].copy().view(np.int64)
        if (lengths < 0).any() or header + lengths.sum() != state.shape[1]:
            raise Unreadable(f"it is not of {len(self.parts)} groups")
        for part, saved in zip(self.parts, np.split(state[0, header:], np.cumsum(lengths)[:-1]), strict=True):
            part.set_state(saved[None])

    def close(self) -> None:
        for part in self.parts:
            part.close()
