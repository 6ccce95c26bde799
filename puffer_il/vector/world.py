"""An environment that is asked what it would do: to judge demonstrations of it (demos.judge)."""

import time
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from puffer_il.core.errors import InputError
from puffer_il.core.frames import Pictures
from puffer_il.core.spec import Array, Batch, EnvSpec, Starts
from puffer_il.native.native_env import NativeEnv
from puffer_il.vector.make import find_creator
from puffer_il.vector.vec import Vec, make_vec

ROWS = 32, 4  # that practise side by side: of C environments, and of others, which take memory and time
STARTS, STEPS = 256, 2_000  # that are asked for once, at least
PATIENCE_S = 20.0  # for starts, and for practice: then what there is has to do
REPLAYED = 1_024  # that step from states side by side


@dataclass(frozen=True)
class Played:
    """n transitions of the environment, named as in `Demos`."""

    obs: Array
    actions: Array
    next_obs: Array
    rewards: Array
    terminations: Array


class World:
    """The environment `name` with its parameters, opened when it is first asked; `close` ends it. Answers are the same
    every time."""

    def __init__(self, name: Any, kwargs: dict[str, Any] | None = None, pictures: Pictures | None = None) -> None:
        self._how: dict[str, Any] = {"kwargs": kwargs or {}, "pictures": pictures, "backend": "auto"}
        self._name = name
        self._facts = find_creator(name, kwargs or {}, pictures).facts()
        self._vecs: list[Vec] = []
        self._practised: Played | None = None

    @property
    def spec(self) -> EnvSpec:
        return self._facts.spec

    @property
    def native(self) -> bool:
        return self._facts.native

    def __enter__(self) -> "World":
        return self

    def __exit__(self, *_: object) -> None:
        for vec in self._vecs:
            vec.close()

    def _vec(self, rows: int, backend: str) -> Vec:
        vec = make_vec(self._name, num_envs=self._facts.rows_for(rows), **self._how | {"backend": backend})
        self._vecs.append(vec)
        return vec

    @cached_property
    def _few(self) -> Vec:
        return self._vec(ROWS[0], "auto") if self.native else self._vec(ROWS[1], "serial")

    @cached_property
    def _many(self) -> Vec | None:
        """Rows that can be put into states; None where none can."""
        if not self.native or self.spec.num_agents > 1:
            return None
        vec = self._vec(REPLAYED, "auto")
        vec.reset(0)
        env = vec.envs[0] if len(vec.envs) == 1 else None
        return vec if isinstance(env, NativeEnv) and env.state_size and env.can_be_put else None

    def starts(self, count: int) -> Array:
        """(count or somewhat more, *obs_shape) first observations of episodes; fewer where they take too long."""
        if not len(self._begun):
            begun, until = list[Array](), time.monotonic() + PATIENCE_S
            while sum(map(len, begun)) < max(count, STARTS) and (not begun or time.monotonic() < until):
                begun.append(self._few.reset(len(begun)).copy())
            self._begun = np.concatenate(begun)
        return self._begun

    _begun: Array = np.zeros(0)

    def practice(self, count: int) -> Played:
        """`count` transitions or more under uniformly random actions; fewer where they take too long."""
        if self._practised is None:
            until = time.monotonic() + PATIENCE_S
            vec, rng = self._few, np.random.default_rng(0)
            obs, parts = vec.reset(0).copy(), list[list[Array]]()
            while sum(len(part[0]) for part in parts) < max(count, STEPS) and (not parts or time.monotonic() < until):
                actions = _random(rng, self.spec, obs)
                batch = vec.step(actions)
                parts.append(_seen(batch, obs, self.spec.action.executed(actions)))
                obs = batch.obs.copy()
            self._practised = Played(*(np.concatenate(column) for column in zip(*parts, strict=True)))
        return self._practised

    def replay(self, states: Array, actions: Array, seed: int = 0) -> Played | None:
        """One step from each of `states` (n, state size) with `actions` (n, dim), chance drawn with `seed`; None where
        the environment cannot be put into them."""
        vec = self._many
        if vec is None or states.shape[1] != vec.envs[0].state_size or not np.isfinite(states).all():
            return None
        env, parts = vec.envs[0], list[list[Array]]()
        try:
            env.begin_in(Starts(states, 0.0))  # which looks at them, as they come from a file
        except (InputError, ValueError):
            return None
        for first in range(0, len(states), vec.num_envs):
            some = slice(first, first + vec.num_envs)
            wanted = np.resize(states[some], (vec.num_envs, states.shape[1]))
            sent = np.resize(actions[some], (vec.num_envs, actions.shape[1])).astype(self.spec.action.dtype)
            vec.reset(seed)
            env.set_env_states(wanted)
            obs = vec.obs.copy()
            seen = _seen(vec.step(sent), obs, sent, every=True)
            parts.append([column[:len(states[some])] for column in seen])
        return Played(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    def states_of(self, obs: Array) -> Array | None:
        """(n, state size) the observations themselves, where the environment's state is what it shows."""
        vec = self._many
        if vec is None or obs.dtype.kind != "f" or obs.ndim != 2:
            return None
        shown, states = vec.reset(0), vec.env_states()
        if states is None or states.shape != shown.shape or not np.array_equal(states.astype(shown.dtype), shown):
            return None
        return obs.astype(np.float64)


def _seen(batch: Batch, obs: Array, actions: Array, every: bool = False) -> list[Array]:
    """The columns of Played; rows that are not valid are left out, or not."""
    ended = batch.terminations | batch.truncations
    next_obs = batch.obs.copy()
    next_obs[ended] = batch.final_obs[ended]
    kept = slice(None) if every else batch.valid
    return [column[kept].copy() for column in (obs, actions, next_obs, batch.rewards, batch.terminations)]


def _random(rng: np.random.Generator, spec: EnvSpec, obs: Array) -> Array:
    """(n, dim) uniform over what may be done, and over [-1, 1] around the middle where a range has no bounds."""
    allowed = spec.allowed(obs)
    if allowed is not None:
        return np.stack([(rng.random(part.shape) * part).argmax(1) for part in allowed], 1).astype(np.int32)
    size = (len(obs), spec.action.dim)
    if spec.action.discrete:
        return rng.integers(0, spec.action.nvec, size).astype(np.int32)
    low, high = (np.asarray(bound, np.float64) for bound in (spec.action.low, spec.action.high))
    bounded = np.isfinite(low) & np.isfinite(high)
    center = np.clip(0, low, high)
    return rng.uniform(np.where(bounded, low, center - 1), np.where(bounded, high, center + 1), size).astype(np.float32)
