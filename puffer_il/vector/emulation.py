"""Gymnasium, PettingZoo and gym environments made ready for PufferLib's emulation: rows of numbers in and out.

Rows are laid out by `core.rows`, not by PufferLib: it is shown environments whose observations are rows already. What
else its emulation gets wrong is put right here too: actions other than Discrete, MultiDiscrete from 0 and
one-dimensional Box, and which agents of a parallel environment took part in a step.
"""

import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from puffer_il.core.actions import first_of
from puffer_il.core.errors import InputError
from puffer_il.core.rows import MASK_KEY, Layout, nested, put_masks
from puffer_il.core.spaces import MOST_CHOICES, choices_of, empty_part, lay_out, leaves_of, remarks
from puffer_il.core.spec import ActionSpec, Array
from puffer_il.native.pufferlib import pufferlib
from puffer_il.vector.gym_compat import OldGym, is_old, layers
from puffer_il.vector.rewards import one_number
from puffer_il.vector.success import Successes

GymnasiumPufferEnv: Any = pufferlib.emulation.GymnasiumPufferEnv
PettingZooPufferEnv: Any = pufferlib.emulation.PettingZooPufferEnv

NO_BOUND = 1e37  # of an action: the middle of a range up to the largest float32 cannot be told
VECTORS_HAVE = ("single_observation_space", "step_async")  # those of gym and Gymnasium, of Stable-Baselines3
Decode = Callable[[Array], Any]  # rows (n, columns) → n actions in the environment's own form


def emulate(env: Any, buf: dict[str, Array] | None, seed: int, masked: int = 0, weights: Array | None = None) -> Any:
    """`env` as PufferLib wants it, writing into `buf`; InputError if it is none of what can be emulated. `masked`: how
    many choices it says beside its observations may be taken or not, which rows then hold too; 0 if it does not.
    `weights`: of the parts of its reward."""
    if isinstance(env, GymnasiumPufferEnv | PettingZooPufferEnv):
        weights = env.weights if isinstance(env, Single | Parallel) else weights
        env = env.original if isinstance(env, Single | Parallel) else env.env
    if hasattr(env, "agent_iter"):
        raise InputError("it is a turn-based PettingZoo environment; wrap it in pettingzoo.utils.aec_to_parallel, or "
                         "open its module's parallel_env")
    if hasattr(env, "possible_agents"):
        return Parallel(env=AdaptedParallel(env, masked, weights), buf=buf, seed=seed)
    if not isinstance(env, gymnasium.Env) and any(hasattr(env, name) for name in VECTORS_HAVE):
        with suppress(Exception):
            env.close()  # it may have started processes
        raise InputError(f"it is a vector of environments, a {type(env).__name__}; return a single one: env.num_envs "
                         "says how many are opened")
    if is_old(env):
        env = OldGym(env)
    if isinstance(env, gymnasium.Env):
        return Single(env=env, buf=buf, seed=seed, masked=masked, weights=weights)
    raise InputError(f"it is a {type(env).__name__}; return a Gymnasium environment, one of gym, a parallel PettingZoo "
                     "environment or a PufferEnv")


# Observations

def row_space(space: spaces.Space, layout: Layout) -> spaces.Box:
    """Rows as a Box: with the bounds of `space` where that is a Box of the same numbers, else without. It contains
    everything: what an observation may be, `Layout` decides."""
    low: Any = -np.inf if layout.dtype.kind == "f" else 0 if layout.dtype.kind == "b" else np.iinfo(layout.dtype).min
    high: Any = np.inf if layout.dtype.kind == "f" else 1 if layout.dtype.kind == "b" else np.iinfo(layout.dtype).max
    if isinstance(space, spaces.Box) and len(layout.fields) == 1:
        with np.errstate(over="ignore"):
            low, high = ((np.minimum(bound, np.uint64(2**63 - 1)) if bound.dtype == np.uint64 else bound)
                         .astype(layout.dtype).reshape(layout.shape) for bound in (space.low, space.high))
    box = spaces.Box(low, high, layout.shape, layout.dtype.type)
    box.contains = _anything  # type: ignore[method-assign]
    return box


