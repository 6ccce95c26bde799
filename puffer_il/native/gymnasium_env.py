"""One C environment as a Gymnasium environment, and pictures as text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from puffer_il.core.errors import InputError
from puffer_il.core.spec import Array
from puffer_il.native.native_env import NativeEnv, gymnasium_space


class SingleEnv(gymnasium.Env):
    """One single-agent C environment as a plain Gymnasium one, for tools that expect that.

    render_mode  "rgb_array": uint8 (height, width, 3); "ansi": the same as text with colours
    """

    metadata = {"render_modes": ["rgb_array", "ansi"]}  # noqa: RUF012 (Gymnasium's own form)

    def __init__(self, folder: Path | str, render_mode: str | None = None, **params: Any) -> None:
        self._env = NativeEnv(folder, **params)
        env = self._env.env_file
        if self._env.num_agents != 1:
            raise InputError(f"environment {env.name} has {self._env.num_agents} agents; only one fits a Gymnasium "
                             "environment")
        if render_mode and not env.render[0]:
            raise InputError(f"environment {env.name}: render_mode = {render_mode!r}: it has no pictures (no c_render)")
        self.render_mode = render_mode
        self.metadata = self.metadata | {"render_fps": env.render[2] or 30}
        self.observation_space = gymnasium_space(env.observation)
        self._category = bool(env.observation.nvec)
        if self._category:
            self.observation_space = gymnasium.spaces.Discrete(env.observation.nvec[0])
        self.action_space = self._env.single_action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict]:
        fresh = self._np_random is None  # Gymnasium's rule: the first episode is random if nobody gives a seed
        super().reset(seed=seed)
        if seed is None and fresh:
            seed = int(self.np_random.integers(2**63))
        return self._observed(self._env.reset(seed)[0]), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        obs, rewards, terminals, truncations, _ = self._env.step(action)
        ended = terminals[0] or truncations[0]
        obs = self._env.final_observations if ended else obs
        info = self._env.take_logs() if ended else {}
        return self._observed(obs), float(rewards[0]), bool(terminals[0]), bool(truncations[0]), info

    def render(self) -> Any:
        if self.render_mode is None:
            return None
        pixels = self._env.render()
        return pixels if self.render_mode == "rgb_array" else half_blocks(pixels, 80)

    def close(self) -> None:
        self._env.close()

    def _observed(self, obs: Array) -> Any:
        return int(obs[0, 0]) if self._category else obs[0].copy()


def half_blocks(pixels: Array, columns: int) -> str:
    """A picture (height, width, 3) as text at most `columns` wide: two pixels a character, one above the other."""
    height, width, _ = pixels.shape
    columns = min(columns, width)
    lines = max(1, round(height * columns / width / 2))
    # Means over the pixels that a half character stands for.
    rows, cols = (np.linspace(0, size, n + 1).astype(int) for size, n in ((height, 2 * lines), (width, columns)))
    small = np.add.reduceat(np.add.reduceat(pixels.astype(np.float32), rows[:-1], 0), cols[:-1], 1)
    small /= (np.diff(rows)[:, None] * np.diff(cols))[:, :, None]
    halves = small.round().astype(int)
    text = []
    for upper, lower in zip(halves[::2].tolist(), halves[1::2].tolist(), strict=True):
        line, last = "", None
        for top, bottom in zip(upper, lower, strict=True):
            if (top, bottom) != last:  # colours hold until they change
                line += "\x1b[38;2;{};{};{}m\x1b[48;2;{};{};{}m".format(*top, *bottom)
            line, last = line + "▀", (top, bottom)
        text.append(line + "\x1b[0m")
    return "\n".join(text)
