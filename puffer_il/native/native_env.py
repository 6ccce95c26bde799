"""C environments as PufferEnvs: a batch, stepped by one call."""

import ctypes
import multiprocessing
import struct
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from puffer_il.core.errors import InputError
from puffer_il.core.spec import Array, Starts
from puffer_il.kernels import _kernels as kernels
from puffer_il.kernels.threads import cores
from puffer_il.native.catalogue import env_folders
from puffer_il.native.envdata import open_env
from puffer_il.native.envfile import EnvFile, Space
from puffer_il.native.pufferlib import pufferlib
from puffer_il.native.vec_api import BUFFERS, VecApi, VecEnv, load_api

WORTH_THREADS_S = 150e-6  # a step that takes longer is shared out; waking a thread takes a third of that
MEASURED_STEPS = 5


def gymnasium_space(space: Space) -> gymnasium.Space:
    """The same space as Gymnasium describes it."""
    if space.nvec and not space.shape:
        return gymnasium.spaces.Discrete(space.nvec[0])
    if space.nvec:
        return gymnasium.spaces.MultiDiscrete(np.array(space.nvec, np.int32), np.int32)
    low, high = (np.broadcast_to(np.array(bound, dtype=space.dtype), space.size).reshape(space.shape)
                 for bound in (space.low, space.high))
    return gymnasium.spaces.Box(low, high, dtype=np.dtype(space.dtype).type)


def _differences(found: Array, wanted: Array) -> Array:
    """(count, 2) rows and columns in which states differ; NaN is like NaN."""
    return np.argwhere((found != wanted) & ~(np.isnan(found) & np.isnan(wanted)))


