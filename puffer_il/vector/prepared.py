"""Prepared pictures (core.frames): rows of them, beside those that the environments themselves write, and a Gymnasium
environment that gives them."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from puffer_il.core.actions import first_of
from puffer_il.core.frames import Frames, Pictures, arranged
from puffer_il.core.spaces import lay_out
from puffer_il.core.spec import Array

PREPARED = ("observations", "final_observations")


class Prepared:
    """The vector's rows in `buffers`, and the environments' own in `own`, from which `begin` and `step` make them.

    at_once  an end and the next episode's beginning come in one step, with the final observation beside; otherwise the
             final one comes with the end, and the beginning in a step whose action does not count
    """

    def __init__(self, frames: Frames, buffers: dict[str, Array], at_once: bool) -> None:
        self.frames, self.at_once = frames, at_once
        self.made = {name: buffers[name] for name in PREPARED if name in buffers}
        self.raw = {name: np.zeros((len(rows), *frames.raw.shape), frames.raw.dtype)
                    for name, rows in self.made.items()}
        self.own = buffers | self.raw

    def begin(self) -> None:
        """Every row begins an episode."""
        rows = self.made["observations"]
        self.frames.write(rows, self.raw["observations"], np.ones(len(rows), bool))

    def step(self) -> None:
        """Take up what a step has given. A row whose action did not count begins anew: nothing came before."""
        rows, begins = self.made["observations"], ~self.own["masks"]
        if self.at_once:
            ended = self.own["terminals"] | self.own["truncations"]
            begins |= ended
            if "final_observations" in self.made and ended.any():
                final = rows[ended]
                self.frames.write(final, self.raw["final_observations"][ended], np.zeros(len(final), bool))
                self.made["final_observations"][ended] = final
        self.frames.write(rows, self.raw["observations"], begins)


class PreparedEnv(gymnasium.Wrapper):
    """A Gymnasium environment whose observations have prepared pictures, and are otherwise as they were."""

    def __init__(self, env: gymnasium.Env, frames: Frames) -> None:
        super().__init__(env)
        self.frames, self._row = frames, np.zeros((1, *frames.made.shape), frames.made.dtype)
        shapes = {made.path: made for raw, made in zip(frames.raw.fields, frames.made.fields, strict=True)
                  if raw in frames.pictures}
        self.observation_space = _with_pictures(env.observation_space, shapes)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict]:
        observation, info = self.env.reset(seed=seed, options=options)
        return self._prepared(observation, True), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict]:
        observation, *rest = self.env.step(action)
        return self._prepared(observation, False), *rest

    def _prepared(self, observation: Any, begins: bool) -> Any:
        self.frames.write(self._row, self.frames.raw.pack(observation)[0], np.array([begins]))
        return first_of(self.frames.made.unpack(self._row.copy()))


def prepared_env(env: gymnasium.Env, name: str, options: Pictures) -> gymnasium.Env:
    """`env` itself where nothing is to be prepared."""
    frames = arranged(name, lay_out(env.observation_space), options)[1] if options.change else None
    return env if frames is None else PreparedEnv(env, frames)


def _with_pictures(space: Any, shapes: dict, path: tuple = ()) -> Any:
    if isinstance(space, spaces.Dict):
        return spaces.Dict({key: _with_pictures(part, shapes, (*path, key)) for key, part in space.spaces.items()})
    if isinstance(space, spaces.Tuple):
        return spaces.Tuple([_with_pictures(part, shapes, (*path, k)) for k, part in enumerate(space.spaces)])
    made = shapes.get(path)
    return space if made is None else spaces.Box(int(made.low), int(made.high), made.shape, np.uint8)
