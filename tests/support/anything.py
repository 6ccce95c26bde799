"""Environments of random spaces, dtypes, bounds, masks and episodes, and a slow reference that reads what they gave.

Nothing here uses the code that it judges: spaces are walked by hand, leaf by leaf and number by number.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from hypothesis import strategies as st

INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
FLOATS = {"float16": 6e4, "float32": 1e30, "float64": 1e30, "longdouble": 1e30}  # what their bounds may reach
KEYS = ["a", "a.b", "b/c", "", ".", "f0", "obs", "arm left", "é", "action_mask"]
SMALL = st.integers(1, 3)


# Spaces

def shapes(most: int = 3) -> st.SearchStrategy[tuple[int, ...]]:
    return st.lists(st.integers(1, 4), max_size=most).map(tuple)


@st.composite
def bounds(draw: st.DrawFn, dtype: str, shape: tuple[int, ...]) -> tuple[Any, Any]:
    """Low and high of each element: apart, equal, or missing on either side where the dtype has infinities."""
    size, kind = int(np.prod(shape)), np.dtype(dtype)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    if kind.kind in "iu":
        info = np.iinfo(kind)
        top = min(int(info.max), 2**63 - 1)
        ends = np.sort(rng.integers(int(info.min), top, (2, size), np.int64, endpoint=True), 0)
        if draw(st.booleans()):  # a part of the range, such as planes of 0 and 1
            ends = np.broadcast_to(np.array([[max(0, int(info.min))], [1]]), (2, size)).copy()
        low, high = ends
    else:
        most = FLOATS[dtype]
        low, high = np.sort(rng.uniform(-1, 1, (2, size)) * draw(st.sampled_from([1.0, 50.0, most])), 0)
        for side, end in ((low, -np.inf), (high, np.inf)):
            side[rng.random(size) < draw(st.sampled_from([0.0, 0.5, 1.0]))] = end
    same = rng.random(size) < draw(st.sampled_from([0.0, 0.3]))
    same &= np.isfinite(low.astype(np.float64))
    low, high = low.astype(kind), high.astype(kind)
    high[same] = low[same]
    return low.reshape(shape), np.maximum(low, high).reshape(shape)


@st.composite
def boxes(draw: st.DrawFn) -> spaces.Box:
    shape = draw(shapes())
    dtype = draw(st.sampled_from([*INTEGERS, *FLOATS, "uint8"]))
    low, high = draw(bounds(dtype, shape))
    return spaces.Box(low, high, shape, np.dtype(dtype).type)


@st.composite
def bits(draw: st.DrawFn) -> spaces.Space:
    if draw(st.booleans()):
        return spaces.MultiBinary(draw(st.one_of(SMALL, st.lists(st.integers(1, 4), min_size=1, max_size=2))))
    return spaces.Box(0, 1, draw(shapes()), np.bool_)


def discretes(most: int = 9) -> st.SearchStrategy[spaces.Space]:
    single = st.builds(lambda n, start: spaces.Discrete(n, start=start), st.integers(1, most), st.integers(-5, 5))

    @st.composite
    def several(draw: st.DrawFn) -> spaces.MultiDiscrete:
        shape = draw(st.sampled_from([(1,), (2,), (3,), (2, 2)]))
        size = int(np.prod(shape))
        nvec, start = (np.reshape(draw(st.lists(st.integers(*ends), min_size=size, max_size=size)), shape)
                       for ends in ((1, 4), (-3, 3)))
        return spaces.MultiDiscrete(nvec, start=start)

    return st.one_of(single, several())


def nested(leaf: st.SearchStrategy[spaces.Space], leaves: int = 5) -> st.SearchStrategy[spaces.Space]:
    return st.recursive(leaf, lambda inner: st.one_of(
        st.dictionaries(st.sampled_from(KEYS), inner, min_size=1, max_size=3).map(spaces.Dict),
        st.lists(inner, min_size=1, max_size=3).map(spaces.Tuple)), max_leaves=leaves)


OBSERVATIONS = nested(st.one_of(boxes(), bits(), discretes()))


@st.composite
def ranges(draw: st.DrawFn) -> spaces.Box:
    """Of actions: floats, of which at least one can be chosen."""
    shape = draw(st.lists(SMALL, max_size=2).map(tuple))
    dtype = draw(st.sampled_from(["float32", "float64"]))
    low, high = draw(bounds(dtype, shape))
    low, high = (np.clip(end, -1e3, 1e3) if draw(st.booleans()) else end for end in (low, high))
    if float(np.ravel(low)[0]) == float(np.ravel(high)[0]) or not np.all(low <= high):
        low, high = np.full(shape, -1, dtype), np.full(shape, 2, dtype)
    return spaces.Box(low, high, shape, np.dtype(dtype).type)


@st.composite
def whole_ranges(draw: st.DrawFn) -> spaces.Box:
    """Of actions: whole numbers, each of which is one choice among a few."""
    dtype = np.dtype(draw(st.sampled_from(["int8", "uint8", "int16", "uint16", "int32", "int64", "bool"])))
    size = int(np.prod(shape := draw(st.lists(SMALL, max_size=2).map(tuple))))
    least, widest = {"i": (-90, 3), "u": (0, 3), "b": (0, 1)}[dtype.kind]
    low = np.zeros(size, int) if dtype.kind == "b" else np.array(draw(st.lists(st.integers(least, 90), min_size=size,
                                                                              max_size=size)))
    width = np.array(draw(st.lists(st.integers(0, widest), min_size=size, max_size=size)))
    return spaces.Box(low.reshape(shape).astype(dtype), (low + width).reshape(shape).astype(dtype), shape, dtype.type)


CHOICES = nested(st.one_of(discretes(4), st.builds(spaces.MultiBinary, SMALL), whole_ranges()), 3)
ACTIONS = st.one_of(CHOICES, nested(ranges(), 3))


# Walking through them

def leaves(space: spaces.Space, value: Any = None, path: tuple = ()) -> Iterator[tuple[tuple, spaces.Space, Any]]:
    """Path, space and value of each leaf, as the space orders them."""
    if isinstance(space, spaces.Dict):
        for key, part in space.spaces.items():
            yield from leaves(part, None if value is None else value[key], (*path, key))
    elif isinstance(space, spaces.Tuple):
        for k, part in enumerate(space.spaces):
            yield from leaves(part, None if value is None else value[k], (*path, k))
    else:
        yield path, space, value


def drawn(space: spaces.Space, rng: np.random.Generator) -> Any:
    """A value of the space, in the form that its samples have; the keys of a dict in any order."""
    if isinstance(space, spaces.Dict):
        made = {key: drawn(part, rng) for key, part in space.spaces.items()}
        return {key: made[key] for key in rng.permutation(list(made)).tolist()}
    if isinstance(space, spaces.Tuple):
        return tuple(drawn(part, rng) for part in space.spaces)
    if isinstance(space, spaces.Discrete):
        return int(space.start + rng.integers(space.n))
    if isinstance(space, spaces.MultiDiscrete):
        return (space.start + rng.integers(0, space.nvec)).astype(space.dtype)
    if isinstance(space, spaces.MultiBinary):
        return rng.integers(0, 2, space.shape).astype(np.int8)
    return numbers(space, rng)


def numbers(box: spaces.Box, rng: np.random.Generator) -> Any:
    if box.dtype.kind in "biu":
        low, high = box.low.astype(object), box.high.astype(object)
        size = [int(x) + int(rng.integers(0, int(y) - int(x), dtype=np.int64, endpoint=True)
                             if int(y) - int(x) < 2**63 else rng.integers(0, 2**62))
                for x, y in zip(np.ravel(low), np.ravel(high), strict=True)]
        return np.array(size, object).astype(box.dtype).reshape(box.shape)
    low = np.where(np.isfinite(box.low), box.low, np.where(np.isfinite(box.high), box.high - 9, -9)).astype(float)
    high = np.where(np.isfinite(box.high), box.high, low + 9).astype(float)
    made = (low + (high - low) * rng.random(box.shape)).astype(box.dtype)
    return np.clip(made, box.low, box.high)


# Environments

@dataclass
class Plan:
    """What is drawn: spaces, lengths of episodes and how they end, and whether and where masks are told."""

    observation: spaces.Space
    action: spaces.Space
    episodes: list[tuple[int, str]]  # length; "terminated", "truncated" or "both"
    masks: str  # "none", "info" or "method"
    loose: bool  # float64 for other floats, lists for arrays, Python's numbers for NumPy's
    seed: int


@dataclass
class Step:
    """One step as the environment saw it."""

    obs: Any
    action: Any
    reward: float
    next_obs: Any
    terminated: bool
    truncated: bool
    mask: np.ndarray | None = field(default=None)


class Anything(gymnasium.Env):
    """Gives random observations, and remembers what it gave and what it was given."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.steps = plan, []
        self.observation_space, self.action_space = plan.observation, plan.action
        self.rng, self.episode = np.random.default_rng(plan.seed), -1
        if plan.masks == "method":
            self.action_masks = lambda: self.mask

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        if seed is not None:
            self.rng, self.episode, self.steps = np.random.default_rng(seed), -1, []
        self.episode, self.t = self.episode + 1, 0
        return self._next()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        assert self.action_space.contains(action), f"{action!r} is not in {self.action_space}"
        before, inside, beside = self.obs, mask_inside(self.plan, self.obs), self.mask
        mask = beside if inside is None else inside
        if mask is not None:
            at, space = 0, self.action_space
            for chosen, count in zip(flat_choices(space, action), choices_of(space), strict=True):
                assert mask[at + chosen], f"{action!r} may not be taken: {mask}"
                at += count
        self.t += 1
        length, end = self.plan.episodes[self.episode % len(self.plan.episodes)]
        over = self.t >= length
        reward = float(np.float32(self.rng.normal()))
        given, info = self._next()
        terminated, truncated = over and end != "truncated", over and end != "terminated"
        self.steps.append(Step(before, action, reward, self.obs, terminated, truncated and not terminated,
                               beside if inside is None else None))
        return given, reward, terminated, truncated, info

    def _next(self) -> tuple[Any, dict]:
        self.obs, self.mask = drawn(self.observation_space, self.rng), None
        if self.plan.masks != "none":
            parts = []
            for count in choices_of(self.action_space):
                part = self.rng.random(count) < 0.5
                part[self.rng.integers(count)] = True
                parts.append(part)
            self.mask = np.concatenate(parts).astype(np.int8)
        given = loosened(self.observation_space, self.obs) if self.plan.loose else self.obs
        return given, {"action_mask": self.mask} if self.plan.masks == "info" else {}


