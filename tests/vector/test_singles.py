"""Python environments stepped by one loop give the same rows as each of them by itself, whatever they give."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from puffer_il.core.errors import InputError
from puffer_il.vector.make import find_creator
from puffer_il.vector.serial import Serial, allocate
from puffer_il.vector.vec import make_vec


class Odd(gymnasium.Env):
    """Short episodes; `gives` says what is unusual about what it returns."""

    def __init__(self, gives: str = "", seed: int = 0):
        self.gives, self.seen = gives, []
        self.observation_space = spaces.Dict({"a": spaces.Box(-9, 9, (2,)), "b": spaces.Discrete(5, start=2)}) if (
            gives == "parts") else spaces.Discrete(7) if gives == "category" else spaces.Box(-9, 9, (2,))
        self.action_space = {"multi": spaces.MultiDiscrete([3, 2]), "box": spaces.Box(-1, 1, (2,))}.get(
            gives, spaces.Discrete(3, start=1))

    def _obs(self):
        if self.gives == "category":
            return self.count % 7
        box = np.array([self.count, self.number], np.float64 if self.gives == "float64" else np.float32)
        if self.gives == "parts":
            return {"a": box, "b": 2 + self.count % 5}
        return box.tolist() if self.gives == "list" else box[:, None].copy() if self.gives == "column" else box

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count, self.number, self.length = 0, int(self.np_random.integers(9)), int(self.np_random.integers(1, 5))
        info = {"action_mask": np.array([1, 0, 1])} if self.gives == "mask" else {}
        return self._obs(), info

    def step(self, action):
        self.seen.append(action)  # which it may keep
        self.count += 1
        over = self.count >= self.length
        reward = 0.25 * self.count + float(np.sum(action))
        reward = {"array": np.array([reward]), "number": np.float32(reward), "whole": self.count,
                  "none": None}.get(self.gives, reward)
        info = {"success": {"is_success": self.count % 2 == 0, "success": self.count == 2},
                "mask": {"action_mask": np.array([1, self.count % 2, 0])}}.get(self.gives, {})
        ends = (over and self.number % 2 == 0, over and self.number % 2 == 1)
        if self.gives == "both":
            ends = (np.bool_(over), np.bool_(over))
        return self._obs(), reward, *ends, info


NAMES = ["gymnasium:CartPole-v1", "gymnasium:Pendulum-v1", "gymnasium:Blackjack-v1", "gymnasium:FrozenLake-v1",
         *(f"{__name__}:Odd={gives}" for gives in ("", "parts", "category", "float64", "list", "column", "array",
                                                   "number", "whole", "success", "mask", "both", "multi", "box"))]


def serial(name: str, count: int) -> Serial:
    name, _, gives = name.partition("=")
    creator = find_creator(name, {"gives": gives} if gives else {})
    facts = creator.facts()
    return Serial(creator, facts, count, allocate(facts, count), 5)


@pytest.mark.parametrize("name", NAMES)
def test_the_rows_are_those_of_each_environment_by_itself(name):
    one, other = serial(name, 7), serial(name, 7)
    assert one._singles is not None
    other._singles = None
    rng = np.random.default_rng(0)
    for way in (one, other):
        way.async_reset(3)
    began = 0
    for _ in range(230):  # beyond the time limit of Pendulum
        space = one.single_action_space
        actions = (rng.uniform(-1, 1, one.actions.shape) if one.actions.dtype.kind == "f" else
                   rng.integers(0, np.broadcast_to(getattr(space, "nvec", getattr(space, "n", 2)), one.actions.shape)))
        for way in (one, other):
            way.send(actions.astype(way.actions.dtype))
        for rows, same in zip(one.buffers.values(), other.buffers.values(), strict=True):
            assert rows.dtype == same.dtype and np.array_equal(rows, same)
        began += np.count_nonzero(~one.buffers["masks"])
    assert began >= 7
    if "Odd" in name:
        for env, same in zip(one.envs, other.envs, strict=True):
            assert np.array_equal(env.original.seen, same.original.seen)
            assert [type(action) for action in env.original.seen] == [type(action) for action in same.original.seen]


class Wrong(Odd):
    """The third to be opened gives something else in its second step."""

    opened = 0

    def __init__(self, gives: str = "", seed: int = 0):
        super().__init__()
        self.number_opened, Wrong.opened = Wrong.opened, Wrong.opened + 1
        self.wrong = gives

    def step(self, action):
        obs, reward, *rest = super().step(action)
        if self.number_opened == 3 and self.wrong:
            obs = obs[:1] if self.wrong == "shape" else np.array(["x", "y"])
        return obs, reward, *rest


@pytest.mark.parametrize(("wrong", "message"), [("shape", r"shape \(1,\)"), ("text", "no plain numbers")])
def test_the_one_that_is_wrong_is_named(wrong, message):
    Wrong.opened = 0
    vec = make_vec(f"{__name__}:Wrong", num_envs=4, backend="serial", kwargs={"gives": wrong})
    vec.reset(0)
    with pytest.raises(InputError, match=rf"number 2, in step: .*{message}"):  # the first was opened for its spec
        vec.step(np.zeros((4, 1), np.int32))


def test_a_single_gymnasium_environment_keeps_asking_for_a_reset():
    env = find_creator("gymnasium:CartPole-v1").as_gymnasium()
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(0)


def test_a_state_is_put_back_into_what_is_stepped():
    vec = make_vec("gymnasium:CartPole-v1", num_envs=3, backend="serial", resumable=True)
    assert vec.exact_state
    vec.reset(0)
    actions = np.random.default_rng(0).integers(0, 2, (40, 3, 1)).astype(np.int32)
    for action in actions[:15]:
        vec.step(action)
    state, seen = vec.get_state(), [vec.step(action).obs.copy() for action in actions[15:]]
    vec.set_state(state)
    assert np.array_equal([vec.step(action).obs.copy() for action in actions[15:]], seen)
