"""The layouts that grew out of robomimic's: told apart, raw ones refused with the way to play them again."""

import numpy as np
import pytest

from puffer_il.core.errors import InputError
from puffer_il.demos import describe, read_demos
from puffer_il.demos.hdf5 import Hdf5
from puffer_il.demos.kinds import which
from tests.support import hdf5 as layouts

WRITERS = {"robomimic": lambda path: layouts.write_robomimic(path, [2]), "mimicgen": layouts.write_mimicgen,
           "robosuite": layouts.write_robosuite, "isaac_lab": layouts.write_isaac_lab,
           "maniskill": layouts.write_maniskill, "d4rl_hdf5": layouts.write_d4rl, "d3rlpy1": layouts.write_d3rlpy1,
           "d3rlpy2": layouts.write_d3rlpy2, "tianshou": layouts.write_tianshou, "minari_hdf5": layouts.write_minari,
           "plain_hdf5": layouts.write_plain}


@pytest.mark.parametrize("name", WRITERS)
def test_every_layout_is_told_from_the_others(tmp_path, name):
    path = WRITERS[name](tmp_path / "x.h5")
    with Hdf5(path) as file:
        assert which(file, path, "hdf5", "auto").__name__.rpartition(".")[2] == name


def test_mimicgen_is_read_without_how_it_was_made(tmp_path):
    demos = read_demos(layouts.write_mimicgen(tmp_path / "x.hdf5"))
    assert demos.lengths.tolist() == [2, 1] and demos.rewards is None
    assert [field.name for field in demos.layout.own] == ["eef_pos", "object"]


def test_robosuite_with_observations_is_read(tmp_path):
    demos = read_demos(layouts.write_robosuite(tmp_path / "x.hdf5", obs=True))
    assert demos.lengths.tolist() == [2, 1] and demos.states.shape == (3, 1)


def test_a_real_raw_robosuite_recording_is_refused_with_the_way_to_play_it_again(test_data):
    with pytest.raises(InputError, match=r"raw recording.*convert_robosuite --dataset .*demo.hdf5 && .*states_to_obs"):
        read_demos(test_data / "robosuite_raw_wipe" / "demo.hdf5")


def test_isaac_lab_is_read_with_nested_observations_and_gaps_and_failures_said(tmp_path):
    demos = read_demos(layouts.write_isaac_lab(tmp_path / "x.hdf5"))
    assert demos.lengths.tolist() == [3, 2] and demos.states is None and demos.rewards is None
    assert [field.name for field in demos.layout.own] == ["joint_pos", "object.position"]
    assert demos.layout.unpack(demos.obs)["object"]["position"][:, 0].tolist() == [0, -1, -2, 0, -1]
    told = " | ".join(demos.notes)
    assert "total, 9, disagrees with the 7 actions" in told and "left out of the observations: datagen_info" in told
    assert "1 of 2 episodes did not solve the task (success is false: demo_2)" in told
    assert "last row of 2 episodes (demo_0, demo_2) is left out" in told
    describe(demos)


def test_isaac_labs_observations_may_be_one_table_and_an_episode_may_have_no_action(tmp_path):
    import h5py

    path = layouts.write_isaac_lab(tmp_path / "x.hdf5")
    with h5py.File(path, "a") as file:
        for k in (0, 2):
            del file[f"data/demo_{k}/obs"]
            file[f"data/demo_{k}/obs"] = np.ones((4 if k == 0 else 3, 5))
        file.create_group("data/demo_1").attrs["num_samples"] = 0
    demos = read_demos(path)
    assert demos.obs.shape == (5, 5) and demos.layout is None and "skipped demo_1: no actions" in demos.notes
