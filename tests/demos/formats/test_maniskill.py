"""ManiSkill's trajectories: T + 1 observations, recordings that go on after the end, the control mode in the JSON."""

import h5py
import numpy as np
import pytest

from puffer_il.core.errors import InputError
from puffer_il.demos import read_demos
from tests.support.hdf5 import write_maniskill


def test_all_steps_are_read_with_their_ends(tmp_path):
    demos = read_demos(write_maniskill(tmp_path / "t.h5"))
    assert demos.lengths.tolist() == [4, 2] and demos.returns.tolist() == [4, 2]
    assert demos.terminated.tolist() == [True, False] and demos.truncated.tolist() == [False, True]
    obs, following = demos.layout.unpack(demos.obs), demos.layout.unpack(demos.next_obs)
    assert obs["extra"]["depth"].dtype == np.uint16
    np.testing.assert_array_equal(following["agent"]["qpos"], obs["agent"]["qpos"] + 1)
    assert "recorded in PickCube-v1 with actions of the control mode pd_ee_delta_pose" in demos.notes[0]
    assert "terminated is set in 1 rows before the last" in demos.notes[1]


def test_without_the_json_the_control_mode_is_unknown_and_two_of_them_are_refused(tmp_path):
    assert "no JSON file" in read_demos(write_maniskill(tmp_path / "a.h5", told=False)).notes[0]
    with pytest.raises(InputError, match=r"control modes pd_ee, pd_joint, and do not mean the same"):
        read_demos(write_maniskill(tmp_path / "b.h5", modes=("pd_joint", "pd_ee")))


@pytest.mark.parametrize("empty", [True, False])
def test_downloads_without_observations_are_refused_with_the_command_that_plays_them_again(tmp_path, empty):
    path = write_maniskill(tmp_path / "t.h5")
    with h5py.File(path, "a") as file:
        for name in file:
            del file[name]["obs"]
            if empty:
                file[name].create_group("obs")
    with pytest.raises(InputError, match=r"no observations.*replay_trajectory --traj-path .*t.h5"):
        read_demos(path)


def test_actions_of_several_robots_keep_their_names(tmp_path):
    path = write_maniskill(tmp_path / "t.h5")
    with h5py.File(path, "a") as file:
        for name in file:
            actions = file[name]["actions"][...]
            del file[name]["actions"]
            file[name]["actions/left"], file[name]["actions/right"] = actions, -actions
    assert [part[0] for part in read_demos(path).action_parts] == [("left",), ("right",)]