def loosened(space: spaces.Space, value: Any) -> Any:
    """The same numbers as careless code gives them."""
    if isinstance(space, spaces.Dict):
        return {key: loosened(part, value[key]) for key, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(loosened(part, value[k]) for k, part in enumerate(space.spaces))
    if isinstance(space, spaces.Discrete):
        return np.array(value)
    if value.dtype.kind == "f":
        return value.astype(np.float64)
    return value.tolist() if value.dtype != np.uint64 else value


def choices_of(space: spaces.Space) -> list[int]:
    """How many choices each part of a discrete action has."""
    found: list[int] = []
    for _, leaf, _ in leaves(space):
        if isinstance(leaf, spaces.MultiBinary):
            found += [2] * int(np.prod(leaf.shape))
        elif isinstance(leaf, spaces.Box):
            found += np.ravel(leaf.high.astype(int) - leaf.low.astype(int) + 1).tolist()
        else:
            found += np.ravel(leaf.nvec if isinstance(leaf, spaces.MultiDiscrete) else leaf.n).tolist()
    return found


def flat_choices(space: spaces.Space, action: Any) -> list[int]:
    """Each part of a discrete action, counted from 0."""
    found: list[int] = []
    for _, leaf, value in leaves(space, action):
        start = 0 if isinstance(leaf, spaces.MultiBinary) else np.asarray(
            leaf.low if isinstance(leaf, spaces.Box) else leaf.start).astype(int)
        found += np.ravel(np.asarray(value).astype(int) - start).tolist()
    return found


def is_continuous(action: spaces.Space) -> bool:
    return any(isinstance(leaf, spaces.Box) and leaf.dtype.kind == "f" for _, leaf, _ in leaves(action))


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    action = draw(ACTIONS)
    discrete = not is_continuous(action)
    ends = st.tuples(st.integers(1, 4), st.sampled_from(["terminated", "truncated", "both"]))
    return Plan(draw(OBSERVATIONS), action, draw(st.lists(ends, min_size=1, max_size=3)),
                draw(st.sampled_from(["none", "info", "method"])) if discrete else "none", draw(st.booleans()),
                draw(st.integers(0, 2**31)))


# What must be there

def read(space: spaces.Space, value: Any) -> list[tuple[tuple, np.ndarray]]:
    """The leaves of an observation or action as numbers that survive: floats as float32, all others exactly."""
    found = []
    for path, leaf, part in leaves(space, value):
        array = np.asarray(part)
        floats = isinstance(leaf, spaces.Box) and leaf.dtype.kind == "f"
        found.append((path, array.astype(np.float32) if floats else array.astype(np.int64)))
    return found


def told_inside(plan: Plan) -> bool:
    """Whether the observation has a part "action_mask" that is one: a number from 0 to 1 for each choice."""
    leaf = plan.observation.spaces.get("action_mask") if isinstance(plan.observation, spaces.Dict) else None
    if not isinstance(leaf, spaces.Box | spaces.MultiBinary) or is_continuous(plan.action):
        return False
    within = isinstance(leaf, spaces.MultiBinary) or (leaf.low.min() >= 0 and leaf.high.max() <= 1)
    return bool(within) and int(np.prod(leaf.shape)) == sum(choices_of(plan.action))


def mask_inside(plan: Plan, obs: Any) -> np.ndarray | None:
    """What it says; a choice of which nothing is allowed is left as it is."""
    if not told_inside(plan):
        return None
    mask, at = np.ravel(np.asarray(obs["action_mask"])).astype(np.float32) != 0, 0
    for count in choices_of(plan.action):
        mask[at:at + count] |= not mask[at:at + count].any()
        at += count
    return mask


def seen(plan: Plan, value: Any) -> np.ndarray:
    """What a network sees of an observation: numbers, then categories one-hot, then pixels from 0 to 1."""
    parts: tuple[list, list, list] = ([], [], [])
    for path, leaf, part in leaves(plan.observation, value):
        if path == ("action_mask",) and told_inside(plan):
            continue
        if isinstance(leaf, spaces.Discrete):
            parts[1].append(np.eye(int(leaf.n), dtype=np.float32)[int(part) - int(leaf.start)])
        elif isinstance(leaf, spaces.Box) and leaf.dtype == np.uint8 and len(leaf.shape) == 3:
            low, high = int(leaf.low.min()), int(leaf.high.max())
            parts[2].append((np.ravel(part).astype(np.float32) - np.float32(low)) / np.float32(high - low or 1))
        else:
            parts[0].append(np.ravel(np.asarray(part)).astype(np.float32))
    return np.concatenate([array for group in parts for array in group])