class NativeEnv(pufferlib.PufferEnv):
    """`num_envs` copies of the C environment in `folder`, stepped by one call that holds no GIL.

    Episodes restart in the step that ends them (unless env.toml says that the agents restart by themselves):
    `observations` then holds the first observation of the next episode and `final_observations` the true successor,
    in those rows only. `terminals` and `truncations` are never both set; `masks` is False for an agent that had left
    before the step.

    observations, final_observations  (num_agents, *obs_shape); a category number is int32 (num_agents, 1)
    actions        int32 (num_agents,) or (num_agents, k), or float32 (num_agents, *shape); they act as if clipped to
                   their range, a NaN as the lower bound, but an environment may charge for them as they were given
    rewards        (num_agents,) float32; terminals, truncations, masks (num_agents,) bool

    `seed` and the index `first_env + i` decide everything about environment i, so that it does not matter how a batch
    is split, nor over how many `threads` a step is shared out (0: over all cores once steps are seen to be slow).
    Parameters and arrays are those of env.toml. Without `buf` the arrays are the environment's own.
    """

    def __init__(self, folder: Path | str, num_envs: int = 1, buf: dict[str, Array] | None = None, seed: int = 0,
                 first_env: int = 0, threads: int = 1, **params: Any) -> None:
        env, values, data = open_env(folder, params)
        self.env_file = env
        if num_envs < 1:
            raise InputError(f"environment {env.name}: num_envs = {num_envs}: must be at least 1")
        self.spec_name = env.name
        self.num_envs, self.first_env = int(num_envs), int(first_env)
        self.num_agents = num_envs * env.agents
        self.single_observation_space = gymnasium_space(env.observation)
        if env.observation.nvec:
            self.single_observation_space = gymnasium.spaces.Box(0, env.observation.nvec[0] - 1, (1,), np.int32)
        self.single_action_space = gymnasium_space(env.action)
        super().__init__(buf)
        given = buf or {}
        self.final_observations = given.get("final_observations", np.zeros_like(self.observations))
        self.logs = given.get("logs", np.zeros((self.num_agents, 1 + len(env.log))))
        self._check_buffers(env)

        self._api = load_api(env)
        self._envs = np.zeros(num_envs * self._api.env_bytes, np.uint8)
        self._clocks = np.zeros(num_envs * self._api.clock_bytes, np.uint8)
        numbers = env.numbers(values)
        self.time_limit = int(values["max_episode_steps"] or 0) or None
        self._params = np.frombuffer(struct.pack("=" + "".join("d" if type(v) is float else "q" for v in numbers),
                                                 *numbers), np.uint8)
        self._data = np.array([x for array in data.values() for x in (array.ctypes.data, array.size)] or [0], np.int64)
        self._arrays = (*data.values(), self._envs, self._clocks, self._params, self._data, self.logs)
        self._vec = VecEnv(*(array.ctypes.data for array in self._arrays[-5:-1]), None,
                           *(getattr(self, name).ctypes.data for name in BUFFERS), self.logs.ctypes.data)
        self._step = self._api.step_unclipped  # looked up once: each look-up makes a new function object
        self._address = ctypes.cast(self._step, ctypes.c_void_p).value
        self._threads, self._measured = threads, MEASURED_STEPS if threads == 0 and step_threads() > 1 else 0
        self._fastest = float("inf")
        self._closed = False
        self._open()
        self._api.seed(self._vec, int(seed) % 2**64, self.first_env, 0, self.num_envs)
        self._started = False

    def _open(self) -> None:
        """What environments with memory of their own need, and its end."""
        api, vec = self._api, self._vec
        wrong = api.share(vec) if api.share else None
        if not wrong:
            wrong = api.open(vec, 0, self.num_envs) if api.open else None
            if wrong and api.unshare:
                api.unshare(vec)
        if wrong:
            raise InputError(f"environment {self.spec_name}: {wrong.decode(errors='replace')}")
        if api.open or api.share:
            self._release = weakref.finalize(self, _release, api, vec, self.num_envs, self._arrays)

    def _check_buffers(self, env: EnvFile) -> None:
        n = self.num_agents
        obs, flags = (env.observation.dtype, (n, *env.observation.shape)), ("bool", (n,))
        wanted = {"actions": (env.action.dtype, (n, *env.action.shape)), "rewards": ("float32", (n,)),
                  "observations": obs, "final_observations": obs, "terminals": flags, "truncations": flags,
                  "masks": flags, "logs": ("float64", (n, 1 + len(env.log)))}
        for name, (dtype, shape) in wanted.items():
            array = getattr(self, name)
            if array.dtype != dtype or array.shape != shape or not array.flags.carray:
                raise ValueError(f"environment {env.name}: buffer {name} is {array.dtype} {array.shape}, but must be "
                                 f"{dtype} {shape}, contiguous and writable")

    def reset(self, seed: int | None = None) -> tuple[Array, list]:
        """Begin new episodes; with a `seed` the generators are seeded, otherwise they continue."""
        self._check_open()
        if seed is not None:
            self._api.seed(self._vec, int(seed) % 2**64, self.first_env, 0, self.num_envs)
        self._api.reset(self._vec, 0, self.num_envs)
        self._started = True
        return self.observations, []

    def reset_some(self, seeds: Mapping[int, int | None]) -> None:
        """Begin new episodes in some environments; one with a seed then behaves like a batch of its own."""
        self._check_open()
        seed_env, reset_env = self._api.seed, self._api.reset
        for i, seed in seeds.items():
            if seed is not None:
                seed_env(self._vec, int(seed) % 2**64, -i % 2**64, i, i + 1)
            reset_env(self._vec, i, i + 1)
        self._started = True

    def step(self, actions: Array) -> tuple[Array, Array, Array, Array, list]:
        """One step of every environment; `actions` may have any shape and dtype that fit `self.actions`."""
        if not self._started:
            raise pufferlib.APIUsageError(f"environment {self.spec_name}: call reset before step")
        if actions is not self.actions:
            np.copyto(self.actions, np.asarray(actions).reshape(self.actions.shape), casting="same_kind")
        if self._measured:
            self._measure()
        elif self._threads > 1:
            kernels.step_envs(ctypes.addressof(self._vec), self._address, self.num_envs, self._threads)
        else:
            self._step(self._vec, 0, self.num_envs)
        return self.observations, self.rewards, self.terminals, self.truncations, []

    def _measure(self) -> None:
        """A step, timed: threads are worth their waking where it takes long."""
        begin = time.perf_counter()
        self._step(self._vec, 0, self.num_envs)
        self._fastest = min(self._fastest, time.perf_counter() - begin)
        self._measured -= 1
        if self._measured == 0:
            self._threads = step_threads() if self._fastest > WORTH_THREADS_S else 1

    def expert_actions(self) -> Array | None:
        """What the scripted expert would do now, shaped like `actions`; None if there is no expert. Changes nothing."""
        if not self._api.expert:
            return None
        actions = np.zeros_like(self.actions)
        self._api.expert(self._vec, actions.ctypes.data, 0, self.num_envs)
        return actions

    def action_masks(self) -> Array | None:
        """bool (num_agents, choices): which actions may be taken now, the choices of each part of an action side by
        side; None if there is no c_mask."""
        if self._api.mask is None:
            return None
        masks = np.zeros((self.num_agents, sum(self.env_file.action.nvec)), np.uint8)
        self._api.mask(ctypes.addressof(self._vec), masks.ctypes.data, 0, self.num_envs)
        return masks != 0

    @property
    def state_size(self) -> int:
        """Numbers of one environment's state; 0 if its states can be neither read nor set one by one."""
        return int(self._api.state_size)

    @property
    def can_be_put(self) -> bool:
        """Whether single environments can be put into a state (c_set_state)."""
        return bool(self._api.set_state)

    def env_states(self) -> Array:
        """float64 (num_envs, state_size): where each episode stands, without its generator and its clock."""
        states = np.zeros((self.num_envs, self.state_size))
        if self._api.get_state:
            self._api.get_state(self._vec, states.ctypes.data, 0, self.num_envs)
        return states

    def set_env_states(self, states: Array, which: Array | None = None) -> None:
        """Put the environments `which` (by default all) where `states` (k, state_size) say, observations included.

        ValueError if there is no such state, or if it has another shape.
        """
        which = np.arange(self.num_envs) if which is None else np.asarray(which)
        if not self.can_be_put or states.shape != (len(which), self.state_size):
            raise ValueError(f"environment {self.spec_name}: states have shape {states.shape}, but {len(which)} "
                             f"environments have ({len(which)}, {self.state_size})")
        whole = np.zeros((self.num_envs, self.state_size))
        whole[which] = states
        for i in which:
            self._api.set_state(self._vec, whole.ctypes.data, int(i), int(i) + 1)
        self._started = True

    def begin_in(self, starts: Starts) -> None:
        """From now on some episodes begin in one of these states; InputError if it cannot be put into them."""
        states, name = starts.states, self.spec_name
        if not self.can_be_put:
            raise InputError(f"environment {name} cannot be put into a demonstrated state: {name}.h defines no "
                             "c_set_state; set mix.expert_resets to 0")
        if not self.env_file.autoreset:
            raise InputError(f"environment {name} begins episodes itself (autoreset = false in env.toml), and never in "
                             "a demonstrated state; set mix.expert_resets to 0")
        if states.shape[1] != self.state_size:
            raise InputError(f"environment {name} has states of {self.state_size} numbers, the demonstrations of "
                             f"{states.shape[1]}; collect them in the same environment, with the same parameters")
        self._starts = np.ascontiguousarray(states, np.float64)
        self._check_states(self._starts)
        self._vec.starts, self._vec.start_count = self._starts.ctypes.data, len(states)
        self._vec.start_share = starts.share

    def _check_states(self, states: Array) -> None:
        """InputError unless each of `states` (k, state_size), which come from a file, is one that the environment can
        be in: put there, it is there. It stays as it was."""
        before, started = [part.copy() for part in self._state_parts()], self._started
        try:
            for first in range(0, len(states), self.num_envs):
                wanted = states[first:first + self.num_envs]
                self.set_env_states(wanted, np.arange(len(wanted)))
                found = self.env_states()[:len(wanted)]
                if len(wrong := _differences(found, wanted)):
                    row, k = wrong[0]
                    raise InputError(f"environment {self.spec_name} cannot be in the demonstrations' state "
                                     f"{first + row}: its number {k} is {wanted[row, k]:.6g}, where "
                                     f"{found[row, k]:.6g} would be possible; collect them again in the same "
                                     "environment, with the same parameters")
        finally:
            self._put_back(before)
            self._started = started

    def render(self, env: int = 0) -> Array:
        """uint8 (height, width, 3): the picture of one environment; InputError if it draws none."""
        if not self._api.render:
            raise InputError(f"environment {self.spec_name} has no pictures: {self.spec_name}.h defines no c_render")
        pixels = np.zeros((self._api.render_height, self._api.render_width, 3), np.uint8)
        self._api.render(self._vec, env, pixels.ctypes.data)
        return pixels

    def pop_log_means(self) -> dict[str, float]:
        """What the episodes that ended since the last call have logged, on average; empty if none has."""
        return pop_log_means(self.logs, self.env_file.log)

    def addresses(self, clip_actions: bool = True) -> tuple[int, int]:
        """Where a C caller finds the VecEnv and the step function of csrc/vec_api.h, while this object lives; one that
        clips actions first, or that takes them as `step` does."""
        step = ctypes.cast(self._api.step if clip_actions else self._api.step_unclipped, ctypes.c_void_p).value
        assert step is not None
        return ctypes.addressof(self._vec), step

    def get_state(self) -> Array:
        """uint8 (bytes,): states, generators, clocks, current observations; `set_state` continues exactly from them."""
        return np.concatenate(self._state_parts())

    def set_state(self, state: Array) -> None:
        """Continue from what `get_state` returned; ValueError if it came from another environment or size."""
        parts = self._state_parts()
        sizes = [len(part) for part in parts]
        if state.dtype != np.uint8 or state.shape != (sum(sizes),):
            raise ValueError(f"environment {self.spec_name}: the state is {state.dtype} {state.shape}, but "
                             f"{self.num_envs} environments need uint8 ({sum(sizes)},)")
        saved = np.split(state, np.cumsum(sizes)[:-1])
        self._put_back(saved)
        if self._api.set_state and self.env_file.folder in env_folders().values():
            self._check_memory(saved)
        self._started = True

    def _put_back(self, saved: Sequence[Array]) -> None:
        """Bytes of `_state_parts` into their places."""
        if self._api.open:
            self.set_env_states(saved[0].copy().view(np.float64).reshape(self.num_envs, -1))
        else:
            self._envs[:] = saved[0]
        for part, value in zip(self._state_parts()[1:], saved[1:], strict=True):
            part[:] = value

    def _check_memory(self, saved: Sequence[Array]) -> None:
        """Make the states anew from the numbers that they stand for, so that bytes from a file, which nobody has
        checked, become no index of C code. ValueError if there is no such state. Only for environments that are known
        to hand over all of it."""
        states = self.env_states()
        if not self._api.open:
            self._envs[:] = 0
        self.set_env_states(states)
        if len(wrong := _differences(self.env_states(), states)):
            raise ValueError(f"environment {self.spec_name}: the saved environment {wrong[0][0]} is in no state that "
                             "there is")
        self._state_parts()[2][:] = saved[2]

    def _state_parts(self) -> tuple[Array, Array, Array]:
        """All that changes, as bytes: the states (views of Env, unless it points to memory of its own), and views of
        clocks and observations."""
        states = self.env_states().reshape(-1).view(np.uint8) if self._api.open else self._envs
        return states, self._clocks, self.observations.reshape(-1).view(np.uint8)

    def close(self) -> None:
        """Give back memory that environments have of their own; the rest is numpy's. It cannot be used afterwards."""
        self._started, self._closed = False, True
        if hasattr(self, "_release"):
            self._release()

    def _check_open(self) -> None:
        if self._closed:
            raise pufferlib.APIUsageError(f"environment {self.spec_name} is closed; make another one")


def _release(api: VecApi, vec: VecEnv, num_envs: int, arrays: tuple[Array, ...]) -> None:
    """`arrays` are only held: what `vec` points to must live until here."""
    if api.close:
        api.close(vec, 0, num_envs)
    if api.unshare:
        api.unshare(vec)


def step_threads() -> int:
    """Threads that a step may use: as many as the kernels, if that is set, and one in a worker, which has its share."""
    return 1 if multiprocessing.parent_process() is not None else kernels.thread_budget() or cores()


def pop_log_means(logs: Array, names: tuple[str, ...]) -> dict[str, float]:
    """Means over the episodes summed up in `logs` (rows, 1 + len(names)), which is then reset; empty if none ended.
    What a C environment logs as `success` is its success rate too."""
    episodes, *sums = logs.sum(0)
    logs[:] = 0
    if not episodes:
        return {}
    means = {name: float(total / episodes) for name, total in zip(names, sums, strict=True)}
    return means | ({"success_rate": means["success"]} if "success" in means else {})
