"""An environment that is asked what it would do: to judge demonstrations of it (demos.judge)."""

import time
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import gymnasium
import numpy as np

from puffer_il.core.actions import first_of
from puffer_il.core.errors import InputError
from puffer_il.core.frames import Pictures
from puffer_il.core.spec import Array, Batch, EnvSpec, Starts
from puffer_il.native.native_env import NativeEnv
from puffer_il.vector.gym_states import GymStates
from puffer_il.vector.make import find_creator
from puffer_il.vector.vec import Vec, make_vec

ROWS = 32, 4  # that practise side by side: of C environments, and of others, which take memory and time
STARTS, STEPS = 256, 2_000  # that are asked for once, at least
PATIENCE_S = 20.0  # for starts, and for practice: then what there is has to do
REPLAYED = 1_024  # that step from states side by side
MOST = 20_000, 2_000  # rows that are replayed for a judgement: of C environments, and of others


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
        self._name, self._creator = name, find_creator(name, kwargs or {}, pictures)
        self._facts = self._creator.facts()
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
        for opened in (*self._vecs, self.__dict__.get("_single")):
            if opened is not None:
                opened.close()

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
        if not self.native:
            return None
        vec = self._vec(REPLAYED, "auto")
        vec.reset(0)
        env = vec.envs[0] if len(vec.envs) == 1 else None
        return vec if isinstance(env, NativeEnv) and env.state_size and env.can_be_put else None

    @cached_property
    def _single(self) -> gymnasium.Env | None:
        """One Gymnasium environment, None where it is something else."""
        if self.native or self.spec.num_agents > 1 or self.spec.frames is not None:
            return None
        try:
            return self._creator.as_gymnasium()
        except InputError:
            return None

    @cached_property
    def _placed(self) -> GymStates | None:
        """The same where it can be put into states; None where it cannot."""
        if self._single is None or self.spec.mask is not None or self.spec.layout.nested:
            return None
        placed = GymStates(self._single, self.spec)
        return placed if placed.repeats else None

    @property
    def most(self) -> int:
        """Rows that it does not take long to replay."""
        return MOST[0] if self.native else MOST[1]

    @property
    def unsure(self) -> float:
        """The share of rows that come out otherwise even of a sound recording, where states are those that observations
        show: float32 is not all of a state."""
        return self._placed.unsure if self._placed is not None else 0.0

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
        the environment cannot be put into them. Rows of several agents stand side by side, as those of a vector."""
        placed, vec = self._placed, self._many
        if placed is not None and states.shape[1] == placed.size and np.isfinite(states).all():
            return Played(*placed.replay(states, actions, seed))
        if vec is None or states.shape[1] != vec.envs[0].state_size or not np.isfinite(states).all():
            return None
        env, parts, agents = vec.envs[0], list[list[Array]](), self.spec.num_agents
        try:
            env.begin_in(Starts(states[::agents], 0.0))  # which looks at them, as they come from a file
        except (InputError, ValueError):
            return None
        for first in range(0, len(states), vec.num_envs):
            some = slice(first, first + vec.num_envs)
            wanted = np.resize(states[some], (vec.num_envs, states.shape[1]))
            sent = np.resize(actions[some], (vec.num_envs, actions.shape[1])).astype(self.spec.action.dtype)
            vec.reset(seed)
            env.set_env_states(wanted[::agents])
            obs = vec.obs.copy()
            seen = _seen(vec.step(sent), obs, sent, every=True)
            parts.append([column[:len(states[some])] for column in seen])
        return Played(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    def states_of(self, obs: Array) -> Array | None:
        """(n, state size) the states that observations show, NaN where one does not; None where the environment's state
        is more than it shows."""
        if obs.dtype.kind != "f" or obs.ndim != 2 or obs.shape[1:] != self.spec.obs_shape:
            return None
        if self._placed is not None:
            return self._placed.states_of(obs)
        vec = self._many
        if vec is None or self.spec.num_agents > 1:
            return None
        shown, states = vec.reset(0), vec.env_states()
        if states is None or states.shape != shown.shape or not np.array_equal(states.astype(shown.dtype), shown):
            return None
        return obs.astype(np.float64)

    def from_seed(self, seed: int, actions: Array) -> Array | None:
        """(k + 1, *obs_shape) what a reset with `seed` shows, and each step after it with `actions` (n, dim), as far as
        the episode goes; None where the environment is none of Gymnasium's, or breaks."""
        env = self._single
        if env is None:
            return None
        with suppress(Exception):  # it is asked out of curiosity: a run would tell what is wrong with it
            rows = [self.spec.pack(env.reset(seed=seed)[0])[0]]
            for row in actions:
                obs, _, terminated, truncated, _ = env.step(first_of(self.spec.action.to_env(row[None])))
                rows.append(self.spec.pack(obs)[0])
                if terminated or truncated:
                    break
            return np.concatenate([row.reshape(1, *self.spec.obs_shape) for row in rows])
        return None


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
