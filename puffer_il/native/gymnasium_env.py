"""C environments as Gymnasium's: a single one, a vector of them, and pictures as text."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from puffer_il.core.errors import InputError
from puffer_il.core.spec import Array
from puffer_il.core.terminal import picture_lines
from puffer_il.native.native_env import NativeEnv, gymnasium_space


class _View:
    """What both classes have in common: a batch of C environments of one agent, and their pictures.

    render_mode  "rgb_array": uint8 (height, width, 3); "ansi": the same as text with colours
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array", "ansi"]}  # noqa: RUF012 (Gymnasium's own form)

    def _open(self, folder: Path | str, render_mode: str | None, **params: Any) -> gymnasium.Space:
        """The observation space of one environment."""
        self._env = NativeEnv(folder, **params)
        env = self._env.env_file
        if env.agents != 1:
            raise InputError(f"environment {env.name} has {env.agents} agents; only one fits a Gymnasium environment")
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise InputError(f"environment {env.name}: render_mode = {render_mode!r}: choose one of "
                             f"{', '.join(self.metadata['render_modes'])}")
        if render_mode and not env.render[0]:
            raise InputError(f"environment {env.name}: render_mode = {render_mode!r}: it has no pictures (no c_render)")
        self.render_mode = render_mode
        self.metadata = self.metadata | {"render_fps": env.render[2] or 30}
        nvec = env.observation.nvec
        return gymnasium.spaces.Discrete(nvec[0]) if nvec else gymnasium_space(env.observation)

    def _observed(self, obs: Array) -> Array:
        """A copy of rows of observations as the space has them: categories are numbers (rows,)."""
        return obs[:, 0].astype(np.int64) if self._env.env_file.observation.nvec else obs.copy()

    def _frame(self, env: int) -> Any:
        pixels = self._env.render(env)
        return pixels if self.render_mode == "rgb_array" else "\n".join(picture_lines(pixels, 80))


class GymnasiumEnv(_View, gymnasium.Env):
    """One C environment of one agent as a plain Gymnasium one."""

    def __init__(self, folder: Path | str, render_mode: str | None = None, **params: Any) -> None:
        self.observation_space = self._open(folder, render_mode, **params)
        self.action_space = self._env.single_action_space
        self._begun = False  # the next episode has begun already, in the step that ended the last one

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict]:
        fresh = self._np_random is None  # Gymnasium's rule: the first episode is random if nobody gives a seed
        super().reset(seed=seed)
        if seed is None and fresh:
            seed = int(self.np_random.integers(2**62))
        if seed is not None or not self._begun:
            self._env.reset(seed)
        self._begun = False
        return self._one(self._env.observations), self._allowed()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        obs, rewards, terminals, truncations, _ = self._env.step(action)
        self._begun = bool(terminals[0] or truncations[0])
        obs = self._env.final_observations if self._begun else obs
        logged = self._env.pop_log_means() if self._begun else {}
        info = {name: logged[name] for name in self._env.env_file.log if name in logged}
        return self._one(obs), float(rewards[0]), bool(terminals[0]), bool(truncations[0]), info | self._allowed()

    def _allowed(self) -> dict[str, Array]:
        """`info`'s "action_mask", int8 as Gymnasium's spaces take it, where the environment has one; after an end that
        of the next episode's beginning."""
        masks = self._env.action_masks()
        return {} if masks is None else {"action_mask": masks[0].astype(np.int8)}

    def render(self) -> Any:
        return None if self.render_mode is None else self._frame(0)

    def close(self) -> None:
        self._env.close()

    def _one(self, obs: Array) -> Any:
        row = self._observed(obs)[0]
        return row if row.ndim else int(row)


class GymnasiumVectorEnv(_View, gymnasium.vector.VectorEnv):
    """`num_envs` C environments of one agent as Gymnasium's vector environment, stepped by one call.

    An episode begins in the step that ends the last one (AutoresetMode.SAME_STEP). That step's observation is the first
    of the new episode; `infos` holds `final_obs`, `final_info` (what the episode has logged) and their masks. All is as
    SyncVectorEnv gives it for as many GymnasiumEnv, bit for bit, seeds included.

    threads  that share a step; 0: all cores, where steps are slow enough
    """

    metadata = _View.metadata | {"autoreset_mode": AutoresetMode.SAME_STEP}

    def __init__(self, folder: Path | str, num_envs: int = 1, render_mode: str | None = None, threads: int = 0,
                 **params: Any) -> None:
        self.single_observation_space = self._open(folder, render_mode, num_envs=num_envs, threads=threads, **params)
        self.single_action_space = self._env.single_action_space
        self.num_envs = num_envs
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(self, *, seed: int | Sequence[int | None] | None = None,
              options: dict[str, Any] | None = None) -> tuple[Array, dict]:
        """Environment i is seeded by `seed` + i, or by its own number in a list; ValueError for one of another length.

        `options["reset_mask"]`, bool (num_envs,), resets some environments only.
        """
        if isinstance(seed, int):
            seeds: list[int | None] = [seed + i for i in range(self.num_envs)]
        else:
            seeds = [None] * self.num_envs if seed is None else list(seed)
        mask = np.asarray((options or {}).get("reset_mask", np.ones(self.num_envs, bool)))
        if len(seeds) != self.num_envs:
            raise ValueError(f"seed has {len(seeds)} numbers, but there are {self.num_envs} environments")
        if mask.dtype != bool or mask.shape != (self.num_envs,) or not mask.any():
            raise ValueError(f"options['reset_mask'] is {mask.dtype} {mask.shape}, but must be bool "
                             f"({self.num_envs},) with a True")
        fresh = self._np_random is None
        super().reset(seed=seed if isinstance(seed, int) else None)
        if fresh:
            first = int(self.np_random.integers(2**62))
            seeds = [first + i if own is None else own for i, own in enumerate(seeds)]
        self._env.reset_some({i: seeds[i] for i in np.flatnonzero(mask).tolist()})
        return self._observed(self._env.observations), {}

    def step(self, actions: Array) -> tuple[Array, Array, Array, Array, dict]:
        obs, rewards, terminals, truncations, _ = self._env.step(actions)
        return (self._observed(obs), rewards.astype(np.float64), terminals.copy(), truncations.copy(),
                self._infos(terminals | truncations))

    def _infos(self, ended: Array) -> dict[str, Any]:
        which = np.flatnonzero(ended)
        if not which.size:
            return {}
        rows, final = self._observed(self._env.final_observations[which]), np.full(self.num_envs, None)
        final[which] = np.fromiter(rows if rows.ndim > 1 else rows.tolist(), object, which.size)
        episodes, *sums = self._env.logs.T.copy()
        self._env.logs[:] = 0
        logged: dict[str, Array] = {}
        for name, total in zip(self._env.env_file.log, sums, strict=True):
            logged |= {name: total / np.maximum(episodes, 1), f"_{name}": ended.copy()}
        return {"final_obs": final, "_final_obs": ended, "final_info": logged, "_final_info": ended.copy()}

    def render(self) -> tuple[Any, ...] | None:
        return None if self.render_mode is None else tuple(map(self._frame, range(self.num_envs)))

    def close_extras(self, **kwargs: Any) -> None:
        self._env.close()
