"""Tianshou's ring buffers: rows from the oldest on, each environment's ring for itself, nothing unpickled."""

import h5py
import numpy as np
import pytest

from puffer_il.core.errors import InputError
from puffer_il.demos import read_demos
from tests.support.hdf5 import write_tianshou


def test_a_full_ring_is_read_from_its_oldest_row_on(tmp_path):
    demos = read_demos(write_tianshou(tmp_path / "x.h5"))
    assert demos.obs[:, 0].tolist() == [0, 1, 2, 3, 4, 5] and demos.lengths.tolist() == [3, 3]
    assert demos.terminated.tolist() == [True, False] and demos.truncated.tolist() == [False, True]
    assert demos.notes == ("skipped info, which would need unpickling",
                           "ring 0 is full: its first episode may lack its beginning, which was written over")


def test_each_environments_ring_is_read_for_itself(tmp_path):
    demos = read_demos(write_tianshou(tmp_path / "x.h5", rings=True))
    assert demos.obs[:, 0].tolist() == [0, 1, 2, 3, 4] and demos.lengths.tolist() == [2, 2, 1]


def test_without_successors_the_last_row_of_an_episode_is_left_out(tmp_path):
    assert read_demos(write_tianshou(tmp_path / "x.h5", successors=False)).lengths.tolist() == [2, 2]


def test_observations_that_are_pickled_are_refused_and_not_loaded(tmp_path):
    path = write_tianshou(tmp_path / "x.h5")
    with h5py.File(path, "a") as file:
        file["_meta/obs"].attrs["__data_type__"] = "pickled_ndarray"
    with pytest.raises(InputError, match="_meta/obs is pickled, which is never loaded"):
        read_demos(path)


@pytest.mark.parametrize("changes", [{"_lengths": np.array([9, 1])}, {"_offset": np.array([0, 99])},
                                     {"last_index": np.array([1])}, {"_lengths": np.array([-1, 1])}])
def test_rings_that_do_not_fit_the_rows_are_refused(tmp_path, changes):
    with pytest.raises(InputError, match="do not describe the 6 rows"):
        read_demos(write_tianshou(tmp_path / "x.h5", rings=True, **changes))


def test_what_tianshou_writes_is_read(tmp_path):
    tianshou = pytest.importorskip("tianshou")
    buffer = tianshou.data.VectorReplayBuffer(8, 2)
    for step in range(9):
        done = step % 3 == 2
        buffer.add(tianshou.data.Batch(
            obs=np.array([[step], [100 + step]]), act=np.zeros(2), rew=np.ones(2), terminated=np.array([done, done]),
            truncated=np.zeros(2, bool), obs_next=np.array([[step + 1], [101 + step]]), info=[{"a": 1}, {"a": 2}]))
    buffer.save_hdf5(str(tmp_path / "x.h5"))
    demos = read_demos(tmp_path / "x.h5")
    assert demos.obs[:, 0].tolist() == [5, 6, 7, 8, 105, 106, 107, 108] and demos.lengths.tolist() == [1, 3, 1, 3]
