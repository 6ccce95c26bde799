"""C environments as PufferEnvs, and the one place where PufferLib is imported."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import struct
import sys
import warnings
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium
import numpy as np

from puffer_il.envfile import EnvFile, Space, read_env
from puffer_il.glue import compile_env, source_hash
from puffer_il.types import Array, InputError


def import_pufferlib() -> ModuleType:
    """PufferLib with `pufferlib.vector` and `pufferlib.emulation`, without the side effects of its import.

    Its __init__ imports its torch models (1.4 s that we do not need), and what it imports in turn may print, change
    the working directory or the warning filters. It also leaves out of its namespace two exceptions that its own
    modules raise as `pufferlib.APIUsageError` and `pufferlib.InvalidAgentError`.
    """
    if "pufferlib" not in sys.modules:
        blocked = [name for name in ("pufferlib.pytorch", "pufferlib.models") if name not in sys.modules]
        for name in blocked:
            sys.modules[name] = None  # type: ignore[assignment]  # makes `import` raise ImportError, which it expects
        try:
            with contextlib.chdir("."), contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
                importlib.import_module("pufferlib")
        finally:
            for name in blocked:
                del sys.modules[name]
    package = sys.modules["pufferlib"]
    for name in ("APIUsageError", "InvalidAgentError"):
        setattr(package, name, getattr(package.pufferlib, name))
    return package


import_pufferlib()
from pufferlib import APIUsageError, PufferEnv  # noqa: E402 (no side effects any more)

ABI_VERSION = 1
BUFFERS = ("actions", "observations", "rewards", "terminals", "truncations", "masks", "final_observations")


class VecEnv(ctypes.Structure):
    """The struct of the same name in csrc/vec_api.h: addresses of a batch's memory."""

    _fields_ = [(name, ctypes.c_void_p) for name in ("envs", "clocks", "params", *BUFFERS)]


def _function(*arguments: type) -> Any:
    return ctypes.CFUNCTYPE(None, ctypes.POINTER(VecEnv), *arguments)


class VecApi(ctypes.Structure):
    """The struct of the same name in csrc/vec_api.h: what a compiled environment exports. Calls release the GIL."""

    _fields_ = [("abi_version", ctypes.c_int32), ("agents", ctypes.c_int32),
                *((name, ctypes.c_int64) for name in ("env_bytes", "clock_bytes", "params_bytes", "obs_bytes",
                                                       "action_bytes")),
                ("source_hash", ctypes.c_char_p),
                ("seed", _function(ctypes.c_uint64, ctypes.c_uint64, ctypes.c_int64, ctypes.c_int64)),
                ("reset", _function(ctypes.c_int64, ctypes.c_int64)),
                ("step", _function(ctypes.c_int64, ctypes.c_int64))]


def load_api(env: EnvFile) -> VecApi:
    """The compiled form of exactly these sources: the one installed beside them, or else compiled now and cached."""
    wanted = source_hash(env)
    for path in (env.folder / f"_{env.name}{suffix}" for suffix in EXTENSION_SUFFIXES):
        if path.is_file():
            with contextlib.suppress(OSError, ValueError):  # built for another machine, or an older table
                api = VecApi.in_dll(ctypes.CDLL(str(path)), "vec_api")
                if api.abi_version == ABI_VERSION and api.source_hash.decode() == wanted:
                    return api
    return VecApi.in_dll(ctypes.CDLL(str(compile_env(env))), "vec_api")


def gymnasium_space(space: Space) -> gymnasium.Space:
    """The same space as Gymnasium describes it."""
    if space.nvec and not space.shape:
        return gymnasium.spaces.Discrete(space.nvec[0])
    if space.nvec:
        return gymnasium.spaces.MultiDiscrete(np.array(space.nvec, np.int32), np.int32)
    low, high = (np.broadcast_to(np.array(bound, dtype=space.dtype), space.size).reshape(space.shape)
                 for bound in (space.low, space.high))
    return gymnasium.spaces.Box(low, high, dtype=np.dtype(space.dtype).type)


