"""PufferLib's Serial backend, and its native one: a single PufferEnv that steps its whole batch."""

import contextlib
import traceback
from types import SimpleNamespace
from typing import Any

import numpy as np

from puffer_il.core.errors import EnvFailure, InputError, Quit
from puffer_il.core.spec import Array
from puffer_il.native.native_env import NativeEnv
from puffer_il.native.pufferlib import pufferlib
from puffer_il.vector.emulation import Single
from puffer_il.vector.gym_vector import Vectorized
from puffer_il.vector.make import Creator, EnvFacts, env_seed
from puffer_il.vector.prepared import Prepared
from puffer_il.vector.singles import Singles
from puffer_il.vector.state import State

RECV = pufferlib.vector.RECV


def layout(facts: EnvFacts) -> dict[str, tuple[np.dtype, tuple[int, ...]]]:
    """dtype and shape of one row in each buffer that PufferLib's environments share with their vector."""
    action = facts.single_action_space
    obs, flag, scalar = (facts.spec.obs_dtype, facts.spec.obs_shape), (np.dtype(bool), ()), (np.dtype(np.float32), ())
    rows: dict[str, tuple[np.dtype, tuple[int, ...]]] = {
        "observations": obs, "rewards": scalar, "terminals": flag, "truncations": flag, "masks": flag,
        "actions": (np.dtype(np.int32 if facts.spec.action.discrete else action.dtype), action.shape or ())}
    if facts.has_final:
        rows["final_observations"] = obs
    if facts.log:
        rows["logs"] = (np.dtype(np.float64), (1 + len(facts.log),))
    return rows


def allocate(facts: EnvFacts, rows: int, memory: dict[str, Any] | None = None) -> dict[str, Array]:
    """The buffers of `rows` rows, in `memory` (name → shared bytes) or their own, where all rows are valid."""
    buffers = {}
    for name, (dtype, shape) in layout(facts).items():
        flat = np.zeros(rows * int(np.prod(shape)), dtype) if memory is None else np.frombuffer(memory[name], dtype)
        buffers[name] = flat.reshape(rows, *shape)
    if memory is None:
        buffers["masks"][:] = True  # not every PufferEnv writes them
    return buffers


class Lent:
    """An array of the vector that a PufferEnv was given to write to: where it has put another one in its place, that
    is copied. InputError where it is of another shape, as it would be spread over all rows."""

    def __init__(self, ours: Array, env: Any, name: str) -> None:
        self.ours, self.env, self.name = ours, env, name
        self.given: Any = None
        self.apart = False

    def fetch(self) -> None:
        given = getattr(self.env, self.name)
        if given is not self.given:
            self.given, self.apart = given, not np.shares_memory(self.ours, given)
        if not self.apart:
            return
        if np.shape(given) != self.ours.shape:
            raise InputError(f"its {self.name} have shape {np.shape(given)} where {self.ours.shape} are declared; "
                             f"write into self.{self.name}, or correct one of them")
        np.copyto(self.ours, given)


