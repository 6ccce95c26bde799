"""A learner trains on every layout in HDF5, in an environment of the spaces that the file shows."""

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

import puffer_il
from puffer_il.demos import read_demos
from puffer_il.demos.spaces import space_of
from tests.support.hdf5 import EXAMPLES


class Shown(gymnasium.Env):
    """Random observations like those of demonstrations, for three steps."""

    def __init__(self, demos):
        given = demos.obs[:1] if demos.layout is None else demos.layout.unpack(demos.obs[:1])
        self.observation_space = space_of(given)
        self.action_space = Discrete(2) if demos.actions.dtype.kind == "i" else Box(-50, 50, demos.actions.shape[1:])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.observation_space.sample(), {}

    def step(self, action):
        self.t += 1
        return self.observation_space.sample(), 1.0, False, self.t == 3, {}


@pytest.mark.parametrize("write", EXAMPLES)
def test_a_learner_trains_on_it(tmp_path, write):
    demos = read_demos(write(tmp_path / "x.h5"))
    run = puffer_il.train("bc", lambda: Shown(demos), demos=str(tmp_path / "x.h5"), total_steps=64, seed=1,
                          eval={"final_episodes": 2, "episodes": 2}, policy={"hidden": [8]}, env={"num_envs": 2})
    assert np.isfinite(run.summary["eval"]["return_mean"]) and run.summary["status"] == "finished"


def test_a_policy_that_learned_from_a_real_file_is_better_than_its_demonstrators(test_data):
    path = test_data / "d3rlpy_v1_cartpole" / "cartpole_v1.1.0.h5"
    run = puffer_il.train("bc", "cartpole", demos={"source": str(path), "episodes": 100}, total_steps=20_000, seed=1,
                          eval={"final_episodes": 20})
    assert run.summary["eval"]["return_mean"] > 120 > read_demos(path).return_mean