def _anything(x: Any) -> bool:
    return True


def is_plain(space: spaces.Space, layout: Layout) -> bool:
    """Whether observations of `space` are rows already."""
    return isinstance(space, spaces.Box) and len(layout.fields) == 1 and (
        space.shape, space.dtype) == (layout.shape, layout.dtype)


def mask_method(env: Any) -> Callable[[], Any] | None:
    """The method `action_masks` of an environment or of one of its wrappers, as sb3-contrib has it."""
    for layer in layers(env):
        method = getattr(layer, "action_masks", None)
        if callable(method):
            return method
    return None


def offered_mask(method: Callable[[], Any] | None, info: Any) -> Any:
    """Which actions an environment says may be taken, beside its observation: by its method, or in `info` as Gymnasium
    has it; None if it does not say."""
    return method() if method is not None else info.get(MASK_KEY) if isinstance(info, dict) else None


# Actions

def plain_actions(space: spaces.Space) -> tuple[spaces.Space, Decode | None]:
    """A Discrete, MultiDiscrete or one-dimensional Box in place of `space`, and how rows of it become actions."""
    leaves = [leaf for _, leaf in leaves_of(space)]
    if empty := empty_part(space):
        raise InputError(f"action space {_line(space)} is not supported: its part {empty!r} is empty; leave it out")
    if leaves and all(isinstance(leaf, spaces.Box) and leaf.dtype.kind == "f" for leaf in leaves):
        if len(space.shape or ()) == 1:
            return space, None
        dtype = np.float32 if all(leaf.dtype.itemsize <= 4 for leaf in leaves) else np.float64
        low, high = (np.concatenate([np.ravel(getattr(leaf, bound)) for leaf in leaves]) for bound in ("low", "high"))
        return spaces.Box(low.astype(dtype), high.astype(dtype), dtype=dtype), _decoder(space)
    if leaves and (found := _choices(space)) is not None:
        usual = isinstance(space, spaces.Discrete | spaces.MultiDiscrete) and not np.any(space.start)
        if usual and len(space.shape or ()) < 2:
            return space, None
        return spaces.MultiDiscrete(found[0]), _decoder(space)
    raise InputError(f"action space {_line(space)} is not supported: {_what_is_wrong(leaves)}")


def _what_is_wrong(leaves: list[Any]) -> str:
    """Why actions of these leaves cannot be taken, and the remedy."""
    floats = [isinstance(leaf, spaces.Box) and leaf.dtype.kind == "f" for leaf in leaves]
    discrete = [choices_of(leaf) is not None for leaf in leaves]
    if leaves and all(a or b for a, b in zip(floats, discrete, strict=True)):
        return ("a policy has either choices or continuous actions; declare the choices as a Box from 0 to their "
                "number and cut it in the environment, or the continuous parts as choices among levels")
    boxes = [isinstance(leaf, spaces.Box) for leaf in leaves]
    if any(box and not a and not b for box, a, b in zip(boxes, floats, discrete, strict=True)):
        return (f"a whole number of a Box is one choice among all its values, at most {MOST_CHOICES}; narrow its "
                "bounds, or declare floats")
    return "use discrete parts only, or Box parts of floats only"


def action_spec(space: spaces.Space, own: spaces.Space | None = None) -> ActionSpec:
    """The spec of a Discrete, MultiDiscrete or Box space of rows; `own` is the environment's, if that is another."""
    own = space if own is None else own
    shape = space.shape if own.shape is None else own.shape
    parts = tuple((path, leaf.shape or (), _own_dtype(leaf)) for path, leaf in leaves_of(own)
                  if path or (isinstance(leaf, spaces.Box) and leaf.dtype.kind != "f"))
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        found = _choices(own)
        assert found is not None
        return ActionSpec(tuple(map(int, found[0])), shape=shape or (),
                          start=tuple(map(int, found[1])) if found[1].any() else (), parts=parts)
    if isinstance(space, spaces.Box) and space.dtype.kind == "f":
        ends = [np.concatenate([np.ravel(getattr(leaf, bound)).astype(np.float64) for _, leaf in leaves_of(own)])
                for bound in ("low", "high")]
        low, high = (_bound(end, towards) for end, towards in zip(ends, (np.inf, -np.inf), strict=True))
        locked = low >= high
        if locked.all():
            raise InputError(f"action space {_line(own)} leaves nothing to decide: every low is its high; correct the "
                             "bounds")
        held = np.where(locked, np.where(low == high, np.clip(low, *ends), ends[0]), np.nan) if locked.any() else None
        return ActionSpec(low=low[~locked], high=high[~locked], shape=shape or (), held=held, parts=parts)
    raise InputError(f"action space {_line(space)} is not supported; use Discrete, MultiDiscrete, or a Box of floats")


