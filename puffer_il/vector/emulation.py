"""Gymnasium, PettingZoo and gym environments made ready for PufferLib's emulation: rows of numbers in and out.

PufferLib lays a Dict or Tuple observation out as one flat row. What its emulation gets wrong is put right here, before
it sees the environment: observations made of Discrete and MultiDiscrete leaves (their declared dtype is wider than the
row it makes), actions other than Discrete, MultiDiscrete from 0 and one-dimensional Box, and which agents of a
parallel environment took part in a step.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from puffer_il.core.errors import InputError
from puffer_il.core.spec import ActionSpec, Array, ObsField
from puffer_il.native.pufferlib import pufferlib
from puffer_il.vector.gym_compat import OldGym, is_old

GymnasiumPufferEnv: Any = pufferlib.emulation.GymnasiumPufferEnv
PettingZooPufferEnv: Any = pufferlib.emulation.PettingZooPufferEnv

VECTORS_HAVE = ("single_observation_space", "step_async")  # those of gym and Gymnasium, of Stable-Baselines3
Decode = Callable[[Array], Any]


def emulate(env: Any, buf: dict[str, Array] | None, seed: int) -> Any:
    """`env` as PufferLib wants it, writing into `buf`; InputError if it is none of what can be emulated."""
    if isinstance(env, GymnasiumPufferEnv | PettingZooPufferEnv):
        env = env.env
    if hasattr(env, "agent_iter"):
        raise InputError("it is a turn-based PettingZoo environment; wrap it in pettingzoo.utils.aec_to_parallel, or "
                         "open its module's parallel_env")
    if hasattr(env, "possible_agents"):
        return Parallel(env=AdaptedParallel(env), buf=buf, seed=seed)
    if not isinstance(env, gymnasium.Env) and any(hasattr(env, name) for name in VECTORS_HAVE):
        with suppress(Exception):
            env.close()  # it may have started processes
        raise InputError(f"it is a vector of environments, a {type(env).__name__}; return a single one: env.num_envs "
                         "says how many are opened")
    if is_old(env):
        env = OldGym(env)
    if isinstance(env, gymnasium.Env):
        return Single(env=_adapted(env), buf=buf, seed=seed)
    raise InputError(f"it is a {type(env).__name__}; return a Gymnasium environment, one of gym, a parallel PettingZoo "
                     "environment or a PufferEnv")


# Observations

def plain_observations(space: spaces.Space, name: str = "") -> spaces.Space:
    """The space in dtypes that rows have: float32 for float64 (learning reads no more), int32 for category numbers."""
    if isinstance(space, spaces.Dict):
        return spaces.Dict({name: plain_observations(leaf, name) for name, leaf in space.items()})
    if isinstance(space, spaces.Tuple):
        return spaces.Tuple([plain_observations(leaf) for leaf in space])
    if isinstance(space, spaces.Discrete):
        plain = spaces.Discrete(int(space.n), start=int(space.start))
        plain.dtype = np.dtype(np.int32)  # type: ignore[assignment]
        return plain
    if isinstance(space, spaces.MultiDiscrete):
        return spaces.Box(space.start.astype(np.int32), (space.start + space.nvec - 1).astype(np.int32), dtype=np.int32)
    if isinstance(space, spaces.MultiBinary):
        return spaces.Box(0, 1, space.shape, np.int8)
    if isinstance(space, spaces.Box):
        if space.dtype != np.float64:
            return space
        with np.errstate(over="ignore"):
            return spaces.Box(space.low.astype(np.float32), space.high.astype(np.float32), dtype=np.float32)
    leave_out = f", or leave {name!r} out, as gymnasium.wrappers.FilterObservation does" if name else ""
    raise InputError(f"observation space {type(space).__name__} has no fixed size in memory; use Box, Discrete, "
                     f"MultiDiscrete, MultiBinary, or a Dict or Tuple of them{leave_out}")


def obs_fields(space: spaces.Space, dtype: np.dtype, name: str = "", offset: int = 0) -> Iterator[ObsField]:
    """The leaves of a plain space inside its row. `dtype` is PufferLib's struct of the row, aligned as in C."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        assert dtype.fields is not None
        leaves = space.items() if isinstance(space, spaces.Dict) else ((f"f{i}", leaf) for i, leaf in enumerate(space))
        for key, leaf in leaves:
            inner, start = dtype.fields[key][:2]
            yield from obs_fields(leaf, inner, f"{name}.{key}" if name else key, offset + start)
    elif isinstance(space, spaces.Discrete):
        # One-hot from zero: categories below a positive start stay unused. From a negative start it is just a number.
        categories = int(space.start + space.n) if space.start >= 0 else 0
        yield ObsField(name or "obs", np.dtype(np.int32), (), offset, categories)
    else:
        assert space.dtype is not None and space.shape is not None
        yield ObsField(name or "obs", np.dtype(space.dtype), space.shape, offset)


