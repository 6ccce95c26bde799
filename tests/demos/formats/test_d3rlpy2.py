"""d3rlpy's version-2 files: an array an episode and column, numbered."""

import numpy as np
import pytest

from puffer_il.demos import read_demos
from tests.support.hdf5 import write_d3rlpy2


def test_episodes_are_in_the_order_of_their_numbers_without_their_last_rows(tmp_path):
    demos = read_demos(write_d3rlpy2(tmp_path / "x.h5"))
    assert demos.lengths.tolist() == [2] * 11 and demos.returns.tolist() == [3] * 11
    assert demos.obs[demos.episode_starts, 0].tolist() == [100 * k for k in range(11)], "10 after 9"
    assert demos.actions[:2, 0].tolist() == [0, 1] and not demos.terminations.any()


def test_tuples_stay_tuples_and_a_wrong_count_is_said(tmp_path):
    demos = read_demos(write_d3rlpy2(tmp_path / "x.h5", parts=True, num_episodes=20))
    first, second = demos.layout.unpack(demos.obs)
    np.testing.assert_array_equal(second, first + 1)
    assert "num_episodes is 20, but there are 11 episodes" in demos.notes[0]


def test_what_d3rlpy_writes_is_read(tmp_path):
    d3rlpy = pytest.importorskip("d3rlpy")
    rng = np.random.default_rng(0)
    ends = np.zeros(12)
    ends[[4, 11]] = 1
    given = d3rlpy.dataset.MDPDataset(rng.normal(size=(12, 3)).astype(np.float32), rng.normal(size=(12, 2)),
                                      np.arange(12.0), ends)
    with open(tmp_path / "x.h5", "w+b") as file:
        given.dump(file)
    demos = read_demos(tmp_path / "x.h5")
    assert demos.lengths.tolist() == [4, 6]
    np.testing.assert_array_equal(demos.obs[:4], given.episodes[0].observations[:4])
