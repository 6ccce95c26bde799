"""Environments of OpenAI's gym, and of whatever else follows an API older than Gymnasium's, as Gymnasium environments.

gym itself is not imported: an environment is judged by its attributes and by what it returns. That covers gym 0.26
(steps of five values), earlier versions (of four: a time limit is `info["TimeLimit.truncated"]`; `reset` returns the
observation alone, and may take no seed) and classes that derive from nothing.
"""

import inspect
import random
import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from puffer_il.core.errors import InputError

KINDS = ("Box", "Discrete", "MultiDiscrete", "MultiBinary", "Dict", "Tuple")


def is_old(env: Any) -> bool:
    """Whether `env` is a single environment that needs `OldGym`; one of Gymnasium does if its reset takes no seed."""
    if isinstance(env, gymnasium.Env):
        return not _takes_seed(env)
    known = all(callable(getattr(env, name, None)) for name in ("reset", "step"))
    return known and all(_kind(getattr(env, f"{name}_space", None)) for name in ("observation", "action"))


class OldGym(gymnasium.Env):
    """A Gymnasium environment around one of an older API.

    Seeds go to `reset(seed=…)` if it takes them, else to `seed(…)`, else to the global generators of random and NumPy.
    """

    def __init__(self, env: Any) -> None:
        self.env = env
        self.observation_space, self.action_space = map(gymnasium_space, (env.observation_space, env.action_space))
        self.metadata = getattr(env, "metadata", {})
        self.render_mode = getattr(env, "render_mode", None)
        self._seeds_reset = _takes_seed(env)
        for layer in layers(env):
            if type(layer).__name__ == "AutoResetWrapper":
                raise InputError("it resets itself and hides its final observations; open it without autoreset")
            if type(layer).__name__ == "PassiveEnvChecker":
                # gym 0.26 looks at the first reset and step by way of np.bool8, which NumPy 2 no longer has.
                layer.checked_reset = layer.checked_step = True

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[Any, dict]:
        seeded = {}
        if seed is not None and self._seeds_reset:
            seeded["seed"] = seed
        elif seed is not None and callable(getattr(self.env, "seed", None)):
            with warnings.catch_warnings(action="ignore"):  # gym has deprecated it
                self.env.seed(seed)
        elif seed is not None:
            warnings.warn("the environment takes no seed: its episodes repeat only if it draws all numbers from the "
                          "global generators of random and NumPy", stacklevel=2)
            random.seed(seed)
            np.random.seed(seed)
        result = self.env.reset(**seeded)
        pair = isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], dict)
        if pair and isinstance(self.observation_space, spaces.Tuple):
            pair = not self.observation_space.contains(result)
        return result if pair else (result, {})

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        obs, reward, *ends, info = self.env.step(action)
        if len(ends) == 2:
            terminated, truncated = map(bool, ends)
        else:
            (done,) = ends
            truncated = bool(done and info.get("TimeLimit.truncated", False))
            terminated = bool(done) and not truncated
        return obs, np.asarray(reward).item(), terminated, truncated, info  # some rewards are arrays of one number

    def render(self) -> Any:
        return self.env.render()

    def close(self) -> None:
        if hasattr(self.env, "close"):
            self.env.close()


def gymnasium_space(space: Any) -> spaces.Space:
    """Gymnasium's counterpart of a space, which may be Gymnasium's itself."""
    kind = _kind(space)
    if kind == "Box":
        box = spaces.Box(space.low, space.high, dtype=space.dtype)
        box.contains = partial(_fits, box)  # type: ignore[method-assign]
        return box
    if kind == "Discrete":
        return spaces.Discrete(int(space.n), start=int(getattr(space, "start", 0)))
    if kind == "MultiDiscrete":
        return spaces.MultiDiscrete(space.nvec, start=getattr(space, "start", None))
    if kind == "MultiBinary":
        return spaces.MultiBinary(space.shape)
    if kind == "Dict":
        return spaces.Dict({name: gymnasium_space(leaf) for name, leaf in space.spaces.items()})
    if kind == "Tuple":
        return spaces.Tuple([gymnasium_space(leaf) for leaf in space.spaces])
    raise InputError(f"its space {type(space).__name__} has no fixed size in memory, or none that is known; use Box, "
                     "Discrete, MultiDiscrete, MultiBinary, or a Dict or Tuple of them")


def _fits(box: spaces.Box, x: Any) -> bool:
    """Whether `x` is in `box` once it has its dtype: older environments give lists, and float64 for float32."""
    array = np.asarray(x)
    return np.can_cast(array.dtype, box.dtype, "same_kind") and spaces.Box.contains(box, array.astype(box.dtype))


def _kind(space: Any) -> str | None:
    """The name under which every version of gym and Gymnasium has had a space of this sort; None if it is none."""
    return next((cls.__name__ for cls in type(space).__mro__ if cls.__name__ in (*KINDS, "Space")), None)


def layers(env: Any) -> Iterator[Any]:
    """Wrappers from the outside in, then the environment itself."""
    while hasattr(env, "env") and getattr(env, "unwrapped", env) is not env:
        yield env
        env = env.env
    yield env


def _takes_seed(env: Any) -> bool:
    """Whether a seed given to `reset` gets through all wrappers."""
    for layer in layers(env):
        try:
            parameters = inspect.signature(layer.reset).parameters
        except ValueError:  # built-in callables may have no signature
            continue
        if "seed" not in parameters and not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            return False
    return True
