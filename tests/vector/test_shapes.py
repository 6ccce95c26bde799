"""Observations of another shape than is declared never become rows by broadcasting: they are refused in a line."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv

from puffer_il.core.config import PolicyConfig
from puffer_il.core.errors import InputError
from puffer_il.core.spec import ActionSpec, EnvSpec
from puffer_il.demos import load_demos
from puffer_il.learners.common.learned_reward import NetworkReward
from puffer_il.native.pufferlib import pufferlib
from puffer_il.nn.policy import Policy
from puffer_il.vector.vec import make_vec

ROW = spaces.Box(-1, 1, (3,), np.float32)
SPEC = EnvSpec("e", (3,), np.dtype(np.float32), ActionSpec(nvec=(2,)))
WRONG = [np.zeros(1), np.zeros((1, 1)), np.float32(0), np.zeros(4), np.zeros((3, 3)), np.zeros((3, 2))]


class One(gymnasium.Env):
    observation_space, action_space = ROW, spaces.Discrete(2)

    def __init__(self, first, then):
        self.first, self.then = first, then

    def reset(self, *, seed=None, options=None):
        return self.first, {}

    def step(self, action):
        return self.then, 0.0, False, False, {}


class Many(VectorEnv):
    """`what` of the four that `step` returns first has another shape."""

    metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012 (as Gymnasium has it)
    single_observation_space, single_action_space = ROW, spaces.Discrete(2)

    def __init__(self, num_envs=3, what=0, value=None):
        self.num_envs, self.what, self.value = num_envs, what, value
        self.observation_space = gymnasium.vector.utils.batch_space(ROW, num_envs)
        self.action_space = gymnasium.vector.utils.batch_space(spaces.Discrete(2), num_envs)

    def reset(self, *, seed=None, options=None):
        return np.zeros((self.num_envs, 3), np.float32), {}

    def step(self, actions):
        given = [np.zeros((self.num_envs, 3), np.float32), np.zeros(self.num_envs), *np.zeros((2, self.num_envs), bool)]
        given[self.what] = self.value
        return (*given, {})


class Own(pufferlib.PufferEnv):
    """Puts an array of its own in the place of the one it was given, after `patience` steps."""

    single_observation_space, single_action_space = ROW, spaces.Discrete(2)

    def __init__(self, buf=None, num_envs=1, seed=0, patience=0, name="observations", value=None):
        self.num_agents, self.patience, self.name, self.value = num_envs, patience, name, value
        super().__init__(buf)

    def reset(self, seed=None):
        self.t = 0
        self._put()
        return self.observations, []

    def step(self, actions):
        self.t += 1
        self._put()
        return self.observations, self.rewards, self.terminals, self.truncations, []

    def _put(self):
        if self.t >= self.patience:
            setattr(self, self.name, np.zeros((self.num_agents, 3), np.float32) + self.t if self.value is None else
                    self.value)

    def close(self):
        pass


def stepped(make, rows, steps=1, **kwargs):
    with make_vec(make, num_envs=rows, backend="serial" if make is One else "auto", kwargs=kwargs) as vec:
        vec.reset(0)
        for _ in range(steps):
            obs = vec.step(np.zeros((rows, 1), np.int32)).obs
        return obs.copy()


@pytest.mark.parametrize("wrong", WRONG, ids=lambda x: str(np.shape(x)))
def test_of_an_environment(wrong):
    for first, then in ((wrong, np.zeros(3)), (np.zeros(3), wrong)):
        with pytest.raises(InputError, match=r"the observation has shape .* but its space declares \(3,\)") as error:
            stepped(One, 2, first=first, then=then)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(("what", "value"), [
    *((0, x) for x in (np.zeros((3, 1)), np.zeros((1, 3)), np.zeros(3), np.zeros((3, 4)), 0.0)), (1, np.zeros((3, 2))),
    (1, np.zeros(1)), (2, np.zeros(1, bool)), (2, False), (3, np.zeros((3, 1), bool)), (3, np.zeros(2, bool))])
def test_of_a_vector_of_environments(what, value):
    with pytest.raises(InputError) as error:
        stepped(Many, 3, what=what, value=value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("patience", [0, 1])
@pytest.mark.parametrize(("name", "value"), [
    ("observations", np.zeros((1, 3), np.float32)), ("observations", np.zeros(3, np.float32)), ("rewards", np.zeros(1)),
    ("rewards", 0.0), ("observations", np.zeros((4, 1), np.float32)), ("terminals", np.zeros((4, 4), bool))])
def test_of_a_pufferenv(name, value, patience):
    with pytest.raises(InputError, match=f"its {name} have shape .* are declared") as error:
        stepped(Own, 4, patience=patience, name=name, value=value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("patience", [0, 2])
def test_a_pufferenvs_own_array_of_the_right_shape_is_read_in_every_step(patience):
    """Also one that comes later than the first reset: what it was given would stay as it was."""
    assert stepped(Own, 4, 3, patience=patience).tolist() == [[3.0] * 3] * 4


@pytest.mark.parametrize("wrong", WRONG, ids=lambda x: str(np.shape(x)))
def test_of_a_policy_and_of_a_learned_reward(wrong):
    policy = Policy(SPEC, PolicyConfig(hidden=(4,)))
    reward = NetworkReward(SPEC, "gail", hidden=(4,))
    if np.shape(wrong) != (3, 3):  # three observations
        with pytest.raises(InputError, match="observations of shape"):
            policy.predict(wrong)
        with pytest.raises(InputError, match="observations of shape"):
            reward.predict(wrong, np.zeros(1))
    good = np.zeros((4, 3))
    with pytest.raises(InputError, match="but obs has 4"):
        NetworkReward(SPEC, "gaifo", hidden=(4,), inputs="state_next_state").predict(good, None, np.zeros((1, 3)))
    with pytest.raises(InputError, match="but obs has 4"):
        reward.predict(good, np.zeros(1))


def test_of_a_state_and_of_episode_starts():
    policy = Policy(SPEC, PolicyConfig(hidden=(4,), lstm=4))
    _, state = policy.predict(np.zeros((2, 3)))
    for options in ({"state": (state[0][:1],)}, {"state": state, "episode_start": np.ones(1, bool)},
                    {"episode_start": np.ones(3, bool)}):
        with pytest.raises(InputError, match="for 2 observations; give one for each"):
            policy.predict(np.zeros((2, 3)), **options)
    policy.predict(np.zeros((2, 3)), state, np.ones(2, bool))
    policy.predict(np.zeros(3), episode_start=True)


@pytest.mark.parametrize("shape", [(4, 1), (4,), (1, 3), (4, 2)])
def test_of_demonstrations(shape):
    arrays = {"obs": np.zeros(shape, np.float32), "next_obs": np.zeros(shape, np.float32),
              "actions": np.zeros(4, np.int32), "terminations": np.eye(4, dtype=bool)[3],
              "truncations": np.zeros(4, bool), "episode_starts": np.zeros(1, int)}
    with pytest.raises(InputError) as error:
        load_demos(arrays, SPEC)
    assert "\n" not in str(error.value)