def _row_space(space: spaces.Space) -> spaces.Space:
    """The plain form of `space`, which still judges observations as the environment declared them."""
    plain = plain_observations(space)
    if plain is not space:
        plain.contains = space.contains  # type: ignore[method-assign]
    if not pufferlib.emulation.flatten_space(plain):
        raise InputError("its observation space is empty; there is nothing to learn from")
    return plain


# Actions

def plain_actions(space: spaces.Space) -> tuple[spaces.Space, Decode | None]:
    """A Discrete, MultiDiscrete or one-dimensional Box in place of `space`, and how a row of it becomes an action."""
    leaves = pufferlib.emulation.flatten_space(space)
    if leaves and all(isinstance(leaf, spaces.Box) and leaf.dtype.kind == "f" for leaf in leaves):
        if len(space.shape or ()) == 1:
            return space, None
        low, high = (np.concatenate([np.ravel(getattr(leaf, bound)) for leaf in leaves]) for bound in ("low", "high"))
        return spaces.Box(low.astype(np.float32), high.astype(np.float32)), lambda row: _decode(space, row)[0]
    if leaves and all(isinstance(leaf, spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary) for leaf in leaves):
        usual = isinstance(space, spaces.Discrete | spaces.MultiDiscrete) and not np.any(space.start)
        if usual and len(space.shape or ()) < 2:
            return space, None
        nvec = np.concatenate([_choices(leaf) for leaf in leaves])
        return spaces.MultiDiscrete(nvec), lambda row: _decode(space, row)[0]
    raise InputError(f"action space {_line(space)} is not supported; use discrete parts only, or Box parts of floats "
                     "only")


def action_spec(space: spaces.Space, own: spaces.Space | None = None) -> ActionSpec:
    """The spec of a Discrete, MultiDiscrete or Box space of rows; `own` is the environment's, if that is another."""
    shape = space.shape if own is None or own.shape is None else own.shape
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        start = np.ravel(getattr(own, "start", 0))
        return ActionSpec(tuple(map(int, np.ravel(_choices(space)))), shape=shape or (),
                          start=tuple(map(int, start)) if start.any() else ())
    if isinstance(space, spaces.Box) and space.dtype.kind == "f":
        with np.errstate(over="ignore"):
            low, high = (np.ravel(bound).astype(np.float32) for bound in (space.low, space.high))
        return ActionSpec(low=low, high=high, shape=shape or ())
    raise InputError(f"action space {_line(space)} is not supported; use Discrete, MultiDiscrete, or a Box of floats")


def _line(space: spaces.Space) -> str:
    """Its description without the line breaks of arrays."""
    return " ".join(str(space).split())


def _choices(leaf: spaces.Space) -> Array:
    if isinstance(leaf, spaces.MultiBinary):
        return np.full(int(np.prod(leaf.shape)), 2)
    return np.ravel(leaf.nvec if isinstance(leaf, spaces.MultiDiscrete) else leaf.n)  # type: ignore[attr-defined]


def _decode(space: spaces.Space, row: Array, at: int = 0) -> tuple[Any, int]:
    """The action of `space` that starts at `row[at]`, and where the next one starts."""
    if isinstance(space, spaces.Dict):
        named = {}
        for key, leaf in space.items():
            named[key], at = _decode(leaf, row, at)
        return named, at
    if isinstance(space, spaces.Tuple):
        listed = []
        for leaf in space:
            action, at = _decode(leaf, row, at)
            listed.append(action)
        return tuple(listed), at
    if isinstance(space, spaces.Discrete):
        return int(np.ravel(row)[at] + space.start), at + 1
    shape = space.shape or ()
    end = at + int(np.prod(shape))
    action = row[at:end].reshape(shape).astype(space.dtype)
    return (action + space.start if isinstance(space, spaces.MultiDiscrete) else action), end


# Environments

