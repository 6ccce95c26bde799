"""robomimic's layout: named observations, numeric order, dones that are no terminations, totals not believed."""

import numpy as np
import pytest

from puffer_il.core.errors import InputError
from puffer_il.demos import describe, read_demos
from puffer_il.demos.formats.robomimic import NO_TERMINATIONS
from tests.support.hdf5 import robomimic, write_hdf5, write_robomimic


def test_episodes_are_in_the_order_of_their_numbers_with_named_fields(tmp_path):
    demos = read_demos(write_robomimic(tmp_path / "x.hdf5", [2] * 12))
    assert demos.num_episodes == 12 and demos.lengths.tolist() == [2] * 12
    assert [field.name for field in demos.layout.own] == ["eef_pos", "object"]
    obs, following = demos.layout.unpack(demos.obs), demos.layout.unpack(demos.next_obs)
    assert obs["eef_pos"][demos.episode_starts, 0].tolist() == [100 * k for k in range(12)], "demo_10 after demo_9"
    np.testing.assert_array_equal(following["object"], obs["object"] - 1)
    assert demos.states[:, 0].tolist() == [1000 * x for x in obs["eef_pos"][:, 0]]
    assert demos.returns.tolist() == [1] * 12
    describe(demos)


def test_dones_are_no_terminations(tmp_path):
    demos = read_demos(write_robomimic(tmp_path / "x.hdf5", [3, 4]))
    assert not demos.terminations.any() and demos.truncated.all() and demos.notes == (NO_TERMINATIONS,)


def test_without_next_obs_the_last_row_is_left_out_and_said(tmp_path):
    demos = read_demos(write_robomimic(tmp_path / "x.hdf5", [3, 1, 4], next_obs=False))
    assert demos.lengths.tolist() == [2, 3] and not demos.truncations.any()
    assert demos.returns.tolist() == [1, 1], "whole returns"
    assert "the last row of 3 episodes (demo_0, demo_1, demo_2) is left out" in demos.notes[-1]


def test_wrong_totals_and_gaps_in_numbering_are_said_and_rows_used(tmp_path):
    arrays, attributes = robomimic([2, 3, 4])
    arrays = {name: array for name, array in arrays.items() if "demo_1/" not in name}
    del attributes["data/demo_1"]
    demos = read_demos(write_hdf5(tmp_path / "x.hdf5", arrays, attributes))
    assert demos.lengths.tolist() == [2, 4]
    assert "the attribute total, 9, disagrees with the 6 actions there are" in demos.notes[1]


def test_pictures_stay_bytes_beside_vectors(tmp_path):
    pixels = np.arange(3 * 4 * 4 * 3, dtype=np.uint8).reshape(3, 4, 4, 3)
    arrays, attributes = robomimic([3])
    for name in ("obs", "next_obs"):
        arrays[f"data/demo_0/{name}/agentview_image"] = pixels
    demos = read_demos(write_hdf5(tmp_path / "x.hdf5", arrays, attributes))
    read = demos.layout.unpack(demos.obs)["agentview_image"]
    assert read.dtype == np.uint8 and np.array_equal(read, pixels)


def test_a_raw_recording_is_refused_with_the_command_that_plays_it_again(tmp_path):
    arrays, attributes = robomimic([3])
    raw = {name: array for name, array in arrays.items() if "obs" not in name}
    with pytest.raises(InputError, match=r"raw recording.*dataset_states_to_obs --dataset .*x.hdf5"):
        read_demos(write_hdf5(tmp_path / "x.hdf5", raw, attributes))


@pytest.mark.parametrize(("changes", "says"), [
    ({"rewards": np.ones(2)}, "demo_0 has 2 rewards for 3 actions"),
    ({"obs/object": np.ones((2, 1)), "obs/eef_pos": np.ones((2, 3))}, "demo_0: it has 2 observations for 3 actions"),
    ({"obs/more": np.ones((3, 1)), "next_obs/more": np.ones((3, 1))}, "demo_1: its observations have the parts"),
    ({"actions": np.ones((3, 5))}, r"demo_1 has observations \(4,\) and actions \(2,\), but the first"),
])
def test_what_disagrees_names_the_episode(tmp_path, changes, says):
    with pytest.raises(InputError, match=says) as error:
        read_demos(write_robomimic(tmp_path / "x.hdf5", [3, 3], **changes))
    assert "\n" not in str(error.value)
