"""D4RL's HDF5 files are read as its arrays in an .npz are."""

from puffer_il.demos import read_demos
from tests.support.hdf5 import write_d4rl


def test_both_ends_are_told_apart_and_the_row_after_a_timeout_is_another_episodes(tmp_path):
    demos = read_demos(write_d4rl(tmp_path / "x.hdf5"))
    assert demos.lengths.tolist() == [2, 1, 1] and demos.returns.tolist() == [3, 2, 2]
    assert demos.obs[:, 0].tolist() == [0, 1, 3, 5] and demos.next_obs[:, 0].tolist() == [1, 2, 4, 6]


def test_with_successors_nothing_is_left_out(tmp_path):
    import numpy as np

    demos = read_demos(write_d4rl(tmp_path / "x.hdf5", next_observations=np.arange(7.0)[:, None] + 1))
    assert demos.lengths.tolist() == [3, 2, 2] and demos.terminated.tolist() == [True, False, False]
    assert demos.truncated.tolist() == [False, True, False] and demos.notes == ()
