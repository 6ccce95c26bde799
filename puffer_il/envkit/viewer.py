"""One environment to look at: its picture or text, and otherwise its observation as bars."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np

from puffer_il.core.errors import one_line
from puffer_il.core.frames import Pictures
from puffer_il.core.spec import Array
from puffer_il.core.terminal import bars
from puffer_il.native.native_env import NativeEnv
from puffer_il.vector.make import Creator, find_creator
from puffer_il.vector.vec import Vec, make_vec

View = Array | list[str]  # a picture, uint8 (height, width, 3), or lines of text
MODES = ("rgb_array", "ansi")
AFTERWARDS = "afterwards"  # what is asked to draw once it is there: the function that makes it takes no render_mode
FPS = 30.0  # where the environment does not say


class Viewer:
    """One environment, all its agents, stepped as any other.

    drawn     it draws or prints itself
    notice    why it does not draw a picture that it has, if so
    at_once   a step that ends an episode begins the next one, so that its end is never seen
    """

    def __init__(self, name: str, kwargs: dict[str, Any], seed: int, pictures: Pictures | None = None) -> None:
        if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            os.environ.setdefault("MUJOCO_GL", "egl")  # which draws without a display
        creator = find_creator(name, kwargs)
        self.notice, reasons = "", list[str]()
        for mode in _modes(creator):
            more = kwargs | ({"render_mode": mode} if mode in MODES else {})
            facts = find_creator(name, more).facts()
            vec = make_vec(name, num_envs=facts.rows, kwargs=more, pictures=pictures)
            vec.reset(seed)
            self._look_at(vec, facts.native, facts.single_observation_space)
            try:
                if mode == AFTERWARDS:
                    _ask_to_draw(self._env)
                self.drawn = self._drawn() is not None
                break
            except (Exception, SystemExit) as error:  # whatever a drawing library raises
                reasons.append(one_line(error))
                self.vec.close()
        if reasons:
            self.notice = f"no picture: {reasons[0]}"

    @classmethod
    def over(cls, vec: Vec) -> Viewer:
        """The same for a vector in this process that somebody else steps. It draws itself if it has been made to
        (kwargs: render_mode)."""
        viewer, env = cls.__new__(cls), vec.envs[0]
        viewer.notice = ""
        viewer._look_at(vec, isinstance(env, NativeEnv), getattr(env, "single_observation_space", None))
        viewer.drawn = viewer._drawn() is not None
        return viewer

    def _look_at(self, vec: Vec, at_once: bool, space: Any) -> None:
        self.vec, self.at_once, self._env = vec, at_once, vec.envs[0]
        self._space, self._scale = space, np.zeros(0)
        fps = self._env.env_file.render[2] if isinstance(self._env, NativeEnv) else (
            getattr(getattr(self._env, "env", self._env), "metadata", None) or {}).get("render_fps")
        self.fps = float(fps or FPS)

    def view(self, columns: int = 80, rows: int = 20) -> View:
        """What there is to see now: text fits, a picture has its own size."""
        drawn = self._drawn() if self.drawn else self._image()
        return self._bars(columns, rows) if drawn is None else drawn

    def picture(self) -> Array | None:
        """What there is to see, if it is a picture."""
        drawn = self._drawn() if self.drawn else self._image()
        return drawn if isinstance(drawn, np.ndarray) else None

    def _drawn(self) -> View | None:
        """The environment's own picture or text, None if it has none."""
        env = self._env
        if isinstance(env, NativeEnv):
            return env.render(0) if env.env_file.render[0] else None
        own = getattr(env, "env", None)
        if own is None:  # a PufferEnv: many open a window; one that says that it draws arrays does not
            if not set(MODES) & set(getattr(env, "metadata", {}).get("render_modes", ())):
                return None
            own = env
        elif getattr(own, "render_mode", None) not in (*MODES, "rgb_array_list", "ansi_list"):
            return None
        drawn = own.render()
        if isinstance(drawn, list):
            drawn = drawn[-1] if drawn else None
        if isinstance(drawn, str):
            return drawn.strip("\n").splitlines()
        return None if drawn is None else _colored(np.asarray(drawn))

    def _image(self) -> Array | None:
        """The first part of the observation that is an image."""
        images = (field for field in self.vec.spec.obs_fields if field.image)
        return next((_colored(field.of(self.vec.obs[:1])[0]) for field in images), None)

    def _bars(self, columns: int, rows: int) -> list[str]:
        """The first agent's observation, element by element, between its bounds or the largest value so far."""
        names, parts = [], []
        for field in self.vec.spec.obs_fields:
            part = field.of(self.vec.obs[:1])[0]
            places = [""] if part.ndim == 0 else [str(list(map(int, place))) for place in np.ndindex(part.shape)]
            names += [f"{field.name}{place}" for place in places]
            parts.append(np.ravel(part).astype(float))
        values = np.concatenate(parts)
        if len(self._scale) != len(values):
            self._scale = np.full(len(values), 1e-6)
        self._scale = np.maximum(self._scale, np.abs(np.nan_to_num(values)))
        low, high = -self._scale, self._scale
        if isinstance(space := self._space, gymnasium.spaces.Box) and space.low.size == len(values):
            known = np.isfinite(np.ravel(space.low).astype(float)) & np.isfinite(np.ravel(space.high).astype(float))
            low, high = np.where(known, np.ravel(space.low), low), np.where(known, np.ravel(space.high), high)
        return bars(names, values, low, high, columns, rows)


def _ask_to_draw(env: Any) -> None:
    """Set the `render_mode` of a Gymnasium environment that was made without one: most look at it when they draw."""
    own: Any = getattr(getattr(env, "env", None), "unwrapped", None)
    if getattr(own, "render_mode", "") is None:
        offered = (getattr(own, "metadata", None) or {}).get("render_modes", ())
        own.render_mode = next((mode for mode in MODES if mode in offered), None)


def _modes(creator: Creator) -> Sequence[str | None]:
    """What to ask the environment to draw, the best first; None asks for nothing."""
    if creator.kind == "folder" or "render_mode" in creator.kwargs:
        return (None,)
    if creator.kind == "gymnasium":
        spec = gymnasium.spec(creator.target.rpartition(":")[2])
        try:
            made: Any = gymnasium.envs.registration.load_env_creator(spec.entry_point) if isinstance(
                spec.entry_point, str) else spec.entry_point
        except ImportError:
            return (None,)  # which then tells what is missing
    else:
        made = creator._make()
        if "render_mode" not in inspect.signature(made).parameters:
            return (AFTERWARDS, None)
    offered = (getattr(made, "metadata", None) or {}).get("render_modes", MODES)
    return (*(mode for mode in MODES if mode in offered), None)


def _colored(image: Array) -> Array | None:
    """uint8 (height, width, 3) of an image in any of the usual layouts; None if it is none."""
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim != 3 or image.size == 0:
        return None
    if image.shape[2] not in (1, 3, 4) and image.shape[0] in (1, 3, 4):
        image = np.moveaxis(image, 0, 2)
    if image.dtype != np.uint8:
        image = np.clip(image * (255 if image.dtype.kind == "f" and image.max() <= 1 else 1), 0, 255).astype(np.uint8)
    image = image[..., -1:].repeat(3, 2) if image.shape[2] != 3 else image  # of a stack of frames, the last
    return np.ascontiguousarray(image)