class Adapted(gymnasium.Wrapper):
    """A Gymnasium environment whose spaces are plain."""

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        self.own_action_space = env.action_space
        self.observation_space = _row_space(env.observation_space)
        self.action_space, self._decode = plain_actions(env.action_space)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict]:
        return self.env.step(action if self._decode is None else self._decode(action))


def _adapted(env: gymnasium.Env) -> gymnasium.Env:
    """`env` itself where its spaces are plain already, as a wrapper costs time in every step."""
    wrapped = Adapted(env)
    same = wrapped.observation_space is env.observation_space and wrapped.action_space is env.action_space
    return env if same else wrapped


class Single(GymnasiumPufferEnv):
    """PufferLib's emulation of a Gymnasium environment; a `reset` that fails is not tried again without the seed, and
    actions need not keep to their range."""

    is_observation_checked: bool

    def __init__(self, env: gymnasium.Env, buf: dict[str, Array] | None, seed: int) -> None:
        super().__init__(env=env, buf=buf, seed=seed)
        self.is_action_checked = True  # rows have the right form; whether they are clipped, the vector decides

    def reset(self, seed: int | None = None) -> tuple[Array, dict]:
        result = self.env.reset() if seed is None else self.env.reset(seed=seed)
        if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], dict)):
            raise InputError(f"its reset returned a {type(result).__name__}; return (observation, info) from reset and "
                             "five values from step, as in Gymnasium")
        observation, info = result
        if not self.is_observation_checked:
            self.is_observation_checked = pufferlib.emulation.check_space(observation, self.env.observation_space)
        if self.is_obs_emulated:
            pufferlib.emulation.emulate(self.obs_struct, observation)
        else:
            self.observations[:] = observation
        self.rewards[0], self.terminals[0], self.truncations[0], self.masks[0] = 0, False, False, True
        self.initialized, self.done = True, False
        return self.observations, info


class AdaptedParallel(pufferlib.pufferlib.PettingZooWrapper):
    """A parallel PettingZoo environment whose spaces are plain and the same for every agent."""

    def __init__(self, env: Any) -> None:
        super().__init__(env)
        first, *others = env.possible_agents
        observations, actions = env.observation_space(first), env.action_space(first)
        for agent in others:
            for kind, own, wanted in (("observation", env.observation_space(agent), observations),
                                      ("action", env.action_space(agent), actions)):
                if own != wanted:
                    raise InputError(f"agent {agent!r} has the {kind} space {_line(own)} but agent {first!r} has "
                                     f"{_line(wanted)}; pad them to one shape, which all rows share")
        self.own_action_space = actions
        self.observations = _row_space(observations)
        self.actions, self._decode = plain_actions(actions)

    def observation_space(self, agent: Any) -> spaces.Space:
        return self.observations

    def action_space(self, agent: Any) -> spaces.Space:
        return self.actions

    def step(self, actions: dict) -> tuple:
        if self._decode is not None:
            actions = {agent: self._decode(row) for agent, row in actions.items()}
        return self.env.step(actions)


class Parallel(PettingZooPufferEnv):
    """PufferLib's emulation of a parallel environment, whose `masks` tell whose action counted in the step.

    An agent acts from the first observation it gets until it ends; every other row of it is masked, without reward or
    end. An agent that drops out of the observations has terminated: its final observation is zeros, its reward 0, as
    PufferLib pads absent agents. The environment is over once nobody acts.
    """

    def __init__(self, env: AdaptedParallel, buf: dict[str, Array] | None, seed: int) -> None:
        self._acting = np.zeros(len(env.possible_agents), bool)
        self._gone = np.zeros_like(self._acting)
        super().__init__(env=env, buf=buf, seed=seed)
        self.is_action_checked = True  # as in Single

    @property
    def done(self) -> bool:
        return not self._acting.any()

    def reset(self, seed: int | None = None) -> tuple:
        result = super().reset(seed)
        self._acting[:] = [self.mask[agent] for agent in self.possible_agents]
        self._gone[:] = False
        return result

    def step(self, actions: Array) -> tuple:
        result = super().step(actions)  # pads the absent: no mask, no reward, terminated
        acted, present = self._acting, self.masks
        if not self.agents or self.all_done:
            self.terminals |= ~self.truncations  # the episode is over, even where no flag said so
        ended = acted & (self.terminals | self.truncations)
        self._gone |= ended
        acting = present & ~self._gone  # includes agents that have just arrived
        self.terminals &= acted
        self.truncations &= acted
        self.rewards *= acted
        self.masks[:] = acted
        self._acting = acting
        return result