def _bound(bound: Array, towards: float) -> Array:
    """float64 → float32, rounded `towards` the inside of the range, so that no action is outside of it afterwards;
    infinite where it is so large that it stands for no bound."""
    with np.errstate(over="ignore"):
        near = bound.astype(np.float32)
    outside = near < bound if towards > 0 else near > bound
    inside = np.where(outside, np.nextafter(near, np.float32(towards)), near)
    return np.where(np.abs(bound) > NO_BOUND, np.copysign(np.float32(np.inf), near), inside)


def _own_dtype(leaf: spaces.Space) -> str:
    """The dtype in which the environment expects a leaf of an action."""
    if isinstance(leaf, spaces.Box):
        return leaf.dtype.name if leaf.dtype == np.float32 or leaf.dtype.kind != "f" else "float64"
    return "int64"


def _line(space: spaces.Space) -> str:
    """Its description without the line breaks of arrays."""
    return " ".join(str(space).split())


def num_choices(space: spaces.Space) -> int:
    """How many choices the parts of a discrete action have together, which is what a mask is about; 0 for others."""
    found = _choices(space)
    return 0 if found is None else int(found[0].sum())


def _choices(space: spaces.Space) -> tuple[Array, Array] | None:
    """`choices_of` all leaves, side by side; None if one of them is not discrete."""
    found = [choices_of(leaf) for _, leaf in leaves_of(space)]
    if not found or None in found:
        return None
    counts, starts = zip(*found, strict=True)
    return np.concatenate(counts), np.concatenate(starts)


def _decoder(space: spaces.Space) -> Decode:
    leaves, found = list(leaves_of(space)), _choices(space)
    first = None if found is None or not found[1].any() else found[1]
    ends = np.cumsum([math.prod(leaf.shape or ()) for _, leaf in leaves])

    def decode(rows: Array) -> Any:
        parts = np.split(rows if first is None else rows.astype(np.int64) + first, ends[:-1], axis=1)
        return nested([(path, part.reshape(len(rows), *(leaf.shape or ())).astype(leaf.dtype))
                       for (path, leaf), part in zip(leaves, parts, strict=True)])

    return decode


def _decoded(decode: Decode, row: Array) -> Any:
    """The action of one row, (columns,) or, of a single column, ()."""
    return first_of(decode(np.reshape(row, (1, -1))))


# Environments

class Adapted(gymnasium.Wrapper):
    """A Gymnasium environment with the spaces of rows, whose observations are as they were."""

    def __init__(self, env: gymnasium.Env, layout: Layout) -> None:
        super().__init__(env)
        self.observation_space = row_space(env.observation_space, layout)
        self.action_space, self._decode = plain_actions(env.action_space)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict]:
        return self.env.step(action if self._decode is None else _decoded(self._decode, action))


def _adapted(env: gymnasium.Env, layout: Layout) -> gymnasium.Env:
    """`env` itself where its spaces are plain already, as a wrapper costs time in every step."""
    wrapped = Adapted(env, layout)
    same = is_plain(env.observation_space, layout) and wrapped.action_space is env.action_space
    return env if same else wrapped


