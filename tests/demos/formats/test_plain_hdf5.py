"""HDF5 under the usual names: read as such an .npz is, and only where no other format fits."""

import numpy as np
import pytest

from puffer_il.core.errors import InputError
from puffer_il.demos import read_demos
from tests.support.demos import same_demos
from tests.support.hdf5 import write_hdf5, write_plain


def test_flat_arrays_are_read_as_from_an_npz(tmp_path):
    demos = read_demos(write_plain(tmp_path / "x.h5"))
    np.savez(tmp_path / "x.npz", state=np.arange(5.0)[:, None], next_state=np.arange(5.0)[:, None] + 1,
             act=np.arange(5) % 2, reward=np.ones(5), done=np.array([0, 0, 1, 0, 1], bool))
    same_demos(demos, read_demos(tmp_path / "x.npz"))
    assert demos.lengths.tolist() == [3, 2]


def test_a_group_for_each_episode_is_read_in_order(tmp_path):
    arrays = {f"episode_{k}/{name}": array for k in (10, 2) for name, array in {
        "obs": np.arange(4.0)[:, None] + k, "action": np.zeros(3), "reward": np.ones(3)}.items()}
    demos = read_demos(write_hdf5(tmp_path / "x.h5", arrays | {"note": "by hand"}))
    assert demos.obs[demos.episode_starts, 0].tolist() == [2, 10] and demos.lengths.tolist() == [3, 3]


def test_what_is_of_another_dtype_or_under_other_names_is_refused_by_name(tmp_path):
    with pytest.raises(InputError, match="act has dtype object; save plain numbers"):
        read_demos(write_plain(tmp_path / "a.h5", act=np.array(["a"] * 5, "O")))
    with pytest.raises(InputError, match=r"holds pose, twist, which matches no known format"):
        read_demos(write_hdf5(tmp_path / "b.h5", {"pose": np.zeros(3), "twist": np.zeros(3)}))
