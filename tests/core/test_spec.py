"""Observations and actions in the environment's own form, and as the rows that are stored."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from puffer_il.core.errors import InputError
from puffer_il.core.spec import ActionSpec, EnvSpec
from puffer_il.vector.vec import make_vec

SPACES = {
    "box": spaces.Box(-1, 1, (2, 3)),
    "discrete": spaces.Discrete(5),
    "image": spaces.Box(0, 255, (4, 4, 3), np.uint8),
    "dict": spaces.Dict({"speed": spaces.Box(-1, 1, (3,)), "gear": spaces.Discrete(5)}),
    "nested": spaces.Dict({"a": spaces.Dict({"x": spaces.Box(-1, 1, (2,), np.float64), "y": spaces.Discrete(3)}),
                           "b": spaces.Tuple([spaces.MultiBinary(3), spaces.Box(0, 9, (2,), np.int16)])}),
    "tuple": spaces.Tuple([spaces.Discrete(3), spaces.Box(-1, 1, (2,))]),
}
ACTIONS = {
    "discrete": spaces.Discrete(3), "discrete from 5": spaces.Discrete(3, start=5),
    "multi-discrete": spaces.MultiDiscrete([2, 4]), "multi-discrete from 1": spaces.MultiDiscrete([2, 4], start=[1, 1]),
    "binary": spaces.MultiBinary(3), "grid": spaces.MultiDiscrete([[2, 3], [4, 5]]),
    "box": spaces.Box(-2, 2, (2, 2)),
}


class Seen(gymnasium.Env):
    """Gives samples of its observation space and takes only samples of its action space; `first` is the first one."""

    def __init__(self, observation: str = "box", action: str = "discrete") -> None:
        self.observation_space, self.action_space = SPACES[observation], ACTIONS[action]
        self.observation_space.seed(3)
        self.first = self.observation_space.sample()
        self.taken = None

    def reset(self, *, seed=None, options=None):
        return self.first, {}

    def step(self, action):
        assert action in self.action_space
        self.taken = action
        return self.first, 0.0, False, False, {}


def flat(obs) -> list:
    """All leaves in a fixed order."""
    if isinstance(obs, dict):
        return [leaf for key in sorted(obs) for leaf in flat(obs[key])]
    return [leaf for part in obs for leaf in flat(part)] if isinstance(obs, tuple) else [np.asarray(obs)]


@pytest.mark.parametrize("name", SPACES)
def test_observations_become_the_rows_of_the_vector_and_rows_become_them_again(name):
    with make_vec(Seen, num_envs=2, backend="serial", kwargs={"observation": name}) as vec:
        rows, spec, seen = vec.reset(0).copy(), vec.spec, vec.envs[0].env.unwrapped.first
    one, batched = spec.pack(seen)
    assert not batched and one.dtype == rows.dtype and np.array_equal(one, rows[:1])
    again = spec.unpack(rows)
    assert type(again) is type(seen) or not isinstance(seen, dict | tuple)
    for leaf, wanted in zip(flat(again), flat(seen), strict=True):
        np.testing.assert_array_equal(leaf, np.stack([wanted, wanted]).astype(leaf.dtype))
    batch, batched = spec.pack(again)
    assert batched and np.array_equal(batch, rows)


@pytest.mark.parametrize("name", ACTIONS)
def test_actions_reach_the_environment_in_its_own_form(name):
    with make_vec(Seen, num_envs=1, backend="serial", kwargs={"action": name}) as vec:
        vec.reset(0)
        action, env = vec.spec.action, vec.envs[0].env.unwrapped
        rows = np.array(action.nvec)[None] - 1 if action.discrete else action.high[None] / 2
        vec.step(rows.astype(action.dtype))
        own = action.to_env(rows)
        np.testing.assert_array_equal(own[0], env.taken)
        assert own.shape == (1, *np.shape(env.taken)) and own[0].astype(env.action_space.dtype) in env.action_space
        again = action.from_env(own)
        assert again.dtype == action.dtype and np.array_equal(again, rows)


def test_continuous_actions_are_clipped_on_their_way_to_the_environment():
    action = ActionSpec(low=np.float32([-1]), high=np.float32([2]), shape=(1,))
    assert action.to_env(np.float32([[9], [-9]])).tolist() == [[2], [-1]]


def test_specs_differ_if_choices_are_counted_from_elsewhere():
    assert ActionSpec(nvec=(3,)) != ActionSpec(nvec=(3,), start=(1,))


def test_an_observation_of_another_shape_is_refused():
    with pytest.raises(InputError, match=r"x: .* shape \(3,\): the environment has \(4,\); give one, or .* \(n, 4\)"):
        EnvSpec("x", (4,), np.dtype(np.float32), ActionSpec(nvec=(2,))).pack(np.zeros(3))