class Single(GymnasiumPufferEnv):
    """PufferLib's emulation of a Gymnasium environment, but for the rows, which `Layout` makes; a `reset` that fails is
    not tried again without the seed, and actions need not keep to their range."""

    def __init__(self, env: gymnasium.Env, buf: dict[str, Array] | None, seed: int, masked: int = 0,
                 weights: Array | None = None) -> None:
        self.weights = weights
        self.layout = lay_out(env.observation_space, masked, num_choices(env.action_space))
        self.original, self.own_observation_space, self.own_action_space = env, env.observation_space, env.action_space
        super().__init__(env=_adapted(env, self.layout), buf=buf, seed=seed)
        whole = isinstance(self.action_space, spaces.Discrete | spaces.MultiDiscrete)
        self._numbers = self.action_space.dtype if whole else None
        self._masks = mask_method(env)
        self._successes = Successes(1, (buf or {}).get("logs"))
        self._targets = self.layout.targets(self.observations[0])

    def reset(self, seed: int | None = None) -> tuple[Array, dict]:
        observation, info = self.begin(seed)
        self._write(observation, info)
        self.rewards[0], self.terminals[0], self.truncations[0], self.masks[0] = 0, False, False, True
        return self.observations, info

    def begin(self, seed: int | None = None) -> tuple[Any, dict]:
        """Begin an episode, which no row tells of: its first observation, in the environment's own form, and info."""
        begun = self._begun(seed)
        self.initialized, self.done = True, False
        self._successes.begin()
        return begun

    def step(self, action: Array) -> tuple[Array, Any, bool, bool, dict]:
        if self.done:
            raise pufferlib.APIUsageError("step() called before reset(), or after the environment is done")
        action = action.ravel()
        if self._numbers is not None:  # as `sample` gives them, and no int32, which overflows
            action = action.astype(self._numbers)
        observation, reward, terminated, truncated, info = self.env.step(
            action[0] if isinstance(self.action_space, spaces.Discrete) else action)
        self.done = bool(terminated or truncated)
        self._successes.step(0, info, self.done)
        self._write(observation, info)
        if self.weights is not None or reward is None or np.ndim(reward):
            reward = one_number(reward, self.weights)
        self.rewards[0], self.terminals[0], self.truncations[0], self.masks[0] = reward, terminated, truncated, True
        return self.observations, reward, terminated, truncated, info

    def look(self, seed: int) -> tuple[list[str], bool]:
        """Begin an episode to see what the environment gives: what the user should know of its observations, and
        whether it says beside them which actions may be taken. Nothing where its reset fails: the run will tell."""
        try:
            observation, info = self._begun(seed)
            notices = remarks(self.own_observation_space, self.layout, observation)
        except Exception:
            return [], False
        return notices, self.layout.mask is None and offered_mask(self._masks, info) is not None

    def _begun(self, seed: int | None) -> tuple[Any, dict]:
        result = self.env.reset() if seed is None else self.env.reset(seed=seed)
        if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], dict)):
            raise InputError(f"its reset returned a {type(result).__name__}; return (observation, info) from reset and "
                             "five values from step, as in Gymnasium")
        return result

    def _write(self, observation: Any, info: Any) -> None:
        for field, target in self._targets:
            if field.path is not None:
                field.put(target, field.leaf(observation))
            else:
                put_masks(target, offered_mask(self._masks, info))