class Serial(pufferlib.vector.Serial):
    """`count` instances in this process, one after the other; a native one steps all of its environments at once.

    `buffers` as from `allocate`. `first_env` is the index of the first environment here in the whole vector.
    """

    def __init__(self, creator: Creator, facts: EnvFacts, count: int, buffers: dict[str, Array], seed: int = 0,
                 first_env: int = 0) -> None:
        self._prepared = None if facts.spec.frames is None else Prepared(facts.spec.frames, buffers, facts.native)
        whole, buffers = buffers, buffers if self._prepared is None else self._prepared.own
        rows = len(buffers["rewards"]) // count
        envs_each = rows // facts.num_agents
        driver = SimpleNamespace(num_agents=rows, single_observation_space=facts.single_observation_space,
                                 single_action_space=facts.single_action_space)

        def create(index: int, buf: dict[str, Array] | None = None, seed: int = 0) -> Any:
            if buf is None:
                return driver  # PufferLib wants a first instance to learn the sizes from
            for name in ("final_observations", "logs"):  # which PufferLib does not know
                if name in buffers:
                    buf[name] = buffers[name][index * rows:(index + 1) * rows]
            return creator(buf, seed, facts.masked, num_envs=envs_each, first_env=first_env + index * envs_each)

        super().__init__([create] * count, [[index] for index in range(count)], [{}] * count, count, buf=buffers,
                         seed=env_seed(seed, first_env))
        self.observations = whole["observations"]
        self.final_observations, self.logs = whole.get("final_observations"), buffers.get("logs")
        self.infos: list = []  # never filled: statistics of episodes are counted in vec
        self._name, self._facts, self.buffers, self._envs_each = creator.name, facts, buffers, envs_each
        self._first_envs = [first_env + index * envs_each for index in range(count)]
        self._rows = [slice(index * rows, (index + 1) * rows) for index in range(count)]
        # A PufferEnv is given its own array where that is part of ours, so that it sees there is nothing to copy.
        self._actions = [env.actions if facts.native and np.shares_memory(env.actions, self.actions)
                         else self.actions[part] for env, part in zip(self.envs, self._rows, strict=True)]
        others = facts.native and not isinstance(self.envs[0], NativeEnv | Vectorized)
        self._lent = [[Lent(ours[rows], env, name) for name, ours in buffers.items() if name != "actions"]
                      if others else [] for env, rows in zip(self.envs, self._rows, strict=True)]
        self._singles = Singles(self.envs, buffers) if all(type(env) is Single for env in self.envs) else None
        self._state = State(self.envs, buffers) if facts.exact and not facts.own_state else None
        self.at: Any = [0]  # [0]: which instance is being stepped, or −1 minus that in a reset; not of native ones
        self.restarted: list[slice] = []  # as of Workers

    def async_reset(self, seed: int) -> None:
        """New episodes of every environment, seeded by `seed` and its index."""
        try:
            for index, env in enumerate(self.envs):
                self.at[0] = -1 - index
                env.reset(seed if self._facts.indexed else env_seed(seed, self._first_envs[index]))
                for array in self._lent[index]:
                    array.fetch()
        except (EnvFailure, Quit):  # raised from outside, for one that does not come back
            raise
        except (Exception, SystemExit) as error:
            raise self._failure(index, "reset", error) from error
        self.at[0] = 0
        if self._prepared is not None:
            self._prepared.begin()
        self.flag = RECV

    def send(self, actions: Array | None, group: int = 0) -> None:
        """Step every instance, or begin the next episode of one that is over and does not do so itself.

        `actions` (rows, …), or None if they are in `self.actions` already.
        """
        if actions is not None:
            self.actions[:] = actions
        index = 0
        try:
            if self._singles is not None:
                self._singles.step(self.actions, self.at)
            elif self._facts.native:
                for index, env in enumerate(self.envs):
                    env.step(self._actions[index])
                    for array in self._lent[index]:
                        array.fetch()
            else:
                # A copy, as an environment may keep its last action and the buffer is written to again.
                actions, at = self.actions.copy(), self.at
                for index, env in enumerate(self.envs):
                    rows = self._rows[index]
                    if env.done:
                        at[0] = -1 - index
                        env.reset()
                        self.masks[rows] = False
                    else:
                        at[0] = index
                        env.step(actions[rows])
                at[0] = 0
        except (EnvFailure, Quit):
            raise
        except (Exception, SystemExit) as error:
            raise self._failure(index or self._index, "step", error) from error
        if self._prepared is not None:
            self._prepared.step()
        self.flag = RECV

    def recv(self, group: int = 0) -> tuple:
        """PufferLib's tuple for all rows, as there is one group; `masks` are the contract's `valid`."""
        return super().recv()

    def who(self, doing: str, seed: int) -> str:
        """Which environment is being stepped, and in what, for the user: that of the whole vector's `seed`."""
        at, index = self.at[0], self._index
        first = self._first_envs[index]
        last = first if not self._facts.native else self._first_envs[-1] + self._envs_each - 1
        doing = f"the reset in {doing}" if at < 0 and doing != "reset" else doing
        seed = seed if self._facts.indexed else env_seed(seed, first)
        return f"environment {self._name!r}, {numbered(first, last)}, in {doing} since the seed {seed},"

    @property
    def _index(self) -> int:
        """Which instance is being stepped or reset; 0 of native ones."""
        return self.at[0] if self.at[0] >= 0 else -1 - self.at[0]

    def get_state(self) -> Array:
        """uint8 (1, bytes) of all instances, after the pictures that are stacked; only where they are exact. Unreadable
        if it cannot be had now."""
        parts = [env.get_state() for env in self.envs] if self._state is None else [self._state.read()]
        return np.concatenate([self._stacked(), *parts])[None]

    def set_state(self, state: Array) -> None:
        """Unreadable if it cannot be put back; the environments must then be reset."""
        stacked = self._stacked()
        before, state = np.split(state, [len(stacked)], 1)
        if self._state is not None:
            self._state.write(state[0])
            if self._singles is not None:
                self._singles.bind()
            stacked[:] = before[0]
            return
        stacked[:] = before[0]
        sizes = [len(env.get_state()) for env in self.envs]
        for env, part in zip(self.envs, np.split(state[0], np.cumsum(sizes)[:-1]), strict=True):
            env.set_state(part)

    def _stacked(self) -> Array:
        """uint8 (bytes,), a view of the rows of prepared pictures; of none where there are none."""
        return np.empty(0, np.uint8) if self._prepared is None else self.observations.reshape(-1).view(np.uint8)

    def close(self) -> None:
        for env in self.envs:
            with contextlib.suppress(Exception):  # what fails in closing must not fail a run that has ended well
                env.close()

    def _failure(self, index: int, doing: str, error: BaseException) -> EnvFailure | InputError:
        first, last = self._first_envs[index], self._first_envs[index] + self._envs_each - 1
        which = numbered(first, last)
        if isinstance(error, InputError):  # what the user can mend, in a line
            return InputError(f"environment {self._name!r}, {which}, in {doing}: {error}")
        return EnvFailure(f"environment {self._name!r}, {which}, failed in {doing}:\n{traceback.format_exc()}")


def numbered(first: int, last: int) -> str:
    """Which environments of a vector, for the user."""
    return f"number {first}" if first == last else f"numbers {first} to {last}"
