"""C environments that say which actions may be taken: their rows are observations with that beside them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from puffer_il.core.spaces import lay_out
from puffer_il.core.spec import Array
from puffer_il.native.envdata import open_env
from puffer_il.native.envfile import read_env
from puffer_il.native.glue import hooks
from puffer_il.native.native_env import NativeEnv


def open_native(folder: Path | str, num_envs: int = 1, buf: dict[str, Array] | None = None, seed: int = 0,
                first_env: int = 0, threads: int = 1, **params: Any) -> NativeEnv:
    """The environment in `folder`, with its masks in its rows if it has any."""
    cls = MaskedEnv if "MASK" in hooks(read_env(folder)) else NativeEnv
    return cls(folder, num_envs, buf, seed, first_env, threads, **params)


class MaskedEnv(NativeEnv):
    """A NativeEnv whose `observations` and `final_observations` are rows of `layout`. C writes into arrays of its own,
    from which they are copied. After an end there is no action, and nothing is masked."""

    observations: Array

    def __init__(self, folder: Path | str, num_envs: int = 1, buf: dict[str, Array] | None = None, seed: int = 0,
                 first_env: int = 0, threads: int = 1, **params: Any) -> None:
        file = open_env(folder, params)[0]
        seen, agents = file.observation, num_envs * file.agents
        own = None if buf is None else {**buf, **{name: np.zeros((agents, *seen.shape), seen.dtype)
                                                  for name in ("observations", "final_observations")}}
        super().__init__(folder, num_envs, own, seed, first_env, threads, **params)
        self._raw: Array = self.observations
        self._raw_final: Array = self.final_observations
        space = gymnasium.spaces.Discrete(seen.nvec[0]) if seen.nvec else self.single_observation_space
        self.layout = lay_out(space, masked=sum(file.action.nvec))
        rows = np.zeros((2, agents, *self.layout.shape), self.layout.dtype)
        self.observations = rows[0] if buf is None else buf["observations"]
        self.final_observations = rows[1] if buf is None else buf.get("final_observations", rows[1])
        low: Any = -np.inf if self.layout.dtype.kind == "f" else np.iinfo(self.layout.dtype).min
        high: Any = np.inf if self.layout.dtype.kind == "f" else np.iinfo(self.layout.dtype).max
        self.single_observation_space = gymnasium.spaces.Box(low, high, self.layout.shape, self.layout.dtype.type)
        self._show()

    def reset(self, seed: int | None = None) -> tuple[Array, list]:
        super().reset(seed)
        return self._show(), []

    def reset_some(self, seeds: Mapping[int, int | None]) -> None:
        super().reset_some(seeds)
        self._show()

    def step(self, actions: Array) -> tuple[Array, Array, Array, Array, list]:
        _, rewards, terminals, truncations, infos = super().step(actions)
        return self._show(), rewards, terminals, truncations, infos

    def set_env_states(self, states: Array, which: Array | None = None) -> None:
        super().set_env_states(states, which)
        self._show()

    def set_state(self, state: Array) -> None:
        super().set_state(state)
        self._show()

    def _state_parts(self) -> tuple[Array, Array, Array]:
        states, clocks, _ = super()._state_parts()
        return states, clocks, self._raw.reshape(-1).view(np.uint8)

    def _show(self) -> Array:
        """Rows as they are now."""
        for rows, raw, masks in ((self.observations, self._raw, self.action_masks()),
                                 (self.final_observations, self._raw_final, np.True_)):
            for field, target in self.layout.targets(rows):
                target[...] = masks if field.mask else raw.reshape(target.shape)
        return self.observations