class AdaptedParallel(pufferlib.pufferlib.PettingZooWrapper):
    """A parallel PettingZoo environment whose spaces are those of rows, the same for every agent, and whose
    observations are rows."""

    def __init__(self, env: Any, masked: int = 0, weights: Array | None = None) -> None:
        super().__init__(env)
        self.weights = weights
        first, *others = env.possible_agents
        observations, actions = env.observation_space(first), env.action_space(first)
        for agent in others:
            for kind, own, wanted in (("observation", env.observation_space(agent), observations),
                                      ("action", env.action_space(agent), actions)):
                if own != wanted:
                    raise InputError(f"agent {agent!r} has the {kind} space {_line(own)} but agent {first!r} has "
                                     f"{_line(wanted)}; pad them to one shape, which all rows share")
        self.own_action_space, self.own_observation_space = actions, observations
        self.layout = lay_out(observations, masked, num_choices(actions))
        self.observations = row_space(observations, self.layout)
        self.actions, self._decode = plain_actions(actions)
        self._numbers = actions.dtype if isinstance(actions, spaces.Discrete | spaces.MultiDiscrete) else None

    def observation_space(self, agent: Any) -> spaces.Space:
        return self.observations

    def action_space(self, agent: Any) -> spaces.Space:
        return self.actions

    def reset(self, seed: int | None = None, options: dict | None = None) -> tuple[dict, dict]:
        observations, infos = self.env.reset(seed=seed)
        return self._rows(observations, infos), infos

    def step(self, actions: dict) -> tuple:
        if self._decode is not None:
            actions = {agent: _decoded(self._decode, row) for agent, row in actions.items()}
        elif self._numbers is not None:  # as `sample` gives them
            actions = {agent: np.asarray(row).astype(self._numbers)[()] for agent, row in actions.items()}
        observations, rewards, terminations, truncations, infos = self.env.step(actions)
        if self.weights is not None or any(x is None or np.ndim(x) for x in rewards.values()):
            rewards = {agent: one_number(reward, self.weights) for agent, reward in rewards.items()}
        return self._rows(observations, infos), rewards, terminations, truncations, infos

    def _rows(self, observations: dict, infos: Any) -> dict:
        rows = {}
        for agent, observation in observations.items():
            row = np.zeros(self.layout.shape, self.layout.dtype)
            for field, target in self.layout.targets(row):
                if field.path is not None:
                    field.put(target, field.leaf(observation))
                else:
                    put_masks(target, offered_mask(None, infos.get(agent)))
            rows[agent] = row
        return rows


class Parallel(PettingZooPufferEnv):
    """PufferLib's emulation of a parallel environment, whose `masks` tell whose action counted in the step.

    An agent acts from the first observation it gets until it ends; every other row of it is masked, without reward or
    end. An agent that drops out of the observations has terminated: its final observation is zeros, its reward 0, as
    PufferLib pads absent agents. The environment is over once nobody acts.
    """

    def __init__(self, env: AdaptedParallel, buf: dict[str, Array] | None, seed: int) -> None:
        self.layout, self.original, self.own_action_space = env.layout, env.env, env.own_action_space
        self.weights = env.weights
        self._acting = np.zeros(len(env.possible_agents), bool)
        self._gone = np.zeros_like(self._acting)
        self._successes = Successes(len(self._acting), (buf or {}).get("logs"))
        super().__init__(env=env, buf=buf, seed=seed)
        self.is_action_checked = True  # as in Single

    @property
    def done(self) -> bool:
        return not self._acting.any()

    def look(self, seed: int) -> tuple[list[str], bool]:
        """As `Single.look`, of the first agent that is there."""
        try:
            observations, infos = self.env.env.reset(seed=seed)
            first = next(iter(observations))
            notices = remarks(self.env.own_observation_space, self.layout, observations[first])
        except Exception:
            return [], False
        return notices, self.layout.mask is None and offered_mask(None, infos.get(first)) is not None

    def reset(self, seed: int | None = None) -> tuple:
        result = super().reset(seed)
        self._acting[:] = [self.mask[agent] for agent in self.possible_agents]
        self._gone[:] = False
        self._successes.begin()
        return result

    def step(self, actions: Array) -> tuple:
        result = super().step(actions)  # pads the absent: no mask, no reward, terminated
        acted, present = self._acting, self.masks
        if not self.agents or self.all_done:
            self.terminals |= ~self.truncations  # the episode is over, even where no flag said so
        ended = acted & (self.terminals | self.truncations)
        infos = result[-1] if isinstance(result[-1], dict) else {}
        for row, agent in enumerate(self.possible_agents):
            if acted[row]:
                self._successes.step(row, infos.get(agent), bool(ended[row]))
        self._gone |= ended
        acting = present & ~self._gone  # includes agents that have just arrived
        self.terminals &= acted
        self.truncations &= acted
        self.rewards *= acted
        self.masks[:] = acted
        self._acting = acting
        return result