class NativeEnv(PufferEnv):
    """`num_envs` copies of the C environment in `folder`, stepped by one call that holds no GIL.

    Episodes restart in the step that ends them (unless env.toml says that the agents restart by themselves):
    `observations` then holds the first observation of the next episode and `final_observations` the true successor,
    in those rows only. `terminals` and `truncations` are never both set; `masks` is False for an agent that had left
    before the step.

    observations, final_observations  (num_agents, *obs_shape)
    actions        int32 (num_agents,) or (num_agents, k), or float32 (num_agents, *shape); out-of-range ones are
                   clipped, a NaN acts as the lower bound
    rewards        (num_agents,) float32; terminals, truncations, masks (num_agents,) bool

    `seed` and the index `first_env + i` decide everything about environment i, so that it does not matter how a batch
    is split. Parameters are those of env.toml. Without `buf` the arrays are the environment's own.
    """

    def __init__(self, folder: Path | str, num_envs: int = 1, buf: dict[str, Array] | None = None, seed: int = 0,
                 first_env: int = 0, **params: Any) -> None:
        self.env_file = env = read_env(folder)
        if num_envs < 1:
            raise InputError(f"environment {env.name}: num_envs = {num_envs}: must be at least 1")
        values = env.values(params)
        self.spec_name = env.name
        self.num_envs, self.first_env = int(num_envs), int(first_env)
        self.num_agents = num_envs * env.agents
        self.single_observation_space = gymnasium_space(env.observation)
        self.single_action_space = gymnasium_space(env.action)
        super().__init__(buf)
        final = (buf or {}).get("final_observations")
        self.final_observations = np.zeros_like(self.observations) if final is None else final
        self._check_buffers(env)

        self._api = load_api(env)
        self._envs = np.zeros(num_envs * self._api.env_bytes, np.uint8)
        self._clocks = np.zeros(num_envs * self._api.clock_bytes, np.uint8)
        self._params = np.frombuffer(struct.pack("=" + "".join("d" if type(v) is float else "q" for v in
                                                               values.values()), *values.values()), np.uint8)
        self._arrays = (self._envs, self._clocks, self._params, *(getattr(self, name) for name in BUFFERS))
        self._vec = VecEnv(*(array.ctypes.data for array in self._arrays))
        self._step = self._api.step  # looked up once: each look-up makes a new function object
        self._api.seed(self._vec, int(seed) % 2**64, self.first_env, 0, self.num_envs)
        self._started = False

    def _check_buffers(self, env: EnvFile) -> None:
        n = self.num_agents
        obs, flags = (env.observation.dtype, (n, *env.observation.shape)), ("bool", (n,))
        wanted = {"actions": (env.action.dtype, (n, *env.action.shape)), "rewards": ("float32", (n,)),
                  "observations": obs, "final_observations": obs, "terminals": flags, "truncations": flags,
                  "masks": flags}
        for name, (dtype, shape) in wanted.items():
            array = getattr(self, name)
            if array.dtype != dtype or array.shape != shape or not array.flags.carray:
                raise ValueError(f"environment {env.name}: buffer {name} is {array.dtype} {array.shape}, but must be "
                                 f"{dtype} {shape}, contiguous and writable")

    def reset(self, seed: int | None = None) -> tuple[Array, list]:
        """Begin new episodes; with a `seed` the generators start anew, otherwise they go on."""
        if seed is not None:
            self._api.seed(self._vec, int(seed) % 2**64, self.first_env, 0, self.num_envs)
        self._api.reset(self._vec, 0, self.num_envs)
        self._started = True
        return self.observations, []

    def step(self, actions: Array) -> tuple[Array, Array, Array, Array, list]:
        """One step of every environment; `actions` may have any shape and dtype that fit `self.actions`."""
        if not self._started:
            raise APIUsageError(f"environment {self.spec_name}: call reset before step")
        if actions is not self.actions:
            np.copyto(self.actions, np.asarray(actions).reshape(self.actions.shape), casting="same_kind")
        self._step(self._vec, 0, self.num_envs)
        return self.observations, self.rewards, self.terminals, self.truncations, []

    def addresses(self) -> tuple[int, int]:
        """Where a C caller finds the VecEnv and the step function of csrc/vec_api.h, while this object lives."""
        step = ctypes.cast(self._step, ctypes.c_void_p).value
        assert step is not None
        return ctypes.addressof(self._vec), step

    def get_state(self) -> Array:
        """uint8 (bytes,): states, generators, clocks, current observations; `set_state` goes on exactly."""
        return np.concatenate(self._state_parts())

    def set_state(self, state: Array) -> None:
        """Continue from what `get_state` returned; ValueError if it came from another environment or size."""
        parts = self._state_parts()
        sizes = [len(part) for part in parts]
        if state.dtype != np.uint8 or state.shape != (sum(sizes),):
            raise ValueError(f"environment {self.spec_name}: the state is {state.dtype} {state.shape}, but "
                             f"{self.num_envs} environments need uint8 ({sum(sizes)},)")
        for part, saved in zip(parts, np.split(state, np.cumsum(sizes)[:-1]), strict=True):
            part[:] = saved
        self._started = True

    def _state_parts(self) -> tuple[Array, Array, Array]:
        """Views of all that changes, as bytes: states, clocks, observations."""
        return self._envs, self._clocks, self.observations.reshape(-1).view(np.uint8)

    def close(self) -> None:
        """Nothing to give back: the memory is numpy's."""


class SingleEnv(gymnasium.Env):
    """One single-agent C environment as a plain Gymnasium one, for tools that expect that."""

    metadata = {"render_modes": []}  # noqa: RUF012 (Gymnasium's own form)

    def __init__(self, folder: Path | str, **params: Any) -> None:
        self._env = NativeEnv(folder, **params)
        if self._env.num_agents != 1:
            raise InputError(f"environment {self._env.spec_name} has {self._env.num_agents} agents; "
                             "only one fits a Gymnasium environment")
        self.observation_space = self._env.single_observation_space
        self.action_space = self._env.single_action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict]:
        fresh = self._np_random is None  # Gymnasium's rule: the first episode is random if nobody gives a seed
        super().reset(seed=seed)
        if seed is None and fresh:
            seed = int(self.np_random.integers(2**63))
        return self._env.reset(seed)[0][0].copy(), {}

    def step(self, action: Any) -> tuple[Array, float, bool, bool, dict]:
        obs, rewards, terminals, truncations, _ = self._env.step(action)
        ended = terminals[0] or truncations[0]
        obs = self._env.final_observations if ended else obs
        return obs[0].copy(), float(rewards[0]), bool(terminals[0]), bool(truncations[0]), {}
