"""robomimic's layout: named observations, numeric order, dones that are no terminations, totals not believed;
and our own writer."""

import json
from dataclasses import replace

import h5py
import numpy as np
import pytest

from puffer_il.cli import main
from puffer_il.core.errors import InputError
from puffer_il.demos import describe, read_demos, subsample_rows
from puffer_il.demos.formats.robomimic import NO_TERMINATIONS, write
from tests.support.demos import make_demos, same_demos
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


def test_subsets_are_named_and_all_episodes_read(tmp_path):
    arrays, attributes = robomimic([2, 3])
    more = {"mask/train": np.array([b"demo_0"]), "mask/valid": np.array([b"demo_1"])}
    demos = read_demos(write_hdf5(tmp_path / "x.hdf5", arrays | more, attributes))
    assert demos.num_episodes == 2 and "whichever of the file's subsets they are in (train, valid)" in demos.notes[1]


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


def nested(**arrays):
    """Demonstrations with a Dict of bytes and numbers in it."""
    n, rng = 7, np.random.default_rng(0)
    parts = {name: {"image": rng.integers(0, 255, (n, 4, 4, 3), dtype=np.uint8),
                    "arm": {"angles": rng.normal(size=(n, 3)).astype(np.float32), "grip": np.arange(n)}}
             for name in ("obs", "final_obs")}
    ends = np.eye(1, n, 3, bool)[0]
    return read_demos({"obs": parts["obs"], "final_obs": {
        "image": parts["final_obs"]["image"][:2], "arm": {key: x[:2] for key, x in parts["final_obs"]["arm"].items()}},
        "actions": rng.normal(size=(n, 2)), "rewards": rng.normal(size=n), "states": rng.normal(size=(n, 4)),
        "terminations": ends, "truncations": np.eye(1, n, 6, bool)[0], "episode_starts": [0, 4]} | arrays)


@pytest.mark.parametrize("given", [nested(), make_demos(continuous=True), make_demos(ends="open", rewards=False),
                                   make_demos(obs_shape=(3, 4, 2), obs_dtype="uint8")])
def test_what_we_write_is_read_back_exactly(tmp_path, given):
    write(tmp_path / "a" / "x.hdf5", given)
    back = read_demos(tmp_path / "a" / "x.hdf5")
    same_demos(back, given)
    assert back.notes == ()
    if given.layout is not None:
        for field in given.layout.own:
            other = next(one for one in back.layout.own if one.path == field.path)
            assert other.of(back.next_obs).tobytes() == field.of(given.next_obs).tobytes()
    write(tmp_path / "y.hdf5", back)
    assert (tmp_path / "y.hdf5").read_bytes() == (tmp_path / "a" / "x.hdf5").read_bytes(), "the same bytes"


def test_it_is_written_by_the_rules_of_the_layout(tmp_path):
    given = nested()
    write(tmp_path / "x.hdf5", given)
    with h5py.File(tmp_path / "x.hdf5") as file:
        assert sorted(file["data"]) == ["demo_0", "demo_1"] and file["data"].attrs["total"] == 7
        assert set(json.loads(file["data"].attrs["env_args"])) == {"env_name", "type", "env_kwargs"}
        demo = file["data/demo_1"]
        assert demo.attrs["num_samples"] == 3 and demo["dones"][...].tolist() == [0, 0, 1]
        assert set(demo) == {"actions", "dones", "next_obs", "obs", "rewards", "states"}
        np.testing.assert_array_equal(demo["next_obs/arm.angles"][:-1], demo["obs/arm.angles"][1:])


def test_demos_export_writes_it(tmp_path, capsys):
    make_demos(continuous=True).save(tmp_path / "d.npz")
    assert main(["demos", "export", str(tmp_path / "d.npz"), str(tmp_path / "x.hdf5"), "--to", "robomimic"]) == 0
    assert "3 episodes, 8 transitions" in capsys.readouterr().out
    same_demos(read_demos(tmp_path / "x.hdf5"), make_demos(continuous=True))


@pytest.mark.parametrize(("given", "says"), [
    (subsample_rows(make_demos((6, 5)), 2), "subsampled"),
    (read_demos({"obs": (np.zeros((2, 1)), np.zeros((2, 2))), "final_obs": (np.zeros((1, 1)), np.zeros((1, 2))),
                 "actions": [0, 1], "terminations": [False, True], "truncations": [False, False]}), "parts of Tuples"),
    (replace(make_demos(), actions=None), "no actions are stored"),
    (replace(make_demos(), action_parts=((("go",), (1,), "int64"),)), "actions have parts"),
])
def test_what_the_layout_cannot_hold_is_refused_and_nothing_written(tmp_path, given, says):
    with pytest.raises(InputError, match=says):
        write(tmp_path / "x.hdf5", given)
    assert not list(tmp_path.iterdir())


def test_robomimic_reads_what_we_write(tmp_path):
    dataset = pytest.importorskip("robomimic.utils.dataset")
    from robomimic.utils import file_utils, obs_utils

    given = nested()
    write(tmp_path / "x.hdf5", given)
    keys = ["arm.angles", "image"]
    obs_utils.initialize_obs_utils_with_obs_specs({"obs": {"low_dim": keys[:1], "rgb": keys[1:]}})
    read = dataset.SequenceDataset(str(tmp_path / "x.hdf5"), keys, ("actions", "rewards", "dones"), frame_stack=1,
                                   load_next_obs=True, seq_length=1, hdf5_normalize_obs=False)
    assert len(read) == 7 and file_utils.get_env_metadata_from_dataset(str(tmp_path / "x.hdf5"))["type"] == 2
    angles = np.concatenate([read[k]["obs"]["arm.angles"] for k in range(7)])
    np.testing.assert_array_equal(angles, given.layout.unpack(given.obs)["arm"]["angles"])
    np.testing.assert_array_equal(np.concatenate([read[k]["actions"] for k in range(7)]), given.actions)
