"""d3rlpy's version-1 files: two kinds of ends, and rows without the observation after the last action."""

import numpy as np

from puffer_il.demos import load_demos, read_demos
from puffer_il.vector.make import find_creator
from tests.support.hdf5 import write_d3rlpy1


def test_episodes_end_where_episode_terminals_says(tmp_path):
    demos = read_demos(write_d3rlpy1(tmp_path / "x.h5"))
    assert demos.lengths.tolist() == [2, 1] and demos.obs[:, 0].tolist() == [0, 1, 3]
    assert demos.next_obs[:, 0].tolist() == [1, 2, 4] and demos.returns.tolist() == [3, 2]
    assert "the last row of each of 2 episodes is left out" in demos.notes[0]


def test_terminals_inside_an_episode_are_said_and_not_believed(tmp_path):
    demos = read_demos(write_d3rlpy1(tmp_path / "x.h5", terminals=np.array([0, 1, 1, 0, 0])))
    assert not demos.terminations.any() and "terminals is set in 1 rows that do not end an episode" in demos.notes[0]


def test_an_episode_that_is_open_at_the_end_of_the_file_ends_there(tmp_path):
    demos = read_demos(write_d3rlpy1(tmp_path / "x.h5", episode_terminals=np.array([0, 0, 1, 0, 0])))
    assert demos.lengths.tolist() == [2, 1] and "the last episode has no end" in demos.notes[0]


def test_a_real_file_fits_its_environment(test_data):
    path = test_data / "d3rlpy_v1_cartpole" / "cartpole_v1.1.0.h5"
    demos = load_demos(path, find_creator("cartpole", {}).facts().spec)
    assert demos.num_episodes == 1582 and len(demos) == 99866 - 1582 and 62 < demos.return_mean < 64
    assert "terminals is set in 1448 rows" in demos.notes[0]
