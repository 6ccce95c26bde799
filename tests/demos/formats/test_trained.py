"""A learner trains on every format that is read, in an environment of the spaces that the file shows."""

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

import puffer_il
from puffer_il.demos import read_demos
from puffer_il.demos.formats import formats
from puffer_il.demos.spaces import space_of
from tests.support.demos import same_demos
from tests.support.examples import EXAMPLES, missing
from tests.support.tables import write_lerobot


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


def trains(path, **keys):
    """What was read, after a learner has trained on it."""
    demos = read_demos(path, **keys)
    run = puffer_il.train("bc", lambda: Shown(demos), demos={"source": str(path)} | keys, total_steps=64, seed=1,
                          eval={"final_episodes": 2, "episodes": 2}, policy={"hidden": [8]}, env={"num_envs": 2})
    assert np.isfinite(run.summary["eval"]["return_mean"]) and run.summary["status"] == "finished"
    return demos


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_learner_trains_on_every_format(tmp_path, monkeypatch, name):
    if need := missing(name):
        pytest.skip(f"needs {need}")
    source, keys = EXAMPLES[name](tmp_path, monkeypatch)
    same_demos(trains(source, **keys), read_demos(source, format=name.partition(" ")[0], **keys))


def test_there_is_an_example_of_every_format():
    """Whoever adds a format adds one of it to tests/support/examples.py, so that a learner trains on it."""
    assert {name.partition(" ")[0] for name in EXAMPLES} == set(formats())


def test_a_learner_trains_on_a_table_whose_columns_a_key_names(tmp_path):
    (tmp_path / "log.csv").write_text("x,y,go\n" + "".join(f"{k},{-k},{'ab'[k % 2]}\n" for k in range(9)))
    for name, columns in (("one", '["x"]'), ("two", '["x", "y"]')):
        (tmp_path / f"{name}.toml").write_text(f'obs = {columns}\nactions = ["go"]\nchoices.go = ["a", "b"]\n')
    shapes = [trains(tmp_path / "log.csv", columns=str(tmp_path / f"{name}.toml")).obs.shape for name in ("one", "two")]
    assert shapes == [(8, 1), (8, 2)]


def test_a_learner_trains_on_the_columns_of_a_lerobot_set_that_a_key_names(tmp_path):
    pytest.importorskip("pyarrow")
    folder = write_lerobot(tmp_path / "d", columns={"observation.goal": lambda e, k: k * 0.0 + 7})
    assert trains(folder).layout is not None
    assert trains(folder, obs_columns=("observation.state",)).obs.shape == (5, 2)


def test_a_learner_trains_on_a_real_lerobot_set(test_data):
    pytest.importorskip("pyarrow")
    if not (test_data / "lerobot_v21_g1").is_dir():
        pytest.skip("no lerobot_v21_g1")
    assert trains(test_data / "lerobot_v21_g1").obs.shape == (2026, 26)


def test_a_policy_that_learned_from_a_real_file_is_better_than_its_demonstrators(test_data):
    path = test_data / "d3rlpy_v1_cartpole" / "cartpole_v1.1.0.h5"
    run = puffer_il.train("bc", "cartpole", demos={"source": str(path), "episodes": 100}, total_steps=20_000, seed=1,
                          eval={"final_episodes": 20})
    assert run.summary["eval"]["return_mean"] > 120 > read_demos(path).return_mean
